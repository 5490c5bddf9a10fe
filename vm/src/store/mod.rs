//! Machines on disk.
//!
//! ```text
//! HOME/machines/NAME/            0700
//!   machine.json                 the record: what the machine is (format 1)
//!   data.qcow2  seed.img         its own disks
//!   serial.log  qemu.log         its console and its hypervisor's messages, .old of the launch before
//!   qemu.pid                     written by the hypervisor
//!   identity/                    secrets, owned by the caller
//! HOME/machines/.locks/NAME          held while somebody changes the machine
//! HOME/machines/.locks/.NAME.holder  who holds it
//! HOME/machines/.deleting-NAME-ID/   being removed; the next sweep goes on with it
//! RUNTIME/NAME-HASH.ROLE         sockets
//! ```
//!
//! The lock is not in the machine's folder: two programs that create one machine need it before the
//! folder is there, and Windows does not move a folder that holds an open file. Files other than
//! disks and logs are written beside their place and then moved, so that a reader sees the whole of
//! the old one or the whole of the new one, after a loss of power too.

pub mod atomic;
pub(crate) mod cache;
mod dir;
mod disks;
mod lock;
pub mod qcow2;
mod record;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

pub(crate) use dir::beginning_with;
pub use dir::{MachineDir, SOCKET_PATH_LIMIT, SocketPathTooLong};
pub use disks::Disks;
pub use lock::{Holder, MachineLock};
pub use record::{FORMAT, Record};

use crate::name::MachineName;

/// How the folder of a machine that is being removed begins.
const DELETING: &str = ".deleting-";

/// All machines of one home folder. Making a `Store` touches nothing.
#[derive(Debug, Clone)]
pub struct Store {
    home: PathBuf,
    runtime_dir: PathBuf,
}

/// One machine, as a list shows it.
#[derive(Debug)]
pub enum Entry {
    /// Its record can be read.
    Whole(Box<Record>),
    /// There is a folder, and its record cannot be used. It can be deleted.
    Broken {
        /// The folder's name.
        name: MachineName,
        /// Why, as a part of a sentence.
        reason: String,
    },
}

impl Entry {
    /// The machine's name.
    pub fn name(&self) -> &MachineName {
        match self {
            Self::Whole(record) => &record.spec.name,
            Self::Broken { name, .. } => name,
        }
    }
}

