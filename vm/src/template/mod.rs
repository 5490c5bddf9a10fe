//! Templates: machines frozen while they ran, which new machines begin as copies of.
//!
//! ```text
//! HOME/templates/KEY/      cache: may be removed at any time, at the price of a cold boot
//!   template.json          what it is made of, and which frozen disk belongs to it (format 1)
//!   ram                    the guest's memory; every clone maps it privately
//!   devices                the state of the processors and devices
//!   durable                there once all of it is known to be on the disk
//!   digests.json           what the files hash to, noted later still, for a check that reads them (format 1)
//!   working-set            which parts of the memory a start touches, to read them ahead
//!   used                   changed each time a machine begins with it
//!   ...                    what the caller keeps beside it
//! HOME/templates/.baking-*    being made; appears whole, by a rename, or not at all
//! HOME/templates/.refused-KEY why clones of this key are not tried any more
//! ```
//!
//! The key is a hash of everything that a restore depends on: another hypervisor, another processor
//! or another setting is another key. A template that is not durable is believed until the host
//! boots again: nothing but a loss of power can have hurt it before.
//!
//! ```text
//! running machine --Driver::freeze--> Incoming --publish--> Template --Driver::launch--> clones
//! ```

mod digests;
mod sparse;
mod store;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use crate::store::atomic;
use crate::store::cache::Formatted;

pub use digests::Checked;
pub use sparse::copy_sparsely;
pub use store::{Incoming, MOST_AGE, MOST_BYTES, TemplateError, Templates};

/// The version of `template.json` that this program writes and reads.
pub const FORMAT: u32 = 1;

const RAM: &str = "ram";
const DEVICES: &str = "devices";

/// The name of a template: a hash of all that it depends on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TemplateKey(String);

impl TemplateKey {
    /// The key of these facts, whatever they are.
    pub fn of(facts: &BTreeMap<String, String>) -> Self {
        let mut hash = Sha256::new();
        hash.update(format!("template format {FORMAT}\n"));
        for (name, value) in facts {
            // Lengths keep two facts from looking like one.
            hash.update(format!("{}:{name}={}:{value}\n", name.len(), value.len()));
        }
        Self(hex::encode(&hash.finalize()[..16]))
    }

    /// A key from a folder's name; `None` for a name that is none.
    pub fn from_name(name: &str) -> Option<Self> {
        let is_key = name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_key.then(|| Self(name.to_owned()))
    }

    /// The key as 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Enough of it to tell templates apart in a list.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for TemplateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The files that a hypervisor restores a machine from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateFiles {
    /// The guest's memory, byte for byte, sparse.
    pub ram: PathBuf,
    /// The state of the processors and devices.
    pub devices: PathBuf,
}

impl TemplateFiles {
    /// The files in a folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            ram: folder.join(RAM),
            devices: folder.join(DEVICES),
        }
    }

    /// A hint beside the memory: which parts of it a start touches.
    pub fn working_set(&self) -> PathBuf {
        self.ram.with_file_name("working-set")
    }
}

/// What is kept of a template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TemplateRecord {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// The boot of the host in which it was made.
    pub boot_id: String,
    /// Bytes of the memory file.
    pub ram_bytes: u64,
    /// Bytes of the device state.
    pub devices_bytes: u64,
    /// The frozen disk that the memory belongs to.
    pub disk: PathBuf,
    /// What the key is a hash of, for people.
    pub facts: BTreeMap<String, String>,
    /// What the caller keeps beside it. This crate does not look inside.
    #[serde(default)]
    pub cluster: serde_json::Value,
}

impl Formatted for TemplateRecord {
    const FORMAT: u32 = FORMAT;

    fn format(&self) -> u32 {
        self.format
    }
}

/// A template that can be used.
#[derive(Debug, Clone)]
pub struct Template {
    /// Its key.
    pub key: TemplateKey,
    /// Its folder.
    pub folder: PathBuf,
    /// What is kept of it.
    pub record: TemplateRecord,
}

impl Template {
    /// Bytes that its files take on the disk: holes take none.
    pub fn disk_usage(&self) -> u64 {
        let files = self.files();
        let used = |path: &Path| path.metadata().map_or(0, |meta| atomic::allocated(&meta));
        used(&files.ram) + used(&files.devices)
    }

    /// The files to restore from.
    pub fn files(&self) -> TemplateFiles {
        TemplateFiles::in_folder(&self.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_facts_apart() {
        let key = |pairs: &[(&str, &str)]| {
            let facts = pairs
                .iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
            TemplateKey::of(&facts.collect())
        };
        let one = key(&[("a", "b"), ("c", "d")]);
        assert_eq!(one, key(&[("c", "d"), ("a", "b")]));
        assert_ne!(one, key(&[("a", "b\n1:c=1:d")]));
        assert_ne!(one, key(&[("a", "b"), ("c", "e")]));
        assert_eq!(TemplateKey::from_name(one.as_str()), Some(one));
        assert_eq!(TemplateKey::from_name(".baking-1"), None);
    }
}
