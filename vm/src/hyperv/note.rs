//! `hyperv.json` in a machine's folder: what finds the machine again.
//!
//! ```text
//! {"format": 1, "id": the machine's own, "vm": Hyper-V's identifier, "mac": its network card's,
//!  "forwards": what the specification forwards, "disks": the files that the guest writes}
//! ```
//!
//! Written before Hyper-V is asked to make anything, so that nothing is made that is not looked for. The
//! truth is Hyper-V's: a note whose machine Hyper-V does not know is the note of a machine that is off.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::driver;
use crate::spec::{MachineSpec, PortForward};
use crate::store::cache::Formatted;

/// What finds a machine again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Note {
    format: u32,
    /// [`MachineSpec::id`].
    pub(super) id: Uuid,
    /// Hyper-V's identifier, once it is known.
    pub(super) vm: Option<String>,
    /// The address of the network card, 12 digits.
    pub(super) mac: String,
    /// What the specification forwards: the guest's ports among them are reachable.
    pub(super) forwards: Vec<PortForward>,
    /// The files that the guest writes.
    pub(super) disks: Vec<PathBuf>,
}

impl Formatted for Note {
    const FORMAT: u32 = 1;

    fn format(&self) -> u32 {
        self.format
    }
}

impl driver::Note for Note {
    const FILE: &'static str = "hyperv.json";
}

impl Note {
    /// The note of a machine, which Hyper-V may know as `vm`.
    pub(super) fn of(spec: &MachineSpec, vm: Option<String>) -> Self {
        let written = spec.disks.iter().filter(|disk| !disk.read_only);
        Self {
            format: Self::FORMAT,
            id: spec.id,
            vm,
            mac: mac(spec.id),
            forwards: spec.network.forwards.clone(),
            disks: written.map(|disk| disk.path.clone()).collect(),
        }
    }
}

/// The address of a machine's network card: one that is administered locally, always the same for the
/// same machine.
fn mac(id: Uuid) -> String {
    let hash = Sha256::digest(id.as_bytes());
    format!("02{}", hex::encode_upper(&hash[..5]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_keeps_its_address_and_shares_it_with_none() {
        let first = mac(Uuid::from_u128(1));
        assert_eq!(first, mac(Uuid::from_u128(1)));
        assert_ne!(first, mac(Uuid::from_u128(2)));
        assert!(first.len() == 12 && first.starts_with("02"), "{first}");
        assert!(first.chars().all(|digit| digit.is_ascii_hexdigit()));
    }
}
