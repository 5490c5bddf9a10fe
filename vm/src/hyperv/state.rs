//! What Hyper-V's states of a virtual machine mean.
//!
//! The names are those of Microsoft.HyperV.PowerShell.VMState. A PowerShell that does not know the
//! enumeration writes its number instead, which is the same in all versions below 32782.

use crate::state::MachineState;

/// What a virtual machine does, as far as the driver has to tell apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum VmState {
    /// Nothing of it is in memory, and nothing is kept.
    Off,
    /// Off, and Hyper-V keeps memory and devices.
    Saved,
    /// Its files are gone or cannot be read: it can only be made anew.
    Lost,
    /// It begins, or is being restored.
    Starting,
    /// The guest runs.
    Running,
    /// The guest's processors are stopped.
    Paused,
    /// Hyper-V stopped the guest's processors, since its disk could not be written.
    PausedCritical,
    /// Another state, which needs a decision: what Hyper-V calls it.
    Other(String),
}

impl VmState {
    /// Reads Hyper-V's word.
    pub(super) fn of(word: &str) -> Self {
        match word {
            "Off" | "3" | "Hibernated" => Self::Off,
            "Saved" | "6" | "FastSaved" | "32779" => Self::Saved,
            "OffCritical" | "SavedCritical" | "FastSavedCritical" => Self::Lost,
            "Starting" | "10" | "Resuming" | "32777" => Self::Starting,
            // A guest that shuts down or reboots still runs.
            "Running" | "2" | "Stopping" | "4" | "Reset" | "11" | "ForceShutdown" | "32781"
            | "ForceReboot" | "32782" => Self::Running,
            // Its processors are stopped while it is saved.
            "Paused" | "9" | "Pausing" | "32776" | "Saving" | "32773" | "FastSaving" | "32780" => {
                Self::Paused
            }
            "PausedCritical" => Self::PausedCritical,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Whether nothing of it is in memory.
    pub(super) const fn is_off(&self) -> bool {
        matches!(self, Self::Off | Self::Saved | Self::Lost)
    }

    /// What is told of it. `disks` says whether the files of its disks are there; a machine whose disk is
    /// there and could not be written has no space.
    pub(super) fn observed(self, disks: bool) -> MachineState {
        match self {
            Self::Off | Self::Saved | Self::Lost => MachineState::Off,
            Self::Starting => MachineState::Starting,
            Self::Running => MachineState::Running,
            Self::Paused => MachineState::Paused,
            Self::PausedCritical if disks => MachineState::PausedDiskFull,
            Self::PausedCritical => broken("Hyper-V paused it: its disk is gone".to_owned()),
            Self::Other(word) => match word.strip_suffix("Critical") {
                Some(word) => broken(format!(
                    "Hyper-V cannot reach its files while it is {}",
                    word.to_lowercase()
                )),
                None => broken(format!("Hyper-V calls its state \"{word}\"")),
            },
        }
    }
}

const fn broken(reason: String) -> MachineState {
    MachineState::Broken { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(word: &str) -> MachineState {
        VmState::of(word).observed(true)
    }

    #[test]
    fn every_state_of_hyper_v_is_known() {
        for (state, words) in [
            (
                MachineState::Off,
                &["Off", "Saved", "FastSaved", "OffCritical", "SavedCritical"][..],
            ),
            (
                MachineState::Running,
                &["Running", "Stopping", "Reset", "2"],
            ),
            (MachineState::Starting, &["Starting", "Resuming", "10"]),
            (MachineState::Paused, &["Paused", "Pausing", "Saving", "9"]),
            (MachineState::PausedDiskFull, &["PausedCritical"]),
        ] {
            for word in words {
                assert_eq!(observed(word), state, "{word}");
            }
        }
        for word in [
            "Other",
            "RunningCritical",
            "StoppingCritical",
            "StartingCritical",
            "ResetCritical",
            "SavingCritical",
            "PausingCritical",
            "ResumingCritical",
            "FastSavingCritical",
            "ComponentServicing",
            "",
        ] {
            assert!(
                matches!(observed(word), MachineState::Broken { .. }),
                "{word}"
            );
        }
    }

    #[test]
    fn a_machine_whose_disk_is_gone_has_not_just_a_full_disk() {
        let state = VmState::of("PausedCritical").observed(false);
        assert_eq!(
            state.to_string(),
            "broken: Hyper-V paused it: its disk is gone"
        );
        assert_eq!(
            observed("RunningCritical").to_string(),
            "broken: Hyper-V cannot reach its files while it is running"
        );
    }

    #[test]
    fn only_what_is_off_can_be_launched() {
        for (word, off) in [
            ("Off", true),
            ("Saved", true),
            ("SavedCritical", true),
            ("Saving", false),
            ("Stopping", false),
            ("PausedCritical", false),
        ] {
            assert_eq!(VmState::of(word).is_off(), off, "{word}");
        }
    }
}
