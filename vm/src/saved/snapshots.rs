//! Snapshots: a machine as it ran at one moment, kept beside it. Memory and disk are one object.
//!
//! ```text
//! HOME/machines/NAME/snapshots/SNAPSHOT/
//!   snapshot.json     when it was taken, and which frozen disk belongs to it (format 1)
//!   ...               the files of a saved machine, which are a cache as always; the disk is data
//! ```

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::store::{Saving, read, write_record};
use super::{Saved, SavedError, SavedRecord};
use crate::name::MachineName;
use crate::store::{MachineDir, atomic};

/// The version of `snapshot.json` that this program writes and reads.
const FORMAT: u32 = 1;
const RECORD: &str = "snapshot.json";

/// What is kept about a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotRecord {
    format: u32,
    /// When it was taken.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// The frozen disk.
    pub disk: PathBuf,
    /// What the caller keeps with it. This crate does not look inside.
    pub cluster: serde_json::Value,
}

impl SnapshotRecord {
    /// A record of now.
    pub fn new(disk: PathBuf, cluster: serde_json::Value) -> Self {
        Self {
            format: FORMAT,
            created: OffsetDateTime::now_utc(),
            disk,
            cluster,
        }
    }
}

/// A snapshot that can be gone back to.
#[derive(Debug)]
pub struct Snapshot {
    /// Its name.
    pub name: MachineName,
    /// What is kept about it.
    pub record: SnapshotRecord,
    /// Its memory, or why that cannot be used: then its disk boots cold.
    pub saved: Result<Saved, SavedError>,
    folder: PathBuf,
}

impl Snapshot {
    /// Bytes that it takes on the disk for itself: its memory, and what its disk has beyond the ones
    /// below it.
    pub fn disk_usage(&self) -> u64 {
        let own = ["pages", "ram", "stream", "devices"].map(|name| self.folder.join(name));
        let files = own.iter().chain([&self.record.disk]);
        let used = |path: &PathBuf| path.metadata().map_or(0, |meta| atomic::allocated(&meta));
        files.map(used).sum()
    }
}

/// All snapshots of one machine. Making a value touches nothing.
#[derive(Debug, Clone)]
pub struct Snapshots {
    folder: PathBuf,
}

impl Snapshots {
    /// The snapshots in the machine's folder.
    pub fn new(dir: &MachineDir) -> Self {
        Self {
            folder: dir.path().join("snapshots"),
        }
    }

    /// Whether there is one of this name, usable or not.
    pub fn exists(&self, name: &MachineName) -> bool {
        self.place(name).exists()
    }

    /// A folder to save in.
    pub fn begin(&self) -> Result<Saving, SavedError> {
        atomic::create_private_dirs(&self.folder)
            .map_err(SavedError::io("create", &self.folder))?;
        self.sweep()?;
        Saving::within(&self.folder)
    }

    /// Removes what was cut off while it was made or removed. The caller holds the machine's lock.
    fn sweep(&self) -> Result<(), SavedError> {
        let entries =
            std::fs::read_dir(&self.folder).map_err(SavedError::io("read", &self.folder))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                std::fs::remove_dir_all(&path).map_err(SavedError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Puts a snapshot in its place. It appears whole or not at all, and is on the disk then.
    pub fn publish(
        &self,
        saving: Saving,
        name: &MachineName,
        record: SnapshotRecord,
        saved: SavedRecord,
    ) -> Result<Snapshot, SavedError> {
        let path = saving.folder().join(RECORD);
        let bytes = serde_json::to_vec_pretty(&record)
            .map_err(|error| SavedError::io("write", &path)(error.into()))?;
        atomic::write(&path, &bytes).map_err(SavedError::io("write", &path))?;
        let mut saved = Saved {
            folder: saving.folder().to_owned(),
            record: saved,
        };
        write_record(&saved.folder, &saved.record)?;
        saved.make_durable()?;
        let place = self.place(name);
        std::fs::rename(&saved.folder, &place)
            .and_then(|()| atomic::sync_dir(&self.folder))
            .map_err(SavedError::io("create", &place))?;
        // Moved away: what is dropped now is not there any more.
        drop(saving);
        saved.folder.clone_from(&place);
        Ok(Snapshot {
            name: name.clone(),
            record,
            saved: Ok(saved),
            folder: place,
        })
    }

    /// A snapshot; `None` where there is none of this name.
    pub fn get(&self, name: &MachineName) -> Result<Option<Snapshot>, SavedError> {
        let folder = self.place(name);
        let path = folder.join(RECORD);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.exists() => {
                return Ok(None);
            }
            Err(error) => return Err(unusable(name, &error)),
        };
        let record: SnapshotRecord =
            serde_json::from_slice(&bytes).map_err(|error| unusable(name, &error))?;
        if record.format != FORMAT {
            return Err(unusable(name, &format!("it has format {}", record.format)));
        }
        if !record.disk.is_file() {
            return Err(unusable(
                name,
                &format!("{} is missing", record.disk.display()),
            ));
        }
        let saved = read(&folder).and_then(|saved| {
            saved.ok_or_else(|| SavedError::Unusable {
                reason: "it is missing".to_owned(),
            })
        });
        Ok(Some(Snapshot {
            name: name.clone(),
            record,
            saved,
            folder,
        }))
    }

    /// The names of all snapshots, usable or not.
    pub fn names(&self) -> Result<Vec<MachineName>, SavedError> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(SavedError::io("read", &self.folder)(error)),
        };
        let name = |entry: std::fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            MachineName::new(name).ok()
        };
        let mut names: Vec<MachineName> = entries.flatten().filter_map(name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Removes a snapshot. Its disk stays as long as something else is based on it.
    pub fn remove(&self, name: &MachineName) -> Result<(), SavedError> {
        let place = self.place(name);
        // First out of sight: a removal that is cut off leaves nothing that looks whole.
        let doomed = atomic::private_folder(&self.folder, ".removing-")
            .map_err(SavedError::io("create", &self.folder))?;
        let away = doomed.path().join("snapshot");
        std::fs::rename(&place, &away).map_err(SavedError::io("remove", &place))?;
        doomed.close().map_err(SavedError::io("remove", &away))
    }

    fn place(&self, name: &MachineName) -> PathBuf {
        self.folder.join(name.as_str())
    }
}

fn unusable(name: &MachineName, reason: &impl ToString) -> SavedError {
    SavedError::Snapshot {
        name: name.clone(),
        reason: reason.to_string(),
    }
}
