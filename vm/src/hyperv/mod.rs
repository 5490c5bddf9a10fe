//! The driver for Hyper-V, through PowerShell.
//!
//! A service of Windows runs the machines, so none is a child of this process. What a machine does is
//! asked of Hyper-V each time; a note in the machine's folder ([`note`]) and a mark in the virtual
//! machine's own notes find one from the other.
//!
//! ```text
//! HypervDriver -> Hyperv: typed calls -> Shell: one PowerShell that waits -> *.ps1 -> Hyper-V
//!                                          ^ framing: values only as data
//! spec.disks --read-only--> DVDs, the root first     the guest boots from it (generation 2, UEFI)
//!            --written----> VHDX on the SCSI controller
//! COM1 -> named pipe -> the process that launched -> spec.console
//! ```
//!
//! - The guest is reached at an address of its own on the virtual switch
//!   ([`GuestAddress::Direct`]). Hyper-V forwards no ports: whoever wants `spec.network.forwards` listens
//!   at their places on the host and connects to what [`exposed`](Driver::exposed) gives, as the host agent
//!   does for all ports.
//! - A machine of the name that has no mark of ours is refused and never touched. One that was renamed
//!   is found by its mark; one that was deleted is off, and the next launch makes it again.
//! - A saved machine's memory is kept by Hyper-V ([`Kept::Held`]). It is thrown away by a boot.
//! - Machines are not cloned. Hyper-V copies a running machine by a checkpoint that is exported and
//!   imported with a new identifier, which copies its whole disk and memory twice: tens of seconds where
//!   a boot takes about as long. The copy would also wake with the network address of the first on the
//!   same switch.
//! - Hyper-V gives each virtual machine a generation identifier and an SMBIOS UUID of its own:
//!   `spec.generation_id` has no effect, and the guest's UUID is not `spec.id`.
//! - A kernel's panic is not seen: Hyper-V calls such a machine running.

mod address;
mod answers;
mod calls;
mod console;
mod disks;
mod failure;
mod framing;
mod launch;
mod note;
mod probe;
mod session;
mod state;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::accelerator::AcceleratorChoice;
use crate::driver::{
    Capabilities, Driver, DriverError, DriverFacts, DriverKind, Exposed, GuestAddress, GuestPort,
    Note as _, Origin, RunningProcess, chain,
};
use crate::program::{Programs, is_executable};
use crate::saved::{Kept, SavedFiles};
use crate::spec::{Architecture, DiskFormat, MachineSpec};
use crate::state::MachineState;
use crate::store::MachineDir;
use calls::{Hyperv, Start};
use note::Note;
use session::Shell;
use state::VmState;

/// Which driver this is.
const KIND: DriverKind = DriverKind::Hyperv;
/// The first pause between two looks whether a machine is off; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Runs machines with Hyper-V.
///
/// Values that were cloned share one PowerShell, which ends with the last of them.
#[derive(Debug, Clone)]
pub struct HypervDriver {
    hyperv: Option<Arc<Hyperv>>,
    /// The program that was named, if any.
    named: Option<PathBuf>,
}

impl HypervDriver {
    /// A driver that finds its program there. Nothing is run yet. On other systems than Windows it has a
    /// program only where one is named.
    pub fn new(programs: Programs) -> Self {
        let found = match &programs.powershell {
            Some(program) => Some(program.clone()).filter(|program| is_executable(program)),
            // Windows' own comes first: Hyper-V's commands are made for it.
            None if cfg!(windows) => programs
                .find("powershell")
                .or_else(|| programs.find("pwsh")),
            None => None,
        };
        let switch = programs.hyperv_switch.unwrap_or_default();
        let hyperv = found.map(|program| Arc::new(Hyperv::new(Shell::new(program), switch)));
        Self {
            hyperv,
            named: programs.powershell,
        }
    }

    fn hyperv(&self) -> Result<&Hyperv, DriverError> {
        self.hyperv.as_deref().ok_or_else(|| match &self.named {
            Some(program) => failure::not_installed(&program.display().to_string()),
            None if cfg!(windows) => failure::not_installed("powershell.exe"),
            None => not_windows(),
        })
    }

