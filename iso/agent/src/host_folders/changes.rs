//! What changed in a folder of the host, on its way to the kernel's caches and to those who watch.
//!
//! A thread for each folder: the kernel may wait with an invalidation until a call has been answered
//! that holds the same folder's lock.

use super::attributes::same_content;
use super::filesystem::Shared;
use super::nodes::Nodes;
use super::pretence::{Act, Name};
use coracle_protocol::folders::{Attributes, Change, ChangeKind, Changes, FileKind};
use fuser::{INodeNo, Notifier};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileTimes};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// What the thread is told.
#[derive(Debug)]
pub(super) enum News {
    /// The host saw changes.
    Changed(Changes),
    /// Anything may have changed.
    Forget,
    /// What the kernel has of this one is not what it holds.
    Stale(u64),
    /// It is not mounted any more.
    End,
}

/// Carries news until the folder is not mounted any more. `root` is the mounted folder itself: something else
/// may be at its place later.
pub(super) fn carry(
    shared: &Arc<Shared>,
    root: &OwnedFd,
    notifier: &Notifier,
    news: &Receiver<News>,
) {
    let carrier = Carrier {
        shared,
        root,
        notifier,
    };
    for one in news {
        match one {
            News::Changed(changes) => {
                if changes.overflowed {
                    carrier.forget_all();
                }
                for change in changes.changes {
                    carrier.carry(&change);
                }
            }
            News::Forget => carrier.forget_all(),
            News::Stale(number) => carrier.refresh(number),
            News::End => return,
        }
    }
}

struct Carrier<'a> {
    shared: &'a Arc<Shared>,
    root: &'a OwnedFd,
    notifier: &'a Notifier,
}

/// A path as the kernel knows it: what its folder is, and its name.
struct Place {
    parent: u64,
    name: OsString,
    /// What the kernel knows it leads to.
    node: Option<u64>,
}

impl Place {
    /// `None` where the kernel does not know the folder: nobody can watch it.
    fn of(nodes: &Nodes, path: &[u8]) -> Option<Self> {
        let (folder, name) = split(path);
        let name = OsStr::from_bytes(name).to_owned();
        let parent = nodes.at(folder)?;
        let node = nodes.child(parent, &name);
        (!name.is_empty()).then_some(Self { parent, name, node })
    }

    fn named(&self) -> Name {
        (self.parent, self.name.clone())
    }
}

