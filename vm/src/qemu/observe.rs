//! What a machine is doing, from its monitor, the process table and its lock.

use std::time::Duration;

use super::{GREETING_LIMIT, QemuProcess, claim, connect, find, is_silent};
use crate::driver::{DriverError, chain};
use crate::qmp::{IoStatus, QmpClient, QmpError, QueryBlock, QueryStatus};
use crate::state::MachineState;
use crate::store::MachineDir;

/// How old a process without a monitor may be before something is wrong with it.
const START_UP: Duration = Duration::from_secs(10);

/// Asks the monitor; where nobody answers, asks the process table why.
pub(super) async fn observe(dir: &MachineDir) -> MachineState {
    let error = match connect(dir).await {
        Ok(mut monitor) => {
            monitor.set_limit(GREETING_LIMIT);
            match status(&mut monitor).await {
                Ok(state) => return state,
                // It ended while it was asked.
                Err(error) if error.is_absence() => DriverError::NotRunning,
                Err(error) => DriverError::Qmp(error),
            }
        }
        Err(error) => error,
    };
    match (find(dir).await, error) {
        // A killed process gives its memory back before its sockets: its monitor is silent first and
        // then nobody is there.
        (Ok(None), DriverError::Qmp(error)) if is_silent(&error) => match connect(dir).await {
            Err(DriverError::NotRunning) => MachineState::Off,
            _ => broken(without_process(&DriverError::Qmp(error))),
        },
        // One that was made just now.
        (Ok(None), DriverError::NotRunning) if claim::is_taken(dir) => MachineState::Starting,
        (Ok(None), DriverError::NotRunning) => MachineState::Off,
        (Ok(None), error) => broken(without_process(&error)),
        (Ok(Some(process)), DriverError::NotRunning) if is_young(dir) => {
            tracing::debug!(pid = process.pid, "QEMU has not opened its monitor yet");
            MachineState::Starting
        }
        (Ok(Some(process)), error) => broken(without_monitor(&process, &error)),
        (Err(error), _) => broken(chain(&error)),
    }
}

/// Maps QEMU's run state.
async fn status(monitor: &mut QmpClient) -> Result<MachineState, QmpError> {
    let status = monitor.execute(QueryStatus {}).await?.status;
    Ok(match status.as_str() {
        "running" => MachineState::Running,
        "paused" | "postmigrate" | "finish-migrate" | "save-vm" => MachineState::Paused,
        "prelaunch" | "preconfig" | "inmigrate" | "restore-vm" => MachineState::Starting,
        "io-error" => {
            let disks = monitor.execute(QueryBlock {}).await?;
            if disks.iter().any(|disk| disk.io_status == IoStatus::NoSpace) {
                MachineState::PausedDiskFull
            } else {
                broken("a disk of the machine failed on the host".to_owned())
            }
        }
        "guest-panicked" => MachineState::Panicked,
        "internal-error" => broken("QEMU stopped the guest after an internal error".to_owned()),
        "suspended" => broken("the guest suspended itself".to_owned()),
        other => broken(format!("QEMU is in the state {other}")),
    })
}

/// Whether the process has only just written its pid file.
fn is_young(dir: &MachineDir) -> bool {
    let written = dir
        .qemu_pid()
        .metadata()
        .and_then(|metadata| metadata.modified());
    written.is_ok_and(|written| written.elapsed().is_ok_and(|age| age < START_UP))
}

/// A monitor of no process that is known.
fn without_process(error: &DriverError) -> String {
    format!("its monitor cannot be used: {}", chain(error))
}

/// A process that lives and cannot be talked to.
fn without_monitor(process: &QemuProcess, error: &DriverError) -> String {
    let pid = process.pid;
    match error {
        DriverError::NotRunning => {
            format!("QEMU (process {pid}) runs, but its monitor's socket is gone")
        }
        DriverError::Qmp(error) if is_silent(error) => {
            format!("QEMU (process {pid}) does not answer")
        }
        error => format!(
            "QEMU (process {pid}) runs, but its monitor cannot be used: {}",
            chain(error)
        ),
    }
}

/// A broken machine.
const fn broken(reason: String) -> MachineState {
    MachineState::Broken { reason }
}
