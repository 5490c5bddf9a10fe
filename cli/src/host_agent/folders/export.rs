//! One folder of this host, as a machine asks for it.
//!
//! The machine names paths below the folder and follows symbolic links by itself, in its own tree; what
//! is opened here stays below the folder whatever somebody puts there meanwhile (`cap_std`).

use super::system::{
    attributes, bytes, errno, linux, number, os_string, path, read_at, symbolic_link, write_at,
};
use super::watch::Watch;
use cap_fs_ext::{DirExt as _, FollowSymlinks, MetadataExt as _, OpenOptionsFollowExt as _};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, Metadata, OpenOptions};
use cap_std::time::SystemTime as CapTime;
use coracle_protocol::folders::{
    Answer, Attributes, Entry, List, Open, Read, Rename, SetAttributes, SpaceLeft, Time, Write,
    call::Operation,
};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most that is read at once, whatever is asked for.
const MOST: usize = 1 << 20;
/// Entries in one answer: what a message may hold, by far.
const ENTRIES: usize = 2000;
/// What is open under a number.
#[derive(Debug, Clone)]
struct Handle {
    file: Arc<std::fs::File>,
    writable: bool,
}

/// A folder that a machine may use.
#[derive(Debug)]
pub(super) struct Export {
    place: PathBuf,
    read_only: bool,
    root: Mutex<Arc<Dir>>,
    open: Mutex<HashMap<u64, Handle>>,
    watch: Watch,
}

impl Export {
    pub(super) fn new(place: &Path, read_only: bool, watch: Watch) -> io::Result<Self> {
        Ok(Self {
            place: place.to_owned(),
            read_only,
            root: Mutex::new(Arc::new(open_root(place)?)),
            open: Mutex::default(),
            watch,
        })
    }

    /// What changes there is told of by this one.
    pub(super) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Carries a call out, which may wait for a disk. `again` means that it may have been carried out
    /// already. Gives one answer, or several to a list; their ids are the caller's to fill in.
    pub(super) fn answer(&self, operation: &Operation, again: bool) -> Vec<Answer> {
        if self.read_only && changes(operation) {
            return vec![refusal(linux::EROFS)];
        }
        let mut done = self.carry_out(operation, again);
        if matches!(&done, Err(error) if error.kind() == io::ErrorKind::NotFound)
            && self.is_another_now()
        {
            // The folder itself was replaced.
            done = self.carry_out(operation, again);
        }
        done.unwrap_or_else(|error| vec![refusal(number(&error))])
    }

    fn carry_out(&self, operation: &Operation, again: bool) -> io::Result<Vec<Answer>> {
        let one = |answer| Ok(vec![answer]);
        match operation {
            Operation::Stat(stat) => one(self.stat(&path(&stat.path)?)?),
            Operation::List(list) => self.list(list),
            Operation::ReadLink(link) => {
                let target = self.root().read_link_contents(path(&link.path)?)?;
                one(Answer {
                    data: bytes(target.as_os_str()).into(),
                    ..Answer::default()
                })
            }
            Operation::Open(open) => one(self.open(open, again)?),
            Operation::Read(read) => one(self.read(read)?),
            Operation::Write(write) => one(self.write(write)?),
            Operation::Close(close) => {
                self.opened().remove(&close.handle);
                one(Answer::default())
            }
            Operation::Sync(sync) => {
                let file = self.handle(sync.handle, &sync.path, sync.inode, false)?;
                file.sync_all()?;
                one(Answer::default())
            }
            Operation::Set(set) => one(self.set(set)?),
            Operation::MakeFolder(make) => {
                let path = path(&make.path)?;
                self.watch.is_made(&path);
                let made = self.root().create_dir(&path);
                unless_done(made, again, io::ErrorKind::AlreadyExists)?;
                self.set_mode(&path, make.mode)?;
                one(self.stat(&path)?)
            }
            Operation::Remove(remove) => {
                let path = path(&remove.path)?;
                self.watch.is_removed(&path);
                let removed = match remove.is_folder {
                    true => self.root().remove_dir(&path),
                    false => self.root().remove_file(&path),
                };
                unless_done(removed, again, io::ErrorKind::NotFound)?;
                one(Answer::default())
            }
            Operation::Rename(rename) => one(self.rename(rename, again)?),
            Operation::Link(link) => {
                let (from, to) = (path(&link.path)?, path(&link.to)?);
                let root = self.root();
                self.watch.is_made(&to);
                let linked = root.hard_link(&from, &root, &to);
                unless_done(linked, again, io::ErrorKind::AlreadyExists)?;
                one(self.stat(&to)?)
            }
            Operation::SymbolicLink(link) => {
                let (path, target) = (path(&link.path)?, os_string(&link.target)?);
                self.watch.is_made(&path);
                let linked = symbolic_link(&self.root(), Path::new(&target), &path);
                unless_done(linked, again, io::ErrorKind::AlreadyExists)?;
                one(self.stat(&path)?)
            }
            Operation::Space(_) => {
                let space = fs4::statvfs(&self.place)?;
                let space = SpaceLeft {
                    total: space.total_space(),
                    free: space.available_space(),
                };
                one(Answer {
                    space: Some(space),
                    ..Answer::default()
                })
            }
            Operation::Follow(follow) => {
                for one in &follow.paths {
                    self.watch.follow(&path(one)?);
                }
                one(Answer::default())
            }
        }
    }

