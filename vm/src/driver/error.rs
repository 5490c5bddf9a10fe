//! What can go wrong in a driver.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::DriverKind;
use crate::accelerator::AcceleratorError;
use crate::program::ProgramError;
use crate::qmp::QmpError;
use crate::saved::SavedError;
use crate::size::Size;
use crate::spec::SpecError;
use crate::state::MachineState;
use crate::store::SocketPathTooLong;

/// What went wrong in a driver.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The driver is known, and this build does not have it.
    #[error("this build does not have the driver {kind}")]
    NotBuiltIn {
        /// Which driver.
        kind: DriverKind,
        /// How to get it.
        help: &'static str,
    },
    /// A program is missing.
    #[error("{program} was not found")]
    NotInstalled {
        /// The program's name.
        program: String,
        /// What to do on this host, as a command or a sentence.
        install: String,
    },
    /// The accelerator that was asked for does not work.
    #[error(transparent)]
    Accelerator(#[from] AcceleratorError),
    /// The specification contradicts itself.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The driver cannot make such a machine.
    #[error("the driver {kind} cannot run this machine: {reason}")]
    Unable {
        /// Which driver.
        kind: DriverKind,
        /// What it lacks, as a part of a sentence.
        reason: String,
    },
    /// A file that the machine is made of is missing.
    #[error("the machine's file {path} is missing")]
    MissingFile {
        /// The file.
        path: PathBuf,
    },
    /// The machine has a process already.
    #[error("the machine is {state} already")]
    AlreadyRunning {
        /// What it is doing.
        state: MachineState,
    },
    /// The machine has no process.
    #[error("the machine is not running")]
    NotRunning,
    /// Another program listens where a forwarded port should be.
    #[error("{address} is used by another program")]
    PortTaken {
        /// Address and port on the host.
        address: SocketAddr,
        /// What the hypervisor said.
        detail: String,
    },
    /// This user may not listen where a forwarded port should be.
    #[error("this user may not listen on {address}")]
    PortForbidden {
        /// Address and port on the host.
        address: SocketAddr,
        /// What the hypervisor said.
        detail: String,
    },
    /// This user may not use the accelerator's device.
    #[error("the hypervisor may not use /dev/kvm")]
    KvmPermission {
        /// What the hypervisor said.
        detail: String,
    },
    /// No space is left on the host.
    #[error("no space is left on the host")]
    NoSpace {
        /// What the hypervisor or the disk tool said.
        detail: String,
    },
    /// The host does not give the guest's memory.
    #[error("the host cannot give {asked} of memory")]
    NoMemory {
        /// The guest's memory.
        asked: Size,
        /// What the hypervisor said.
        detail: String,
    },
    /// Another process uses one of the machine's disks.
    #[error("another process uses one of the machine's disks")]
    DiskInUse {
        /// What the hypervisor said.
        detail: String,
    },
    /// The hypervisor ended before it answered, for another reason.
    #[error("the hypervisor ended at once ({status})")]
    LaunchFailed {
        /// How it ended.
        status: String,
        /// The command line.
        command: String,
        /// The last lines of its log.
        last_lines: Vec<String>,
        /// The log.
        log: PathBuf,
    },
    /// The hypervisor could not go on from a template or a saved state.
    #[error("the hypervisor could not go on from what was saved ({status})")]
    RestoreFailed {
        /// How it ended.
        status: String,
        /// The last lines of its log.
        last_lines: Vec<String>,
    },
    /// The hypervisor did not do something in time.
    #[error("the hypervisor did not {what} within {} s", limit.as_secs())]
    TimedOut {
        /// What it did not do.
        what: &'static str,
        /// How long it was given.
        limit: Duration,
    },
    /// A service of the host that runs machines does not answer this user.
    #[error("{service} cannot be used: {detail}")]
    Unreachable {
        /// What people call it.
        service: String,
        /// What was said.
        detail: String,
        /// What to do on this host, as a command or a sentence.
        help: String,
    },
    /// A service of the host that runs machines refused something.
    #[error("the hypervisor did not {what}: {detail}")]
    Refused {
        /// What it did not do, as a part of a sentence.
        what: &'static str,
        /// What it said.
        detail: String,
    },
    /// A saved state could not be handled.
    #[error(transparent)]
    Saved(#[from] SavedError),
    /// The machine's sockets would have too long a path.
    #[error(transparent)]
    SocketPath(#[from] SocketPathTooLong),
    /// The hypervisor has to be put in order first.
    #[error("the driver {kind} cannot be used yet: {reason}")]
    Unready {
        /// Which driver.
        kind: DriverKind,
        /// What is wrong, as a part of a sentence.
        reason: String,
        /// What to do on this host, as a command or a sentence.
        mend: String,
    },
    /// This user may not use the hypervisor.
    #[error("this user may not use the hypervisor: {detail}")]
    Forbidden {
        /// What the hypervisor said.
        detail: String,
        /// What to do on this host, as a command or a sentence.
        mend: String,
    },
    /// The hypervisor has a machine of the name that is not this one. It is left alone.
    #[error(
        "the driver {kind} has a machine \"{name}\" already, which is not this one ({id}): rename it or choose another name"
    )]
    Foreign {
        /// Which driver.
        kind: DriverKind,
        /// The name of both.
        name: String,
        /// What the hypervisor calls the other one.
        id: String,
    },
    /// The guest has an address of its own, and has not got one yet.
    #[error("the guest has no network address yet")]
    NoAddress,
    /// The hypervisor refused something, for a reason that has no name here.
    #[error("the hypervisor could not {what}: {detail}")]
    Hypervisor {
        /// What was tried.
        what: &'static str,
        /// What it said.
        detail: String,
    },
    /// The hypervisor's monitor refused or broke off.
    #[error("the hypervisor's monitor failed")]
    Qmp(#[from] QmpError),
    /// An external program failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A file or a process could not be handled.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Says what could not be done with which file; a full disk has an error of its own.
pub(crate) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DriverError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DriverError::NoSpace {
            detail: format!("{}: {source}", path.display()),
        },
        _ => DriverError::Io { what, path, source },
    }
}

/// An error with its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
