//! Templates on disk.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{DEVICES, RAM, Template, TemplateFiles, TemplateKey, TemplateRecord};
use crate::store::atomic;
use crate::store::cache::{self, DURABLE};

/// How long a template is used: certificates inside age with it.
pub const MOST_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How much all templates may take on the disk. Those that were used last stay.
pub const MOST_BYTES: u64 = 10 << 30;
/// Refusals of so many keys are about the host, not about a template.
const MANY_REFUSALS: usize = 2;
/// How long a template may take to be made before what is left of it counts as abandoned.
const ABANDONED: Duration = Duration::from_secs(3600);
pub(super) const RECORD: &str = "template.json";
const BAKING: &str = ".baking-";
const REFUSED: &str = ".refused-";
/// Its time of change is when the template was last used.
const USED: &str = "used";

/// Why a template cannot be used or kept.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// It is there, and must not be restored from.
    #[error("the template {} cannot be used: {reason}", key.short())]
    Unusable {
        /// Which.
        key: TemplateKey,
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

pub(super) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TemplateError {
    let path = path.to_owned();
    move |source| TemplateError::Io { what, path, source }
}

/// All templates of one home folder. Making a value touches nothing.
#[derive(Debug, Clone)]
pub struct Templates {
    folder: PathBuf,
}

/// A template that is being made. Dropped before it was published, it is removed.
#[derive(Debug)]
pub struct Incoming {
    folder: tempfile::TempDir,
}

impl Incoming {
    /// Where its files are put.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The files that the hypervisor writes.
    pub fn files(&self) -> TemplateFiles {
        TemplateFiles::in_folder(self.folder())
    }
}

impl Templates {
    /// The templates below `home`.
    pub fn new(home: &Path) -> Self {
        Self {
            folder: home.join("templates"),
        }
    }

    /// The template of a key, checked as far as is quick: format, age, sizes, disk, durability.
    /// `None` when there is none, or one that is too old.
    pub fn find(
        &self,
        key: &TemplateKey,
        now: OffsetDateTime,
    ) -> Result<Option<Template>, TemplateError> {
        let unusable = |reason: String| TemplateError::Unusable {
            key: key.clone(),
            reason,
        };
        if let Ok(reason) = std::fs::read_to_string(self.refused(key)) {
            return Err(unusable(reason.trim().to_owned()));
        }
        let folder = self.folder.join(key.as_str());
        let read = cache::read::<TemplateRecord>(&folder, RECORD);
        let Some(record) = read.map_err(unusable)? else {
            return Ok(None);
        };
        if now - record.created > MOST_AGE {
            return Ok(None);
        }
        cache::check_durable(&folder, &record.boot_id).map_err(unusable)?;
        for (name, expected) in [(RAM, record.ram_bytes), (DEVICES, record.devices_bytes)] {
            cache::check_size(&folder, name, expected).map_err(unusable)?;
        }
        if !record.disk.is_file() {
            return Err(unusable(format!("{} is missing", record.disk.display())));
        }
        Ok(Some(Template {
            key: key.clone(),
            folder,
            record,
        }))
    }

    /// A folder to make a template in.
    pub fn incoming(&self) -> Result<Incoming, TemplateError> {
        atomic::create_private_dirs(&self.folder).map_err(failed("create", &self.folder))?;
        let folder =
            atomic::private_folder(&self.folder, BAKING).map_err(failed("create", &self.folder))?;
        Ok(Incoming { folder })
    }

    /// Puts a template in its place, in place of an unusable one. It is not durable yet.
    pub fn publish(
        &self,
        incoming: Incoming,
        key: &TemplateKey,
        record: TemplateRecord,
    ) -> Result<Template, TemplateError> {
        let written = cache::write(incoming.folder(), RECORD, &record);
        written.map_err(failed("write", &incoming.folder().join(RECORD)))?;
        self.remove(key)?;
        let folder = self.folder.join(key.as_str());
        std::fs::rename(incoming.folder(), &folder).map_err(failed("create", &folder))?;
        // Moved away: what is dropped now is not there any more.
        drop(incoming);
        Ok(Template {
            key: key.clone(),
            folder,
            record,
        })
    }

    /// Writes a template to the disk and marks it so. Blocks for as long as that takes.
    pub fn make_durable(template: &Template) -> Result<(), TemplateError> {
        let marker = template.folder.join(DURABLE);
        if marker.exists() {
            return Ok(());
        }
        let files = template.files();
        for path in [&files.ram, &files.devices, &template.record.disk] {
            File::open(path)
                .and_then(|file| file.sync_all())
                .map_err(failed("write", path))?;
        }
        atomic::write(&marker, b"").map_err(failed("write", &marker))?;
        let parent = template.folder.parent().unwrap_or(&template.folder);
        atomic::sync_dir(parent).map_err(failed("write", parent))
    }

    /// Keeps clones of a key from being tried again, and removes its template. [`Self::forgive`]
    /// takes that back.
    pub fn refuse(&self, key: &TemplateKey, reason: &str) -> Result<(), TemplateError> {
        self.remove(key)?;
        let path = self.refused(key);
        atomic::write(&path, format!("{reason}\n").as_bytes()).map_err(failed("write", &path))
    }

    /// Whether clones of a key are not tried any more.
    pub fn is_refused(&self, key: &TemplateKey) -> bool {
        self.refused(key).exists()
    }

    /// Whether clones of several keys failed, so that there is no use in making more templates here.
    pub fn is_hopeless(&self) -> bool {
        let names = self.names().unwrap_or_default();
        let refusals = names.iter().filter(|name| name.starts_with(REFUSED));
        refusals.count() >= MANY_REFUSALS
    }

    /// Notes that a template is used now. One that nobody uses goes first when space is short.
    pub fn note_use(&self, template: &Template) -> Result<(), TemplateError> {
        let path = template.folder.join(USED);
        File::create(&path)
            .map(drop)
            .map_err(failed("write", &path))
    }

    /// Forgets all refusals; gives how many there were.
    pub fn forgive(&self) -> Result<usize, TemplateError> {
        let mut forgiven = 0;
        for name in self.names()? {
            if name.starts_with(REFUSED) {
                let path = self.folder.join(&name);
                atomic::remove(&path).map_err(failed("remove", &path))?;
                forgiven += 1;
            }
        }
        Ok(forgiven)
    }

    /// Removes a template. Machines that run from it keep their memory; none is lost.
    pub fn remove(&self, key: &TemplateKey) -> Result<(), TemplateError> {
        let folder = self.folder.join(key.as_str());
        let doomed = self
            .folder
            .join(format!("{BAKING}{}", Uuid::new_v4().simple()));
        match std::fs::rename(&folder, &doomed) {
            Ok(()) => std::fs::remove_dir_all(&doomed).map_err(failed("remove", &doomed)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("remove", &folder)(error)),
        }
    }

    /// All keys, with the template where it can be used, else why not.
    #[allow(clippy::type_complexity, reason = "a list of results with their names")]
    pub fn list(
        &self,
        now: OffsetDateTime,
    ) -> Result<Vec<(TemplateKey, Result<Option<Template>, TemplateError>)>, TemplateError> {
        let names = self.names()?;
        let keys = names.iter().filter_map(|name| TemplateKey::from_name(name));
        Ok(keys
            .map(|key| {
                let found = self.find(&key, now);
                (key, found)
            })
            .collect())
    }

    /// Removes what is too old, what cannot be used, what a crash left half made, and of the rest those
    /// that were not used for longest, until all together take `most` bytes.
    pub fn sweep(&self, now: OffsetDateTime, most: u64) -> Result<usize, TemplateError> {
        let mut removed = 0;
        let mut usable = Vec::new();
        for (key, found) in self.list(now)? {
            if let Ok(Some(template)) = found {
                usable.push(template);
            } else {
                self.remove(&key)?;
                removed += 1;
            }
        }
        usable.sort_by_key(|template| std::cmp::Reverse(template.last_used()));
        let mut bytes = 0;
        for template in usable {
            bytes += template.disk_usage();
            if bytes > most {
                self.remove(&template.key)?;
                removed += 1;
            }
        }
        for name in self.names()? {
            let path = self.folder.join(&name);
            let age = std::fs::metadata(&path)
                .and_then(|meta| meta.modified())
                .ok()
                .and_then(|time| time.elapsed().ok());
            if name.starts_with(BAKING) && age.is_some_and(|age| age > ABANDONED) {
                std::fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn names(&self) -> Result<Vec<String>, TemplateError> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", &self.folder)(error)),
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn refused(&self, key: &TemplateKey) -> PathBuf {
        self.folder.join(format!("{REFUSED}{key}"))
    }
}

impl Template {
    /// When a machine last began with it, or when it was made.
    fn last_used(&self) -> std::time::SystemTime {
        let used = std::fs::metadata(self.folder.join(USED)).and_then(|meta| meta.modified());
        used.unwrap_or_else(|_| self.record.created.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::boot_id;
    use crate::template::{Checked, FORMAT};
    use std::collections::BTreeMap;

    /// A template of half a mebibyte.
    fn add(templates: &Templates, disk: &Path, name: &str) -> Template {
        let incoming = templates.incoming().unwrap();
        let files = incoming.files();
        atomic::write(&files.ram, &vec![1; 512 << 10]).unwrap();
        atomic::write(&files.devices, b"devices").unwrap();
        let facts = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        let key = TemplateKey::of(&facts);
        let record = TemplateRecord {
            format: FORMAT,
            created: OffsetDateTime::now_utc(),
            boot_id: boot_id().unwrap_or_default(),
            ram_bytes: 512 << 10,
            devices_bytes: 7,
            disk: disk.to_owned(),
            facts,
            cluster: serde_json::Value::Null,
        };
        templates.publish(incoming, &key, record).unwrap()
    }

    /// A state folder that lasts as long as the first, its templates, and a frozen disk for them.
    fn fresh() -> (tempfile::TempDir, Templates, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let disk = home.path().join("disk");
        atomic::write(&disk, b"").unwrap();
        let templates = Templates::new(home.path());
        (home, templates, disk)
    }

    #[test]
    fn those_that_were_used_last_stay_when_space_is_short() {
        let (_home, templates, disk) = fresh();
        let made = ["one", "two", "three"].map(|name| add(&templates, &disk, name));
        let now = OffsetDateTime::now_utc();
        templates.note_use(&made[0]).unwrap();
        let later = std::time::SystemTime::now() + Duration::from_secs(5);
        let used = File::options()
            .write(true)
            .open(made[0].folder.join(USED))
            .unwrap();
        used.set_modified(later).unwrap();
        assert_eq!(templates.sweep(now, 4 << 20).unwrap(), 0);
        // Room for one and a half.
        assert_eq!(templates.sweep(now, 768 << 10).unwrap(), 2);
        assert!(templates.find(&made[0].key, now).unwrap().is_some());
        // Those that are too old go whatever there is.
        let in_a_month = now + MOST_AGE + Duration::from_secs(60);
        assert_eq!(templates.sweep(in_a_month, 4 << 20).unwrap(), 1);
        assert!(templates.find(&made[0].key, now).unwrap().is_none());
    }

    #[test]
    fn what_must_not_be_restored_from_is_said() {
        let (_home, templates, disk) = fresh();
        let made = add(&templates, &disk, "one");
        let now = OffsetDateTime::now_utc();
        let why = || match templates.find(&made.key, now) {
            Err(TemplateError::Unusable { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        let path = made.folder.join(RECORD);
        let text = std::fs::read_to_string(&path).unwrap();
        let write = |text: &str| atomic::write(&path, text.as_bytes()).unwrap();
        write(&text.replace("\"format\": 1", "\"format\": 2"));
        assert!(why().contains("format 2"));
        write(&text[..text.len() / 2]);
        assert!(why().contains("damaged"));
        write(&text.replace(&made.record.boot_id, "an earlier boot"));
        assert!(why().contains("went down before"));
        Templates::make_durable(&made).unwrap();
        assert!(templates.find(&made.key, now).unwrap().is_some());
        write(&text);
        let ram = made.files().ram;
        atomic::write(&ram, b"cut off").unwrap();
        assert!(why().contains("ram has 7 bytes"));
        atomic::write(&ram, &vec![1; 512 << 10]).unwrap();
        assert!(templates.find(&made.key, now).unwrap().is_some());
        std::fs::remove_file(&disk).unwrap();
        assert!(why().contains("is missing"));
        assert_eq!(templates.sweep(now, MOST_BYTES).unwrap(), 1);
        assert!(templates.find(&made.key, now).unwrap().is_none());
    }

    #[test]
    fn digests_are_noted_in_the_boot_that_made_it_and_tell_damage() {
        let (_home, templates, disk) = fresh();
        let made = add(&templates, &disk, "one");
        let mut later = made.clone();
        later.record.boot_id = "a later boot".to_owned();
        later.note_digests().unwrap();
        assert_eq!(made.check_digests().unwrap(), Checked::NotNoted);
        // One that is not there any more, but another of its key.
        let mut former = made.clone();
        former.record.created -= Duration::from_secs(1);
        former.note_digests().unwrap();
        assert_eq!(made.check_digests().unwrap(), Checked::NotNoted);
        made.note_digests().unwrap();
        assert_eq!(made.check_digests().unwrap(), Checked::Whole);
        atomic::write(&disk, b"other").unwrap();
        let error = made.check_digests().unwrap_err().to_string();
        assert!(error.contains("clusters that began with it"), "{error}");
        atomic::write(&disk, b"").unwrap();
        let mut ram = vec![1; 512 << 10];
        ram[70_000] = 2;
        atomic::write(&made.files().ram, &ram).unwrap();
        let error = made.check_digests().unwrap_err().to_string();
        assert!(error.contains("ram is not what was written"), "{error}");
    }

    #[test]
    fn a_host_where_clones_of_several_keys_failed_is_hopeless_until_forgiven() {
        let (_home, templates, disk) = fresh();
        for name in ["one", "two"] {
            assert!(!templates.is_hopeless());
            let made = add(&templates, &disk, name);
            templates.refuse(&made.key, "it broke").unwrap();
            assert!(templates.is_refused(&made.key));
        }
        assert!(templates.is_hopeless());
        assert_eq!(templates.forgive().unwrap(), 2);
        assert!(!templates.is_hopeless());
    }
}
