//! What every driver can do, which drivers there are, and what can go wrong in one.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::accelerator::{AcceleratorChoice, AcceleratorError, Verdict};
use crate::program::{ProgramError, Programs};
use crate::qemu::QemuDriver;
use crate::qmp::QmpError;
use crate::size::Size;
use crate::spec::{Architecture, MachineSpec, SpecError};
use crate::state::MachineState;
use crate::store::{MachineDir, SocketPathTooLong};

/// The drivers that the design names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriverKind {
    /// QEMU, through its monitor protocol.
    Qemu,
    /// libvirt.
    Libvirt,
    /// VirtualBox.
    Virtualbox,
    /// Hyper-V.
    Hyperv,
}

/// What people type for each driver: its own name first, then names that Minikube uses.
const NAMES: [(DriverKind, &[&str]); 4] = [
    (DriverKind::Qemu, &["qemu", "qemu2", "kvm", "kvm2"]),
    (DriverKind::Libvirt, &["libvirt"]),
    (DriverKind::Virtualbox, &["virtualbox", "vbox"]),
    (DriverKind::Hyperv, &["hyperv", "hyper-v"]),
];

/// A text that names no driver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no driver \"{text}\"; known are {}", DriverKind::known())]
pub struct UnknownDriver {
    /// The refused text.
    pub text: String,
}

impl DriverKind {
    /// The driver's own name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Libvirt => "libvirt",
            Self::Virtualbox => "virtualbox",
            Self::Hyperv => "hyperv",
        }
    }

    /// All drivers, the preferred one first.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(kind, _)| *kind)
    }

    /// Whether this build can use it.
    pub const fn is_built_in(self) -> bool {
        matches!(self, Self::Qemu)
    }

    /// The own names of all drivers, for a message.
    fn known() -> String {
        let names: Vec<&str> = Self::all().map(Self::as_str).collect();
        names.join(", ")
    }
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for DriverKind {
    type Err = UnknownDriver;

    fn from_str(text: &str) -> Result<Self, UnknownDriver> {
        let lower = text.to_ascii_lowercase();
        NAMES
            .iter()
            .find(|(_, names)| names.contains(&lower.as_str()))
            .map(|(kind, _)| *kind)
            .ok_or_else(|| UnknownDriver {
                text: text.to_owned(),
            })
    }
}

/// How the host reaches a port of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestAddress {
    /// Through the ports that the specification forwards.
    Forwarded,
    /// At an address of the guest's own.
    Direct,
}

/// What a driver can do, as data: callers ask this and never a driver's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Whether the guest's processors can be stopped and go on.
    pub can_pause: bool,
    /// Whether a running guest can be saved to disk and go on later.
    pub can_hibernate: bool,
    /// Whether a new machine can begin as a copy of a running one.
    pub can_clone: bool,
    /// Whether it starts a kernel without a boot loader.
    pub boots_kernel: bool,
    /// How the guest is reached.
    pub guest_address: GuestAddress,
}

/// What a driver found out about its hypervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverFacts {
    /// Which driver.
    pub kind: DriverKind,
    /// The hypervisor's program.
    pub program: PathBuf,
    /// Its version.
    pub version: String,
    /// What will run the guest's instructions, and why.
    pub verdict: Verdict,
}

/// A hypervisor process that this process started. Dropping it leaves the machine running; then
/// nobody reaps the process until this one ends.
#[derive(Debug)]
pub struct RunningProcess {
    /// The process identifier.
    pub pid: u32,
    /// What runs the guest's instructions.
    pub verdict: Verdict,
    /// The child.
    pub(crate) child: tokio::process::Child,
}

impl RunningProcess {
    /// Waits until the process ends, and reaps it. May be called again after being cancelled.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }
}

/// One kind of hypervisor. Every call finds the machine by its folder, so a driver keeps nothing
/// between calls.
pub trait Driver {
    /// Which driver this is.
    fn kind(&self) -> DriverKind;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Finds out whether a guest can be run on this host, and how. Changes nothing.
    fn probe(
        &self,
        choice: AcceleratorChoice,
        guest: Architecture,
    ) -> impl Future<Output = Result<DriverFacts, DriverError>> + Send;

    /// Makes the disks that the specification wants created and that are missing. What is there is
    /// left as it is, so that a second call changes nothing.
    fn prepare(
        &self,
        dir: &MachineDir,
        spec: &MachineSpec,
    ) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Starts the machine as a child of this process, and returns once the hypervisor answers. The
    /// caller holds the machine's lock.
    fn launch(
        &self,
        dir: &MachineDir,
        spec: &MachineSpec,
    ) -> impl Future<Output = Result<RunningProcess, DriverError>> + Send;

    /// What the machine is doing now. Takes two seconds at most.
    fn observe(&self, dir: &MachineDir) -> impl Future<Output = MachineState> + Send;

