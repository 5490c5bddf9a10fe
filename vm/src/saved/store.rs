//! The saved states of one machine on disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{DiskMark, FORMAT, Kept, Saved, SavedError, SavedFiles, SavedRecord};
use crate::host::boot_id;
use crate::spec::MachineSpec;
use crate::store::MachineDir;
use crate::store::atomic::{self, remove_dir};
use crate::store::cache::{self, DURABLE};
use crate::template::TemplateFiles;

const RECORD: &str = "save.json";
const DEVICES: &str = "devices";
const SAVING: &str = ".saving-";
const SPENT: &str = ".spent-";
const RESERVE: &str = "reserve";
/// Far more than a record takes.
const ROOM: usize = 64 << 10;

/// The saved states in one machine's folder. Making a value touches nothing.
#[derive(Debug, Clone)]
pub struct Saves {
    folder: PathBuf,
}

/// A state that is being saved. Dropped before it was published, it is removed.
#[derive(Debug)]
pub struct Saving {
    folder: tempfile::TempDir,
}

impl Saving {
    /// A new folder within another.
    pub(super) fn within(folder: &Path) -> Result<Self, SavedError> {
        let made = atomic::private_folder(folder, SAVING);
        made.map(|folder| Self { folder })
            .map_err(SavedError::io("create", folder))
    }

    /// Where its files are put.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where its parts are.
    pub fn files(&self) -> SavedFiles {
        SavedFiles::in_folder(self.folder())
    }

    /// Takes the room that the record will need. [`Saves::publish`] gives it back first.
    pub fn reserve(&self) -> Result<(), SavedError> {
        let path = self.folder().join(RESERVE);
        File::create_new(&path)
            .and_then(|mut file| io::Write::write_all(&mut file, &[1; ROOM]))
            .map_err(SavedError::io("write", &path))
    }

    /// What is to be kept about it, as of now. It fits to no disk yet.
    pub fn record(
        &self,
        kept: Kept,
        host: BTreeMap<String, String>,
    ) -> Result<SavedRecord, SavedError> {
        Ok(SavedRecord {
            format: FORMAT,
            created: time::OffsetDateTime::now_utc(),
            boot_id: boot_id().unwrap_or_default(),
            kept,
            files: sizes(self.folder(), kept)?,
            devices_digest: devices_digest(self.folder(), kept)?,
            disks: Vec::new(),
            host,
        })
    }
}

impl Saves {
    /// The states that are saved in the machine's own folder.
    pub fn new(dir: &MachineDir) -> Self {
        Self {
            folder: dir.path().to_owned(),
        }
    }

    fn place(&self) -> PathBuf {
        self.folder.join("save")
    }

    /// What the machine's memory went on from at its last launch; `None` after a boot.
    pub fn base(&self) -> Option<TemplateFiles> {
        let files = SavedFiles::in_folder(&self.folder).base();
        (files.ram.is_file() && files.devices.is_file()).then_some(files)
    }

    /// Makes files the ones that the machine's memory goes on from, by hard links. An error where the
    /// file system has none.
    pub fn set_base(&self, files: &TemplateFiles) -> io::Result<TemplateFiles> {
        let made = self
            .folder
            .join(format!("{SAVING}{}", Uuid::new_v4().simple()));
        let linked = link_base(files, &made).and_then(|()| self.put_base(&made));
        if linked.is_err() {
            // The first error is the one to tell; the rest is swept at the next launch.
            let _ = std::fs::remove_dir_all(&made);
        }
        linked
    }

    fn put_base(&self, made: &Path) -> io::Result<TemplateFiles> {
        let place = self.folder.join("base");
        remove_dir(&place)?;
        std::fs::rename(made, &place)?;
        Ok(TemplateFiles::in_folder(&place))
    }

    /// Removes what a boot makes invalid: every saved state, and what it would have gone on from.
    pub fn forget(&self) -> Result<(), SavedError> {
        self.discard()?;
        let base = self.folder.join("base");
        remove_dir(&base).map_err(SavedError::io("remove", &base))
    }

