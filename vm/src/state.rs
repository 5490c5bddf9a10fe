//! What a machine is doing, as its hypervisor tells it.

use std::fmt;

/// The state of a machine at the moment it was observed. The diagram is at the head of the crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineState {
    /// No process runs it.
    Off,
    /// There is a hypervisor, and the guest's processors have not run yet.
    Starting,
    /// The guest runs.
    Running,
    /// The guest's processors are stopped, on request.
    Paused,
    /// The guest's processors are stopped because a write failed: no space on the host. They go on by
    /// [`Driver::resume`](crate::Driver::resume) after space was made.
    PausedDiskFull,
    /// The guest's kernel panicked, and its processors are stopped. The way out is another boot.
    Panicked,
    /// Something is wrong that needs a decision.
    Broken {
        /// What is wrong, as a part of a sentence.
        reason: String,
    },
}

impl MachineState {
    /// Whether a hypervisor process holds the machine.
    pub const fn has_process(&self) -> bool {
        !matches!(self, Self::Off)
    }
}

impl fmt::Display for MachineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.pad("off"),
            Self::Starting => f.pad("starting"),
            Self::Running => f.pad("running"),
            Self::Paused => f.pad("paused"),
            Self::PausedDiskFull => f.pad("paused: host disk full"),
            Self::Panicked => f.pad("broken: the guest's kernel panicked"),
            Self::Broken { reason } => write!(f, "broken: {reason}"),
        }
    }
}
