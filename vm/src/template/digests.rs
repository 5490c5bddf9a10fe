//! What the files of a template hash to, noted beside them a while after they were made: a start has no
//! time to read them, and a check can tell later whether the disk gives back what it was given.
//!
//! ```text
//! durable template, in the boot of the host that made it --note_digests--> digests.json
//!                                                                             |
//! the files as they are now -------------------check_digests-----------------+--> Checked
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::store::{TemplateError, failed};
use super::{DEVICES, RAM, Template, TemplateRecord, sparse};
use crate::host::boot_id;
use crate::store::cache::{self, Formatted};

const DIGESTS: &str = "digests.json";
/// The frozen disk, which is in another folder.
const DISK: &str = "disk";

/// What a check of a template's files came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// All are what they were.
    Whole,
    /// Nobody has noted what they were.
    NotNoted,
}

/// What is noted: the hash of each file by its name.
#[derive(Debug, Serialize, Deserialize)]
struct Digests {
    format: u32,
    files: BTreeMap<String, String>,
}

impl Formatted for Digests {
    const FORMAT: u32 = 1;

    fn format(&self) -> u32 {
        self.format
    }
}

impl Template {
    /// Notes what its files hash to, once, and only in the boot of the host in which it was made: what a
    /// disk gives back later may be damaged already. Blocks: reads all that they hold.
    pub fn note_digests(&self) -> Result<(), TemplateError> {
        let path = self.folder.join(DIGESTS);
        if path.exists() || boot_id().as_deref() != Some(&self.record.boot_id) {
            return Ok(());
        }
        let mut files = BTreeMap::new();
        for (name, file) in self.hashed() {
            files.insert(name.to_owned(), digest(&file)?);
        }
        // Another may have been made under the same key meanwhile.
        let now = cache::read::<TemplateRecord>(&self.folder, super::store::RECORD);
        if !matches!(now, Ok(Some(record)) if record == self.record) {
            return Ok(());
        }
        let format = Digests::FORMAT;
        let written = cache::write(&self.folder, DIGESTS, &Digests { format, files });
        written.map_err(failed("write", &path))
    }

    /// Compares its files with what was noted. Blocks: reads all that they hold.
    pub fn check_digests(&self) -> Result<Checked, TemplateError> {
        let unusable = |reason| TemplateError::Unusable {
            key: self.key.clone(),
            reason,
        };
        if !self.folder.join(DIGESTS).exists() {
            return Ok(Checked::NotNoted);
        }
        let noted = cache::read::<Digests>(&self.folder, DIGESTS).map_err(unusable)?;
        let noted = noted.map(|noted| noted.files).unwrap_or_default();
        for (name, file) in self.hashed() {
            if noted.get(name) != Some(&digest(&file)?) {
                let file = file.display();
                return Err(unusable(match name {
                    DISK => format!(
                        "{file} is not what was written; clusters that began with it may be damaged"
                    ),
                    _ => format!("{file} is not what was written"),
                }));
            }
        }
        Ok(Checked::Whole)
    }

    fn hashed(&self) -> [(&'static str, PathBuf); 3] {
        let files = self.files();
        [
            (RAM, files.ram),
            (DEVICES, files.devices),
            (DISK, self.record.disk.clone()),
        ]
    }
}

fn digest(path: &Path) -> Result<String, TemplateError> {
    File::open(path)
        .and_then(|mut file| sparse::digest(&mut file))
        .map_err(failed("read", path))
}