    /// Stops the guest's processors. Paused already is no error.
    fn pause(&self, dir: &MachineDir) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Lets the guest's processors go on. Running already is no error.
    fn resume(&self, dir: &MachineDir) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Asks the guest to shut down, as the button on a machine does. Returns at once.
    fn power_button(
        &self,
        dir: &MachineDir,
    ) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Ends the hypervisor without asking the guest; kills it when it has not ended within `limit`.
    /// What the guest had not flushed is lost. Off already is no error.
    fn quit(
        &self,
        dir: &MachineDir,
        limit: Duration,
    ) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Waits until no process runs the machine, for example after [`power_button`](Self::power_button).
    fn wait_off(
        &self,
        dir: &MachineDir,
        limit: Duration,
    ) -> impl Future<Output = Result<(), DriverError>> + Send;
}

/// What went wrong in a driver.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The driver is known, and this version cannot use it.
    #[error("the driver {kind} is not supported in this version")]
    Unsupported {
        /// Which driver.
        kind: DriverKind,
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
    /// The hypervisor did not do something in time.
    #[error("the hypervisor did not {what} within {} s", limit.as_secs())]
    TimedOut {
        /// What it did not do.
        what: &'static str,
        /// How long it was given.
        limit: Duration,
    },
    /// The machine's sockets would have too long a path.
    #[error(transparent)]
    SocketPath(#[from] SocketPathTooLong),
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

/// A driver of any kind that this build has.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AnyDriver {
    /// QEMU.
    Qemu(QemuDriver),
}

impl AnyDriver {
    /// The driver of a kind; an error for one that this build cannot use.
    pub fn new(kind: DriverKind, programs: Programs) -> Result<Self, DriverError> {
        match kind {
            DriverKind::Qemu => Ok(Self::Qemu(QemuDriver::new(programs))),
            DriverKind::Libvirt | DriverKind::Virtualbox | DriverKind::Hyperv => {
                Err(DriverError::Unsupported { kind })
            }
        }
    }
}

/// Calls the same method of whichever driver it is.
macro_rules! dispatch {
    ($self:ident, $driver:ident => $call:expr) => {
        match $self {
            Self::Qemu($driver) => $call,
        }
    };
}

impl Driver for AnyDriver {
    fn kind(&self) -> DriverKind {
        dispatch!(self, driver => driver.kind())
    }

    fn capabilities(&self) -> Capabilities {
        dispatch!(self, driver => driver.capabilities())
    }

    async fn probe(
        &self,
        choice: AcceleratorChoice,
        guest: Architecture,
    ) -> Result<DriverFacts, DriverError> {
        dispatch!(self, driver => driver.probe(choice, guest).await)
    }

    async fn prepare(&self, dir: &MachineDir, spec: &MachineSpec) -> Result<(), DriverError> {
        dispatch!(self, driver => driver.prepare(dir, spec).await)
    }

    async fn launch(
        &self,
        dir: &MachineDir,
        spec: &MachineSpec,
    ) -> Result<RunningProcess, DriverError> {
        dispatch!(self, driver => driver.launch(dir, spec).await)
    }

    async fn observe(&self, dir: &MachineDir) -> MachineState {
        dispatch!(self, driver => driver.observe(dir).await)
    }

    async fn pause(&self, dir: &MachineDir) -> Result<(), DriverError> {
        dispatch!(self, driver => driver.pause(dir).await)
    }

    async fn resume(&self, dir: &MachineDir) -> Result<(), DriverError> {
        dispatch!(self, driver => driver.resume(dir).await)
    }

    async fn power_button(&self, dir: &MachineDir) -> Result<(), DriverError> {
        dispatch!(self, driver => driver.power_button(dir).await)
    }

    async fn quit(&self, dir: &MachineDir, limit: Duration) -> Result<(), DriverError> {
        dispatch!(self, driver => driver.quit(dir, limit).await)
    }

    async fn wait_off(&self, dir: &MachineDir, limit: Duration) -> Result<(), DriverError> {
        dispatch!(self, driver => driver.wait_off(dir, limit).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_found_by_their_names_and_by_minikubes() {
        for (text, kind) in [
            ("qemu", DriverKind::Qemu),
            ("QEMU2", DriverKind::Qemu),
            ("kvm2", DriverKind::Qemu),
            ("kvm", DriverKind::Qemu),
            ("libvirt", DriverKind::Libvirt),
            ("hyperv", DriverKind::Hyperv),
            ("virtualbox", DriverKind::Virtualbox),
        ] {
            assert_eq!(text.parse::<DriverKind>(), Ok(kind));
        }
        let error = "parallels".parse::<DriverKind>().unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("known are qemu, libvirt, virtualbox, hyperv"),
            "{error}"
        );
    }

    #[test]
    fn a_driver_that_is_not_built_in_says_so() {
        for kind in DriverKind::all() {
            match AnyDriver::new(kind, Programs::default()) {
                Ok(driver) => assert!(kind.is_built_in() && driver.kind() == kind),
                Err(error) => assert!(
                    !kind.is_built_in()
                        && error.to_string()
                            == format!("the driver {kind} is not supported in this version")
                ),
            }
        }
    }
}
