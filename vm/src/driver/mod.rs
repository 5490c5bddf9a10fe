//! What every driver can do.

mod error;
mod kind;
mod list;
mod note;

use std::collections::BTreeMap;
use std::future::ready;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use error::DriverError;
pub(crate) use error::{chain, failed};
pub use kind::UnknownDriver;
pub use list::{AnyDriver, DriverKind, rooms};
pub(crate) use note::Note;

use crate::accelerator::{AcceleratorChoice, Verdict};
use crate::saved::{Kept, Saved, SavedFiles};
use crate::spec::{Architecture, DiskFormat, MachineSpec, Protocol};
use crate::state::MachineState;
use crate::store::{Disks, MachineDir};
use crate::template::TemplateFiles;

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
    /// How the disk that the guest writes is laid out.
    pub data_format: DiskFormat,
    /// How the guest is reached.
    pub guest_address: GuestAddress,
}

/// What a driver found out about its hypervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverFacts {
    /// Which driver.
    pub kind: DriverKind,
    /// Where the hypervisor is: its program, or what a connection to it is made with.
    pub place: String,
    /// Its version.
    pub version: String,
    /// What will run the guest's instructions, and why.
    pub verdict: Verdict,
}

/// How a machine begins to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It boots from its disks.
    Boot,
    /// It goes on from where a frozen machine was.
    Template(TemplateFiles),
    /// It goes on from where it was saved. The saved state is gone when it runs.
    Saved(Box<Saved>),
}

/// A running machine that was saved while it goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Captured {
    /// How its memory is kept.
    pub kept: Kept,
    /// The frozen disk that the memory belongs to.
    pub disk: PathBuf,
}

/// A port of the guest's network card.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct GuestPort {
    /// What speaks there.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
}

/// How a process of the host reaches a port of the guest while the machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exposed {
    /// The guest's port.
    pub guest: GuestPort,
    /// Where to connect to.
    pub host: SocketAddr,
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

    /// Why no machine begins as a copy of a running one, where [`Capabilities::can_clone`] says so:
    /// [`freeze`](Self::freeze), [`capture`](Self::capture) and [`learn`](Self::learn) are as they are
    /// here then.
    fn cannot_clone(&self) -> DriverError {
        DriverError::Unable {
            kind: self.kind(),
            reason: "it cannot begin a machine as a copy of a running one".to_owned(),
        }
    }

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

    /// Starts the machine, and returns once the hypervisor answers; from a template, once the guest
    /// runs. Gives the hypervisor where it is a child of this process, and nothing where a service of
    /// the host runs it. The caller holds the machine's lock.
    fn launch(
        &self,
        dir: &MachineDir,
        spec: &MachineSpec,
        origin: &Origin,
    ) -> impl Future<Output = Result<Option<RunningProcess>, DriverError>> + Send;

    /// Everything about host and hypervisor that a restore depends on, by name.
    fn fingerprint(
        &self,
        spec: &MachineSpec,
    ) -> impl Future<Output = Result<BTreeMap<String, String>, DriverError>> + Send;

    /// Stops the processors of a machine that [booted](Origin::Boot) and writes the files of a template. The machine is paused then; whether it goes on is up to the
    /// caller, but not on a disk that clones begin with.
    fn freeze(
        &self,
        dir: &MachineDir,
        files: &TemplateFiles,
    ) -> impl Future<Output = Result<(), DriverError>> + Send {
        let _ = (dir, files);
        ready(Err(self.cannot_clone()))
    }

    /// Stops the processors of a machine and writes all that it goes on from later. The machine is
    /// paused then, and may go on. Where the host's kernel protects a process's memory, this has to be
    /// called by the process that launched the machine; by others it takes longer and more space.
    fn save(
        &self,
        dir: &MachineDir,
        files: &SavedFiles,
    ) -> impl Future<Output = Result<Kept, DriverError>> + Send;

    /// As [`save`](Self::save), of a machine that runs and goes on: what it has written so far becomes
    /// a frozen disk, which another machine can begin with. It runs after an error too.
    fn capture(
        &self,
        dir: &MachineDir,
        spec: &MachineSpec,
        files: &SavedFiles,
        disks: &Disks,
    ) -> impl Future<Output = Result<Captured, DriverError>> + Send {
        let _ = (dir, spec, files, disks);
        ready(Err(self.cannot_clone()))
    }

    /// Keeps for later starts what this one, which just began with a template, has touched of it.
    /// Called by the process that launched the machine; what cannot be found out is left out. Blocks
    /// for a moment.
    fn learn(&self, dir: &MachineDir, process: &RunningProcess, files: &TemplateFiles) {
        let _ = (dir, process, files);
    }

    /// Makes the disk of a machine that runs as large as the specification says; the guest is told. A
    /// launch does that too.
    fn grow(
        &self,
        dir: &MachineDir,
        spec: &MachineSpec,
    ) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Makes ports of a running guest reachable, at places of the host's `address` that are the driver's
    /// choice, until the machine ends. Those that are reachable already stay where they are, so that
    /// whoever comes after a lost process asks again. In the order of `ports`.
    fn expose(
        &self,
        dir: &MachineDir,
        address: IpAddr,
        ports: &[GuestPort],
    ) -> impl Future<Output = Result<Vec<Exposed>, DriverError>> + Send;

    /// All ports of the guest that are reachable, those of its specification among them.
    fn exposed(
        &self,
        dir: &MachineDir,
    ) -> impl Future<Output = Result<Vec<Exposed>, DriverError>> + Send;

    /// Ends what [`expose`](Self::expose) began. Connections that are open go on.
    fn conceal(
        &self,
        dir: &MachineDir,
        exposed: &[Exposed],
    ) -> impl Future<Output = Result<(), DriverError>> + Send;

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

    /// Has the hypervisor forget a machine that is off: whatever it keeps of it outside of the machine's
    /// folder is gone then. Nothing to forget is no error, and what only has its name stays.
    fn forget(&self, dir: &MachineDir) -> impl Future<Output = Result<(), DriverError>> + Send;
}
