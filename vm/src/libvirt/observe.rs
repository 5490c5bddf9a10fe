//! What a machine is doing, as libvirt tells it.
//!
//! ```text
//! libvirt                        here
//! no such machine, shut off      Off
//! paused, never ran              Starting: its forwards are made, or a saved state is loaded
//! running, blocked, shutting     Running, where QEMU answers
//! paused                         Paused; after an error of a disk PausedDiskFull
//! crashed                        Panicked
//! no answer                      Broken
//! ```

use std::time::{Duration, Instant};

use virt::domain::Domain;
use virt::error::Error;
use virt::sys;

use super::LIMIT;
use super::machine::Machine;
use crate::driver::DriverError;
use crate::program::Programs;
use crate::state::MachineState;
use crate::store::MachineDir;

/// How long a look may take.
const LOOK: Duration = Duration::from_secs(2);
/// The first pause between two looks for a machine's end; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two looks for a machine's end, which may be months away.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The state of a guest whose processors have not run yet (RunState in QEMU's qapi/run-state.json).
const NEVER_RAN: &str = "\"prelaunch\"";

/// Asks libvirt.
pub(super) async fn observe(programs: &Programs, dir: &MachineDir) -> MachineState {
    let asked = async {
        match Machine::find(programs, dir, LOOK).await? {
            Some(machine) => state(&machine, LOOK).await,
            None => Ok(MachineState::Off),
        }
    };
    match tokio::time::timeout(LOOK, asked).await {
        Ok(Ok(state)) => state,
        Ok(Err(error @ DriverError::Unreachable { .. })) => broken(error.to_string()),
        Ok(Err(DriverError::TimedOut { .. })) | Err(_) => {
            broken("libvirt does not answer".to_owned())
        }
        Ok(Err(error)) => broken(error.to_string()),
    }
}

/// What a machine of ours is doing. libvirt hears of a hypervisor's end a moment after it: one that could not
/// be asked is asked again.
pub(super) async fn state(machine: &Machine, limit: Duration) -> Result<MachineState, DriverError> {
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match machine.ask("tell its state", limit, read).await {
            Err(DriverError::NotRunning) => return Ok(MachineState::Off),
            Err(DriverError::Refused { .. }) if begun.elapsed() + pause < limit / 2 => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            found => return found,
        }
    }
}

fn read(domain: &Domain) -> Result<MachineState, Error> {
    let (state, reason) = domain.get_state()?;
    Ok(match state {
        sys::VIR_DOMAIN_RUNNING | sys::VIR_DOMAIN_BLOCKED | sys::VIR_DOMAIN_SHUTDOWN => {
            // libvirt says so of a process that hangs as well.
            status(domain)?;
            MachineState::Running
        }
        sys::VIR_DOMAIN_PAUSED => paused(reason.cast_unsigned(), || never_ran(domain)),
        sys::VIR_DOMAIN_SHUTOFF => MachineState::Off,
        sys::VIR_DOMAIN_CRASHED if domain.is_active()? => MachineState::Panicked,
        sys::VIR_DOMAIN_CRASHED => MachineState::Off,
        sys::VIR_DOMAIN_PMSUSPENDED => broken("the guest suspended itself".to_owned()),
        _ => broken("libvirt does not know what it does".to_owned()),
    })
}

/// Why a machine is paused.
fn paused(reason: sys::virDomainPausedReason, never_ran: impl FnOnce() -> bool) -> MachineState {
    match reason {
        // Only a write that finds the host full stops the guest.
        sys::VIR_DOMAIN_PAUSED_IOERROR => MachineState::PausedDiskFull,
        sys::VIR_DOMAIN_PAUSED_CRASHED => MachineState::Panicked,
        // Memory that is loaded comes in as a migration does.
        sys::VIR_DOMAIN_PAUSED_STARTING_UP | sys::VIR_DOMAIN_PAUSED_MIGRATION => {
            MachineState::Starting
        }
        _ if never_ran() => MachineState::Starting,
        _ => MachineState::Paused,
    }
}

/// Whether the guest waits since its start. QEMU knows.
fn never_ran(domain: &Domain) -> bool {
    status(domain).is_ok_and(|answer| answer.contains(NEVER_RAN))
}

/// What QEMU itself says.
fn status(domain: &Domain) -> Result<String, Error> {
    domain.qemu_monitor_command("{\"execute\":\"query-status\"}", 0)
}

/// Waits until no process runs the machine. A daemon that is away for a moment is waited for as well: its
/// machines go on without it.
pub(super) async fn wait_off(
    programs: &Programs,
    dir: &MachineDir,
    limit: Duration,
) -> Result<(), DriverError> {
    let begun = Instant::now();
    let rest = || limit.saturating_sub(begun.elapsed());
    let late = || DriverError::TimedOut { what: "end", limit };
    let mut known: Option<Machine> = None;
    let mut pause = FIRST_PAUSE;
    loop {
        let machine = match known.take() {
            Some(machine) => Ok(Some(machine)),
            None => Machine::find(programs, dir, rest().max(LIMIT)).await,
        };
        match machine {
            Ok(None) => return Ok(()),
            // One that hangs is waited for, and not asked twice.
            Ok(Some(machine)) => match machine.is_active(rest().max(LOOK)).await {
                Ok(false) => return Ok(()),
                Ok(true) => known = Some(machine),
                Err(error) => tracing::debug!(%error, "libvirt is asked again"),
            },
            Err(error @ DriverError::Unreachable { .. }) => {
                tracing::debug!(%error, "libvirt is asked again");
            }
            Err(DriverError::TimedOut { .. }) => return Err(late()),
            Err(error) => return Err(error),
        }
        if rest() <= pause {
            return Err(late());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A broken machine.
const fn broken(reason: String) -> MachineState {
    MachineState::Broken { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_a_pause_are_told_apart() {
        for (reason, never_ran, expected) in [
            (
                sys::VIR_DOMAIN_PAUSED_IOERROR,
                false,
                MachineState::PausedDiskFull,
            ),
            (
                sys::VIR_DOMAIN_PAUSED_CRASHED,
                false,
                MachineState::Panicked,
            ),
            (
                sys::VIR_DOMAIN_PAUSED_MIGRATION,
                false,
                MachineState::Starting,
            ),
            (sys::VIR_DOMAIN_PAUSED_USER, true, MachineState::Starting),
            (sys::VIR_DOMAIN_PAUSED_USER, false, MachineState::Paused),
            (sys::VIR_DOMAIN_PAUSED_SAVE, false, MachineState::Paused),
        ] {
            assert_eq!(paused(reason, || never_ran), expected, "{reason}");
        }
    }
}
