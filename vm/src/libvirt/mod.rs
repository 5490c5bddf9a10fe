//! The driver for libvirt, which has QEMU run machines as a service of the host.
//!
//! ```text
//! MachineSpec --describe--> domain::Domain --XML--> libvirt: defined, started paused
//!      |                                              |
//!      +--ports--> monitor: hostfwd_add --------------+--> goes on
//!
//! MachineDir --link: libvirt.json--> URI, UUID --session--> the domain, if it is ours --> what was asked
//! ```
//!
//! libvirt calls a machine a domain. It is found by its UUID, which is the machine's own identifier, so
//! that it may be renamed; an element of our own in its metadata says that it is ours, and which folder
//! it belongs to. What else is called like it is never touched.
//!
//! The network is QEMU's user network, as with the driver for QEMU: the guest has the same addresses, and
//! libvirt's own networks may be down. libvirt knows no forwards of it, so QEMU is asked for them through
//! libvirt, before the guest runs.
//!
//! A machine that is saved is kept by libvirt itself ([`Kept::Held`]).

mod answers;
mod describe;
mod domain;
mod failure;
mod fingerprint;
mod host;
mod launch;
mod link;
mod machine;
mod network;
mod observe;
mod session;
mod uri;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::accelerator::AcceleratorChoice;
use crate::driver::{
    Capabilities, Driver, DriverError, DriverFacts, DriverKind, Exposed, GuestAddress, GuestPort,
    Note as _, Origin, RunningProcess,
};
use crate::program::Programs;
use crate::qemu::shared::{create_disks, qemu_img};
use crate::saved::{Kept, SavedFiles};
use crate::spec::{Architecture, DiskFormat, MachineSpec};
use crate::state::MachineState;
use crate::store::MachineDir;
use crate::user_network;
use host::Host;
use link::Link;
use machine::Machine;
use network::Monitor;
use session::Session;

/// How long a call may take that only asks, or that QEMU carries out at once, on a busy host.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a daemon may take to answer that is started by the first who connects.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// How long libvirt may take for what depends on what it can do: it asks each QEMU on the host the first
/// time, and each time where it may not use a `/dev/kvm` that there is.
const EXAMINE_LIMIT: Duration = Duration::from_secs(120);
/// How long libvirt may take to end QEMU, which it asks first and kills then, beyond what a caller allows.
const KILL_LIMIT: Duration = Duration::from_secs(30);
/// How long memory may take to be written or read: gigabytes on a slow disk, at the worst.
const SAVE_LIMIT: Duration = Duration::from_secs(300);

/// Runs machines through libvirt.
#[derive(Debug, Clone)]
pub struct LibvirtDriver {
    programs: Programs,
}

impl LibvirtDriver {
    /// A driver that connects where its programs say, else where this user's machines usually are.
    /// Nothing is asked yet.
    pub fn new(programs: Programs) -> Self {
        Self { programs }
    }

    /// What libvirt on this host is, for machines that are not there yet.
    async fn host(&self, guest: Architecture) -> Result<(Host, String), DriverError> {
        let uri = uri::of_user(&self.programs)?;
        let session = Session::open(&self.programs, &uri, CONNECT_LIMIT).await?;
        let host = Host::examine(&session, &self.programs, guest).await?;
        Ok((host, uri))
    }

    /// The machine, which libvirt has to know.
    async fn machine(&self, dir: &MachineDir) -> Result<Machine, DriverError> {
        let found = Machine::find(&self.programs, dir, CONNECT_LIMIT).await?;
        found.ok_or(DriverError::NotRunning)
    }

    /// The machine, which has to run.
    async fn running(&self, dir: &MachineDir) -> Result<Machine, DriverError> {
        let machine = self.machine(dir).await?;
        if machine.is_active(LIMIT).await? {
            Ok(machine)
        } else {
            Err(DriverError::NotRunning)
        }
    }
}

