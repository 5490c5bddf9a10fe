//! The steps of a start as one table: what progress shows, and where tests break in.

use crate::error::Result;
use crate::progress::Progress;
use crate::settings::{Fault, FaultKind};

macro_rules! steps {
    ($($variant:ident = $id:literal, $label:literal;)*) => {
        /// A named step of `coracle start`, in the order in which they happen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Step {
            $(#[doc = $label] $variant,)*
        }

        impl Step {
            /// All steps in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Stable id, in JSON events and in `CORACLE_FAULT`.
            pub fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }

            /// What a person reads.
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// The step of this id.
            pub fn from_id(id: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|step| step.id() == id)
            }
        }
    };
}

steps! {
    Check = "check", "Checking the host";
    Image = "image", "Verifying the image";
    Machine = "machine", "Making the machine";
    Boot = "boot", "Booting it";
    Agent = "agent", "Waiting for the machine's agent";
    Api = "api", "Starting the control plane";
    Addons = "addons", "Applying DNS and storage";
    Node = "node", "Waiting for the node";
    Ready = "ready", "Waiting for DNS and storage";
    Engine = "engine", "Starting the Docker engine";
    Template = "template", "Freezing it as a template";
    Rekey = "rekey", "Giving it an identity of its own";
    Images = "images", "Loading the images that are kept";
    Kubeconfig = "kubeconfig", "Writing the kubeconfig";
}

/// Announces steps and, where a test asked for it, breaks in at one.
#[derive(Debug)]
pub struct Steps<'a> {
    progress: &'a Progress,
    fault: Option<&'a Fault>,
}

impl<'a> Steps<'a> {
    /// Steps shown by `progress`.
    pub fn new(progress: &'a Progress, fault: Option<&'a Fault>) -> Self {
        Self { progress, fault }
    }

    /// The renderer.
    pub fn progress(&self) -> &'a Progress {
        self.progress
    }

    /// The step begins; the one before it is done.
    pub async fn begin(&self, step: Step) -> Result<()> {
        self.within(step, step.id(), step.label());
        if let Some(fault) = self.fault.filter(|fault| fault.step == step.id()) {
            break_in(fault.kind).await;
        }
        Ok(())
    }

    /// A part of a step that only some starts have, with an id of its own for events.
    pub fn within(&self, step: Step, id: &str, label: &str) {
        self.progress
            .step(id, label, Self::number(step), Step::ALL.len());
    }

    fn number(step: Step) -> usize {
        let place = Step::ALL.iter().position(|other| *other == step);
        place.map_or(0, |index| index + 1)
    }

    /// The last step is done.
    pub fn finish(&self) {
        self.progress.finish_step();
    }
}

#[cfg(unix)]
async fn break_in(kind: FaultKind) {
    use rustix::process::{Signal, getpid, kill_process};
    let signal = match kind {
        FaultKind::Kill => Signal::KILL,
        FaultKind::Interrupt => Signal::INT,
    };
    // Waiting for ever: the signal ends this process, or cancels this future.
    if kill_process(getpid(), signal).is_ok() {
        std::future::pending::<()>().await;
    }
}

#[cfg(not(unix))]
async fn break_in(_kind: FaultKind) {
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_found() {
        for step in Step::ALL {
            assert_eq!(Step::from_id(step.id()), Some(*step));
        }
        assert_eq!(Step::from_id("nowhere"), None);
    }
}
