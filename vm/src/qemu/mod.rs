//! The driver for QEMU.
//!
//! QEMU is a child of the process that launches it and goes on without it. Everybody else finds it
//! by the machine's folder: its monitor's socket tells what it does, its pid file which process it is, and
//! its lock whether there is one at all.

mod capture;
mod claim;
pub mod command_line;
#[cfg(target_os = "linux")]
mod devices;
mod disks;
mod exposed;
mod failure;
mod fingerprint;
mod inherited;
mod launch;
#[cfg(target_os = "linux")]
mod memory;
mod migration;
mod observe;
mod plan;
mod probe;
mod process;
mod restore;
mod save;
#[cfg(target_os = "linux")]
mod working_set;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::accelerator::AcceleratorChoice;
use crate::driver::{
    Capabilities, Captured, Driver, DriverError, DriverFacts, DriverKind, Exposed, GuestAddress,
    GuestPort, Origin, RunningProcess,
};
use crate::program::Programs;
use crate::qmp::{QmpClient, QmpError};
#[cfg(target_os = "linux")]
use crate::saved::Saves;
use crate::saved::{Kept, SavedFiles};
use crate::spec::{Architecture, DiskFormat, MachineSpec};
use crate::state::MachineState;
use crate::store::{Disks, MachineDir, atomic};
use crate::template::TemplateFiles;
use process::QemuProcess;

/// What libvirt's driver, which has QEMU run too, does in the same way.
#[cfg(feature = "libvirt")]
pub(crate) mod shared {
    pub(crate) use super::command_line::{MAC_ADDRESS, kernel_words};
    pub(crate) use super::disks::create_disks;
    pub(crate) use super::failure::recognise;
    pub(crate) use super::fingerprint::{processor, read, stamp};
    pub(crate) use super::launch::check_files;
    pub(crate) use super::probe::{install, qemu_img};
}

/// How long a monitor may take to greet. It waits while another client is connected.
const GREETING_LIMIT: Duration = Duration::from_secs(2);

/// How long a killed process may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// The pause between two looks for a process that cannot be seen yet.
const UNSEEN_PAUSE: Duration = Duration::from_millis(2);

/// Runs machines with QEMU.
#[derive(Debug, Clone)]
pub struct QemuDriver {
    programs: Programs,
}

impl QemuDriver {
    /// A driver that finds its programs there. Nothing is run yet.
    pub fn new(programs: Programs) -> Self {
        Self { programs }
    }
}