    fn root(&self) -> Arc<Dir> {
        let root = self.root.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&root)
    }

    /// Looks for the folder at its place again, if the one that was there is gone.
    fn is_another_now(&self) -> bool {
        let is_gone = self
            .root()
            .dir_metadata()
            .map_or(true, |meta| meta.nlink() == 0);
        let Some(root) = is_gone.then(|| open_root(&self.place).ok()).flatten() else {
            return false;
        };
        *self.root.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(root);
        self.watch.begin_anew();
        true
    }

    fn opened(&self) -> MutexGuard<'_, HashMap<u64, Handle>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        match path.as_os_str().is_empty() {
            true => self.root().dir_metadata(),
            false => self.root().symlink_metadata(path),
        }
    }

    fn stat(&self, path: &Path) -> io::Result<Answer> {
        // Watched first: what changes after that is told.
        self.watch.follow(path.parent().unwrap_or(path));
        let meta = self.metadata(path)?;
        if meta.is_dir() {
            self.watch.follow(path);
        }
        Ok(described(&meta))
    }

    fn list(&self, list: &List) -> io::Result<Vec<Answer>> {
        let path = path(&list.path)?;
        self.watch.follow(&path);
        let root = self.root();
        if path.as_os_str().is_empty() && root.dir_metadata()?.nlink() == 0 {
            // It was removed; what is at its place now is looked for.
            return Err(io::ErrorKind::NotFound.into());
        }
        let entries = match path.as_os_str().is_empty() {
            true => root.entries()?,
            false => root.read_dir(&path)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            // One that is gone since is not there.
            let Ok(meta) = entry.metadata() else {
                continue;
            };
            let name = entry.file_name();
            found.push(Entry {
                name: bytes(&name).into(),
                attributes: Some(attributes(&meta)),
            });
        }
        let mut answers = Vec::new();
        let mut rest = found.into_iter().peekable();
        loop {
            let entries: Vec<Entry> = rest.by_ref().take(ENTRIES).collect();
            let more = rest.peek().is_some();
            answers.push(Answer {
                entries,
                more,
                ..Answer::default()
            });
            if !more {
                return Ok(answers);
            }
        }
    }

    fn open(&self, open: &Open, again: bool) -> io::Result<Answer> {
        let path = path(&open.path)?;
        let is_there = self.metadata(&path);
        match &is_there {
            // A pipe would keep whoever opens it waiting.
            Ok(meta) if !meta.is_file() && !meta.is_dir() => return Err(errno(linux::EPERM)),
            Ok(_) => {}
            Err(_) if open.create => self.watch.is_made(&path),
            Err(_) => return Err(io::ErrorKind::NotFound.into()),
        }
        self.watch.follow(path.parent().unwrap_or(&path));
        let file = self.open_file(&path, open, again)?;
        if open.create && is_there.is_err() {
            self.set_mode(&path, open.mode)?;
        }
        let meta = file.metadata()?;
        if open.handle != 0 {
            self.keep(open.handle, file, open.write);
        }
        Ok(described(&meta))
    }

    fn open_file(&self, path: &Path, open: &Open, again: bool) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(open.write);
        options.follow(FollowSymlinks::No);
        match (open.create, open.exclusive && !again) {
            (true, true) => drop(options.create_new(true)),
            (true, false) => drop(options.create(true).truncate(open.truncate && open.write)),
            (false, _) => {}
        }
        if open.create && !open.write {
            // Only who writes may create.
            options.write(true);
        }
        #[cfg(unix)]
        {
            use cap_std::fs::OpenOptionsExt as _;
            let nonblocking = rustix::fs::OFlags::NONBLOCK.bits();
            options.custom_flags(i32::try_from(nonblocking).unwrap_or(0));
        }
        let opened = self.root().open_with(path, &options);
        match opened {
            // Who may write may not be allowed to read.
            Err(error) if open.write && error.kind() == io::ErrorKind::PermissionDenied => {
                self.root().open_with(path, options.read(false))
            }
            opened => opened,
        }
    }

    fn keep(&self, handle: u64, file: File, writable: bool) -> Arc<std::fs::File> {
        let file = Arc::new(file.into_std());
        let kept = Handle {
            file: Arc::clone(&file),
            writable,
        };
        self.opened().insert(handle, kept);
        file
    }

    /// What was opened under a number. What an earlier stream opened is opened again, if its path still
    /// leads to it.
    fn handle(
        &self,
        handle: u64,
        at: &[u8],
        inode: u64,
        write: bool,
    ) -> io::Result<Arc<std::fs::File>> {
        let known = self.opened().get(&handle).cloned();
        if let Some(known) = known.filter(|known| known.writable || !write) {
            return Ok(known.file);
        }
        let at = path(at)?;
        if at.as_os_str().is_empty() {
            return Err(errno(linux::ESTALE));
        }
        let open = Open {
            write,
            ..Open::default()
        };
        let file = self.open_file(&at, &open, false)?;
        if file.metadata()?.ino() != inode {
            return Err(errno(linux::ESTALE));
        }
        Ok(self.keep(handle, file, write))
    }

    fn read(&self, read: &Read) -> io::Result<Answer> {
        let file = self.handle(read.handle, &read.path, read.inode, false)?;
        let wanted = usize::try_from(read.size).unwrap_or(MOST).min(MOST);
        let mut data = vec![0; wanted];
        let mut length = 0;
        while length < wanted {
            match read_at(&file, &mut data[length..], read.offset + length as u64) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        data.truncate(length);
        Ok(Answer {
            data: data.into(),
            ..Answer::default()
        })
    }

    fn write(&self, write: &Write) -> io::Result<Answer> {
        let file = self.handle(write.handle, &write.path, write.inode, true)?;
        // Whoever else appends on this host does so in one step; between this look and the write that
        // follows it is too short a time for what the machine could not do either.
        let offset = match write.append {
            true => file.metadata()?.len(),
            false => write.offset,
        };
        let mut done = 0;
        while done < write.data.len() {
            match write_at(&file, &write.data[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => done += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let meta = Metadata::from_file(&file)?;
        Ok(described(&meta))
    }

    fn set(&self, set: &SetAttributes) -> io::Result<Answer> {
        let path = path(&set.path)?;
        let known = self.opened().get(&set.handle).cloned();
        let known = known.filter(|known| known.writable);
        if let Some(size) = set.size {
            match &known {
                Some(known) => known.file.set_len(size)?,
                None => {
                    let open = Open {
                        write: true,
                        ..Open::default()
                    };
                    self.open_file(&path, &open, false)?.set_len(size)?;
                }
            }
        }
        if let Some(known) = known.filter(|_| path.as_os_str().is_empty()) {
            // It is open, and has no name any more.
            let meta = Metadata::from_file(&known.file)?;
            return Ok(described(&meta));
        }
        if let Some(mode) = set.mode {
            self.set_mode(&path, mode)?;
        }
        if set.accessed.is_some() || set.modified.is_some() {
            let time = |time: Option<Time>| {
                let at = CapTime::from_std(time?.into());
                Some(cap_fs_ext::SystemTimeSpec::Absolute(at))
            };
            let (accessed, modified) = (time(set.accessed), time(set.modified));
            if path.as_os_str().is_empty() {
                self.root().set_times(".", accessed, modified)?;
            } else {
                self.root().set_symlink_times(&path, accessed, modified)?;
            }
        }
        self.stat(&path)
    }

    #[cfg(unix)]
    fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let permissions = std::fs::Permissions::from_mode(mode & 0o777);
        let path = match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        };
        if self.root().symlink_metadata(path)?.is_symlink() {
            return Ok(());
        }
        let permissions = cap_std::fs::Permissions::from_std(permissions);
        self.root().set_permissions(path, permissions)
    }

    /// Windows has no such bits.
    #[cfg(not(unix))]
    #[allow(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "the form of the others"
    )]
    fn set_mode(&self, _: &Path, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, rename: &Rename, again: bool) -> io::Result<Answer> {
        let (from, to) = (path(&rename.from)?, path(&rename.to)?);
        let root = self.root();
        let is_there = |path: &Path| root.symlink_metadata(path).is_ok();
        if rename.keep && is_there(&to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.watch.is_renamed(&from, &to);
        match root.rename(&from, &root, &to) {
            Err(error) if again && error.kind() == io::ErrorKind::NotFound && is_there(&to) => {}
            renamed => renamed?,
        }
        self.watch.follow_renamed(&from, &to);
        Ok(Answer::default())
    }

    /// As a path is now; `None` for what is not there.
    pub(super) fn attributes_at(&self, path: &Path) -> Option<Attributes> {
        self.metadata(path).ok().map(|meta| attributes(&meta))
    }
}

