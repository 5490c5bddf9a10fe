//! What the files of a template hash to, noted beside them when all of it is on the disk: a start has no
//! time to read them, and a check can tell later whether the disk gives back what it was given.
//!
//! ```text
//! durable template --note--> digests: a line for each file, "HEX  NAME"
//!                               |
//! the files as they are now --check--> Checked
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};

use super::store::{TemplateError, failed};
use super::{DEVICES, RAM, Template, memory};
use crate::store::atomic;

const DIGESTS: &str = "digests";
/// The line of the frozen disk, which is elsewhere.
const DISK: &str = "disk";

/// What a check of a template's files came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// All are what they were.
    Whole,
    /// Nobody has noted yet what they are.
    NotNoted,
}

impl Template {
    /// Notes what its files hash to, once. Blocks: reads all that they hold.
    pub fn note_digests(&self) -> Result<(), TemplateError> {
        let path = self.folder.join(DIGESTS);
        if path.exists() {
            return Ok(());
        }
        let mut text = String::new();
        for (name, file) in self.hashed() {
            text.push_str(&format!("{}  {name}\n", digest(&file)?));
        }
        atomic::write(&path, text.as_bytes()).map_err(failed("write", &path))
    }

    /// Compares its files with what was noted. Blocks: reads all that they hold.
    pub fn check_digests(&self) -> Result<Checked, TemplateError> {
        let path = self.folder.join(DIGESTS);
        let noted = match std::fs::read_to_string(&path) {
            Ok(noted) => noted,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Checked::NotNoted);
            }
            Err(error) => return Err(failed("read", &path)(error)),
        };
        for (name, file) in self.hashed() {
            let line = format!("{}  {name}", digest(&file)?);
            if !noted.lines().any(|noted| noted == line) {
                return Err(TemplateError::Unusable {
                    key: self.key.clone(),
                    reason: format!("{} is not what was written", file.display()),
                });
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
        .and_then(|mut file| memory::digest(&mut file))
        .map_err(failed("read", path))
}