    /// Removes the saved state, and what was cut off while it was made or used.
    pub fn discard(&self) -> Result<(), SavedError> {
        let mut doomed = vec![self.place()];
        let entries =
            std::fs::read_dir(&self.folder).map_err(SavedError::io("read", &self.folder))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(SAVING) || name.starts_with(SPENT) {
                doomed.push(entry.path());
            }
        }
        for folder in doomed {
            remove_dir(&folder).map_err(SavedError::io("remove", &folder))?;
        }
        Ok(())
    }

    /// A folder to save in. What an earlier attempt left is removed.
    pub fn begin(&self) -> Result<Saving, SavedError> {
        self.discard()?;
        Saving::within(&self.folder)
    }

    /// Puts a saved state in its place. The machine is off, and its disks as they are fit to it.
    pub fn publish(
        &self,
        saving: Saving,
        record: SavedRecord,
        spec: &MachineSpec,
    ) -> Result<Saved, SavedError> {
        let reserve = saving.folder().join(RESERVE);
        atomic::remove(&reserve).map_err(SavedError::io("remove", &reserve))?;
        let record = SavedRecord {
            disks: marks(spec)?,
            ..record
        };
        let place = self.place();
        publish(saving.folder(), &place, &record)?;
        // Moved away: what is dropped now is not there any more.
        drop(saving);
        Ok(Saved {
            folder: place,
            record,
        })
    }

    /// Makes a saved state of another folder this machine's own, by hard links. `spec` is this
    /// machine's, with disks that hold what they held then.
    pub fn adopt(&self, other: &Saved, spec: &MachineSpec) -> Result<Saved, SavedError> {
        let saving = self.begin()?;
        link_saved(other, saving.folder())?;
        self.publish(saving, other.record.clone(), spec)
    }

    /// The saved state, checked as far as is quick: format, sizes, durability, and that the machine's
    /// disks and its host are still the same. `None` when there is none.
    pub fn find(&self, host: &BTreeMap<String, String>) -> Result<Option<Saved>, SavedError> {
        let found = self.present()?;
        if let Some(saved) = &found {
            check_host(saved, host)?;
        }
        Ok(found)
    }

    /// As [`find`](Self::find), for somebody who knows that the host is the same.
    pub fn present(&self) -> Result<Option<Saved>, SavedError> {
        let Some(saved) = read(&self.place())? else {
            return Ok(None);
        };
        for disk in &saved.record.disks {
            let now = DiskMark::of(&disk.path);
            if !now.is_ok_and(|now| now == *disk) {
                return Err(unusable(format!(
                    "{} was changed after it",
                    disk.path.display()
                )));
            }
        }
        Ok(Some(saved))
    }

    /// Whether a state is saved, usable or not.
    pub fn is_there(&self) -> bool {
        self.place().exists()
    }

    /// Makes the saved state invalid, for good, and keeps what the machine's memory goes on from.
    /// After that its guest may run.
    pub(crate) fn spend(&self, saved: &Saved) -> Result<(), SavedError> {
        let spent = self
            .folder
            .join(format!("{SPENT}{}", Uuid::new_v4().simple()));
        std::fs::rename(&saved.folder, &spent).map_err(SavedError::io("move", &saved.folder))?;
        atomic::sync_dir(&self.folder).map_err(SavedError::io("write", &self.folder))?;
        // It is spent. What follows is about the next save, and the guest does not wait for that.
        let kept = match saved.record.kept {
            Kept::Pages => self.put_base(&spent.join("base")).map(drop),
            Kept::Whole => {
                let whole = SavedFiles::in_folder(&spent).whole();
                self.set_base(&whole).map(drop)
            }
            Kept::Stream | Kept::MappedStream | Kept::Held => remove_dir(&self.folder.join("base")),
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "the next save will hold all memory");
            // A base that is not this machine's must not be taken for it.
            let base = self.folder.join("base");
            remove_dir(&base).map_err(SavedError::io("remove", &base))?;
        }
        if let Err(error) = remove_dir(&spent) {
            tracing::warn!(%error, "a spent state is left behind");
        }
        Ok(())
    }
}

/// The saved state in a folder, checked by itself: format, sizes, durability.
pub(super) fn read(folder: &Path) -> Result<Option<Saved>, SavedError> {
    let Some(record) = cache::read::<SavedRecord>(folder, RECORD).map_err(unusable)? else {
        return Ok(None);
    };
    cache::check_durable(folder, &record.boot_id).map_err(unusable)?;
    for (name, expected) in &record.files {
        cache::check_size(folder, name, *expected).map_err(unusable)?;
    }
    if devices_digest(folder, record.kept)? != record.devices_digest {
        return Err(unusable(format!("its file {DEVICES} was changed")));
    }
    Ok(Some(Saved {
        folder: folder.to_owned(),
        record,
    }))
}

