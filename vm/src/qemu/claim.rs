//! The lock that says whether a machine has a QEMU, also one that nobody can see yet.
//!
//! QEMU inherits the locked file and never touches it: the kernel gives the lock back when the process is
//! gone, however it went. So one whose parent was killed is known of from the moment it was made, before
//! it has written its pid file or opened its monitor. Windows has no locks that are inherited: there the
//! pid file and the monitor are all that there is to see.

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::driver::DriverError;
use crate::state::MachineState;
use crate::store::{MachineDir, atomic};

/// How long a process that is ending may take to let go of its files, memory first.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(2);

/// What the process that is about to be made has to inherit: the lock, and with it the machine.
pub(super) async fn take(dir: &MachineDir) -> Result<Option<File>, DriverError> {
    if !cfg!(unix) {
        return Ok(None);
    }
    let failed = |source| DriverError::Io {
        what: "lock",
        path: path(dir),
        source,
    };
    let file = atomic::open_lock(&path(dir)).map_err(failed)?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(TryLockError::WouldBlock) => {
                return Err(DriverError::AlreadyRunning {
                    state: MachineState::Starting,
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
}

/// Whether a process has it. Whoever only looks shares the lock with others who do.
pub(super) fn is_taken(dir: &MachineDir) -> bool {
    cfg!(unix)
        && File::open(path(dir))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Waits until no process has it; false when one still has after `limit`.
pub(super) async fn given_back(dir: &MachineDir, limit: Duration) -> bool {
    let begun = Instant::now();
    while is_taken(dir) {
        if begun.elapsed() >= limit {
            return false;
        }
        tokio::time::sleep(PAUSE).await;
    }
    true
}

fn path(dir: &MachineDir) -> PathBuf {
    dir.path().join("qemu.lock")
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::super::inherited::{Inherited, detach};
    use super::*;

    #[tokio::test]
    async fn it_lasts_as_long_as_the_process_that_inherited_it() {
        let home = tempfile::tempdir().unwrap();
        let dir = MachineDir::new("m".parse().unwrap(), home.path().to_owned(), home.path());
        assert!(!is_taken(&dir), "nobody has it");

        let claim = take(&dir).await.unwrap().expect("there are such locks");
        assert!(is_taken(&dir));
        let mut command = tokio::process::Command::new("/bin/sleep");
        command.arg("60").kill_on_drop(true);
        detach(&mut command, &Inherited::default(), Some(&claim));
        let mut process = command.spawn().unwrap();
        drop(claim);
        assert!(
            !given_back(&dir, Duration::from_millis(20)).await,
            "the process has it"
        );

        process.kill().await.unwrap();
        assert!(given_back(&dir, PATIENCE).await);
        assert!(take(&dir).await.unwrap().is_some());
    }
}
