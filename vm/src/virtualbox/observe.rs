//! What a machine is doing, from VirtualBox's word for it and, for a paused one, from its log.

use std::path::Path;
use std::time::{Duration, Instant};

use super::info::{self, Info, VmState};
use super::manage::{Manage, QUESTION};
use super::note::Note;
use crate::driver::{DriverError, Note as _, chain};
use crate::log_file;
use crate::program::Programs;
use crate::state::MachineState;
use crate::store::MachineDir;

/// How long an observation may take.
const LIMIT: Duration = Duration::from_secs(2);
/// The pauses between two looks at a machine that is to end: short at first, and long for one that is
/// watched for months, since each look is a program.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGER_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long the shorter ones are taken.
const EAGER: Duration = Duration::from_secs(60);
/// How many lines of the log tell why a machine is paused.
const LOG_LINES: usize = 40;
/// What VirtualBox's devices call a full disk of the host, in `errorID=DrvVD_DISKFULL` and the like
/// (`src/VBox/Devices/Storage/`).
const DISK_FULL: &str = "_DISKFULL";
/// What the log says when the guest's processors go on.
const GOES_ON: &str = "to 'RUNNING'";

/// Asks VirtualBox.
pub(super) async fn observe(programs: &Programs, dir: &MachineDir) -> MachineState {
    let note = match Note::read(dir) {
        Ok(Some(note)) => note,
        Ok(None) => return MachineState::Off,
        Err(error) => return broken(chain(&error)),
    };
    let Some(manage) = Manage::find(programs) else {
        return broken(
            "VirtualBox is not installed any more (VBoxManage was not found)".to_owned(),
        );
    };
    match info::find(&manage, &note.id(), LIMIT).await {
        Ok(None) => MachineState::Off,
        Ok(Some(info)) => state(&info),
        Err(failure) if failure.is_silence() => broken("VirtualBox does not answer".to_owned()),
        Err(failure) => broken(format!("VirtualBox cannot be asked: {}", failure.detail())),
    }
}

/// Maps VirtualBox's state.
pub(super) fn state(info: &Info) -> MachineState {
    match &info.state {
        VmState::Off | VmState::Saved => MachineState::Off,
        VmState::Starting => MachineState::Starting,
        // It has not ended yet, and does so by itself.
        VmState::Running | VmState::Stopping => MachineState::Running,
        VmState::Paused if is_disk_full(&info.log) => MachineState::PausedDiskFull,
        VmState::Paused => MachineState::Paused,
        VmState::Stuck => broken(format!(
            "VirtualBox stopped the guest after an error that nobody goes on from (see {})",
            info.log.display()
        )),
        VmState::Other(word) => broken(format!("VirtualBox calls its state \"{word}\"")),
    }
}

/// Whether a full disk of the host is the last that stopped the processors.
fn is_disk_full(log: &Path) -> bool {
    let lines = log_file::last_lines(log, LOG_LINES);
    let last = lines.iter().rev().find_map(|line| {
        let is_full = line.contains(DISK_FULL);
        (is_full || line.contains(GOES_ON)).then_some(is_full)
    });
    last == Some(true)
}

/// Waits until VirtualBox runs the machine no more.
pub(super) async fn wait_off(
    manage: &Manage,
    id: &str,
    limit: Duration,
) -> Result<(), DriverError> {
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let is_off = match info::find(manage, id, QUESTION).await {
            Ok(info) => info.is_none_or(|info| info.state.is_off()),
            // It may be busy; for how long is the caller's to say.
            Err(failure) if failure.is_silence() => false,
            Err(failure) => return Err(failure.into()),
        };
        if is_off {
            return Ok(());
        }
        let left = limit.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(DriverError::TimedOut { what: "end", limit });
        }
        tokio::time::sleep(pause.min(left)).await;
        pause = (pause * 2).min(match begun.elapsed() < EAGER {
            true => LONGER_PAUSE,
            false => LONGEST_PAUSE,
        });
    }
}

/// A broken machine.
const fn broken(reason: String) -> MachineState {
    MachineState::Broken { reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::atomic;

    fn seen(word: &str, log: &Path) -> MachineState {
        let folder = log.parent().unwrap().display();
        let text = format!("CfgFile=\"/m/x.vbox\"\nLogFldr=\"{folder}\"\nVMState=\"{word}\"\n");
        state(&Info::parse(&text))
    }

    #[test]
    fn every_state_has_a_name_of_ours() {
        let nowhere = Path::new("/nowhere/VBox.log");
        for (word, state) in [
            ("poweroff", MachineState::Off),
            ("aborted", MachineState::Off),
            ("saved", MachineState::Off),
            ("aborted-saved", MachineState::Off),
            ("starting", MachineState::Starting),
            ("restoring", MachineState::Starting),
            ("running", MachineState::Running),
            ("paused", MachineState::Paused),
            ("saving", MachineState::Paused),
        ] {
            assert_eq!(seen(word, nowhere), state, "{word}");
        }
        for word in ["gurumeditation", "something new"] {
            let state = seen(word, nowhere);
            assert!(
                matches!(state, MachineState::Broken { .. }),
                "{word}: {state}"
            );
        }
    }

    #[test]
    fn a_full_disk_counts_until_the_guest_went_on() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("VBox.log");
        let full = "00:01:02.000001 Console: VM runtime error: fatal=false, errorID=DrvVD_DISKFULL message=\"Host system reported disk full.\"\n\
                    00:01:02.000002 Changing the VM state from 'RUNNING' to 'SUSPENDING'\n";
        let on = "00:02:02.000002 Changing the VM state from 'RESUMING' to 'RUNNING'\n";
        for (text, state) in [
            (format!("{on}{full}"), MachineState::PausedDiskFull),
            (format!("{full}{on}"), MachineState::Paused),
            (String::new(), MachineState::Paused),
        ] {
            atomic::write(&log, text.as_bytes()).unwrap();
            assert_eq!(seen("paused", &log), state);
        }
    }
}