fn check_host(saved: &Saved, host: &BTreeMap<String, String>) -> Result<(), SavedError> {
    let then = &saved.record.host;
    let names = then.keys().chain(host.keys());
    match names
        .into_iter()
        .find(|name| then.get(*name) != host.get(*name))
    {
        Some(name) => Err(unusable(format!(
            "this host's {name} is not what it was then"
        ))),
        None => Ok(()),
    }
}

impl Saved {
    /// Writes all of it to the disk and marks it so. Blocks for as long as that takes.
    pub fn make_durable(&self) -> Result<(), SavedError> {
        for name in self.record.files.keys() {
            let path = self.folder.join(name);
            File::open(&path)
                .and_then(|file| file.sync_all())
                .map_err(SavedError::io("write", &path))?;
        }
        atomic::sync_dir(&self.folder).map_err(SavedError::io("write", &self.folder))?;
        // Another state may have taken this one's place meanwhile.
        if read(&self.folder)?.as_ref() != Some(self) {
            return Err(unusable("it is not there any more".to_owned()));
        }
        let marker = self.folder.join(DURABLE);
        atomic::write(&marker, b"").map_err(SavedError::io("write", &marker))?;
        let parent = self.folder.parent().unwrap_or(&self.folder);
        atomic::sync_dir(parent).map_err(SavedError::io("write", parent))
    }
}

fn publish(folder: &Path, place: &Path, record: &SavedRecord) -> Result<(), SavedError> {
    write_record(folder, record)?;
    std::fs::rename(folder, place).map_err(SavedError::io("create", place))
}

pub(super) fn write_record(folder: &Path, record: &SavedRecord) -> Result<(), SavedError> {
    let written = cache::write(folder, RECORD, record);
    written.map_err(SavedError::io("write", &folder.join(RECORD)))
}

/// The names of the files that a state has when it is kept so.
fn names(kept: Kept) -> &'static [&'static str] {
    match kept {
        Kept::Pages => &[DEVICES, "pages", "base/ram", "base/devices"],
        Kept::Whole => &[DEVICES, "ram"],
        Kept::Stream | Kept::MappedStream => &["stream"],
        Kept::Held => &[],
    }
}

fn sizes(folder: &Path, kept: Kept) -> Result<BTreeMap<String, u64>, SavedError> {
    let size = |name: &&str| {
        let path = folder.join(name);
        let meta = std::fs::metadata(&path).map_err(SavedError::io("read", &path))?;
        Ok(((*name).to_owned(), meta.len()))
    };
    names(kept).iter().map(size).collect()
}

/// Of the file of the devices, where it is not a part of another one: less than a megabyte.
fn devices_digest(folder: &Path, kept: Kept) -> Result<Option<String>, SavedError> {
    if !names(kept).contains(&DEVICES) {
        return Ok(None);
    }
    let path = folder.join(DEVICES);
    let bytes = std::fs::read(&path).map_err(SavedError::io("read", &path))?;
    Ok(Some(hex::encode(Sha256::digest(bytes))))
}

fn marks(spec: &MachineSpec) -> Result<Vec<DiskMark>, SavedError> {
    let written = spec.disks.iter().filter(|disk| !disk.read_only);
    written
        .map(|disk| DiskMark::of(&disk.path).map_err(SavedError::io("read", &disk.path)))
        .collect()
}

/// The parts of a saved state under new names.
fn link_saved(saved: &Saved, to: &Path) -> Result<(), SavedError> {
    for name in saved.record.files.keys() {
        let link = to.join(name);
        let folder = link.parent().unwrap_or(to);
        atomic::create_private_dirs(folder)
            .and_then(|()| std::fs::hard_link(saved.folder.join(name), &link))
            .map_err(SavedError::io("link", &link))?;
    }
    if saved.folder.join(DURABLE).exists() {
        let marker = to.join(DURABLE);
        File::create(&marker).map_err(SavedError::io("create", &marker))?;
    }
    Ok(())
}

/// The files of a base under new names, in a folder that is made.
pub(crate) fn link_base(files: &TemplateFiles, to: &Path) -> io::Result<()> {
    let links = TemplateFiles::in_folder(to);
    atomic::create_private_dirs(to)?;
    std::fs::hard_link(&files.ram, &links.ram)?;
    std::fs::hard_link(&files.devices, &links.devices)?;
    match std::fs::hard_link(files.working_set(), links.working_set()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn unusable(reason: String) -> SavedError {
    SavedError::Unusable { reason }
}
