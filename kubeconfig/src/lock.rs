//! client-go's lock: a file beside the kubeconfig, with `.lock` behind its name, that exists while
//! someone changes the kubeconfig. It has neither owner nor age limit, so it is never taken away
//! from its holder. Source: k8s.io/client-go, tools/clientcmd/loader.go, lockFile.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// The shortest and the longest time between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Why a lock was not got.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Someone else holds it, or was killed while holding it.
    #[error("{} is held by another program{}", lock.display(), describe_age(*age))]
    Held {
        /// The lock file.
        lock: PathBuf,
        /// How long ago it was made, where the file system tells.
        age: Option<Duration>,
    },
    /// The lock file cannot be made.
    #[error("{} cannot be made", lock.display())]
    Create {
        /// The lock file.
        lock: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn describe_age(age: Option<Duration>) -> String {
    age.map(|age| format!(", for {} s already", age.as_secs()))
        .unwrap_or_default()
}

/// The locks of several files. Dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Locks {
    held: Vec<HeldLock>,
    refused: Vec<(PathBuf, ErrorKind)>,
}

/// One lock file that this process made.
#[derive(Debug)]
struct HeldLock(PathBuf);

impl Drop for HeldLock {
    fn drop(&mut self) {
        // A lock that cannot be removed is named by the next one who waits for it.
        let _ = fs::remove_file(&self.0);
    }
}

impl Locks {
    /// Locks `files` in one order for everybody, waiting up to `limit` in all. A file whose folder
    /// takes no lock file is left out: it cannot be changed either, see [`Locks::refusal`].
    pub(crate) fn take(files: &[PathBuf], limit: Duration) -> Result<Self, LockError> {
        let mut files = files.to_vec();
        files.sort();
        files.dedup();
        let deadline = Instant::now() + limit;
        let mut locks = Self {
            held: Vec::new(),
            refused: Vec::new(),
        };
        for file in files {
            let lock = lock_path(&file);
            match take(&lock, deadline) {
                Ok(held) => locks.held.push(held),
                Err(LockError::Create { source, .. }) if is_refusal(source.kind()) => {
                    locks.refused.push((file, source.kind()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(locks)
    }

    /// Why `file` could not be locked, if so.
    pub(crate) fn refusal(&self, file: &Path) -> Option<ErrorKind> {
        let mut refused = self.refused.iter();
        refused
            .find(|(other, _)| other == file)
            .map(|(_, kind)| *kind)
    }
}

/// The lock file of `file`.
fn lock_path(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(".lock");
    PathBuf::from(name)
}

/// Whether an error says that the folder takes no files.
fn is_refusal(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::NotFound
            | ErrorKind::NotADirectory
    )
}

/// Makes one lock file, waiting for its holder until `deadline`.
fn take(lock: &Path, deadline: Instant) -> Result<HeldLock, LockError> {
    let mut pause = FIRST_PAUSE;
    loop {
        let source = match OpenOptions::new().write(true).create_new(true).open(lock) {
            Ok(_) => return Ok(HeldLock(lock.to_owned())),
            Err(source) => source,
        };
        // Windows refuses a name whose former file is still being deleted.
        let deleting = cfg!(windows) && source.kind() == ErrorKind::PermissionDenied;
        let held = source.kind() == ErrorKind::AlreadyExists;
        let left = deadline.saturating_duration_since(Instant::now());
        match (held || deleting, left.is_zero()) {
            (true, false) => pause_for(pause.min(left)),
            (true, true) if held => {
                return Err(LockError::Held {
                    lock: lock.to_owned(),
                    age: age(lock),
                });
            }
            _ => {
                return Err(LockError::Create {
                    lock: lock.to_owned(),
                    source,
                });
            }
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// How long ago a file was made.
fn age(lock: &Path) -> Option<Duration> {
    let modified = fs::metadata(lock).and_then(|metadata| metadata.modified());
    SystemTime::now().duration_since(modified.ok()?).ok()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a lock file gives no event; the caller's deadline bounds the waiting"
)]
fn pause_for(pause: Duration) {
    std::thread::sleep(pause);
}
