//! What finds a machine again where a service of the host runs it: a small JSON file in the machine's
//! folder, named after its driver. It is there from before the service hears of the machine until after it
//! has forgotten it.

use std::io;
use std::path::PathBuf;

use serde::Serialize;

use super::DriverError;
use super::error::failed;
use crate::store::cache::Formatted;
use crate::store::{MachineDir, atomic};

/// What one driver keeps about a machine.
pub(crate) trait Note: Formatted + Serialize {
    /// The file's name.
    const FILE: &'static str;

    /// The note in a machine's folder; `None` for a machine that was never launched.
    ///
    /// # Errors
    /// [`DriverError::Io`] for one that cannot be read, is damaged or has another format.
    fn read(dir: &MachineDir) -> Result<Option<Self>, DriverError> {
        let path = path::<Self>(dir);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(failed("read", &path))?,
        };
        let note: Self =
            serde_json::from_slice(&bytes).map_err(|error| failed("read", &path)(error.into()))?;
        if note.format() == Self::FORMAT {
            return Ok(Some(note));
        }
        let other = io::Error::other(format!("it has format {}", note.format()));
        Err(failed("read", &path)(other))
    }

    /// Writes it into the machine's folder.
    ///
    /// # Errors
    /// When it cannot be written.
    fn write(&self, dir: &MachineDir) -> Result<(), DriverError> {
        let path = path::<Self>(dir);
        let bytes = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        bytes
            .and_then(|bytes| atomic::write(&path, &bytes))
            .map_err(failed("write", &path))
    }

    /// Removes it; one that is not there is no error.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn remove(dir: &MachineDir) -> Result<(), DriverError> {
        let path = path::<Self>(dir);
        atomic::remove(&path).map_err(failed("remove", &path))
    }
}

fn path<N: Note>(dir: &MachineDir) -> PathBuf {
    dir.path().join(N::FILE)
}
