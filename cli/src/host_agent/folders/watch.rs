//! What changes in a folder of this host that a machine has mounted.
//!
//! ```text
//! the system's watch --Event--> batch (one moment's) --Change--> machine
//!        ^                        |
//!   follow: folders that the      +-- without what the machine did itself
//!   machine has looked into
//! ```
//!
//! Linux watches folder by folder, and only so many: those that the machine has seen are watched. Where
//! none can be watched any more, the machine asks anew after a moment instead.

use coracle_protocol::folders::ChangeKind;
use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Whether the system watches a whole tree at once.
const WHOLE_TREES: bool = cfg!(any(target_os = "macos", windows));
/// How long what the machine has done itself is remembered: its event comes within that.
const MEMORY: Duration = Duration::from_secs(2);

/// A change by its kind, and the paths below the folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    pub(super) kind: ChangeKind,
    pub(super) path: PathBuf,
    /// Of what was renamed.
    pub(super) to: PathBuf,
}

/// What the system tells of.
#[derive(Debug)]
pub(super) enum Told {
    Seen(Seen),
    /// More changed than it could tell.
    Overflow,
}

/// Watches one folder.
#[derive(Debug)]
pub(super) struct Watch {
    root: PathBuf,
    state: Mutex<State>,
    own: Own,
}

#[derive(Debug)]
struct State {
    watcher: Option<RecommendedWatcher>,
    followed: HashSet<PathBuf>,
}

/// What the machine did itself a moment ago.
#[derive(Debug, Default)]
struct Own(Mutex<VecDeque<(Instant, Seen)>>);

impl Own {
    fn deeds(&self) -> MutexGuard<'_, VecDeque<(Instant, Seen)>> {
        let mut deeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while deeds.front().is_some_and(|(at, _)| at.elapsed() > MEMORY) {
            deeds.pop_front();
        }
        deeds
    }

    fn add(&self, seen: Seen) {
        self.deeds().push_back((Instant::now(), seen));
    }

    /// Whether it was the machine, once.
    fn take(&self, seen: &Seen) -> bool {
        let mut deeds = self.deeds();
        let found = deeds.iter().position(|(_, deed)| deed == seen);
        found.map(|at| deeds.remove(at)).is_some()
    }
}

impl Watch {
    /// Watches nothing yet but for the folder itself. What changes is sent.
    pub(super) fn new(root: &Path, told: mpsc::UnboundedSender<Told>) -> Self {
        let at = root.to_owned();
        let handler = move |event: notify::Result<Event>| {
            for one in translate(&at, event) {
                // Nobody listens any more when the machine has gone.
                let _ = told.send(one);
            }
        };
        let watcher = match notify::recommended_watcher(handler) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                super::super::log(&format!("{} is not watched: {error}", root.display()));
                None
            }
        };
        let watch = Self {
            root: root.to_owned(),
            state: Mutex::new(State {
                watcher,
                followed: HashSet::new(),
            }),
            own: Own::default(),
        };
        watch.follow(Path::new(""));
        watch
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of changes in a folder from now on; false where that cannot be.
    pub(super) fn follow(&self, folder: &Path) -> bool {
        let mut state = self.state();
        let State { watcher, followed } = &mut *state;
        let Some(watcher) = watcher else {
            return false;
        };
        if WHOLE_TREES && !followed.is_empty() || followed.contains(folder) {
            return true;
        }
        let mode = if WHOLE_TREES {
            RecursiveMode::Recursive
        } else {
            RecursiveMode::NonRecursive
        };
        let begun = watcher.watch(&self.root.join(folder), mode);
        if begun.is_ok() {
            followed.insert(folder.to_owned());
        }
        begun.is_ok()
    }

    /// The folder itself is another one now.
    pub(super) fn begin_anew(&self) {
        let mut state = self.state();
        for folder in std::mem::take(&mut state.followed) {
            if let Some(watcher) = &mut state.watcher {
                // What is gone is not watched any more by itself.
                let _ = watcher.unwatch(&self.root.join(folder));
            }
        }
        drop(state);
        self.follow(Path::new(""));
    }

    /// What was watched under one name is under another.
    pub(super) fn follow_renamed(&self, from: &Path, to: &Path) {
        if WHOLE_TREES {
            return;
        }
        let moved: Vec<PathBuf> = {
            let mut state = self.state();
            let below: Vec<PathBuf> = state
                .followed
                .iter()
                .filter(|folder| folder.starts_with(from))
                .cloned()
                .collect();
            for folder in &below {
                state.followed.remove(folder);
                if let Some(watcher) = &mut state.watcher {
                    let _ = watcher.unwatch(&self.root.join(folder));
                }
            }
            below
        };
        for folder in moved {
            if let Ok(rest) = folder.strip_prefix(from) {
                // Joined with nothing, a path would end with a slash.
                let is_itself = rest.as_os_str().is_empty();
                self.follow(&if is_itself {
                    to.to_owned()
                } else {
                    to.join(rest)
                });
            }
        }
    }

    /// What was watched there is gone.
    pub(super) fn forget(&self, folder: &Path) {
        self.state().followed.retain(|one| !one.starts_with(folder));
    }

    /// The machine is about to make something.
    pub(super) fn is_made(&self, path: &Path) {
        self.own.add(seen(ChangeKind::Created, path));
    }

    /// The machine is about to remove something.
    pub(super) fn is_removed(&self, path: &Path) {
        self.own.add(seen(ChangeKind::Removed, path));
    }

    /// The machine is about to rename something.
    pub(super) fn is_renamed(&self, from: &Path, to: &Path) {
        if cfg!(target_os = "linux") {
            self.own.add(Seen {
                to: to.to_owned(),
                ..seen(ChangeKind::Renamed, from)
            });
        } else {
            // Other systems tell of its halves.
            self.own.add(seen(ChangeKind::Removed, from));
            self.own.add(seen(ChangeKind::Created, to));
        }
    }

    /// The changes of one moment that the machine does not know of.
    pub(super) fn news(&self, batch: Vec<Seen>) -> Vec<Seen> {
        let mut news = settle(batch);
        news.retain(|one| !self.own.take(one));
        news
    }
}