impl Driver for QemuDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Qemu
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            can_pause: true,
            can_hibernate: cfg!(unix),
            can_clone: cfg!(target_os = "linux"),
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
        let qemu = probe::Emulator::examine(&self.programs, guest).await?;
        probe::qemu_img(&self.programs)?;
        Ok(DriverFacts {
            kind: DriverKind::Qemu,
            verdict: qemu.verdict(choice).await?,
            version: qemu.version,
            place: qemu.program.display().to_string(),
        })
    }

    async fn prepare(&self, _dir: &MachineDir, spec: &MachineSpec) -> Result<(), DriverError> {
        disks::create_disks(&self.programs, spec).await
    }

    async fn launch(
        &self,
        dir: &MachineDir,
        spec: &MachineSpec,
        origin: &Origin,
    ) -> Result<Option<RunningProcess>, DriverError> {
        match self.observe(dir).await {
            MachineState::Off => {
                let launched = launch::launch(&self.programs, dir, spec, origin).await;
                launched.map(Some)
            }
            state => Err(DriverError::AlreadyRunning { state }),
        }
    }

    async fn fingerprint(
        &self,
        spec: &MachineSpec,
    ) -> Result<BTreeMap<String, String>, DriverError> {
        let qemu = probe::Emulator::examine(&self.programs, spec.architecture).await?;
        let verdict = qemu.verdict(spec.accelerator).await?;
        fingerprint::fingerprint(&qemu.program, verdict.accelerator, spec)
    }

    async fn freeze(&self, dir: &MachineDir, files: &TemplateFiles) -> Result<(), DriverError> {
        #[cfg(target_os = "linux")]
        let frozen = save::freeze(dir, files).await;
        #[cfg(not(target_os = "linux"))]
        let frozen = {
            let _ = (dir, files);
            Err(cannot_clone())
        };
        frozen
    }

    async fn save(&self, dir: &MachineDir, files: &SavedFiles) -> Result<Kept, DriverError> {
        save::save(dir, files).await
    }

    async fn capture(
        &self,
        dir: &MachineDir,
        spec: &MachineSpec,
        files: &SavedFiles,
        disks: &Disks,
    ) -> Result<Captured, DriverError> {
        capture::capture(&self.programs, dir, spec, files, disks).await
    }

    fn learn(&self, dir: &MachineDir, process: &RunningProcess, files: &TemplateFiles) {
        #[cfg(target_os = "linux")]
        if let Some(base) = Saves::new(dir).base()
            && let Err(error) = working_set::record(process.pid, &base.ram, files)
        {
            tracing::debug!(%error, "what a start touches is not recorded");
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (dir, process, files);
    }

    async fn grow(&self, dir: &MachineDir, spec: &MachineSpec) -> Result<(), DriverError> {
        disks::grow(dir, spec).await
    }

    async fn expose(
        &self,
        dir: &MachineDir,
        address: IpAddr,
        ports: &[GuestPort],
    ) -> Result<Vec<Exposed>, DriverError> {
        exposed::add(dir, address, ports).await
    }

    async fn exposed(&self, dir: &MachineDir) -> Result<Vec<Exposed>, DriverError> {
        exposed::list(dir).await
    }

    async fn conceal(&self, dir: &MachineDir, exposed: &[Exposed]) -> Result<(), DriverError> {
        exposed::remove(dir, exposed).await
    }

    async fn observe(&self, dir: &MachineDir) -> MachineState {
        observe::observe(dir).await
    }

    async fn pause(&self, dir: &MachineDir) -> Result<(), DriverError> {
        connect(dir).await?.execute(qapi::qmp::stop {}).await?;
        Ok(())
    }

    async fn resume(&self, dir: &MachineDir) -> Result<(), DriverError> {
        let mut monitor = connect(dir).await?;
        capture::settle(&mut monitor, &dir.data_disk(DiskFormat::Qcow2)).await?;
        monitor.execute(qapi::qmp::cont {}).await?;
        Ok(())
    }

    async fn power_button(&self, dir: &MachineDir) -> Result<(), DriverError> {
        connect(dir)
            .await?
            .execute(qapi::qmp::system_powerdown {})
            .await?;
        Ok(())
    }

    async fn quit(&self, dir: &MachineDir, limit: Duration) -> Result<(), DriverError> {
        let process = find_soon(dir).await?;
        let asked = async {
            let mut monitor = connect(dir).await?;
            monitor.execute(qapi::qmp::quit {}).await?;
            monitor.closed().await;
            Ok::<(), DriverError>(())
        };
        // What the monitor says matters only if there is no process to look at instead.
        let asked = tokio::time::timeout(limit, asked).await;
        let Some(process) = process else {
            return match asked {
                Ok(Ok(()) | Err(DriverError::NotRunning))
                    if claim::given_back(dir, KILL_LIMIT).await =>
                {
                    clear(dir)
                }
                Ok(Err(error)) if !matches!(error, DriverError::NotRunning) => Err(error),
                _ => Err(DriverError::TimedOut {
                    what: "quit",
                    limit,
                }),
            };
        };
        // The connection closes a little before the process is gone.
        let rest = if matches!(asked, Ok(Ok(()))) {
            GREETING_LIMIT
        } else {
            Duration::ZERO
        };
        let failed = |source| DriverError::Io {
            what: "end the process of",
            path: dir.qemu_pid(),
            source,
        };
        if !process.wait_gone(rest).await.map_err(failed)? {
            tracing::warn!(pid = process.pid, machine = %dir.name(), "QEMU did not quit and is killed");
            process.kill().map_err(failed)?;
            if !process.wait_gone(KILL_LIMIT).await.map_err(failed)? {
                return Err(DriverError::TimedOut {
                    what: "end after being killed",
                    limit: KILL_LIMIT,
                });
            }
        }
        clear(dir)
    }

    async fn wait_off(&self, dir: &MachineDir, limit: Duration) -> Result<(), DriverError> {
        let late = DriverError::TimedOut { what: "end", limit };
        if let Some(process) = find_soon(dir).await? {
            let failed = |source| DriverError::Io {
                what: "wait for the process of",
                path: dir.qemu_pid(),
                source,
            };
            return if process.wait_gone(limit).await.map_err(failed)? {
                Ok(())
            } else {
                Err(late)
            };
        }
        let closed = match connect(dir).await {
            Err(DriverError::NotRunning) => Ok(()),
            monitor => tokio::time::timeout(limit, monitor?.closed()).await,
        };
        if closed.is_ok() && claim::given_back(dir, KILL_LIMIT).await {
            Ok(())
        } else {
            Err(late)
        }
    }

    async fn forget(&self, _dir: &MachineDir) -> Result<(), DriverError> {
        // All of it is in the machine's folder.
        Ok(())
    }
}

/// Connects to the machine's monitor. Nobody there means that the machine is not running.
async fn connect(dir: &MachineDir) -> Result<QmpClient, DriverError> {
    QmpClient::connect(&dir.qmp()?, GREETING_LIMIT)
        .await
        .map_err(|error| {
            if error.is_absence() {
                DriverError::NotRunning
            } else {
                DriverError::Qmp(error)
            }
        })
}

/// The machine's process, if it lives.
async fn find(dir: &MachineDir) -> Result<Option<QemuProcess>, DriverError> {
    let failed = |source| DriverError::Io {
        what: "look at the process of",
        path: dir.qemu_pid(),
        source,
    };
    QemuProcess::find(&dir.qemu_pid()).await.map_err(failed)
}

/// As [`find`]; one that was made just now is waited for until it can be seen.
async fn find_soon(dir: &MachineDir) -> Result<Option<QemuProcess>, DriverError> {
    let begun = Instant::now();
    loop {
        match find(dir).await? {
            None if claim::is_taken(dir) && begun.elapsed() < GREETING_LIMIT => {
                tokio::time::sleep(UNSEEN_PAUSE).await;
            }
            found => return Ok(found),
        }
    }
}

/// Removes what a process that is gone left behind.
fn clear(dir: &MachineDir) -> Result<(), DriverError> {
    let mut stale = vec![dir.qemu_pid()];
    if let crate::qmp::QmpEndpoint::Unix(socket) = dir.qmp()? {
        stale.push(socket);
    }
    for path in stale {
        atomic::remove(&path).map_err(|source| DriverError::Io {
            what: "remove",
            path,
            source,
        })?;
    }
    Ok(())
}

/// What this driver cannot do with a machine.
fn unable(reason: String) -> DriverError {
    DriverError::Unable {
        kind: DriverKind::Qemu,
        reason,
    }
}

/// Restoring from shared memory needs files that Linux alone has.
#[cfg(not(target_os = "linux"))]
fn cannot_clone() -> DriverError {
    unable("machines cannot be cloned on this system".to_owned())
}

/// A monitor that greets no more, for messages.
fn is_silent(error: &QmpError) -> bool {
    matches!(error, QmpError::TimedOut { .. })
}