fn open_root(place: &Path) -> io::Result<Dir> {
    Dir::open_ambient_dir(place, ambient_authority())
}

fn changes(operation: &Operation) -> bool {
    match operation {
        Operation::Open(open) => open.write || open.create,
        Operation::Stat(_)
        | Operation::List(_)
        | Operation::ReadLink(_)
        | Operation::Read(_)
        | Operation::Close(_)
        | Operation::Sync(_)
        | Operation::Space(_)
        | Operation::Follow(_) => false,
        Operation::Write(_)
        | Operation::Set(_)
        | Operation::MakeFolder(_)
        | Operation::Remove(_)
        | Operation::Rename(_)
        | Operation::Link(_)
        | Operation::SymbolicLink(_) => true,
    }
}

/// What may have been done already by an earlier call is no error.
fn unless_done(done: io::Result<()>, again: bool, sign: io::ErrorKind) -> io::Result<()> {
    match done {
        Err(error) if again && error.kind() == sign => Ok(()),
        done => done,
    }
}

/// The answer for a folder that is not served any more.
pub(super) fn gone() -> Answer {
    refusal(linux::ESTALE)
}

/// The answer of which a file's attributes are all.
fn described(meta: &Metadata) -> Answer {
    Answer {
        attributes: Some(attributes(meta)),
        ..Answer::default()
    }
}

