//! machine.json: what a machine is.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::driver::DriverKind;
use crate::spec::MachineSpec;

/// The version of the format that this program writes.
pub const FORMAT: u32 = 1;

/// What is kept of a machine. It says what the machine is, never what it is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The version of this format, [`FORMAT`].
    pub format: u32,
    /// The driver that runs the machine.
    pub driver: DriverKind,
    /// When the machine was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// The machine.
    pub spec: MachineSpec,
    /// What the caller keeps beside it. This crate does not look inside.
    #[serde(default)]
    pub cluster: serde_json::Value,
}

/// Why machine.json cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// It is not JSON, or something is missing in it.
    #[error("machine.json is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    /// A newer program wrote it.
    #[error("machine.json has format {found}, and this version knows {FORMAT}")]
    Format {
        /// The version in the file.
        found: u32,
    },
    /// The specification contradicts itself.
    #[error("machine.json is damaged: {0}")]
    Spec(#[from] crate::spec::SpecError),
}

/// The one field that every version of the format has.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

impl Record {
    /// A record in today's format.
    pub fn new(
        driver: DriverKind,
        spec: MachineSpec,
        cluster: serde_json::Value,
        created: OffsetDateTime,
    ) -> Self {
        Self {
            format: FORMAT,
            driver,
            created,
            spec,
            cluster,
        }
    }

    /// Reads and checks a record.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, RecordError> {
        let Version { format } = serde_json::from_slice(bytes)?;
        if format != FORMAT {
            return Err(RecordError::Format { found: format });
        }
        let record: Self = serde_json::from_slice(bytes)?;
        record.spec.check()?;
        Ok(record)
    }

    /// The record as it is written.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Every field is text, a number or JSON already: this cannot fail, and an empty file would
        // be listed as broken.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}
