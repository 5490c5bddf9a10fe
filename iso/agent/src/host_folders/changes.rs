//! What changed in a folder of the host, on its way to the kernel's caches and to those who watch.
//!
//! A thread for each folder: the kernel may wait with an invalidation until a call has been answered
//! that holds the same folder's lock.

use super::filesystem::{Shared, same_content};
use super::nodes::{Nodes, join};
use super::pretence::{Act, Name};
use coracle_protocol::folders::{Attributes, Change, ChangeKind, Changes, FileKind};
use fuser::{INodeNo, Notifier};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, UNIX_EPOCH};

/// What the thread is told.
#[derive(Debug)]
pub(super) enum News {
    /// The host saw changes.
    Changed(Changes),
    /// Anything may have changed.
    Forget,
}

/// Carries news until nobody sends any more.
pub(super) fn carry(
    shared: &Arc<Shared>,
    place: &Path,
    notifier: &Notifier,
    news: &Receiver<News>,
) {
    let carrier = Carrier {
        shared,
        place,
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
        }
    }
}

struct Carrier<'a> {
    shared: &'a Arc<Shared>,
    place: &'a Path,
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
        let (folder, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&[][..], path),
        };
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
        let known = {
            let mut nodes = self.shared.nodes();
            let Some(number) = nodes.at(path) else {
                // Watched by its folder only, if at all.
                let place = Place::of(&nodes, path);
                drop(nodes);
                if place.is_some() && now.kind() == FileKind::File {
                    self.touch(path, &now);
                }
                return;
            };
            let same = same_content(nodes.attributes(number), Some(&now));
            // What the machine writes itself it has been told of by itself.
            if same || nodes.is_being_written(number) {
                return;
            }
            nodes.set_attributes(number, now);
            number
        };
        self.forget_content(known);
        if now.kind() == FileKind::File {
            self.touch(path, &now);
        }
    }

    /// Opens a file, gives it the time that it has, and closes it.
    fn touch(&self, path: &[u8], now: &Attributes) {
        let place = self.at(path);
        let modified = now.modified.unwrap_or_default();
        let since = Duration::new(modified.seconds.unsigned_abs(), modified.nanos);
        let done = self.shared.pretence.act(Act::default(), || {
            let file = existing(&place)?;
            file.set_times(FileTimes::new().set_modified(UNIX_EPOCH + since))
        });
        self.say(path, "modified", done);
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
        self.forget_entries(place.parent);
        self.forget_name(&place);
        let act = Act {
            missing: Some(place.named()),
            made: Some(now),
            ..Act::default()
        };
        let at = self.at(path);
        let done = self.shared.pretence.act(act, || match now.kind() {
            FileKind::Folder => fs::create_dir(&at),
            // Its target is asked for when somebody wants it.
            FileKind::SymbolicLink => std::os::unix::fs::symlink("?", &at),
            FileKind::File => new(&at).map(drop),
            FileKind::Other => Ok(()),
        });
        self.say(path, "created", done);
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
        let at = self.at(path);
        let done = self.shared.pretence.act(act, || match attributes.kind() {
            FileKind::Folder => fs::remove_dir(&at),
            _ => fs::remove_file(&at),
        });
        self.say(path, "removed", done);
        self.shared.nodes().removed(place.parent, &place.name);
        self.forget_entries(place.parent);
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
        let (source, target) = (self.at(&change.path), self.at(&change.to));
        let done = self
            .shared
            .pretence
            .act(act, || fs::rename(&source, &target));
        self.say(&change.path, "renamed", done);
        self.forget_entries(from.parent);
        self.forget_entries(to.parent);
        let number = {
            let mut nodes = self.shared.nodes();
            nodes.renamed((from.parent, &from.name), (to.parent, &to.name));
            let number = nodes.child(to.parent, &to.name);
            if let Some(number) = number {
                nodes.set_attributes(number, now);
            }
            number
        };
        if let Some(number) = number {
            self.forget_content(number);
        }
    }

    fn at(&self, path: &[u8]) -> PathBuf {
        self.place.join(OsStr::from_bytes(path))
    }

    /// The kernel asks anew for attributes, and reads anew.
    fn forget_content(&self, number: u64) {
        let _ = self.notifier.inval_inode(INodeNo(number), 0, 0);
    }

    fn forget_entries(&self, folder: u64) {
        self.forget_content(folder);
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
        if let Err(error) = done {
            // Somebody in the machine has changed it too: there is nothing to tell any more.
            let path =
                String::from_utf8_lossy(&join(Vec::new(), OsStr::from_bytes(path))).into_owned();
            crate::kernel::say(&format!(
                "{}/{path} was {what} on the host: {error}",
                self.place.display()
            ));
        }
    }
}

fn existing(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).custom_flags(nix::libc::O_NOFOLLOW);
    options.open(path)
}

fn new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}