fn refusal(error: u32) -> Answer {
    Answer {
        error,
        ..Answer::default()
    }
}

#[cfg(test)]
#[cfg(unix)]
#[allow(clippy::disallowed_methods, reason = "nobody reads half a file here")]
mod tests {
    use super::super::watch::Told;
    use super::*;
    use coracle_protocol::folders::FileKind;
    use coracle_protocol::folders::{Close, MakeFolder, ReadLink, Remove, Stat};
    use std::fs;
    use tokio::sync::mpsc;

    struct Served {
        folder: tempfile::TempDir,
        export: Export,
        _told: mpsc::UnboundedReceiver<Told>,
    }

    fn served(read_only: bool) -> Served {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("shared");
        fs::create_dir(&place).unwrap();
        fs::write(place.join("file"), "content").unwrap();
        fs::write(folder.path().join("secret"), "secret").unwrap();
        let (sender, told) = mpsc::unbounded_channel();
        let export = Export::new(&place, read_only, Watch::new(&place, sender)).unwrap();
        Served {
            folder,
            export,
            _told: told,
        }
    }

    impl Served {
        fn ask(&self, operation: &Operation) -> Answer {
            let mut answers = self.export.answer(operation, false);
            assert_eq!(answers.len(), 1);
            answers.remove(0)
        }

        fn again(&self, operation: &Operation) -> u32 {
            self.export.answer(operation, true)[0].error
        }

        fn stat(&self, path: &str) -> Answer {
            let path = path.to_owned().into();
            self.ask(&Operation::Stat(Stat { path }))
        }

        fn read(&self, path: &str, handle: u64) -> Answer {
            let inode = self.stat(path).attributes.map_or(0, |now| now.inode);
            self.ask(&Operation::Read(Read {
                path: path.to_owned().into(),
                handle,
                offset: 0,
                size: 100,
                inode,
            }))
        }

        fn write(&self, handle: u64, inode: u64, append: bool) -> Answer {
            self.ask(&Operation::Write(Write {
                path: "file".into(),
                handle,
                offset: 0,
                data: "x".into(),
                inode,
                append,
            }))
        }
    }

    fn open(path: &str, handle: u64) -> Open {
        Open {
            path: path.to_owned().into(),
            handle,
            ..Open::default()
        }
    }

