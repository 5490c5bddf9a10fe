//! The driver for VirtualBox, 6.1 or newer, through its command VBoxManage.
//!
//! VirtualBox's own service keeps account of machines and runs each in a process of its own, so nothing
//! here is a child of this process. A machine is found by its identifier, which stands in
//! `virtualbox.json` in its folder ([`note`]); everything else is asked for each time.
//!
//! ```text
//! MachineSpec --configure--> words --manage--> VBoxManage --> VirtualBox's service --> machine
//!                                                  |                                     |
//!          MachineState, Exposed <--observe, network-- info <--showvminfo----------------+
//!                 DriverError <-- failure <--------+
//! ```
//!
//! What is in the machine's folder beside the disks: `virtualbox.json`; `NAME/NAME.vbox`, VirtualBox's
//! settings of it; `NAME/Logs`; `NAME/Snapshots`, where VirtualBox keeps saved memory.
//!
//! No template is made of a running machine, although VirtualBox itself could go on from one: a linked
//! clone (`clonevm --options link`) of a snapshot that was taken while its machine ran gets a copy of the
//! snapshot's memory and is saved then (`MachineCloneVM` in `src/VBox/Main/src-server`). But such a clone
//! writes to a differencing disk that VirtualBox makes, names and keeps account of, on top of disks of the
//! first machine, which has to stay registered with its snapshot as long as any clone is there. Templates
//! and frozen disks here are files of the store, which moves them, counts who needs them and removes
//! them: each of that would break the clone in VirtualBox's books, with the data on its disk.

mod configure;
mod disks;
mod failure;
mod info;
mod launch;
mod manage;
mod network;
mod note;
mod observe;
mod probe;
mod register;
mod vdi;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::accelerator::AcceleratorChoice;
use crate::driver::{
    Capabilities, Driver, DriverError, DriverFacts, DriverKind, Exposed, GuestAddress, GuestPort,
    Note as _, Origin, RunningProcess,
};
use crate::program::Programs;
use crate::saved::{Kept, SavedFiles};
use crate::spec::{Architecture, DiskFormat, MachineSpec};
use crate::state::MachineState;
use crate::store::MachineDir;
use failure::Failure;
use info::{Info, VmState};
use manage::{CHANGE, Manage, QUESTION, words};
use note::Note;

/// How long all memory may take to be written: gigabytes to a slow disk, at the worst.
const SAVE_LIMIT: Duration = Duration::from_secs(300);
/// How long a machine's process may take to be gone once it was killed.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Runs machines with VirtualBox.
#[derive(Debug, Clone)]
pub struct VirtualboxDriver {
    programs: Programs,
}

/// A machine that VirtualBox knows.
struct Found {
    manage: Manage,
    note: Note,
    info: Info,
}

impl VirtualboxDriver {
    /// A driver that finds VBoxManage there. Nothing is run yet.
    pub fn new(programs: Programs) -> Self {
        Self { programs }
    }

    /// The machine; `None` where VirtualBox was never told of it or does not know it any more.
    async fn find(&self, dir: &MachineDir) -> Result<Option<Found>, DriverError> {
        let Some(note) = Note::read(dir)? else {
            return Ok(None);
        };
        let manage = Manage::require(&self.programs)?;
        let info = info::find(&manage, &note.id(), QUESTION).await?;
        Ok(info.map(|info| Found { manage, note, info }))
    }

    /// As [`find`](Self::find), where a VirtualBox that is gone has no machines either.
    async fn find_if_installed(&self, dir: &MachineDir) -> Result<Option<Found>, DriverError> {
        if Manage::find(&self.programs).is_none() {
            return Ok(None);
        }
        self.find(dir).await
    }

    /// The machine, which has to run or be paused.
    async fn running(&self, dir: &MachineDir) -> Result<Found, DriverError> {
        let found = self.find(dir).await?;
        found
            .filter(|found| !found.info.state.is_off())
            .ok_or(DriverError::NotRunning)
    }
}

impl Found {
    /// Has a running machine do something. One that ended meanwhile does not run.
    async fn control(&self, what: &str, limit: Duration) -> Result<(), DriverError> {
        let id = self.note.id();
        let words = words(["controlvm", &id, what]);
        let Err(failure) = self.manage.run(&words, limit).await else {
            return Ok(());
        };
        let now = info::find(&self.manage, &id, QUESTION).await;
        match now {
            Ok(info) if info.as_ref().is_none_or(|info| info.state.is_off()) => {
                Err(DriverError::NotRunning)
            }
            _ => Err(failure.into()),
        }
    }

    /// Ends the machine's process, whatever it is doing.
    async fn kill(&self) -> Result<(), Failure> {
        let id = self.note.id();
        let words = words(["startvm", &id, "--type", "emergencystop"]);
        self.manage.once(&words, CHANGE).await.map(drop)
    }
}

