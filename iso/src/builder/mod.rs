//! Makes an image from the source tree.
//!
//! [`Builder::build`] is the whole way: toolchains and Debian packages first, then every part by
//! itself, then the file systems, then the index. Each module beside this one makes one kind of
//! part and knows nothing of the others.

mod error;

#[cfg(unix)]
mod agent;
#[cfg(unix)]
mod assemble;
#[cfg(unix)]
mod buildroot;
#[cfg(unix)]
mod cache;
#[cfg(unix)]
mod command;
#[cfg(unix)]
mod component;
#[cfg(unix)]
mod cpio;
#[cfg(unix)]
mod debian;
#[cfg(unix)]
mod erofs;
#[cfg(unix)]
mod filesystems;
#[cfg(unix)]
mod golang;
#[cfg(unix)]
mod iso;
#[cfg(unix)]
mod kernel;
#[cfg(unix)]
mod key;
#[cfg(unix)]
mod licence;
#[cfg(unix)]
mod manifest;
#[cfg(unix)]
mod materials;
#[cfg(unix)]
mod oci;
#[cfg(unix)]
mod pause;
#[cfg(unix)]
mod pe;
#[cfg(unix)]
mod root;
#[cfg(unix)]
mod rust;
#[cfg(unix)]
mod sbom;
#[cfg(unix)]
mod tools;
#[cfg(unix)]
mod tree;

pub use error::{BuildError, GonePackage, MissingTool};

use crate::images::{Image, Store};
use crate::{Arch, BuildObserver};
use std::path::{Path, PathBuf};

/// What to build, from what, and where to put it.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// The workspace: the folder with `Cargo.lock` and `iso/`.
    pub source: PathBuf,
    /// The cache, usually `CORACLE_HOME/cache`. It may be removed at any time between builds.
    pub cache: PathBuf,
    /// Where the image is installed.
    pub store: Store,
    /// Processor of the guest.
    pub arch: Arch,
    /// Versions to make layers of, such as `v1.37.2`; empty for all that the source tree has.
    /// The first is the default of the image.
    pub kubernetes_versions: Vec<String>,
    /// Fail unless exactly the Debian packages of this lock file are used; without it the newest
    /// are taken and recorded.
    pub locked: Option<PathBuf>,
    /// Debian mirror instead of the official one, a URL.
    pub mirror: Option<String>,
    /// Make the hybrid ISO too, for drivers that start a machine by its firmware.
    pub iso: bool,
    /// Ask for newer Debian packages even when the ones in the cache fit the profile.
    pub refresh: bool,
}

impl BuildOptions {
    /// The usual options: the newest packages, all Kubernetes versions, cache and store in
    /// `home` (`CORACLE_HOME`).
    pub fn new(source: PathBuf, home: &Path, arch: Arch) -> Self {
        Self {
            source,
            cache: home.join("cache"),
            store: Store::new(home),
            arch,
            kubernetes_versions: Vec::new(),
            locked: None,
            mirror: None,
            iso: false,
            refresh: false,
        }
    }

    /// A file of the image's profile.
    #[cfg(unix)]
    fn profile(&self, file: &str) -> PathBuf {
        self.source.join("iso/profile").join(file)
    }
}

/// Builds images. One at a time per cache: a second one waits for the first.
pub struct Builder<'a> {
    options: BuildOptions,
    observer: &'a dyn BuildObserver,
}

impl<'a> Builder<'a> {
    /// Prepares a build; nothing happens yet.
    pub fn new(options: BuildOptions, observer: &'a dyn BuildObserver) -> Self {
        Self { options, observer }
    }

    /// Builds the image, or finds it in the store, and installs it. It does not become the
    /// current one: see [`Store::set_current`]. Blocks: minutes from nothing, about a second
    /// when there is nothing to do.
    #[cfg(unix)]
    pub fn build(&self) -> Result<Image, BuildError> {
        assemble::build(&self.options, self.observer)
    }

    /// Images cannot be built on this system.
    #[cfg(not(unix))]
    pub fn build(&self) -> Result<Image, BuildError> {
        let _ = (&self.options, self.observer);
        Err(BuildError::Platform)
    }
}
