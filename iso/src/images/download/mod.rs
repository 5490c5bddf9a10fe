//! An image fetched by its digest, from servers or folders.
//!
//! ```text
//! digest, [Source] --Fetcher::index--> image.json, compared with the digest
//!                                          |  what is wanted of it, and not there yet
//!                                          v
//!              Source --Fetcher::file--> Transfer --> HOME/images/.incoming-sha256-HEX/FILE
//!                         (a next try,     (kept, unpacked,       |  all of them
//!                          a next source)   hashed)               v
//!                                                   Store::publish --> HOME/images/sha256-HEX/
//! ```
//!
//! What makes an image right is its digest alone: whoever sends it need not be trusted. Bytes that came
//! in are kept when a download ends early, however it does, and are not fetched again. Every wait has a
//! limit, and every repetition a bound. Two downloads into one store take turns.

mod error;
mod fetch;
mod meter;
mod source;
mod transfer;
mod web;

pub use error::{DownloadError, Failure, FailureKind, Reason};
pub(super) use source::packed_name;
pub use source::{ParseSourceError, Source};

use super::store::write_absent;
use super::{ABSENT_FILE, INDEX_FILE, Image, ImageError, ImageIndex, Part, Role, Store};
use crate::files::{remove_all, write_atomic};
use crate::{Digest, DownloadObserver, FileLock, HostPlatform, LockError};
use fetch::{Fetcher, Found};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

const LOCK_FILE: &str = "download.lock";

/// What to fetch, from where, and how patiently.
#[derive(Debug, Clone)]
pub struct DownloadOptions {
    /// Where the image is put.
    pub store: Store,
    /// SHA-256 of `image.json`; None takes whatever image the first source has that has any.
    pub digest: Option<Digest>,
    /// In the order in which they are asked.
    pub sources: Vec<Source>,
    /// The version of Kubernetes whose layer and kubectl are wanted, such as `v1.37.2`; None: neither.
    pub kubernetes: Option<String>,
    /// The way to servers.
    pub proxy: Proxy,
    /// Certificates of authorities to believe beside those of the web, PEM.
    pub authorities: Vec<String>,
    /// Time limits and bounds.
    pub patience: Patience,
}

/// Proxies of the usual form, `http://[USER:PASSWORD@]HOST[:PORT]`.
#[derive(Clone, Default)]
pub struct Proxy {
    /// For servers that speak HTTP.
    pub http: Option<String>,
    /// For servers that speak HTTPS.
    pub https: Option<String>,
    /// What is reached without a proxy: names, domains, addresses and CIDRs, separated by commas.
    pub exceptions: Option<String>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // They may hold a password.
        f.debug_struct("Proxy").finish_non_exhaustive()
    }
}

/// How long to wait, and how often to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// Until a connection is there.
    pub connect: Duration,
    /// For an answer to begin, and between any two of its bytes.
    pub stall: Duration,
    /// Requests in a row that may fail.
    pub tries: u32,
    /// Bytes that a try has to bring for the count to begin again.
    pub progress: u64,
    /// Before the second try; twice as long before each further one.
    pub pause: Duration,
    /// The longest pause, also where a server asks for more.
    pub longest_pause: Duration,
    /// For another download into the same store.
    pub lock: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            tries: 5,
            progress: 1 << 20,
            pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(15),
            lock: Duration::from_secs(10 * 60),
        }
    }
}

/// Fetches an image.
pub struct Downloader<'a> {
    options: DownloadOptions,
    observer: &'a dyn DownloadObserver,
}

impl<'a> Downloader<'a> {
    /// Nothing is done yet.
    pub fn new(options: DownloadOptions, observer: &'a dyn DownloadObserver) -> Self {
        Self { options, observer }
    }

    /// Makes sure that the image is in the store with all that is wanted of it, each file compared with
    /// its digest: what is missing or damaged is fetched. Blocks.
    ///
    /// # Errors
    /// The store is then as it was before, but for what was received, from which the next try goes on.
    pub fn run(&self) -> Result<Image, DownloadError> {
        let _lock = self.lock()?;
        if let Some(digest) = &self.options.digest
            && let Some(image) = self.whole(digest)?
        {
            return Ok(image);
        }
        if self.options.sources.is_empty() {
            return Err(DownloadError::NoSource);
        }
        let options = &self.options;
        let mut fetcher = Fetcher::new(
            &options.sources,
            &options.proxy,
            &options.authorities,
            &options.patience,
            self.observer,
        )?;
        let found = fetcher.index(options.digest.as_ref())?;
        if let Some(image) = self.whole(&found.digest)? {
            return Ok(image);
        }
        self.collect(&mut fetcher, &found)
    }

    fn lock(&self) -> Result<FileLock, DownloadError> {
        let path = self.options.store.folder().join(LOCK_FILE);
        match FileLock::acquire(&path, Duration::ZERO) {
            Err(LockError::Held { holder, .. }) => {
                self.observer.waiting(&holder);
                Ok(FileLock::acquire(&path, self.options.patience.lock)?)
            }
            other => Ok(other?),
        }
    }

