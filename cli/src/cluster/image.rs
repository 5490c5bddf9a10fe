//! The image that a cluster boots: chosen, opened and verified.

use super::Cluster;
use crate::error::{Error, ErrorId, Result};
use crate::settings::Settings;
use coracle_iso::Digest;
use coracle_iso::images::{Image, Store};
use std::path::PathBuf;

/// The image that new clusters use.
pub fn current(settings: &Settings) -> Result<Image> {
    let store = Store::new(&settings.home);
    let digest = store.current()?.ok_or_else(|| {
        Error::new(
            ErrorId::ImageNotFound,
            format!("there is no VM image in {} yet", store.folder().display()),
        )
    })?;
    Ok(store.open(&digest)?)
}

/// The image of this digest, which a cluster was made with.
pub fn open(settings: &Settings, digest: &str) -> Result<Image> {
    let digest: Digest = digest.parse().map_err(|error| {
        Error::caused_by(
            ErrorId::MachineBroken,
            format!("{digest:?} is not an image's digest"),
            &error,
        )
    })?;
    Ok(Store::new(&settings.home).open(&digest)?)
}

/// Compares every file of the image with its digest. Blocks for about a second a GiB.
pub fn verify(settings: &Settings, image: &Image) -> Result<()> {
    Ok(Store::new(&settings.home).verify(image)?)
}

/// Finds missing and truncated files of the image at once.
pub fn check_sizes(settings: &Settings, image: &Image) -> Result<()> {
    Ok(Store::new(&settings.home).check_sizes(image)?)
}

/// The images that clusters were made with: they boot from them again.
pub fn used(settings: &Settings) -> Result<Vec<Digest>> {
    let clusters = Cluster::all(settings)?;
    let images = clusters.iter().filter_map(|found| found.whole());
    Ok(images
        .filter_map(|cluster| cluster.record().image.parse().ok())
        .collect())
}

/// The layer of a Kubernetes version, or an error that lists those there are.
pub fn kubernetes_layer(image: &Image, version: &str) -> Result<PathBuf> {
    image.kubernetes(version).ok_or_else(|| {
        let known: Vec<_> = image.index().kubernetes_versions().collect();
        Error::new(
            ErrorId::ImageNotFound,
            format!("the image has no Kubernetes {version}"),
        )
        .help(format!(
            "it has {}: choose one with --kubernetes-version",
            known.join(", ")
        ))
    })
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

/// The kubectl that the current image has for this host.
pub fn kubectl(settings: &Settings, version: &str) -> Option<PathBuf> {
    current(settings)
        .ok()?
        .kubectl(version)
        .filter(|path| path.is_file())
}
