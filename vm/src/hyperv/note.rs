//! `hyperv.json` in a machine's folder: what finds the machine again.
//!
//! ```text
//! {"format": 1, "id": the machine's own, "vm": Hyper-V's identifier, "mac": its network card's,
//!  "forwards": what the specification forwards, "disks": the files that the guest writes}
//! ```
//!
//! Written before Hyper-V is asked to make anything, so that nothing is made that is not looked for. The
//! truth is Hyper-V's: a note whose machine Hyper-V does not know is the note of a machine that is off.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::failed;
use crate::driver::DriverError;
use crate::spec::{MachineSpec, PortForward};
use crate::store::{MachineDir, atomic};

/// The version that this program writes and reads.
const FORMAT: u32 = 1;

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

impl Note {
    /// The note of a machine, which Hyper-V may know as `vm`.
    pub(super) fn of(spec: &MachineSpec, vm: Option<String>) -> Self {
        let written = spec.disks.iter().filter(|disk| !disk.read_only);
        Self {
            format: FORMAT,
            id: spec.id,
            vm,
            mac: mac(spec.id),
            forwards: spec.network.forwards.clone(),
            disks: written.map(|disk| disk.path.clone()).collect(),
        }
    }

    /// The note in a machine's folder; `None` for a machine that was never launched.
    ///
    /// # Errors
    /// [`DriverError::Io`] for one that cannot be read or is damaged.
    pub(super) fn read(dir: &MachineDir) -> Result<Option<Self>, DriverError> {
        let path = place(dir);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        match serde_json::from_slice::<Self>(&bytes) {
            Ok(note) if note.format == FORMAT => Ok(Some(note)),
            Ok(_) => Err(failed("read", &path)(io::ErrorKind::Unsupported.into())),
            Err(error) => Err(failed("read", &path)(error.into())),
        }
    }

    /// Puts the note in its place.
    pub(super) fn write(&self, dir: &MachineDir) -> Result<(), DriverError> {
        let path = place(dir);
        let written = serde_json::to_vec_pretty(self)
            .map_err(io::Error::from)
            .and_then(|bytes| atomic::write(&path, &bytes));
        written.map_err(failed("write", &path))
    }

    /// Removes the note of a machine.
    pub(super) fn remove(dir: &MachineDir) -> Result<(), DriverError> {
        let path = place(dir);
        atomic::remove(&path).map_err(failed("remove", &path))
    }
}

fn place(dir: &MachineDir) -> PathBuf {
    dir.path().join("hyperv.json")
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
