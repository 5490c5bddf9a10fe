//! A small image, served by a [`Mirror`], and a store that it is fetched into.

use coracle_iso::images::download::{
    DownloadError, DownloadOptions, Downloader, FailureKind, Patience, Proxy, Source,
};
use coracle_iso::images::{
    ExportObserver, FORMAT, INDEX_FILE, Image, ImageIndex, Part, Role, Store, export,
};
use coracle_iso::{Arch, Digest, DownloadObserver, DownloadProgress, HostPlatform};
use coracle_tests::{Mirror, noise, write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;

/// The version that is fetched unless a test says otherwise.
pub(crate) const VERSION: &str = "v1.2.3";
/// The other one.
pub(crate) const OTHER_VERSION: &str = "v1.2.4";
/// Bytes of noise in the root file system: what is sent of it is a little more.
pub(crate) const NOISE: usize = 3 << 20;

/// Patience for a server that answers at once or never.
pub(crate) fn patience() -> Patience {
    Patience {
        connect: Duration::from_secs(5),
        stall: Duration::from_millis(700),
        tries: 4,
        progress: 1 << 20,
        pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(50),
        lock: Duration::from_secs(30),
    }
}

/// The files of the image and what they are for.
pub(crate) fn contents() -> Vec<(&'static str, Role, Vec<u8>)> {
    let layer = |version: &str| Role::Kubernetes {
        version: version.into(),
    };
    let kubectl = |version: &str, platform| Role::Kubectl {
        version: version.into(),
        platform,
    };
    let elsewhere = HostPlatform {
        os: "plan9".into(),
        arch: "amd64".into(),
    };
    let mut root = noise(1, NOISE);
    root.extend(vec![0; 1 << 20]);
    vec![
        ("initrd", Role::Initrd, noise(2, 5000)),
        (
            "kubectl-here",
            kubectl(VERSION, HostPlatform::current()),
            b"#!/bin/sh\n".to_vec(),
        ),
        (
            "kubectl-here-other",
            kubectl(OTHER_VERSION, HostPlatform::current()),
            b"#!/bin/sh\n\n".to_vec(),
        ),
        ("kubectl-there", kubectl(VERSION, elsewhere), noise(3, 3000)),
        ("kubernetes-1.erofs", layer(VERSION), noise(4, 200_000)),
        (
            "kubernetes-2.erofs",
            layer(OTHER_VERSION),
            noise(5, 150_000),
        ),
        ("root.erofs", Role::Root, root),
        ("sbom.json", Role::Sbom, b"{}".repeat(500)),
        ("vmlinuz", Role::Kernel, noise(6, 40_000)),
    ]
}

/// An image, the same in the form in which it is passed on, and a server of that.
pub(crate) struct Setting {
    folder: TempDir,
    /// The image as it was built.
    pub(crate) image: Image,
    /// Serves the exported image.
    pub(crate) mirror: Mirror,
}

impl Setting {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = built(&folder.path().join("built"), "maxcpus=1");
        let exported = folder.path().join("exported");
        export(&image, &exported, 1, &Silent).unwrap();
        let mirror = Mirror::of(&exported);
        Self {
            folder,
            image,
            mirror,
        }
    }

    /// A folder of the test's.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the server serves.
    pub(crate) fn exported(&self) -> PathBuf {
        self.path("exported")
    }

    /// The store that images are fetched into.
    pub(crate) fn store(&self) -> Store {
        Store::new(&self.path("home"))
    }

    /// The name by which a file of the image is served.
    pub(crate) fn served(&self, file: &str) -> String {
        format!("{}.zst", self.part(file).sha256.folder_name())
    }

    pub(crate) fn part(&self, file: &str) -> &Part {
        let mut parts = self.image.index().parts.iter();
        parts.find(|part| part.file == file).unwrap()
    }

    /// Bytes of a file as it is served.
    pub(crate) fn served_size(&self, file: &str) -> usize {
        let path = self.exported().join(self.served(file));
        std::fs::metadata(path).unwrap().len() as usize
    }

    /// Makes the server serve the files as they are.
    pub(crate) fn unpack(&self) {
        std::fs::remove_dir_all(self.exported()).unwrap();
        copy(self.image.folder(), &self.exported());
    }

    pub(crate) fn options(&self, sources: &[String]) -> DownloadOptions {
        let sources = sources.iter().map(|source| source.parse().unwrap());
        DownloadOptions {
            store: self.store(),
            digest: Some(*self.image.digest()),
            sources: sources.collect(),
            kubernetes: Some(VERSION.into()),
            proxy: Proxy::default(),
            authorities: Vec::new(),
            patience: patience(),
        }
    }

    /// Fetches from the server.
    pub(crate) fn fetch(&self) -> Result<Image, DownloadError> {
        self.fetch_from(&[self.mirror.url()])
    }

    pub(crate) fn fetch_from(&self, sources: &[String]) -> Result<Image, DownloadError> {
        let heard = Heard::default();
        Downloader::new(self.options(sources), &heard).run()
    }

    /// Fails the test unless the image in the store is the one that was built, without what nobody asked
    /// for, and nothing else is left in the store.
    #[track_caller]
    pub(crate) fn is_there(&self, image: &Image) {
        assert_eq!(image.digest(), self.image.digest());
        self.store().verify(image).unwrap();
        for (file, _, content) in contents() {
            let part = self.part(file);
            let path = image.path(part);
            assert_eq!(image.has(part), path.exists(), "{file}");
            if image.has(part) {
                assert_eq!(std::fs::read(path).unwrap(), content, "{file}");
            }
        }
        let mut left = names(self.store().folder());
        left.retain(|name| name != "download.lock");
        assert_eq!(left, [image.digest().folder_name()]);
    }

    /// Fails the test unless there is no image.
    #[track_caller]
    pub(crate) fn nothing_is_there(&self) {
        assert_eq!(self.store().list().unwrap(), []);
    }

    /// The folder in which a download that ended early keeps what it has.
    pub(crate) fn collected(&self) -> PathBuf {
        let name = format!(".incoming-{}", self.image.digest().folder_name());
        self.store().folder().join(name)
    }
}