impl Carrier<'_> {
    fn carry(&self, change: &Change) {
        match change.kind() {
            ChangeKind::Modified => self.modified(&change.path, change.attributes),
            ChangeKind::Created => self.created(&change.path, change.attributes),
            ChangeKind::Removed => self.removed(&change.path),
            ChangeKind::Renamed => self.renamed(change),
        }
    }

    fn modified(&self, path: &[u8], now: Option<Attributes>) {
        let Some(now) = now else {
            return;
        };
        let (known, is_being_written) = {
            let nodes = self.shared.nodes();
            let known = nodes.at(path);
            // What the machine did itself, or has been told of already.
            let is_old = known.is_some_and(|node| same_content(nodes.own(node), Some(&now)));
            // What is not known is watched by its folder only, if at all.
            if is_old || known.is_none() && Place::of(&nodes, path).is_none() {
                return;
            }
            (
                known,
                known.is_some_and(|node| nodes.is_being_written(node)),
            )
        };
        match known {
            // Whose write it was is not known yet; what is cached may be another's.
            Some(known) if is_being_written => return self.refresh(known),
            Some(known) => self.forget_content(known),
            None => {}
        }
        if now.kind() == FileKind::File {
            self.touch(path, &now);
        }
        self.is_told(path, now);
    }

    /// Opens a file, gives it the time that it has, and closes it.
    fn touch(&self, path: &[u8], now: &Attributes) {
        let modified = now.modified.unwrap_or_default().into();
        let done = self.shared.pretence.act(Act::default(), || {
            let file = File::from(self.open(path, OFlag::O_WRONLY)?);
            file.set_times(FileTimes::new().set_modified(modified))
        });
        self.say(path, "modified", done);
    }

    /// What is told of once is no news any more.
    fn is_told(&self, path: &[u8], now: Attributes) {
        let mut nodes = self.shared.nodes();
        if let Some(number) = nodes.at(path) {
            nodes.set_own(number, now);
        }
    }

    fn created(&self, path: &[u8], now: Option<Attributes>) {
        // One that is gone again is told of by what follows.
        let Some(now) = now else {
            return;
        };
        let place = Place::of(&self.shared.nodes(), path);
        let Some(place) = place else {
            return;
        };
        self.forget_content(place.parent);
        self.forget_name(&place);
        let act = Act {
            missing: Some(place.named()),
            made: Some(now),
            ..Act::default()
        };
        let done = self.shared.pretence.act(act, || {
            let (_folder, at) = self.at(path)?;
            match now.kind() {
                FileKind::Folder => fs::create_dir(&at),
                // Its target is asked for when somebody wants it.
                FileKind::SymbolicLink => std::os::unix::fs::symlink("?", &at),
                FileKind::File => File::create_new(&at).map(drop),
                FileKind::Other => Ok(()),
            }
        });
        self.say(path, "created", done);
        self.is_told(path, now);
    }

    fn removed(&self, path: &[u8]) {
        let (place, known) = {
            let nodes = self.shared.nodes();
            let Some(place) = Place::of(&nodes, path) else {
                return;
            };
            let known = place.node.and_then(|node| nodes.attributes(node)).copied();
            (place, known)
        };
        let attributes = known.unwrap_or(Attributes {
            kind: FileKind::File.into(),
            ..Attributes::default()
        });
        let act = Act {
            there: Some((place.named(), attributes)),
            ..Act::default()
        };
        let done = self.shared.pretence.act(act, || {
            let (_folder, at) = self.at(path)?;
            match attributes.kind() {
                FileKind::Folder => fs::remove_dir(&at),
                _ => fs::remove_file(&at),
            }
        });
        self.say(path, "removed", done);
        self.shared.nodes().removed(place.parent, &place.name);
        self.forget_content(place.parent);
        self.forget_name(&place);
    }

    fn renamed(&self, change: &Change) {
        let (from, to, known, replaced) = {
            let nodes = self.shared.nodes();
            let from = Place::of(&nodes, &change.path);
            let to = Place::of(&nodes, &change.to);
            let attributes = |place: &Option<Place>| {
                let node = place.as_ref().and_then(|place| place.node);
                node.and_then(|node| nodes.attributes(node)).copied()
            };
            let (known, replaced) = (attributes(&from), attributes(&to));
            (from, to, known, replaced)
        };
        let (Some(from), Some(to)) = (from, to) else {
            self.removed(&change.path);
            return self.created(&change.to, change.attributes);
        };
        let Some(now) = change.attributes.or(known) else {
            return self.removed(&change.path);
        };
        // What is replaced is taken out of the way as a file of the kernel's own.
        let act = Act {
            there: Some((from.named(), known.unwrap_or(now))),
            missing: replaced.is_none().then(|| to.named()),
            ..Act::default()
        };
        let done = self.shared.pretence.act(act, || {
            let (_from, source) = self.at(&change.path)?;
            let (_to, target) = self.at(&change.to)?;
            fs::rename(&source, &target)
        });
        let is_told = done.is_ok();
        self.say(&change.path, "renamed", done);
        self.forget_content(from.parent);
        self.forget_content(to.parent);
        let number = {
            let mut nodes = self.shared.nodes();
            // The file system has seen to it, if the kernel came that far.
            if !is_told {
                nodes.renamed((from.parent, &from.name), (to.parent, &to.name));
            }
            let number = nodes.child(to.parent, &to.name);
            if let Some(number) = number {
                nodes.set_own(number, now);
            }
            number
        };
        if let Some(number) = number {
            self.forget_content(number);
        }
    }

    /// Opens what is in the mounted folder, and nothing that is mounted below it or linked to.
    fn open(&self, path: &[u8], flags: OFlag) -> io::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
            .resolve(
                ResolveFlag::RESOLVE_BENEATH
                    | ResolveFlag::RESOLVE_NO_XDEV
                    | ResolveFlag::RESOLVE_NO_SYMLINKS,
            );
        let path = if path.is_empty() {
            b".".as_slice()
        } else {
            path
        };
        Ok(openat2(self.root, OsStr::from_bytes(path), how)?)
    }

    /// A name in the mounted folder by its own folder, which is open as long as that is kept.
    fn at(&self, path: &[u8]) -> io::Result<(OwnedFd, PathBuf)> {
        let (folder, name) = split(path);
        let folder = self.open(folder, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        let place = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        Ok((folder, place.join(OsStr::from_bytes(name))))
    }

    /// The kernel asks anew for attributes, and reads anew.
    fn forget_content(&self, number: u64) {
        let _ = self.notifier.inval_inode(INodeNo(number), 0, 0);
    }

    /// The kernel has asked anew for attributes: what is read without being opened anew ends where it ends.
    fn refresh(&self, number: u64) {
        self.forget_content(number);
        let path = self.shared.nodes().path(number);
        if let Some(path) = path
            && let Ok(file) = self.open(&path, OFlag::O_PATH)
        {
            let _ = File::from(file).metadata();
        }
    }

    fn forget_name(&self, place: &Place) {
        let parent = INodeNo(place.parent);
        let _ = self.notifier.inval_entry(parent, &place.name);
    }

    /// Everything is asked for anew. Folders keep their place: others may be mounted from there.
    fn forget_all(&self) {
        let known = self.shared.nodes().all();
        for (number, parent, name, is_folder) in known {
            self.forget_content(number);
            if !is_folder {
                let _ = self.notifier.inval_entry(INodeNo(parent), &name);
            }
        }
    }

    fn say(&self, path: &[u8], what: &str, done: io::Result<()>) {
        match done {
            Ok(()) => {}
            // Somebody has changed it again: there is nothing to tell any more.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists
                ) => {}
            Err(error) => {
                let (id, path) = (&self.shared.id, String::from_utf8_lossy(path));
                crate::kernel::say(&format!("{id}: {path} was {what} on the host: {error}"));
            }
        }
    }
}

/// A path's folder, and its name in that.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}
