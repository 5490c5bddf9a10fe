//! A machine's QEMU as a process: found by its pid file, and never mistaken for another.
//!
//! A pid file outlives a killed process, and the number in it is given to another one later. So the
//! process must carry the pid file's own path on its command line to count as the machine's.

#[cfg_attr(target_os = "linux", path = "linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "portable.rs")]
mod system;

use std::io;
use std::path::Path;
use std::time::Duration;

pub(super) use system::Handle;

/// A process that was verified to be the machine's QEMU when it was found.
#[derive(Debug)]
pub(super) struct QemuProcess {
    /// Its identifier.
    pub(super) pid: u32,
    handle: Handle,
}

impl QemuProcess {
    /// The live process that a pid file names, if it is the one that wrote it.
    pub(super) async fn find(pid_file: &Path) -> io::Result<Option<Self>> {
        let text = match std::fs::read_to_string(pid_file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let Ok(pid) = text.trim().parse() else {
            return Ok(None);
        };
        let handle = Handle::open(pid, pid_file).await?;
        Ok(handle.map(|handle| Self { pid, handle }))
    }

    /// Waits until the process has ended; false if it has not within `limit`.
    pub(super) async fn wait_gone(&self, limit: Duration) -> io::Result<bool> {
        match tokio::time::timeout(limit, self.handle.gone()).await {
            Ok(result) => result.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Ends the process without asking it.
    pub(super) fn kill(&self) -> io::Result<()> {
        self.handle.kill()
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    /// A process with a word on its command line.
    fn sleeper(word: &str) -> std::process::Child {
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", "sleep 60; :", word]).spawn().unwrap()
    }

    #[tokio::test]
    async fn only_the_process_that_names_the_file_is_found_and_killed() {
        let folder = tempfile::tempdir().unwrap();
        let pid_file = folder.path().join("qemu.pid");
        assert!(QemuProcess::find(&pid_file).await.unwrap().is_none());

        let mut other = sleeper("somebody-else");
        std::fs::File::create(&pid_file).unwrap();
        crate::store::atomic::write(&pid_file, format!("{}\n", other.id()).as_bytes()).unwrap();
        assert!(
            QemuProcess::find(&pid_file).await.unwrap().is_none(),
            "another process was taken for ours"
        );
        other.kill().unwrap();
        other.wait().unwrap();

        let mut ours = sleeper(pid_file.to_str().unwrap());
        crate::store::atomic::write(&pid_file, format!("{}\n", ours.id()).as_bytes()).unwrap();
        let process = QemuProcess::find(&pid_file)
            .await
            .unwrap()
            .expect("our process");
        assert!(!process.wait_gone(Duration::from_millis(20)).await.unwrap());
        process.kill().unwrap();
        assert!(process.wait_gone(Duration::from_secs(10)).await.unwrap());
        // Not reaped yet: a zombie is not running.
        assert!(QemuProcess::find(&pid_file).await.unwrap().is_none());
        ours.wait().unwrap();
        assert!(QemuProcess::find(&pid_file).await.unwrap().is_none());
    }
}
