//! Processes on macOS (through ps(1)) and Windows (through the crate `sysinfo`).

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a process that is not ours to wait for is looked at.
const PAUSE: Duration = Duration::from_millis(50);

/// A process and the argument that it was known by.
#[derive(Debug)]
pub(in crate::qemu) struct Handle {
    pid: u32,
    word: PathBuf,
}

impl Handle {
    /// The live process `pid`, if `word` is one of its arguments.
    pub(super) async fn open(pid: u32, word: &Path) -> io::Result<Option<Self>> {
        Ok(carries(pid, word).await?.then(|| Self {
            pid,
            word: word.to_owned(),
        }))
    }

    /// Waits until the process has ended, reaped or not.
    pub(super) async fn gone(&self) -> io::Result<()> {
        while carries(self.pid, &self.word).await? {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Ends the process. A process that is gone is no error.
    #[cfg(unix)]
    pub(super) fn kill(&self) -> io::Result<()> {
        use rustix::process::{Pid, Signal, kill_process};
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(());
        };
        match kill_process(pid, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends the process. A process that is gone is no error.
    #[cfg(windows)]
    pub(super) fn kill(&self) -> io::Result<()> {
        match process_table(self.pid).process(sysinfo::Pid::from_u32(self.pid)) {
            Some(process) if !process.kill() => Err(io::ErrorKind::PermissionDenied.into()),
            _ => Ok(()),
        }
    }
}

/// Whether a live process has a word on its command line.
#[cfg(unix)]
async fn carries(pid: u32, word: &Path) -> io::Result<bool> {
    let pid = pid.to_string();
    let output = tokio::process::Command::new("/bin/ps")
        .args(["-ww", "-o", "stat=,command=", "-p", &pid])
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(!text.trim_start().starts_with('Z') && text.contains(&*word.to_string_lossy()))
}

/// Whether a live process has a word on its command line.
#[cfg(windows)]
async fn carries(pid: u32, word: &Path) -> io::Result<bool> {
    let word = word.to_owned();
    let look = move || {
        let table = process_table(pid);
        let process = table.process(sysinfo::Pid::from_u32(pid));
        process.is_some_and(|process| {
            process
                .cmd()
                .iter()
                .any(|argument| *argument == *word.as_os_str())
        })
    };
    tokio::task::spawn_blocking(look)
        .await
        .map_err(io::Error::other)
}

/// One process with its command line.
#[cfg(windows)]
fn process_table(pid: u32) -> sysinfo::System {
    use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};
    let mut system = System::new();
    let what = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always);
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[Pid::from_u32(pid)]), true, what);
    system
}