    /// The machine's note and what Hyper-V says of the machine; nothing for one that it does not know.
    async fn locate(&self, dir: &MachineDir) -> Result<Option<(Note, VmState)>, DriverError> {
        let Some(note) = Note::read(dir)? else {
            return Ok(None);
        };
        let found = self.hyperv()?.find(&note, "").await?;
        Ok(found.facts().map(|facts| (note, VmState::of(&facts.state))))
    }

    /// The same for a machine that has to run.
    async fn running(&self, dir: &MachineDir) -> Result<(Note, VmState), DriverError> {
        let located = self.locate(dir).await?;
        located
            .filter(|(_, state)| !state.is_off())
            .ok_or(DriverError::NotRunning)
    }

    async fn look(&self, dir: &MachineDir) -> Result<MachineState, DriverError> {
        let Some(note) = Note::read(dir)? else {
            return Ok(MachineState::Off);
        };
        let found = self.hyperv()?.look(&note).await?;
        let disks = note.disks.iter().all(|disk| disk.is_file());
        Ok(found.facts().map_or(MachineState::Off, |facts| {
            VmState::of(&facts.state).observed(disks)
        }))
    }

    async fn is_off(&self, dir: &MachineDir) -> Result<bool, DriverError> {
        let located = self.locate(dir).await?;
        Ok(located.is_none_or(|(_, state)| state.is_off()))
    }

