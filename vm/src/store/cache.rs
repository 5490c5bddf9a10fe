//! Folders that are caches: files, and a record that says how to tell whether they are whole. What
//! templates and saved machines have in common.

use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::atomic;
use crate::host::boot_id;

/// The file that is there once all of the folder is known to be on the disk.
pub(crate) const DURABLE: &str = "durable";

/// A record that says which version of its format it has.
pub(crate) trait Formatted: DeserializeOwned {
    /// The version that this program writes and reads.
    const FORMAT: u32;

    /// The version of this one.
    fn format(&self) -> u32;
}

/// Reads a record. `None` where the folder is not there; the error says, as a part of a sentence, why
/// what is there cannot be used.
pub(crate) fn read<R: Formatted>(folder: &Path, name: &str) -> Result<Option<R>, String> {
    let bytes = match std::fs::read(folder.join(name)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.exists() => {
            return Ok(None);
        }
        Err(error) => return Err(format!("{name}: {error}")),
    };
    let record: R =
        serde_json::from_slice(&bytes).map_err(|error| format!("{name} is damaged: {error}"))?;
    match record.format() {
        format if format == R::FORMAT => Ok(Some(record)),
        format => Err(format!("it has format {format}")),
    }
}

/// Writes a record into its folder.
pub(crate) fn write(folder: &Path, name: &str, record: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec_pretty(record)?;
    atomic::write(&folder.join(name), &bytes)
}

/// Nothing but a loss of power can hurt what was written in this boot of the host.
pub(crate) fn check_durable(folder: &Path, written_in: &str) -> Result<(), String> {
    if folder.join(DURABLE).exists() || boot_id().as_deref() == Some(written_in) {
        return Ok(());
    }
    Err("the host went down before it was written whole".to_owned())
}

/// Whether a file has the length that it was written with.
pub(crate) fn check_size(folder: &Path, name: &str, expected: u64) -> Result<(), String> {
    let found = std::fs::metadata(folder.join(name)).map_or(0, |meta| meta.len());
    if found == expected {
        return Ok(());
    }
    Err(format!(
        "its file {name} has {found} bytes instead of {expected}"
    ))
}