    /// The image, if it is in the store with all that is wanted, undamaged.
    fn whole(&self, digest: &Digest) -> Result<Option<Image>, DownloadError> {
        let store = &self.options.store;
        let image = match store.open(digest) {
            Ok(image) => image,
            Err(error @ ImageError::Io { .. }) => return Err(error.into()),
            Err(_) => return Ok(None),
        };
        let wanted = self.wanted(digest, image.index(), None)?;
        if !wanted.iter().all(|part| image.has(part)) {
            return Ok(None);
        }
        match store.verify(&image) {
            Ok(()) => Ok(Some(image)),
            Err(error @ ImageError::Io { .. }) => Err(error.into()),
            Err(_) => Ok(None),
        }
    }

    /// What every machine needs, the layer that is asked for and this host's kubectl for it; and what the
    /// image in the store has already.
    fn wanted<'i>(
        &self,
        digest: &Digest,
        index: &'i ImageIndex,
        there: Option<&Image>,
    ) -> Result<Vec<&'i Part>, DownloadError> {
        let asked = self.options.kubernetes.as_deref();
        if let Some(version) = asked.filter(|version| index.kubernetes(version).is_none()) {
            return Err(DownloadError::NoVersion {
                digest: *digest,
                version: version.to_owned(),
                known: index.kubernetes_versions().map(str::to_owned).collect(),
            });
        }
        let here = HostPlatform::current();
        let is_wanted = |part: &&Part| match &part.role {
            Role::Kubernetes { version } => asked == Some(version),
            Role::Kubectl { version, platform } => asked == Some(version) && *platform == here,
            _ => true,
        };
        let is_there = |part: &&Part| there.is_some_and(|image| image.has(part));
        let parts = index.parts.iter();
        Ok(parts
            .filter(|part| is_wanted(part) || is_there(part))
            .collect())
    }

    fn collect(&self, fetcher: &mut Fetcher<'_>, found: &Found) -> Result<Image, DownloadError> {
        let store = &self.options.store;
        let folder = store.collecting(&found.digest)?;
        let index = folder.join(INDEX_FILE);
        write_atomic(&index, &found.bytes).map_err(DownloadError::io(&index))?;
        let there = store.open(&found.digest).ok();
        let wanted = self.wanted(&found.digest, &found.index, there.as_ref())?;
        fetcher
            .meter
            .expect(wanted.iter().map(|part| part.size).sum());
        let mut missing = Vec::new();
        for part in &wanted {
            if is_right(&folder, part) || taken_over(there.as_ref(), part, &folder) {
                fetcher.meter.whole(part.size);
            } else {
                missing.push(*part);
            }
        }
        self.check_space(&folder, &missing)?;
        for part in missing {
            fetcher.file(&found.digest, part, &folder)?;
        }
        let names: BTreeSet<&str> = wanted.iter().map(|part| part.file.as_str()).collect();
        let parts = found.index.parts.iter();
        let absent = parts
            .filter(|part| !names.contains(part.file.as_str()))
            .map(|part| part.file.clone())
            .collect();
        write_absent(&folder, &absent)?;
        only_files_of(&folder, &names)?;
        let image = store.publish(&folder)?;
        remove_all(&folder).map_err(DownloadError::io(&folder))?;
        Ok(image)
    }

    /// Whether the files fit, with the one that comes in twice: as it was sent, and unpacked.
    fn check_space(&self, folder: &Path, missing: &[&Part]) -> Result<(), DownloadError> {
        let is_far = |source: &Source| matches!(source, Source::Web(_));
        let largest = missing.iter().map(|part| part.size).max();
        let largest = largest.filter(|_| self.options.sources.iter().any(is_far));
        let sizes: u64 = missing.iter().map(|part| part.size).sum();
        let left: u64 = missing
            .iter()
            .map(|part| transfer::left(folder, part))
            .sum();
        let needed = (sizes + largest.unwrap_or(0)).saturating_sub(left);
        let free = fs4::available_space(folder).map_err(DownloadError::io(folder))?;
        match free < needed {
            true => Err(DownloadError::NoSpace {
                folder: self.options.store.folder().to_owned(),
                needed,
                free,
            }),
            false => Ok(()),
        }
    }
}

fn is_right(folder: &Path, part: &Part) -> bool {
    let path = folder.join(&part.file);
    fs::metadata(&path).is_ok_and(|meta| meta.len() == part.size)
        && Digest::of_file(&path).is_ok_and(|(found, _)| found == part.sha256)
}

/// Takes a file over from the image in the store, if it is right there.
fn taken_over(there: Option<&Image>, part: &Part, folder: &Path) -> bool {
    let Some(there) = there.filter(|image| image.has(part) && is_right(image.folder(), part))
    else {
        return false;
    };
    let to = folder.join(&part.file);
    // What a crash left there is not right.
    let _ = remove_all(&to);
    fs::hard_link(there.path(part), &to)
        .or_else(|_| fs::copy(there.path(part), &to).map(|_| ()))
        .is_ok()
}

/// Removes what tries left beside the files of the image.
fn only_files_of(folder: &Path, names: &BTreeSet<&str>) -> Result<(), DownloadError> {
    for entry in fs::read_dir(folder).map_err(DownloadError::io(folder))? {
        let entry = entry.map_err(DownloadError::io(folder))?;
        let name = entry.file_name();
        let is_ours = name
            .to_str()
            .is_some_and(|name| names.contains(name) || name == INDEX_FILE || name == ABSENT_FILE);
        if !is_ours {
            remove_all(&entry.path()).map_err(DownloadError::io(entry.path()))?;
        }
    }
    Ok(())
}
