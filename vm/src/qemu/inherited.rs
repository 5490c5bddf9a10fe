//! What QEMU is given when its process is made: open files, and a session of its own.

use std::fs::File;
#[cfg(target_os = "linux")]
use std::io;

use tokio::process::Command;

#[cfg(target_os = "linux")]
use super::memory::MEMORY_NAME;
#[cfg(target_os = "linux")]
use crate::driver::DriverError;
#[cfg(target_os = "linux")]
use crate::size::Size;

/// The number under which QEMU inherits the file that it is handed open. Whatever had it before is closed
/// in the new process.
pub(super) const INHERITED: i32 = 200;
/// The same as a path that QEMU can open.
pub(super) const INHERITED_PATH: &str = "/proc/self/fd/200";

/// The same for its [`claim`](super::claim).
#[cfg(unix)]
const CLAIM: i32 = 201;
/// The first number that neither of them has.
#[cfg(unix)]
const BEYOND: i32 = 202;

/// The file that QEMU is handed open: the memory to be copied later, or the state to restore.
#[derive(Debug, Default)]
#[cfg_attr(
    not(unix),
    allow(dead_code, reason = "only Unix processes inherit descriptors")
)]
pub(super) struct Inherited(pub(super) Option<File>);

/// Memory that has a file descriptor and no place on any disk.
#[cfg(target_os = "linux")]
pub(super) fn memory_file(size: Size) -> Result<File, DriverError> {
    use rustix::fs::{MemfdFlags, memfd_create};
    let made = memfd_create(MEMORY_NAME, MemfdFlags::CLOEXEC).map_err(io::Error::from);
    let made = made.map(File::from).and_then(|file| {
        file.set_len(size.bytes())?;
        Ok(file)
    });
    made.map_err(|source| DriverError::Io {
        what: "make",
        path: MEMORY_NAME.into(),
        source,
    })
}

/// Gives the process a session of its own, which neither Ctrl-C nor a closed terminal reaches, and the
/// files that it inherits.
#[cfg(unix)]
pub(super) fn detach(command: &mut Command, inherited: &Inherited, claim: Option<&File>) {
    use rustix::io::{dup2, fcntl_dupfd_cloexec};
    use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
    use std::{io, mem::ManuallyDrop};
    let file = inherited.0.as_ref().map(|file| file.as_raw_fd());
    let claim = claim.map(|file| file.as_raw_fd());
    // Away from the numbers that they are to have, so that neither is put in the other's place.
    let aside = |number: RawFd| -> io::Result<ManuallyDrop<OwnedFd>> {
        // SAFETY: the caller keeps the file open until the process is spawned.
        let file = unsafe { BorrowedFd::borrow_raw(number) };
        Ok(ManuallyDrop::new(fcntl_dupfd_cloexec(file, BEYOND)?))
    };
    let hand = |file: Option<ManuallyDrop<OwnedFd>>, number: RawFd| -> io::Result<()> {
        if let Some(file) = file {
            // SAFETY: in the new process nobody else owns this number; it is never closed.
            let mut target = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
            dup2(&*file, &mut target)?;
        }
        Ok(())
    };
    let prepare = move || {
        rustix::process::setsid()?;
        // Its memory is saved by its parent. Where Yama lets only ancestors read that (1, as on Ubuntu),
        // whoever takes the place of a parent that was killed may too, if it is of the same user. Other
        // kernels know no such call, and need none.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::set_ptracer(rustix::process::PTracer::Any);
        let (file, claim) = (file.map(aside).transpose()?, claim.map(aside).transpose()?);
        hand(file, INHERITED)?;
        hand(claim, CLAIM)
    };
    // SAFETY: between fork and exec only system calls run that allocate nothing and take no lock.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Gives the process no console and a group of its own: Ctrl-C does not reach it.
#[cfg(windows)]
pub(super) fn detach(command: &mut Command, _inherited: &Inherited, _claim: Option<&File>) {
    /// Process creation flags of the Windows API.
    const DETACHED_PROCESS: u32 = 0x0000_0008;
    const CREATE_NEW_PROCESS_GROUP: u32 = 0x0000_0200;
    command.creation_flags(DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP);
}