/// What went wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such machine.
    #[error("there is no machine \"{name}\"")]
    NotFound {
        /// The name.
        name: MachineName,
    },
    /// There is one already.
    #[error("there is a machine \"{existing}\" already")]
    Exists {
        /// Its name, which may differ from the one asked for in upper and lower case.
        existing: MachineName,
    },
    /// The machine is there, and its record cannot be used.
    #[error("the machine \"{name}\" is broken: {reason}")]
    Broken {
        /// The name.
        name: MachineName,
        /// Why, as a part of a sentence.
        reason: String,
    },
    /// Another program is changing the machine.
    #[error("the machine \"{name}\" is being changed by {holder}")]
    Locked {
        /// The name.
        name: MachineName,
        /// Who holds the lock.
        holder: Holder,
        /// How long was waited.
        limit: Duration,
    },
    /// A lock was given that is not this machine's.
    #[error("the lock of \"{locked}\" does not cover \"{asked}\"")]
    WrongLock {
        /// What the lock covers.
        locked: MachineName,
        /// What was asked for.
        asked: MachineName,
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

impl StoreError {
    /// Adds to an error what was tried, with which file.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

impl Store {
    /// The store below `home`; sockets go to `runtime_dir`. Both are absolute.
    pub fn new(home: impl Into<PathBuf>, runtime_dir: impl Into<PathBuf>) -> Self {
        Self {
            home: home.into(),
            runtime_dir: runtime_dir.into(),
        }
    }

    /// The folder that holds the machines' folders.
    pub fn machines_dir(&self) -> PathBuf {
        self.home.join("machines")
    }

    /// Where a machine's files are, whether or not it exists.
    pub fn machine_dir(&self, name: &MachineName) -> MachineDir {
        MachineDir::new(
            name.clone(),
            self.machines_dir().join(name.as_str()),
            &self.runtime_dir,
        )
    }

    /// Whether there is a folder of that name, broken or whole.
    pub fn exists(&self, name: &MachineName) -> bool {
        self.machine_dir(name).path().is_dir()
    }

    /// All machines by name, broken ones too.
    pub fn list(&self) -> Result<Vec<Entry>, StoreError> {
        let names = self.names()?;
        let mut entries: Vec<Entry> = names
            .into_iter()
            .filter_map(|name| self.find(&name).transpose())
            .collect::<Result<_, _>>()?;
        entries.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(entries)
    }

    /// The names of all folders that can be machines.
    fn names(&self) -> Result<Vec<MachineName>, StoreError> {
        let machines = self.machines_dir();
        let folders = match std::fs::read_dir(&machines) {
            Ok(folders) => folders,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StoreError::io("read", &machines)(error)),
        };
        let mut names = Vec::new();
        for folder in folders {
            let folder = folder.map_err(StoreError::io("read", &machines))?;
            let name = folder
                .file_name()
                .to_str()
                .and_then(|name| MachineName::new(name).ok());
            if let Some(name) = name.filter(|_| folder.path().is_dir()) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// One machine, broken or whole; `None` if there is no folder.
    pub fn find(&self, name: &MachineName) -> Result<Option<Entry>, StoreError> {
        match self.get(name) {
            Ok(record) => Ok(Some(Entry::Whole(Box::new(record)))),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(StoreError::Broken { name, reason }) => Ok(Some(Entry::Broken { name, reason })),
            Err(error) => Err(error),
        }
    }

    /// The record of a machine that must be there and whole.
    pub fn get(&self, name: &MachineName) -> Result<Record, StoreError> {
        let dir = self.machine_dir(name);
        let broken = |reason: String| StoreError::Broken {
            name: name.clone(),
            reason,
        };
        let bytes = match std::fs::read(dir.record()) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(match dir.path().is_dir() {
                    true => broken("machine.json is missing".to_owned()),
                    false => StoreError::NotFound { name: name.clone() },
                });
            }
            Err(error) => return Err(broken(format!("machine.json cannot be read: {error}"))),
        };
        let record = Record::read(&bytes).map_err(|error| broken(error.to_string()))?;
        if record.spec.name != *name {
            return Err(broken(format!(
                "machine.json is of the machine \"{}\"",
                record.spec.name
            )));
        }
        Ok(record)
    }

    /// Takes the machine's lock, whether or not it exists yet. Waits `limit` at most; then the error
    /// names the holder. `command` is what this program tells about itself to others.
    pub async fn lock(
        &self,
        name: &MachineName,
        command: &str,
        limit: Duration,
    ) -> Result<MachineLock, StoreError> {
        let locks = self.machines_dir().join(".locks");
        atomic::create_private_dirs(&locks).map_err(StoreError::io("create", &locks))?;
        MachineLock::take(&locks, name, command, limit).await
    }

    /// Makes a machine's folder with its record. The machine is there whole or not at all.
    pub fn create(&self, lock: &MachineLock, record: &Record) -> Result<MachineDir, StoreError> {
        let name = &record.spec.name;
        covers(lock, name)?;
        if let Some(existing) = self
            .names()?
            .into_iter()
            .find(|existing| existing.same_folder(name))
        {
            return Err(StoreError::Exists { existing });
        }
        let dir = self.machine_dir(name);
        let staging = self
            .machines_dir()
            .join(format!("{DELETING}{name}-{}", Uuid::new_v4().simple()));
        atomic::create_private_dirs(&staging.join("identity"))
            .map_err(StoreError::io("create", &staging))?;
        let made = atomic::write(&staging.join(dir::RECORD), &record.to_bytes())
            .and_then(|()| std::fs::rename(&staging, dir.path()))
            .and_then(|()| atomic::sync_dir(&self.machines_dir()));
        if let Err(error) = made {
            // What could not be made whole is swept later; the first error is the one to tell.
            let _ = std::fs::remove_dir_all(&staging);
            return Err(StoreError::io("create", dir.path())(error));
        }
        Ok(dir)
    }

    /// Replaces the record of a machine.
    pub fn save(&self, lock: &MachineLock, record: &Record) -> Result<(), StoreError> {
        covers(lock, &record.spec.name)?;
        let dir = self.machine_dir(&record.spec.name);
        if !dir.path().is_dir() {
            return Err(StoreError::NotFound {
                name: record.spec.name.clone(),
            });
        }
        atomic::write(&dir.record(), &record.to_bytes())
            .map_err(StoreError::io("write", &dir.record()))
    }

    /// Removes a machine with all its files, whole or broken, and its lock. The caller has ended its
    /// processes. A machine that is not there is no error.
    pub fn delete(&self, lock: MachineLock) -> Result<(), StoreError> {
        let dir = self.machine_dir(lock.name());
        let doomed = self.machines_dir().join(format!(
            "{DELETING}{}-{}",
            lock.name(),
            Uuid::new_v4().simple()
        ));
        match std::fs::rename(dir.path(), &doomed) {
            Ok(()) => {
                atomic::sync_dir(&self.machines_dir())
                    .map_err(StoreError::io("write", &self.machines_dir()))?;
                std::fs::remove_dir_all(&doomed).map_err(StoreError::io("remove", &doomed))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::io("remove", dir.path())(error)),
        }
        dir.remove_sockets()
            .map_err(StoreError::io("remove sockets in", &self.runtime_dir))?;
        lock.remove();
        Ok(())
    }

    /// Goes on with removals (and creations) that were cut off. Gives how many there were. What
    /// another program is working on at this moment is left to it.
    pub async fn sweep(&self) -> Result<usize, StoreError> {
        let machines = self.machines_dir();
        let Ok(folders) = std::fs::read_dir(&machines) else {
            return Ok(0);
        };
        let mut swept = 0;
        for folder in folders.flatten() {
            let file_name = folder.file_name();
            let name = file_name
                .to_str()
                .and_then(|name| name.strip_prefix(DELETING)?.rsplit_once('-'));
            let Some(name) = name.and_then(|(name, _)| MachineName::new(name).ok()) else {
                continue;
            };
            let Ok(lock) = self.lock(&name, "sweep", Duration::ZERO).await else {
                continue;
            };
            match std::fs::remove_dir_all(folder.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", &folder.path())(error));
                }
                _ => swept += 1,
            }
            if self.exists(&name) {
                drop(lock);
            } else {
                lock.remove();
            }
        }
        Ok(swept)
    }
}

/// Checks that a lock is the one of the machine to be changed.
fn covers(lock: &MachineLock, name: &MachineName) -> Result<(), StoreError> {
    if lock.name() == name {
        return Ok(());
    }
    Err(StoreError::WrongLock {
        locked: lock.name().clone(),
        asked: name.clone(),
    })
}

#[cfg(test)]
mod tests;
