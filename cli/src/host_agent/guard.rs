//! What brings a host agent back that was killed: a process that waits for the lock which a host agent
//! holds as long as it lives. One that ends by itself ends its guard first, so whoever comes by the lock
//! knows that the other was lost, and becomes its successor.

use super::{log, spawn};
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::settings::Settings;
use coracle_vm::MachineDir;
use coracle_vm::store::atomic;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How long the one before may take to be gone.
const SUCCESSION: Duration = Duration::from_secs(10);
/// A host agent that lived for less was not worth bringing back often.
const SHORT_LIFE: Duration = Duration::from_secs(60);
/// How often one is brought back that lives for no longer.
const MOST_SHORT_LIVES: u32 = 5;

/// The file that a host agent locks.
fn lock_file(dir: &MachineDir) -> PathBuf {
    dir.path().join("host-agent.lock")
}

/// The lock that a host agent holds as long as it lives. Not waiting for it would mean two that forward
/// the same ports.
pub async fn lock(dir: &MachineDir) -> Result<File> {
    let path = lock_file(dir);
    let failed = || format!("cannot lock {}", path.display());
    let file = atomic::open_lock(&path).context(ErrorId::Write, failed)?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if begun.elapsed() < SUCCESSION => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(Error::new(
                    ErrorId::LockBusy,
                    "the cluster has another host agent",
                ));
            }
            Err(std::fs::TryLockError::Error(error)) => {
                return Err(error).context(ErrorId::Write, failed);
            }
        }
    }
}

/// The guard of this process, which ends with this value.
#[derive(Debug)]
pub struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // One that ended already is as good.
        let _ = self.0.kill().and_then(|()| self.0.wait().map(drop));
    }
}

/// Starts a guard for this process; without one, a command that finds the host agent missing is what
/// brings it back. A tether is handed on.
pub fn spawn(settings: &Settings, tethered: bool, short_lives: u32) -> Option<Guard> {
    if short_lives >= MOST_SHORT_LIVES {
        log("was lost too often and is not guarded any more");
        return None;
    }
    let mut command = spawn::command(settings, tethered);
    command
        .args(["--guard", "--short-lives"])
        .arg(short_lives.to_string())
        .stdout(Stdio::null());
    if !tethered {
        command.stdin(Stdio::null());
    }
    match command.spawn() {
        Ok(child) => Some(Guard(child)),
        Err(error) => {
            log(&format!("cannot start a guard: {error}"));
            None
        }
    }
}

/// What the guard does.
pub async fn wait(settings: &Settings, dir: &MachineDir, tethered: bool, lives: u32) -> Result<u8> {
    let begun = Instant::now();
    let failed = || format!("cannot lock {}", lock_file(dir).display());
    let file = atomic::open_lock(&lock_file(dir)).context(ErrorId::Write, failed)?;
    let waited = tokio::task::spawn_blocking(move || file.lock()).await;
    waited
        .context(ErrorId::Internal, failed)?
        .context(ErrorId::Write, failed)?;
    let lives = if begun.elapsed() < SHORT_LIFE {
        lives + 1
    } else {
        0
    };
    let mut command = spawn::command(settings, tethered);
    command
        .args(["--adopt", "--short-lives"])
        .arg(lives.to_string());
    crate::exec::become_program(command)
}
