//! What finds a machine in libvirt again: `libvirt.json` in the machine's folder. It is there from before
//! libvirt knows the machine until after it has forgotten it.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::driver::DriverError;
use crate::qemu::shared::failed;
use crate::store::{MachineDir, atomic};

/// The version of the file that this program writes and reads.
const FORMAT: u32 = 1;

/// Where a machine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Link {
    format: u32,
    /// The libvirt that knows it.
    pub(super) uri: String,
    /// What it is known by there.
    pub(super) id: Uuid,
}

impl Link {
    /// A link to a machine.
    pub(super) fn new(uri: String, id: Uuid) -> Self {
        Self {
            format: FORMAT,
            uri,
            id,
        }
    }

    /// The machine's link; `None` for one that was never launched here.
    pub(super) fn read(dir: &MachineDir) -> Result<Option<Self>, DriverError> {
        let path = path(dir);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(failed("read", &path))?,
        };
        let link: Self =
            serde_json::from_slice(&bytes).map_err(|error| failed("read", &path)(error.into()))?;
        if link.format == FORMAT {
            return Ok(Some(link));
        }
        let other = io::Error::other(format!("it has format {}", link.format));
        Err(failed("read", &path)(other))
    }

    /// Writes it into the machine's folder.
    pub(super) fn write(&self, dir: &MachineDir) -> Result<(), DriverError> {
        let path = path(dir);
        let bytes = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        bytes
            .and_then(|bytes| atomic::write(&path, &bytes))
            .map_err(failed("write", &path))
    }

    /// Removes it; one that is not there is no error.
    pub(super) fn remove(dir: &MachineDir) -> Result<(), DriverError> {
        let path = path(dir);
        atomic::remove(&path).map_err(failed("remove", &path))
    }
}

fn path(dir: &MachineDir) -> PathBuf {
    dir.path().join("libvirt.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::MachineName;

    #[test]
    fn it_is_kept_until_it_is_removed_and_not_taken_for_another_format() {
        let folder = tempfile::tempdir().unwrap();
        let name = MachineName::new("dev").unwrap();
        let dir = MachineDir::new(name, folder.path().to_owned(), folder.path());
        assert_eq!(Link::read(&dir).unwrap(), None);
        let link = Link::new("qemu:///session".to_owned(), Uuid::from_u128(7));
        link.write(&dir).unwrap();
        assert_eq!(Link::read(&dir).unwrap(), Some(link.clone()));
        Link { format: 2, ..link }.write(&dir).unwrap();
        let error = Link::read(&dir).unwrap_err();
        assert!(matches!(error, DriverError::Io { .. }), "{error}");
        for _ in 0..2 {
            Link::remove(&dir).unwrap();
        }
        assert_eq!(Link::read(&dir).unwrap(), None);
    }
}