    #[test]
    fn nothing_outside_of_the_folder_is_opened() {
        let served = served(false);
        let place = served.folder.path().join("shared");
        std::os::unix::fs::symlink("../secret", place.join("out")).unwrap();
        std::os::unix::fs::symlink("..", place.join("up")).unwrap();
        for path in ["../secret", "up/secret", "/etc/passwd", "out"] {
            let opened = served.ask(&Operation::Open(open(path, 7)));
            assert_ne!(opened.error, 0, "{path} was opened");
            assert_ne!(served.read(path, 8).error, 0, "{path} was read");
        }
        // The link itself is shown, and where it says it leads.
        assert_eq!(
            served.stat("out").attributes.unwrap().kind(),
            FileKind::SymbolicLink
        );
        let path = "out".into();
        assert_eq!(
            served.ask(&Operation::ReadLink(ReadLink { path })).data,
            "../secret"
        );
    }

    #[test]
    fn a_handle_that_is_not_known_is_opened_again() {
        let served = served(false);
        assert_eq!(served.ask(&Operation::Open(open("file", 5))).error, 0);
        assert_eq!(served.read("file", 5).data, "content");
        assert_eq!(served.ask(&Operation::Close(Close { handle: 5 })).error, 0);
        assert_eq!(served.read("file", 5).data, "content");
        // Without a name nothing leads to it.
        assert_eq!(served.read("", 6).error, linux::ESTALE);
        // What was opened again to be read is opened again to be written, and no other file is.
        let inode = served.stat("file").attributes.unwrap().inode;
        assert_eq!(served.write(5, inode, true).error, 0);
        assert_eq!(served.read("file", 5).data, "contentx");
        assert_eq!(served.write(6, inode + 1, false).error, linux::ESTALE);
    }

    #[test]
    fn what_was_done_already_is_done() {
        let served = served(false);
        let make = Operation::MakeFolder(MakeFolder {
            path: "made".into(),
            mode: 0o755,
        });
        assert_eq!(served.ask(&make).error, 0);
        assert_eq!(served.ask(&make).error, linux::EEXIST);
        assert_eq!(served.again(&make), 0);
        let rename = Operation::Rename(Rename {
            from: "made".into(),
            to: "moved".into(),
            keep: false,
        });
        assert_eq!(served.ask(&rename).error, 0);
        assert_eq!(served.ask(&rename).error, linux::ENOENT);
        assert_eq!(served.again(&rename), 0);
        let remove = Operation::Remove(Remove {
            path: "moved".into(),
            is_folder: true,
        });
        assert_eq!(served.ask(&remove).error, 0);
        assert_eq!(served.ask(&remove).error, linux::ENOENT);
        assert_eq!(served.again(&remove), 0);
        let create = Operation::Open(Open {
            create: true,
            exclusive: true,
            write: true,
            mode: 0o600,
            ..open("new", 9)
        });
        assert_eq!(served.ask(&create).error, 0);
        assert_eq!(served.ask(&create).error, linux::EEXIST);
        assert_eq!(served.again(&create), 0);
    }

    #[test]
    fn read_only_refuses_every_change() {
        let served = served(true);
        assert_eq!(served.ask(&Operation::Open(open("file", 5))).error, 0);
        let write = Open {
            write: true,
            ..open("file", 6)
        };
        assert_eq!(served.ask(&Operation::Open(write)).error, linux::EROFS);
        // Also through a handle that somebody made up.
        assert_eq!(served.write(5, 0, false).error, linux::EROFS);
        assert_eq!(served.read("file", 5).data, "content");
    }

    #[test]
    fn a_folder_that_was_made_anew_is_found() {
        let served = served(false);
        let place = served.folder.path().join("shared");
        fs::remove_dir_all(&place).unwrap();
        assert_eq!(served.stat("file").error, linux::ENOENT);
        fs::create_dir(&place).unwrap();
        fs::write(place.join("file"), "again").unwrap();
        assert_eq!(served.stat("file").error, 0);
        assert_eq!(served.read("file", 3).data, "again");
    }

    #[test]
    fn a_long_list_comes_in_parts() {
        let served = served(false);
        let place = served.folder.path().join("shared");
        for number in 0..ENTRIES + 1 {
            fs::write(place.join(format!("n{number}")), "").unwrap();
        }
        let list = Operation::List(List { path: "".into() });
        let answers = served.export.answer(&list, false);
        let counts: Vec<usize> = answers.iter().map(|one| one.entries.len()).collect();
        assert_eq!(counts, [ENTRIES, 2]);
        assert!(answers[0].more && !answers[1].more);
    }
}
