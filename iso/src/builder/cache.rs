//! Parts on disk: `CACHE/parts/HEX/`, HEX being the hash of what the part is made from.
//!
//! Its modification time is that of the last build that used the part: what no build used for
//! [`UNUSED`] is removed. `part.json` lists the part's files with size and SHA-256. A part appears by a rename, so it is
//! whole or absent. What is found is believed by name; before something is made from a part's
//! file, the file is compared with its digest.

use super::command::Work;
use super::{BuildError, key::files_below};
use crate::files::{remove_all, write_atomic};
use crate::{BuildObserver, Digest, FileLock, Step};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

const RECORD: &str = "part.json";
/// Longest wait for another build with the same cache.
const LOCK_LIMIT: Duration = Duration::from_secs(30 * 60);
/// A part that no build used for so long is removed.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// The cache of one build.
pub(crate) struct Cache<'a> {
    folder: PathBuf,
    observer: &'a dyn BuildObserver,
    _lock: FileLock,
}

/// A part whose files are there.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    folder: PathBuf,
    record: Record,
    /// Hash of the part's content (names, sizes, digests of its files).
    pub(crate) digest: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    files: BTreeMap<String, FileRecord>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRecord {
    size: u64,
    sha256: Digest,
}

impl<'a> Cache<'a> {
    /// Opens the cache and keeps others out until it is dropped.
    pub(crate) fn open(folder: &Path, observer: &'a dyn BuildObserver) -> Result<Self, BuildError> {
        let lock = FileLock::acquire(&folder.join("lock"), LOCK_LIMIT)?;
        let cache = Self {
            folder: folder.to_owned(),
            observer,
            _lock: lock,
        };
        for folder in [cache.parts(), cache.work()] {
            fs::create_dir_all(&folder).map_err(BuildError::io(&folder))?;
        }
        Ok(cache)
    }

    fn parts(&self) -> PathBuf {
        self.folder.join("parts")
    }

    fn work(&self) -> PathBuf {
        self.folder.join("work")
    }

