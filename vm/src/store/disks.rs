//! Frozen disks: `HOME/disks/ID/data.qcow2`, read-only, which the disks of machines begin with.
//!
//! A frozen disk is data: a machine that names it as its base cannot run without it. It is removed
//! when nothing names it any more.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use super::{StoreError, atomic, qcow2};

/// All frozen disks of one home folder. Making a value touches nothing.
#[derive(Debug, Clone)]
pub struct Disks {
    folder: PathBuf,
    /// Until this age a disk may be waiting for its name to be written.
    youth: Duration,
}

impl Disks {
    /// The frozen disks below `home`.
    pub fn new(home: &Path) -> Self {
        Self {
            folder: home.join("disks"),
            youth: Duration::from_secs(3600),
        }
    }

    /// Takes a disk that nothing writes any more, and gives its new path. Its old one is free.
    pub fn freeze(&self, disk: &Path) -> Result<PathBuf, StoreError> {
        let frozen = self.place_for(disk)?;
        set_read_only(disk).map_err(StoreError::io("change", disk))?;
        std::fs::rename(disk, &frozen).map_err(StoreError::io("move", disk))?;
        self.sync(&frozen)?;
        Ok(frozen)
    }

    /// A new place among the frozen disks, in a folder that is there.
    fn place_for(&self, disk: &Path) -> Result<PathBuf, StoreError> {
        let folder = self.folder.join(Uuid::new_v4().simple().to_string());
        atomic::create_private_dirs(&folder).map_err(StoreError::io("create", &folder))?;
        Ok(folder.join(disk.file_name().unwrap_or_default()))
    }

    /// Makes the name of a frozen disk survive a loss of power.
    fn sync(&self, frozen: &Path) -> Result<(), StoreError> {
        for changed in [frozen.parent().unwrap_or(frozen), &self.folder] {
            atomic::sync_dir(changed).map_err(StoreError::io("write", changed))?;
        }
        Ok(())
    }

    /// Gives a disk that is still written a second name among the frozen ones. It is not frozen before
    /// [`seal`](Self::seal), and is nobody's as long as nothing names it.
    pub fn link(&self, disk: &Path) -> Result<PathBuf, StoreError> {
        let frozen = self.place_for(disk)?;
        std::fs::hard_link(disk, &frozen).map_err(StoreError::io("link", disk))?;
        self.sync(&frozen)?;
        Ok(frozen)
    }

    /// Makes a disk that nothing writes any more read-only.
    pub fn seal(&self, frozen: &Path) -> Result<(), StoreError> {
        set_read_only(frozen).map_err(StoreError::io("change", frozen))
    }

    /// What a disk needs below it, from the next layer to the lowest, as the disks themselves say.
    pub fn chain(&self, disk: &Path) -> Result<Vec<PathBuf>, StoreError> {
        let mut chain: Vec<PathBuf> = Vec::new();
        let mut above = disk.to_owned();
        while let Some(below) = below(&above).map_err(StoreError::io("read", &above))? {
            // A disk below itself would have no end.
            if chain.contains(&below) {
                break;
            }
            above.clone_from(&below);
            chain.push(below);
        }
        Ok(chain)
    }

    /// Removes all frozen disks but these, and those so young that what will name them may not be
    /// written yet; gives how many.
    pub fn keep_only(&self, named: &BTreeSet<PathBuf>) -> Result<usize, StoreError> {
        let folders = match std::fs::read_dir(&self.folder) {
            Ok(folders) => folders,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(StoreError::io("read", &self.folder)(error)),
        };
        let mut removed = 0;
        for folder in folders.flatten() {
            let folder = folder.path();
            let age = folder
                .metadata()
                .and_then(|meta| meta.modified())
                .ok()
                .and_then(|time| time.elapsed().ok());
            let named = named.iter().any(|disk| disk.starts_with(&folder));
            if !named && age.is_some_and(|age| age > self.youth) {
                std::fs::remove_dir_all(&folder).map_err(StoreError::io("remove", &folder))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn below(disk: &Path) -> io::Result<Option<PathBuf>> {
    Ok(qcow2::Header::read(disk)?.and_then(|header| header.base))
}

fn set_read_only(path: &Path) -> io::Result<()> {
    let mut permissions = std::fs::metadata(path)?.permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(path, permissions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_disk_stays_as_long_as_it_is_named() {
        let home = tempfile::tempdir().unwrap();
        let mut disks = Disks::new(home.path());
        let own = home.path().join("data.qcow2");
        let mut frozen = BTreeSet::new();
        for content in ["one", "two"] {
            atomic::write(&own, content.as_bytes()).unwrap();
            frozen.insert(disks.freeze(&own).unwrap());
        }
        assert!(!own.exists());
        assert!(
            frozen
                .iter()
                .all(|disk| disk.metadata().unwrap().permissions().readonly())
        );
        assert_eq!(disks.keep_only(&frozen).unwrap(), 0);
        let kept = frozen.pop_first().unwrap();
        assert_eq!(
            disks.keep_only(&[kept.clone()].into()).unwrap(),
            0,
            "it is young"
        );
        disks.youth = Duration::ZERO;
        assert_eq!(disks.keep_only(&[kept.clone()].into()).unwrap(), 1);
        assert!(kept.is_file() && !frozen.pop_first().unwrap().exists());
    }
}
