//! A lock file that the kernel releases when its holder dies.

use crate::pause::pause;
use fs4::fs_std::FileExt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const RETRY: Duration = Duration::from_millis(100);

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else held it all the time.
    #[error("{} is held by {holder} (waited {} s)", path.display(), waited.as_secs())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// What the holder wrote about itself, such as `process 4711`.
        holder: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The file cannot be used.
    #[error("cannot lock {}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Takes the lock, waiting at most `limit` while somebody else holds it. The file's folder
    /// is created when it is missing.
    pub fn acquire(path: &Path, limit: Duration) -> Result<Self, LockError> {
        let io = |source| LockError::Io {
            path: path.to_owned(),
            source,
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io)?;
        let begun = Instant::now();
        while !file.try_lock_exclusive().map_err(io)? {
            if begun.elapsed() >= limit {
                let mut holder = String::new();
                // On Windows a locked file cannot be read.
                let _ = file.read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another process".to_owned(),
                    text => text.to_owned(),
                };
                return Err(LockError::Held {
                    path: path.to_owned(),
                    holder,
                    waited: begun.elapsed(),
                });
            }
            pause(RETRY.min(limit));
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        writeln!(file, "process {}", std::process::id()).map_err(io)?;
        Ok(Self { file })
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing the file lets go in any case.
        let _ = FileExt::unlock(&self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_told_who_holds_it_and_gets_it_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/lock");
        let held = FileLock::acquire(&path, Duration::ZERO).unwrap();
        let error = FileLock::acquire(&path, Duration::from_millis(150)).unwrap_err();
        let text = error.to_string();
        if cfg!(unix) {
            assert!(
                text.contains(&format!("process {}", std::process::id())),
                "{text}"
            );
        }
        drop(held);
        FileLock::acquire(&path, Duration::ZERO).unwrap();
    }
}