fn seen(kind: ChangeKind, path: &Path) -> Seen {
    Seen {
        kind,
        path: path.to_owned(),
        to: PathBuf::new(),
    }
}

/// An event in this room's words. A rename comes as its two halves, and then as one: see [`settle`].
fn translate(root: &Path, event: notify::Result<Event>) -> Vec<Told> {
    let Ok(event) = event else {
        return vec![Told::Overflow];
    };
    if event.need_rescan() {
        return vec![Told::Overflow];
    }
    let below = |path: &PathBuf| path.strip_prefix(root).ok().map(Path::to_owned);
    let each = |kind: ChangeKind| {
        let paths = event.paths.iter().filter_map(below);
        paths.map(|path| Told::Seen(seen(kind, &path))).collect()
    };
    match event.kind {
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
            each(ChangeKind::Created)
        }
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
            each(ChangeKind::Removed)
        }
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => match &event.paths[..] {
            [from, to] => match (below(from), below(to)) {
                (Some(path), Some(to)) => vec![Told::Seen(Seen {
                    kind: ChangeKind::Renamed,
                    path,
                    to,
                })],
                _ => Vec::new(),
            },
            _ => Vec::new(),
        },
        EventKind::Modify(ModifyKind::Name(_)) => {
            let kind = |path: &PathBuf| match path.symlink_metadata() {
                Ok(_) => ChangeKind::Created,
                Err(_) => ChangeKind::Removed,
            };
            let paths = event.paths.iter();
            paths
                .filter_map(|path| Some(Told::Seen(seen(kind(path), &below(path)?))))
                .collect()
        }
        // Written through memory that is mapped, a file is told of only when it is closed.
        EventKind::Modify(_) | EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
            each(ChangeKind::Modified)
        }
        EventKind::Access(_) | EventKind::Any | EventKind::Other => Vec::new(),
    }
}

/// The changes of one moment without what says the same twice: a rename's halves, the end of a folder that
/// is watched itself, and all but the last of the modifications of one file.
fn settle(batch: Vec<Seen>) -> Vec<Seen> {
    let renames: Vec<Seen> = batch
        .iter()
        .filter(|one| one.kind == ChangeKind::Renamed)
        .cloned()
        .collect();
    let is_half = |one: &Seen| {
        renames.iter().any(|rename| match one.kind {
            ChangeKind::Removed => rename.path == one.path,
            ChangeKind::Created => rename.to == one.path,
            ChangeKind::Modified | ChangeKind::Renamed => false,
        })
    };
    let mut settled = Vec::with_capacity(batch.len());
    // By what was last said of each path.
    let mut later: HashMap<PathBuf, HashSet<ChangeKind>> = HashMap::new();
    for one in batch.into_iter().rev() {
        let kinds = later.entry(one.path.clone()).or_default();
        let is_again = match one.kind {
            ChangeKind::Modified => kinds.contains(&ChangeKind::Modified),
            ChangeKind::Removed => kinds.contains(&ChangeKind::Removed),
            ChangeKind::Created | ChangeKind::Renamed => false,
        };
        if one.kind == ChangeKind::Created {
            // What was removed before that is another one.
            kinds.clear();
        }
        kinds.insert(one.kind);
        if !is_half(&one) && !is_again {
            settled.push(one);
        }
    }
    settled.reverse();
    settled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_is_told_once_and_a_file_of_a_moment_once() {
        let rename = Seen {
            to: "b".into(),
            ..seen(ChangeKind::Renamed, Path::new("a"))
        };
        let modified = seen(ChangeKind::Modified, Path::new("c"));
        let batch = vec![
            modified.clone(),
            seen(ChangeKind::Removed, Path::new("a")),
            seen(ChangeKind::Created, Path::new("b")),
            rename.clone(),
            modified.clone(),
        ];
        assert_eq!(settle(batch), [rename, modified]);
        // Out of the folder, or into it.
        let halves = vec![
            seen(ChangeKind::Removed, Path::new("a")),
            seen(ChangeKind::Created, Path::new("b")),
        ];
        assert_eq!(settle(halves.clone()), halves);
    }

    #[tokio::test]
    async fn what_others_do_is_told_and_what_the_machine_does_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (sender, mut told) = mpsc::unbounded_channel();
        let watch = Watch::new(&root, sender);
        watch.is_made(Path::new("own"));
        std::fs::create_dir(root.join("own")).unwrap();
        assert!(watch.follow(Path::new("own")));
        watch.is_removed(Path::new("own"));
        std::fs::remove_dir(root.join("own")).unwrap();
        std::fs::create_dir(root.join("other")).unwrap();
        let other = seen(ChangeKind::Created, Path::new("other"));
        let mut batch = Vec::new();
        while !batch.contains(&other) {
            let next = tokio::time::timeout(Duration::from_secs(30), told.recv());
            match next.await.unwrap().unwrap() {
                Told::Seen(one) => batch.push(one),
                Told::Overflow => panic!("nothing overflowed"),
            }
        }
        assert_eq!(watch.news(batch), [other]);
    }
}