impl Driver for LibvirtDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Libvirt
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            can_pause: true,
            can_hibernate: true,
            can_clone: false,
            boots_kernel: true,
            data_format: DiskFormat::Qcow2,
            guest_address: GuestAddress::Forwarded,
        }
    }

    async fn probe(
        &self,
        choice: AcceleratorChoice,
        guest: Architecture,
    ) -> Result<DriverFacts, DriverError> {
        let (host, uri) = self.host(guest).await?;
        qemu_img(&self.programs)?;
        Ok(DriverFacts {
            kind: DriverKind::Libvirt,
            place: uri,
            version: host.version(),
            verdict: host.verdict(choice).await?,
        })
    }

    async fn prepare(&self, _dir: &MachineDir, spec: &MachineSpec) -> Result<(), DriverError> {
        create_disks(&self.programs, spec).await
    }

    async fn launch(
        &self,
        dir: &MachineDir,
        spec: &MachineSpec,
        origin: &Origin,
    ) -> Result<Option<RunningProcess>, DriverError> {
        launch::launch(&self.programs, dir, spec, origin).await?;
        Ok(None)
    }

    async fn fingerprint(
        &self,
        spec: &MachineSpec,
    ) -> Result<BTreeMap<String, String>, DriverError> {
        let (host, _) = self.host(spec.architecture).await?;
        let verdict = host.verdict(spec.accelerator).await?;
        fingerprint::fingerprint(&host, verdict.accelerator, spec)
    }

    fn cannot_clone(&self) -> DriverError {
        cannot_clone()
    }

    async fn save(&self, dir: &MachineDir, _files: &SavedFiles) -> Result<Kept, DriverError> {
        let machine = self.running(dir).await?;
        machine
            .ask("save the machine", SAVE_LIMIT, |domain| {
                domain.managed_save(0)
            })
            .await
            .map_err(failure::full)?;
        Ok(Kept::Held)
    }

    async fn grow(&self, dir: &MachineDir, spec: &MachineSpec) -> Result<(), DriverError> {
        launch::grow(&self.running(dir).await?, spec).await
    }

    async fn expose(
        &self,
        dir: &MachineDir,
        address: IpAddr,
        ports: &[GuestPort],
    ) -> Result<Vec<Exposed>, DriverError> {
        let machine = self.running(dir).await?;
        user_network::add(&mut Monitor(&machine), address, ports).await
    }

    async fn exposed(&self, dir: &MachineDir) -> Result<Vec<Exposed>, DriverError> {
        user_network::list(&mut Monitor(&self.running(dir).await?)).await
    }

    async fn conceal(&self, dir: &MachineDir, exposed: &[Exposed]) -> Result<(), DriverError> {
        let machine = self.running(dir).await?;
        user_network::remove(&mut Monitor(&machine), exposed).await
    }

    async fn observe(&self, dir: &MachineDir) -> MachineState {
        observe::observe(&self.programs, dir).await
    }

    async fn pause(&self, dir: &MachineDir) -> Result<(), DriverError> {
        let machine = self.running(dir).await?;
        machine.ask("pause", LIMIT, machine::suspend).await
    }

    async fn resume(&self, dir: &MachineDir) -> Result<(), DriverError> {
        let machine = self.running(dir).await?;
        machine.ask("go on", LIMIT, machine::resume).await
    }

    async fn power_button(&self, dir: &MachineDir) -> Result<(), DriverError> {
        let machine = self.running(dir).await?;
        machine
            .ask("press the power button", LIMIT, machine::press)
            .await
    }

    async fn quit(&self, dir: &MachineDir, limit: Duration) -> Result<(), DriverError> {
        match Machine::find(&self.programs, dir, CONNECT_LIMIT).await? {
            Some(machine) => machine.destroy(limit.saturating_add(KILL_LIMIT)).await,
            None => Ok(()),
        }
    }

    async fn wait_off(&self, dir: &MachineDir, limit: Duration) -> Result<(), DriverError> {
        observe::wait_off(&self.programs, dir, limit).await
    }

    async fn forget(&self, dir: &MachineDir) -> Result<(), DriverError> {
        let Some(link) = Link::read(dir)? else {
            return Ok(());
        };
        let session = Session::open(&self.programs, &link.uri, CONNECT_LIMIT).await?;
        // One that is not ours stays.
        match machine::look(&session, link.id, LIMIT).await? {
            Some(there) if there.check_owner(dir.path()).is_ok() => {
                Machine::new(session, link.id).undefine().await?;
            }
            _ => {}
        }
        Link::remove(dir)
    }
}

/// What this driver cannot do with a machine.
fn unable(reason: impl Into<String>) -> DriverError {
    DriverError::Unable {
        kind: DriverKind::Libvirt,
        reason: reason.into(),
    }
}

/// libvirt keeps the memory of its machines to itself.
fn cannot_clone() -> DriverError {
    unable("libvirt cannot begin a machine as a copy of a running one")
}
