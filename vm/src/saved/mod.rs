//! Saved machines: the memory and devices of a running machine as files, from which it goes on.
//!
//! ```text
//! HOME/machines/NAME/base/     what the machine's memory goes on from, by hard links: it stays as
//!   ram  devices               long as somebody needs it, whatever becomes of a template
//! HOME/machines/NAME/save/     a saved machine: there only while it is off, and used once
//!   save.json                  how it is kept, and what it fits to (format 1)
//!   pages  devices  base/      memory that differs from base/ram; or
//!   ram  devices               all memory; or
//!   stream                     both as the hypervisor writes them
//!   durable                    there once all of it is known to be on the disk
//! HOME/machines/NAME/.saving-* being made; appears whole, by a rename, or not at all
//! ```
//!
//! A save fits one state of the machine's disks. It is made invalid before the guest goes on, so that
//! no later start can put old memory on a newer disk. It is a cache, as a template is: where it is
//! missing, damaged or does not fit any more, the same disk boots cold.
//!
//! ```text
//! running machine --Driver::save--> Saving --publish--> Saved --Driver::launch--> running machine
//!                                                         |
//!                            another machine's save  <----+ copied by hard links
//! ```

mod pages;
mod snapshots;
mod store;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub use pages::{PAGE, Run, load, save};
pub use snapshots::{Snapshot, SnapshotRecord, Snapshots};
#[cfg(target_os = "linux")]
pub(crate) use store::link_base;
pub use store::{Saves, Saving};

use crate::name::MachineName;
use crate::store::cache::Formatted;
use crate::template::TemplateFiles;

/// The version of `save.json` that this program writes and reads.
pub const FORMAT: u32 = 1;

/// How a saved machine's memory is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kept {
    /// As the pages that differ from a base.
    Pages,
    /// As a file of all of it, byte for byte, sparse.
    Whole,
    /// In the hypervisor's own stream, together with the devices.
    Stream,
    /// The same with every page at a place of its own, which several threads read at once.
    MappedStream,
    /// By the hypervisor itself, which has no file here. The machine is off then.
    Held,
}

/// What is kept about a saved machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SavedRecord {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// When it was saved.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// The boot of the host in which it was written.
    pub boot_id: String,
    /// How its memory is kept.
    pub kept: Kept,
    /// Bytes of each file, by its path below the folder.
    pub files: BTreeMap<String, u64>,
    /// SHA-256 of the file of the devices where it is one of its own: neither it nor the hypervisor
    /// would show that a byte has changed.
    pub devices_digest: Option<String>,
    /// The disks that the guest writes, as they were then.
    pub disks: Vec<DiskMark>,
    /// What a restore depends on: [`Driver::fingerprint`](crate::Driver::fingerprint).
    pub host: BTreeMap<String, String>,
}

impl Formatted for SavedRecord {
    const FORMAT: u32 = FORMAT;

    fn format(&self) -> u32 {
        self.format
    }
}

/// One state of a disk's file: another content is another mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DiskMark {
    /// The file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub changed: u64,
    /// Which file it is, where the system numbers them.
    pub inode: u64,
}

impl DiskMark {
    /// The state of a file now.
    pub fn of(path: &Path) -> io::Result<Self> {
        let meta = std::fs::metadata(path)?;
        let changed = meta.modified()?.duration_since(UNIX_EPOCH);
        let changed = changed.unwrap_or_default().as_nanos();
        Ok(Self {
            path: path.to_owned(),
            bytes: meta.len(),
            changed: u64::try_from(changed).unwrap_or(u64::MAX),
            inode: inode(&meta),
        })
    }
}

#[cfg(unix)]
fn inode(meta: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(meta)
}

#[cfg(not(unix))]
fn inode(_meta: &std::fs::Metadata) -> u64 {
    0
}

/// Where the parts of a saved machine are. A value says nothing about whether they exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedFiles {
    folder: PathBuf,
}

impl SavedFiles {
    /// The files in a folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Pages that differ from the base.
    pub fn pages(&self) -> PathBuf {
        self.folder.join("pages")
    }

    /// The state of the processors and devices; with all memory beside it, a base for later saves.
    pub fn whole(&self) -> TemplateFiles {
        TemplateFiles::in_folder(&self.folder)
    }

    /// What `pages` differ from.
    pub fn base(&self) -> TemplateFiles {
        TemplateFiles::in_folder(&self.folder.join("base"))
    }

    /// Memory and devices as one.
    pub fn stream(&self) -> PathBuf {
        self.folder.join("stream")
    }

    /// Removes all that is in the folder.
    pub fn clear(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// A saved machine that can go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Its folder.
    pub folder: PathBuf,
    /// What is kept about it.
    pub record: SavedRecord,
}

impl Saved {
    /// Where its parts are.
    pub fn files(&self) -> SavedFiles {
        SavedFiles::in_folder(&self.folder)
    }
}

/// Why a saved machine cannot be used or kept.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// It is there, and must not be gone on from.
    #[error("the saved memory cannot be used: {reason}")]
    Unusable {
        /// Why, as a part of a sentence.
        reason: String,
    },
    /// A snapshot is there, and cannot be gone back to.
    #[error("the snapshot \"{name}\" cannot be used: {reason}")]
    Snapshot {
        /// Which.
        name: MachineName,
        /// Why, as a part of a sentence.
        reason: String,
    },
    /// A file or folder could not be handled.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl SavedError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