    /// A folder for things that are kept between builds but are not parts (compiler caches).
    pub(crate) fn scratch(&self, name: &str) -> Result<PathBuf, BuildError> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).map_err(BuildError::io(&folder))?;
        Ok(folder)
    }

    /// A temporary folder on the same file system.
    pub(crate) fn temporary(&self) -> Result<tempfile::TempDir, BuildError> {
        tempfile::tempdir_in(self.work()).map_err(BuildError::io(self.work()))
    }

    pub(crate) fn observer(&self) -> &'a dyn BuildObserver {
        self.observer
    }

    /// The part with this key if it is there, with all its files in their sizes.
    pub(crate) fn find(&self, key: &Digest) -> Option<Made> {
        let folder = self.parts().join(key.hex());
        let bytes = fs::read(folder.join(RECORD)).ok()?;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        let whole = record.files.iter().all(|(name, file)| {
            fs::metadata(folder.join(name)).is_ok_and(|meta| meta.len() == file.size)
        });
        if !whole {
            return None;
        }
        // A cache that cannot be written still serves what is in it.
        let _ = File::options()
            .append(true)
            .open(folder.join(RECORD))
            .and_then(|file| file.set_modified(SystemTime::now()));
        Some(Made {
            folder,
            record,
            digest: Digest::of(&bytes),
        })
    }

    /// Removes the parts that no build used within [`UNUSED`] before `now`, and gives how many.
    pub(crate) fn forget_unused(&self, now: SystemTime) -> Result<usize, BuildError> {
        let parts = self.parts();
        let mut removed = 0;
        for entry in fs::read_dir(&parts).map_err(BuildError::io(&parts))? {
            let folder = entry.map_err(BuildError::io(&parts))?.path();
            let used = fs::metadata(folder.join(RECORD)).and_then(|meta| meta.modified());
            let unused =
                used.is_ok_and(|used| now.duration_since(used).is_ok_and(|age| age > UNUSED));
            if unused {
                remove_all(&folder).map_err(BuildError::io(&folder))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Finds the part, or makes it: `make` fills an empty folder with files.
    pub(crate) fn part(
        &self,
        step: &Step,
        key: &Digest,
        make: impl FnOnce(&Work<'_>, &Path) -> Result<(), BuildError>,
    ) -> Result<Made, BuildError> {
        if let Some(made) = self.find(key) {
            self.observer.cached(step);
            return Ok(made);
        }
        self.make(step, key, make)
    }

    /// Makes the part even when it is there.
    pub(crate) fn make(
        &self,
        step: &Step,
        key: &Digest,
        make: impl FnOnce(&Work<'_>, &Path) -> Result<(), BuildError>,
    ) -> Result<Made, BuildError> {
        let begun = Instant::now();
        self.observer.started(step);
        let work = Work {
            step,
            observer: self.observer,
        };
        let temporary = self.temporary()?;
        make(&work, temporary.path())?;
        let mut files = BTreeMap::new();
        for path in files_below(temporary.path())? {
            let name = path
                .strip_prefix(temporary.path())
                .ok()
                .and_then(Path::to_str);
            let name =
                name.ok_or_else(|| work.wrong(format!("{} is not UTF-8", path.display())))?;
            let (sha256, size) = Digest::of_file(&path).map_err(BuildError::io(&path))?;
            files.insert(name.to_owned(), FileRecord { size, sha256 });
        }
        let record = Record { files };
        let bytes =
            serde_json::to_vec_pretty(&record).map_err(|error| work.wrong(error.to_string()))?;
        let path = temporary.path().join(RECORD);
        write_atomic(&path, &bytes).map_err(BuildError::io(&path))?;
        let place = self.parts().join(key.hex());
        remove_all(&place).map_err(BuildError::io(&place))?;
        fs::rename(temporary.keep(), &place).map_err(BuildError::io(&place))?;
        self.observer.finished(step, begun.elapsed());
        Ok(Made {
            folder: place,
            record,
            digest: Digest::of(&bytes),
        })
    }
}

impl Made {
    /// Size and digest of a file as they were when the part was made.
    pub(crate) fn recorded(
        &self,
        work: &Work<'_>,
        name: &str,
    ) -> Result<(u64, Digest), BuildError> {
        let record = self.record.files.get(name);
        let record = record.ok_or_else(|| work.wrong(format!("the part has no file {name}")))?;
        Ok((record.size, record.sha256))
    }
    /// Where a file is, after comparing its content with the record.
    pub(crate) fn file(&self, work: &Work<'_>, name: &str) -> Result<PathBuf, BuildError> {
        let path = self.folder.join(name);
        let Some(record) = self.record.files.get(name) else {
            return Err(work.wrong(format!("{} is not part of the cache", path.display())));
        };
        let (found, _) = Digest::of_file(&path).map_err(BuildError::io(&path))?;
        if found == record.sha256 {
            Ok(path)
        } else {
            let part = self.folder.display();
            Err(work.wrong(format!(
                "{name} of the cached part {part} was changed (remove that folder to make it again)"
            )))
        }
    }

    /// The content of a file.
    pub(crate) fn read(&self, work: &Work<'_>, name: &str) -> Result<Vec<u8>, BuildError> {
        let path = self.file(work, name)?;
        fs::read(&path).map_err(BuildError::io(&path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoObserver;

    fn step() -> Step {
        Step {
            name: "s".into(),
            what: "test".into(),
        }
    }

    #[test]
    fn a_part_is_made_once_and_noticed_when_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), &NoObserver).unwrap();
        let key = Digest::of("key");
        let mut times = 0;
        let mut made = None;
        for _ in 0..2 {
            made = Some(
                cache
                    .part(&step(), &key, |_, folder| {
                        times += 1;
                        write_atomic(&folder.join("f"), b"content").map_err(BuildError::io(folder))
                    })
                    .unwrap(),
            );
        }
        assert_eq!(times, 1);
        let made = made.unwrap();
        let step = step();
        let work = Work {
            step: &step,
            observer: &NoObserver,
        };
        assert_eq!(made.read(&work, "f").unwrap(), b"content");
        assert!(made.file(&work, "other").is_err());

        write_atomic(&made.folder.join("f"), b"CONTENT").unwrap();
        let error = made.file(&work, "f").unwrap_err().to_string();
        assert!(error.contains("f of the cached part"), "{error}");
        write_atomic(&made.folder.join("f"), b"short").unwrap();
        assert!(cache.find(&key).is_none(), "a truncated part is made again");
    }

    #[test]
    fn only_parts_that_no_build_used_for_long_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), &NoObserver).unwrap();
        let (old, used) = (Digest::of("old"), Digest::of("used"));
        for key in [&old, &used] {
            let made = cache.part(&step(), key, |_, _| Ok(())).unwrap();
            let long_ago = SystemTime::now() - UNUSED * 2;
            let record = File::options().append(true).open(made.folder.join(RECORD));
            record.unwrap().set_modified(long_ago).unwrap();
        }
        assert!(cache.find(&used).is_some());
        assert_eq!(cache.forget_unused(SystemTime::now()).unwrap(), 1);
        assert!(cache.find(&old).is_none() && cache.find(&used).is_some());
    }

    #[test]
    fn a_failed_part_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), &NoObserver).unwrap();
        let key = Digest::of("key");
        cache
            .part(&step(), &key, |work, _| Err(work.wrong("no")))
            .unwrap_err();
        assert!(cache.find(&key).is_none());
        assert_eq!(fs::read_dir(cache.work()).unwrap().count(), 0);
    }
}