/// Makes an image in a store of its own.
pub(crate) fn built(home: &Path, words: &str) -> Image {
    let store = Store::new(home);
    let incoming = store.incoming().unwrap();
    let mut parts = Vec::new();
    for (file, role, content) in contents() {
        parts.push(Part {
            name: file.to_owned(),
            file: file.to_owned(),
            size: content.len() as u64,
            sha256: Digest::of(&content),
            role,
        });
        write(incoming.path().join(file), content);
    }
    let index = ImageIndex {
        format: FORMAT,
        arch: Arch::Amd64,
        default_kubernetes: VERSION.to_owned(),
        emulated_command_line: words.to_owned(),
        parts,
    };
    write(incoming.path().join(INDEX_FILE), index.encode().unwrap());
    store.install(incoming).unwrap()
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in names(from) {
        std::fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(crate) fn source(text: &str) -> Source {
    text.parse().unwrap()
}

/// Fails the test unless a download failed in this way.
#[track_caller]
pub(crate) fn is_kind(result: Result<Image, DownloadError>, kind: FailureKind) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), Some(kind), "{error:?}");
    let DownloadError::Failed { failures, .. } = &error else {
        panic!("{error:?}");
    };
    let told: Vec<String> = failures.iter().map(ToString::to_string).collect();
    format!("{error}: {}", told.join("; "))
}

/// Listens to nothing.
pub(crate) struct Silent;

impl ExportObserver for Silent {}

/// Writes down what it hears.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) begun: Mutex<Vec<String>>,
    pub(crate) waiting: Mutex<Vec<String>>,
    pub(crate) progress: Mutex<Vec<DownloadProgress>>,
    pub(crate) trouble: Mutex<Vec<String>>,
}

impl DownloadObserver for Heard {
    fn waiting(&self, holder: &str) {
        self.waiting.lock().unwrap().push(holder.to_owned());
    }

    fn begun(&self, source: &str) {
        self.begun.lock().unwrap().push(source.to_owned());
    }

    fn progress(&self, progress: DownloadProgress) {
        self.progress.lock().unwrap().push(progress);
    }

    fn trouble(&self, what: &str) {
        self.trouble.lock().unwrap().push(what.to_owned());
    }
}