    /// Looks until the machine is off; whether it is.
    async fn wait(&self, dir: &MachineDir, limit: Duration) -> Result<bool, DriverError> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            if self.is_off(dir).await? {
                return Ok(true);
            }
            let rest = limit.saturating_sub(begun.elapsed());
            if rest.is_zero() {
                return Ok(false);
            }
            tokio::time::sleep(pause.min(rest)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Driver for HypervDriver {
    fn kind(&self) -> DriverKind {
        KIND
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            can_pause: true,
            can_hibernate: true,
            can_clone: false,
            boots_kernel: false,
            data_format: DiskFormat::Vhdx,
            guest_address: GuestAddress::Direct,
        }
    }

    async fn probe(
        &self,
        choice: AcceleratorChoice,
        guest: Architecture,
    ) -> Result<DriverFacts, DriverError> {
        probe::probe(self.hyperv()?, choice, guest).await
    }

    async fn prepare(&self, _dir: &MachineDir, spec: &MachineSpec) -> Result<(), DriverError> {
        spec.check()?;
        disks::check(spec)?;
        disks::create(self.hyperv()?, spec).await
    }

    async fn launch(
        &self,
        dir: &MachineDir,
        spec: &MachineSpec,
        origin: &Origin,
    ) -> Result<Option<RunningProcess>, DriverError> {
        launch::launch(self.hyperv()?, dir, spec, origin).await?;
        Ok(None)
    }

    async fn fingerprint(
        &self,
        spec: &MachineSpec,
    ) -> Result<BTreeMap<String, String>, DriverError> {
        let platform = self.hyperv()?.platform().await?;
        let facts = [
            ("hypervisor", "Hyper-V".to_owned()),
            ("Windows", platform.windows),
            ("processor", platform.processor),
            ("memory", spec.memory.bytes().to_string()),
            ("CPUs", spec.cpus.to_string()),
        ];
        let facts = facts.map(|(name, value)| (name.to_owned(), value));
        Ok(facts.into_iter().collect())
    }

    fn cannot_clone(&self) -> DriverError {
        cannot_clone()
    }

    async fn save(&self, dir: &MachineDir, _files: &SavedFiles) -> Result<Kept, DriverError> {
        let (note, _) = self.running(dir).await?;
        let facts = self.hyperv()?.save(&note).await?;
        match VmState::of(&facts.state) {
            VmState::Saved => Ok(Kept::Held),
            _ => Err(DriverError::Hypervisor {
                what: "save the machine",
                detail: format!("it is {} now", facts.state),
            }),
        }
    }

    async fn grow(&self, dir: &MachineDir, spec: &MachineSpec) -> Result<(), DriverError> {
        let note = Note::read(dir)?.unwrap_or_else(|| Note::of(spec, None));
        disks::grow(self.hyperv()?, &note, spec).await
    }

    /// Gives the guest's own address. Nothing listens on the host, and `address` has no effect.
    async fn expose(
        &self,
        dir: &MachineDir,
        _address: IpAddr,
        ports: &[GuestPort],
    ) -> Result<Vec<Exposed>, DriverError> {
        let note = Note::read(dir)?.ok_or(DriverError::NotRunning)?;
        let address = address::address(self.hyperv()?, &note).await?;
        Ok(address::exposed(address, ports.iter().copied()))
    }

    /// The ports that the specification forwards, at the guest's own address. All others are reachable
    /// there too.
    async fn exposed(&self, dir: &MachineDir) -> Result<Vec<Exposed>, DriverError> {
        let note = Note::read(dir)?.ok_or(DriverError::NotRunning)?;
        let address = match address::address(self.hyperv()?, &note).await {
            Ok(address) => address,
            Err(DriverError::NoAddress) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let ports = note.forwards.iter().map(|forward| GuestPort {
            protocol: forward.protocol,
            port: forward.guest_port,
        });
        Ok(address::exposed(address, ports))
    }

    async fn conceal(&self, _dir: &MachineDir, _exposed: &[Exposed]) -> Result<(), DriverError> {
        // The guest's address is its own, and nothing was begun.
        Ok(())
    }

    /// Takes up to eight seconds more where no PowerShell waits yet, since one has to be started.
    async fn observe(&self, dir: &MachineDir) -> MachineState {
        self.look(dir)
            .await
            .unwrap_or_else(|error| MachineState::Broken {
                reason: chain(&error),
            })
    }

    async fn pause(&self, dir: &MachineDir) -> Result<(), DriverError> {
        let (note, state) = self.running(dir).await?;
        match state {
            VmState::Paused | VmState::PausedCritical => Ok(()),
            _ => self.hyperv()?.suspend(&note).await.map(drop),
        }
    }

    /// A machine that was saved a moment ago goes on too.
    async fn resume(&self, dir: &MachineDir) -> Result<(), DriverError> {
        let (note, state) = self.locate(dir).await?.ok_or(DriverError::NotRunning)?;
        let hyperv = self.hyperv()?;
        match state {
            VmState::Running | VmState::Starting => Ok(()),
            VmState::Off | VmState::Lost => Err(DriverError::NotRunning),
            VmState::Saved => hyperv.start(&note, Start::Held, None).await.map(drop),
            VmState::Paused | VmState::PausedCritical | VmState::Other(_) => {
                hyperv.resume(&note).await.map(drop)
            }
        }
    }

    /// Hyper-V asks the guest's integration services (hv_utils in Linux), for which the guest's kernel
    /// calls its `poweroff`. A guest without them gives an error; whoever can talk to the guest tells it
    /// itself.
    async fn power_button(&self, dir: &MachineDir) -> Result<(), DriverError> {
        let (note, _) = self.running(dir).await?;
        self.hyperv()?.request_shutdown(&note).await
    }

    /// A machine that Hyper-V keeps saved is off already, and stays saved.
    async fn quit(&self, dir: &MachineDir, limit: Duration) -> Result<(), DriverError> {
        let late = DriverError::TimedOut {
            what: "quit",
            limit,
        };
        let begun = Instant::now();
        let (note, _) = match self.running(dir).await {
            Err(DriverError::NotRunning) => return Ok(()),
            running => running?,
        };
        let stopped = self.hyperv()?.stop(&note, limit).await;
        // Another one may have ended it meanwhile.
        if let Err(error) = stopped
            && !self.is_off(dir).await?
        {
            return Err(error);
        }
        if self
            .wait(dir, limit.saturating_sub(begun.elapsed()))
            .await?
        {
            Ok(())
        } else {
            Err(late)
        }
    }

    async fn wait_off(&self, dir: &MachineDir, limit: Duration) -> Result<(), DriverError> {
        if self.wait(dir, limit).await? {
            Ok(())
        } else {
            Err(DriverError::TimedOut { what: "end", limit })
        }
    }

    async fn forget(&self, dir: &MachineDir) -> Result<(), DriverError> {
        let Some(note) = Note::read(dir)? else {
            return Ok(());
        };
        self.hyperv()?.remove(&note).await?;
        Note::remove(dir)
    }
}

/// What this driver cannot do.
fn unable(reason: String) -> DriverError {
    DriverError::Unable { kind: KIND, reason }
}

fn not_windows() -> DriverError {
    unable("Hyper-V is a part of Windows, and this is another system".to_owned())
}

fn cannot_clone() -> DriverError {
    unable(
        "Hyper-V copies a running machine only as a whole, its disk and its network address included"
            .to_owned(),
    )
}
