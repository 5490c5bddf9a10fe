//! The image that a cluster boots: chosen, fetched where it is not there, opened and verified.

mod fetch;
mod release;

pub use fetch::{Need, confirm, obtain};
use release::sources;

use super::Cluster;
use crate::error::{Error, ErrorId, Result};
use crate::settings::Settings;
use coracle_iso::images::{Image, Store};
use coracle_iso::{Arch, Digest};
use coracle_vm::spec::Architecture;
use std::path::PathBuf;

/// The image that new clusters use, if it is there.
pub fn current(settings: &Settings) -> Result<Image> {
    let store = Store::new(&settings.home);
    let opened = match release::chosen(settings)? {
        Some(digest) => store.open(&digest).map_err(Error::from),
        None => Err(none_yet(&store)),
    };
    opened.map_err(|error| with_advice(settings, error))
}

/// The processor that machines with this image have.
pub fn architecture(image: &Image) -> Architecture {
    match image.index().arch {
        Arch::Amd64 => Architecture::X86_64,
        Arch::Arm64 => Architecture::Aarch64,
    }
}

fn none_yet(store: &Store) -> Error {
    Error::new(
        ErrorId::ImageNotFound,
        format!("there is no VM image in {} yet", store.folder().display()),
    )
}

/// What to do about an image that is not there, or damaged, where it can be fetched.
fn with_advice(settings: &Settings, error: Error) -> Error {
    match error.id() {
        ErrorId::ImageNotFound | ErrorId::ImageDamaged if is_fetched(settings) => {
            error.help("`coracle start -p {profile} --download-only` fetches it")
        }
        _ => error,
    }
}

/// Whether anybody is named who has images.
pub fn is_fetched(settings: &Settings) -> bool {
    sources(settings).is_ok_and(|sources| !sources.is_empty())
}

/// The digest of the image that a cluster was made with.
pub fn digest_of(cluster: &Cluster) -> Result<Digest> {
    parse(&cluster.record().image)
}

/// The image of this digest, which a cluster was made with.
pub fn open(settings: &Settings, digest: &str) -> Result<Image> {
    let opened = Store::new(&settings.home).open(&parse(digest)?);
    opened.map_err(|error| with_advice(settings, error.into()))
}

fn parse(digest: &str) -> Result<Digest> {
    digest.parse().map_err(|error| {
        Error::caused_by(
            ErrorId::MachineBroken,
            format!("{digest:?} is not an image's digest"),
            &error,
        )
    })
}

/// Compares every file of the image with its digest. Blocks for about a second a GiB.
pub fn verify(settings: &Settings, image: &Image) -> Result<()> {
    let verified = Store::new(&settings.home).verify(image);
    verified.map_err(|error| with_advice(settings, error.into()))
}

/// Finds missing and truncated files of the image at once.
pub fn check_sizes(settings: &Settings, image: &Image) -> Result<()> {
    let checked = Store::new(&settings.home).check_sizes(image);
    checked.map_err(|error| with_advice(settings, error.into()))
}

/// The images that clusters were made with, which boot from them again, and those that a start of this
/// program would fetch.
pub fn used(settings: &Settings) -> Result<Vec<Digest>> {
    let clusters = Cluster::all(settings)?;
    let images = clusters.iter().filter_map(|found| found.whole());
    Ok(images
        .filter_map(|cluster| cluster.record().image.parse().ok())
        .chain(release::pinned(settings))
        .collect())
}

/// The layer of a Kubernetes version, or an error that lists those there are.
pub fn kubernetes_layer(image: &Image, version: &str) -> Result<PathBuf> {
    if let Some(layer) = image.kubernetes(version) {
        return Ok(layer);
    }
    if image.index().kubernetes(version).is_some() {
        let message = format!("the image was fetched without Kubernetes {version}");
        return Err(Error::new(ErrorId::ImageNotFound, message)
            .help("CORACLE_IMAGE_MIRROR names a source that has it; `coracle start` fetches it"));
    }
    let known: Vec<_> = image.index().kubernetes_versions().collect();
    Err(Error::new(
        ErrorId::ImageNotFound,
        format!("the image has no Kubernetes {version}"),
    )
    .help(format!(
        "it has {}: choose one with --kubernetes-version",
        known.join(", ")
    )))
}

/// What a machine starts from that has no other way than its firmware.
pub fn iso(image: &Image) -> Result<PathBuf> {
    image.iso().ok_or_else(|| {
        Error::new(
            ErrorId::ImageNotFound,
            "the image has no ISO, which this driver starts machines from",
        )
        .help("coracle image-build --iso")
    })
}

/// The kubectl of this version for this host that the current image has, or any other.
pub fn kubectl(settings: &Settings, version: &str) -> Option<PathBuf> {
    let store = Store::new(&settings.home);
    let current = current(settings).ok();
    let others = store.list().unwrap_or_default().into_iter();
    let others = others.filter_map(|digest| store.open(&digest).ok());
    current
        .into_iter()
        .chain(others)
        .filter_map(|image| image.kubectl(version))
        .find(|path| path.is_file())
}
