//! One lock a machine, which the kernel releases when its holder dies.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs4::fs_std::FileExt;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{StoreError, atomic};
use crate::name::MachineName;

/// The first pause between two attempts; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Who holds a lock. Written beside the lock by the holder itself: Windows lets nobody read a
/// locked file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process; 0 when it is not known.
    pub pid: u32,
    /// What it is doing, for example `coracle start`.
    pub command: String,
    /// Since when.
    #[serde(with = "time::serde::rfc3339::option")]
    pub since: Option<OffsetDateTime>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pid == 0 {
            return f.write_str("another program");
        }
        write!(f, "\"{}\" (process {}", self.command, self.pid)?;
        match self
            .since
            .and_then(|since| since.replace_nanosecond(0).ok()?.format(&Rfc3339).ok())
        {
            Some(since) => write!(f, ", since {since})"),
            None => f.write_str(")"),
        }
    }
}

/// The right to change one machine, for as long as this value lives.
#[derive(Debug)]
pub struct MachineLock {
    name: MachineName,
    path: PathBuf,
    holder_path: PathBuf,
    file: File,
    /// Whether the lock's file goes with it.
    doomed: bool,
}

impl MachineLock {
    /// The machine that may be changed.
    pub fn name(&self) -> &MachineName {
        &self.name
    }

    /// Takes the lock of `name` in the folder `locks`, or tells who has it after `limit`.
    pub(super) async fn take(
        locks: &Path,
        name: &MachineName,
        command: &str,
        limit: Duration,
    ) -> Result<Self, StoreError> {
        let path = locks.join(name.as_str());
        let holder_path = locks.join(format!(".{name}.holder"));
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(file) = try_lock(&path).map_err(StoreError::io("lock", &path))? {
                let lock = Self {
                    name: name.clone(),
                    path,
                    holder_path,
                    file,
                    doomed: false,
                };
                lock.sign(command)
                    .map_err(StoreError::io("write", &lock.holder_path))?;
                return Ok(lock);
            }
            let left = limit.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(StoreError::Locked {
                    name: name.clone(),
                    holder: read_holder(&holder_path),
                    limit,
                });
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Tells others who holds the lock.
    fn sign(&self, command: &str) -> io::Result<()> {
        let since = OffsetDateTime::now_utc();
        let holder = Holder {
            pid: std::process::id(),
            command: command.to_owned(),
            since: Some(since),
        };
        atomic::write(&self.holder_path, &serde_json::to_vec(&holder)?)
    }

    /// Gives the lock back and removes its file: for a machine that is no more. Windows cannot
    /// remove a file that somebody waits for; there it stays, empty.
    pub(super) fn remove(mut self) {
        self.doomed = cfg!(unix);
    }
}

impl Drop for MachineLock {
    fn drop(&mut self) {
        // While the lock is held: the next holder signs as soon as it has it. A file that cannot be
        // removed harms nobody, the lock is what counts.
        let _ = atomic::remove(&self.holder_path);
        if self.doomed {
            let _ = atomic::remove(&self.path);
        }
        let _ = FileExt::unlock(&self.file);
    }
}

/// How often a lock's file may vanish under one attempt. Each time, another program removed a
/// machine in the moment between opening and locking.
const VANISHING_FILES: u32 = 100;

/// One attempt. `None` when another process holds the lock.
fn try_lock(path: &Path) -> io::Result<Option<File>> {
    for _ in 0..VANISHING_FILES {
        let file = atomic::open_lock(path)?;
        if !FileExt::try_lock_exclusive(&file)? {
            return Ok(None);
        }
        // A lock on a file that was removed with its machine is worth nothing.
        if is_still_there(&file, path)? {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// Whether a path still leads to an open file.
#[cfg(unix)]
fn is_still_there(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let open = file.metadata()?;
    match path.metadata() {
        Ok(there) => Ok((there.dev(), there.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Lock files are never removed on Windows.
#[cfg(not(unix))]
fn is_still_there(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

/// Who says to hold the lock; an unknown holder when it has not said so yet.
fn read_holder(path: &Path) -> Holder {
    std::fs::read(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or(Holder {
            pid: 0,
            command: String::new(),
            since: None,
        })
}
