//! What finds a machine again by its folder: `virtualbox.json`, written before VirtualBox hears of it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::driver::{self, DriverError, Note as _};
use crate::spec::MachineSpec;
use crate::store::MachineDir;
use crate::store::cache::Formatted;

/// What VirtualBox's own network cards begin with; a guest may know them by it.
const VENDOR: [u8; 3] = [0x08, 0x00, 0x27];

/// What is kept about a machine that VirtualBox knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Note {
    format: u32,
    /// The machine's identifier, which is VirtualBox's too.
    pub(super) id: Uuid,
    /// What it was called when it was made. People may rename it.
    pub(super) name: String,
    /// The address of its network card: twelve digits.
    pub(super) mac: String,
}

impl Formatted for Note {
    const FORMAT: u32 = 1;

    fn format(&self) -> u32 {
        self.format
    }
}

impl driver::Note for Note {
    const FILE: &'static str = "virtualbox.json";
}

impl Note {
    /// The note of a machine.
    pub(super) fn of(spec: &MachineSpec) -> Self {
        Self {
            format: Self::FORMAT,
            id: spec.id,
            name: format!("coracle-{}", spec.name),
            mac: mac(spec.id),
        }
    }

    /// Writes it, where it is not there as it is.
    pub(super) fn keep(&self, dir: &MachineDir) -> Result<(), DriverError> {
        if Self::read(dir).is_ok_and(|there| there.as_ref() == Some(self)) {
            return Ok(());
        }
        self.write(dir)
    }

    /// The identifier as VirtualBox writes it.
    pub(super) fn id(&self) -> String {
        self.id.hyphenated().to_string()
    }

    /// The file of the machine's settings, where VirtualBox puts it when it makes the machine.
    pub(super) fn settings(&self, dir: &MachineDir) -> PathBuf {
        let folder = dir.path().join(&self.name);
        folder.join(format!("{}.vbox", self.name))
    }
}

/// The same for life, so that a machine that is made anew has the card that its disk knows.
fn mac(id: Uuid) -> String {
    let digest = Sha256::digest(id.as_bytes());
    let own = digest.iter().take(VENDOR.len());
    let all = VENDOR.iter().chain(own);
    all.map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_keeps_its_address_and_another_machine_has_another() {
        let first = mac(Uuid::from_u128(1));
        assert_eq!(first.len(), 12);
        assert!(first.starts_with("080027"), "{first}");
        assert_eq!(first, mac(Uuid::from_u128(1)));
        assert_ne!(first, mac(Uuid::from_u128(2)));
    }
}
