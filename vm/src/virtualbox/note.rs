//! What finds a machine again by its folder: `virtualbox.json`, written before VirtualBox hears of it.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::failed;
use crate::driver::DriverError;
use crate::spec::MachineSpec;
use crate::store::{MachineDir, atomic};

/// The version of the file that this program writes and reads.
const FORMAT: u32 = 1;
const FILE: &str = "virtualbox.json";
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

impl Note {
    /// The note of a machine.
    pub(super) fn of(spec: &MachineSpec) -> Self {
        Self {
            format: FORMAT,
            id: spec.id,
            name: format!("coracle-{}", spec.name),
            mac: mac(spec.id),
        }
    }

    /// The note in a machine's folder; `None` where VirtualBox was never told of it.
    pub(super) fn read(dir: &MachineDir) -> Result<Option<Self>, DriverError> {
        let path = path(dir);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let note: Self = serde_json::from_slice(&bytes)
            .map_err(|error| failed("read", &path)(io::Error::from(error)))?;
        if note.format == FORMAT {
            return Ok(Some(note));
        }
        let format = format!("it has format {}", note.format);
        Err(failed("read", &path)(io::Error::other(format)))
    }

    /// Writes it, where it is not there as it is.
    pub(super) fn write(&self, dir: &MachineDir) -> Result<(), DriverError> {
        if Self::read(dir).is_ok_and(|there| there.as_ref() == Some(self)) {
            return Ok(());
        }
        let path = path(dir);
        let bytes = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        bytes
            .and_then(|bytes| atomic::write(&path, &bytes))
            .map_err(failed("write", &path))
    }

    /// Removes it.
    pub(super) fn remove(dir: &MachineDir) -> Result<(), DriverError> {
        let path = path(dir);
        atomic::remove(&path).map_err(failed("remove", &path))
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

fn path(dir: &MachineDir) -> PathBuf {
    dir.path().join(FILE)
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
