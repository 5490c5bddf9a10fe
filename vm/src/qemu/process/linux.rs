//! Processes on Linux: a pidfd names one process for ever, so nothing is lost between looking and
//! killing (pidfd_open(2)).

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How long to wait for a process that is ending to let go of its files.
const DYING_LIMIT: Duration = Duration::from_secs(5);

/// A process, whatever becomes of its number.
#[derive(Debug)]
pub(in crate::qemu) struct Handle(AsyncFd<OwnedFd>);

impl Handle {
    /// The live process `pid`, if `word` is one of its arguments.
    pub(super) async fn open(pid: u32, word: &Path) -> io::Result<Option<Self>> {
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let fd = match pidfd_open(number, PidfdFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Read after opening: if the process ended in between, the arguments are empty or those of
        // another process, and the descriptor still names the former.
        let arguments = match tokio::fs::read(format!("/proc/{pid}/cmdline")).await {
            Ok(arguments) => arguments,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let word = word.as_os_str().as_bytes();
        let is_ours = arguments
            .split(|&byte| byte == 0)
            .any(|argument| argument == word);
        let is_dying = arguments.is_empty() && was_qemu(pid).await;
        if !is_ours && !is_dying {
            return Ok(None);
        }
        // SAFETY: the descriptor is open and owned by the value that is registered, until it is dropped.
        let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        let handle = Self(registered?);
        if is_dying
            && tokio::time::timeout(DYING_LIMIT, handle.gone())
                .await
                .is_ok()
        {
            return Ok(None);
        }
        Ok(Some(handle))
    }

    /// Waits until the process has ended, reaped or not.
    pub(super) async fn gone(&self) -> io::Result<()> {
        self.0.readable().await.map(drop)
    }

    /// Sends SIGKILL. A process that is gone is no error.
    pub(super) fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.0, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether a process without arguments is a QEMU. A killed process loses its memory, and with it
/// the arguments, before its sockets, locks and ports; its name stays to the end.
async fn was_qemu(pid: u32) -> bool {
    let name = tokio::fs::read(format!("/proc/{pid}/comm")).await;
    name.is_ok_and(|name| name.starts_with(b"qemu-system"))
}