impl Driver for VirtualboxDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Virtualbox
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            can_pause: true,
            can_hibernate: true,
            can_clone: false,
            boots_kernel: false,
            data_format: DiskFormat::Vdi,
            guest_address: GuestAddress::Forwarded,
        }
    }

    async fn probe(
        &self,
        choice: AcceleratorChoice,
        guest: Architecture,
    ) -> Result<DriverFacts, DriverError> {
        let manage = Manage::require(&self.programs)?;
        let found = probe::version(&manage).await?;
        configure::check_architecture(guest)?;
        configure::check_accelerator(choice)?;
        found.check()?;
        Ok(DriverFacts {
            kind: DriverKind::Virtualbox,
            place: manage.program().display().to_string(),
            version: found.text,
            verdict: probe::verdict(&manage).await?,
        })
    }

    async fn prepare(&self, _dir: &MachineDir, spec: &MachineSpec) -> Result<(), DriverError> {
        launch::prepare(&self.programs, spec).await
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

    /// VirtualBox itself refuses memory that was saved on another processor.
    async fn fingerprint(
        &self,
        spec: &MachineSpec,
    ) -> Result<BTreeMap<String, String>, DriverError> {
        let manage = Manage::require(&self.programs)?;
        let found = probe::version(&manage).await?;
        let roles = spec.disks.iter().map(|disk| disk.role.as_str());
        let facts = [
            ("virtualbox", found.text),
            ("architecture", spec.architecture.as_str().to_owned()),
            ("cpus", spec.cpus.to_string()),
            ("memory", spec.memory.to_string()),
            ("disks", roles.collect::<Vec<_>>().join(",")),
        ];
        let facts = facts.map(|(name, value)| (name.to_owned(), value));
        Ok(facts.into())
    }

    fn cannot_clone(&self) -> DriverError {
        cannot_clone()
    }

    /// The machine is off then. [`resume`](Driver::resume) lets it go on.
    async fn save(&self, dir: &MachineDir, _files: &SavedFiles) -> Result<Kept, DriverError> {
        let found = self.running(dir).await?;
        found.control("savestate", SAVE_LIMIT).await?;
        observe::wait_off(&found.manage, &found.note.id(), KILL_LIMIT).await?;
        Ok(Kept::Held)
    }

    /// While the machine runs, only that nothing has to be done is no error.
    async fn grow(&self, dir: &MachineDir, spec: &MachineSpec) -> Result<(), DriverError> {
        if disks::to_grow(spec)?.is_none() {
            return Ok(());
        }
        let found = self.find(dir).await?;
        if found.is_some_and(|found| found.info.state != VmState::Off) {
            let reason =
                "it makes a disk larger only while its machine is off: the next launch does that";
            return Err(unable(reason.to_owned()));
        }
        disks::grow(&Manage::require(&self.programs)?, spec).await
    }

    async fn expose(
        &self,
        dir: &MachineDir,
        address: IpAddr,
        ports: &[GuestPort],
    ) -> Result<Vec<Exposed>, DriverError> {
        let Found { manage, note, info } = self.running(dir).await?;
        network::add(&manage, &note.id(), &info, address, ports).await
    }

    async fn exposed(&self, dir: &MachineDir) -> Result<Vec<Exposed>, DriverError> {
        Ok(network::ours(&self.running(dir).await?.info))
    }

    async fn conceal(&self, dir: &MachineDir, exposed: &[Exposed]) -> Result<(), DriverError> {
        let Found { manage, note, info } = self.running(dir).await?;
        network::remove(&manage, &note.id(), &info, exposed).await
    }

    async fn observe(&self, dir: &MachineDir) -> MachineState {
        observe::observe(&self.programs, dir).await
    }

    async fn pause(&self, dir: &MachineDir) -> Result<(), DriverError> {
        let found = self.running(dir).await?;
        match found.info.state {
            VmState::Paused => Ok(()),
            _ => found.control("pause", CHANGE).await,
        }
    }

    /// One that [`save`](Driver::save) has put away goes on as well.
    async fn resume(&self, dir: &MachineDir) -> Result<(), DriverError> {
        let found = self.find(dir).await?.ok_or(DriverError::NotRunning)?;
        match found.info.state {
            VmState::Running => Ok(()),
            VmState::Off => Err(DriverError::NotRunning),
            VmState::Saved => {
                let id = found.note.id();
                Ok(launch::start_again(&found.manage, &id).await?)
            }
            _ => found.control("resume", CHANGE).await,
        }
    }

    async fn power_button(&self, dir: &MachineDir) -> Result<(), DriverError> {
        let found = self.running(dir).await?;
        found.control("acpipowerbutton", CHANGE).await
    }

    /// A machine that is saved is off, and stays saved.
    async fn quit(&self, dir: &MachineDir, limit: Duration) -> Result<(), DriverError> {
        let Some(found) = self.find_if_installed(dir).await? else {
            return Ok(());
        };
        if found.info.state.is_off() {
            return Ok(());
        }
        let begun = Instant::now();
        match found.control("poweroff", limit).await {
            Ok(()) | Err(DriverError::NotRunning) => {}
            Err(error) => tracing::debug!(%error, "VirtualBox does not switch a machine off"),
        }
        let id = found.note.id();
        let left = limit.saturating_sub(begun.elapsed());
        match observe::wait_off(&found.manage, &id, left).await {
            Err(DriverError::TimedOut { .. }) => {}
            done => return done,
        }
        tracing::warn!(machine = %dir.name(), "VirtualBox did not end a machine, and its process is killed");
        found.kill().await?;
        observe::wait_off(&found.manage, &id, KILL_LIMIT).await
    }

    async fn wait_off(&self, dir: &MachineDir, limit: Duration) -> Result<(), DriverError> {
        match self.find(dir).await? {
            Some(found) => observe::wait_off(&found.manage, &found.note.id(), limit).await,
            None => Ok(()),
        }
    }

    async fn forget(&self, dir: &MachineDir) -> Result<(), DriverError> {
        match self.find_if_installed(dir).await? {
            Some(found) => launch::forget(&found.manage, dir, &found.note, &found.info).await,
            None => Ok(()),
        }
    }
}

/// What this driver cannot do with a machine.
fn unable(reason: String) -> DriverError {
    DriverError::Unable {
        kind: DriverKind::Virtualbox,
        reason,
    }
}

/// Why is at the head of this module.
fn cannot_clone() -> DriverError {
    unable(
        "VirtualBox keeps account of a clone's disks by itself, and a template's belong to the store"
            .to_owned(),
    )
}
