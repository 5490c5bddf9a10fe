//! Images that are kept on this host for new clusters, one archive each, named after its image.

use super::{Loaded, load, open, save};
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::progress::Meter;
use crate::settings::Settings;
use coracle_protocol::client::AgentClient;
use coracle_protocol::image_name::ImageName;
use coracle_vm::store::atomic;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::fs;
use std::io;
use std::path::PathBuf;

/// What may stand in the name of a file on every system.
const IN_NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');
const EXTENSION: &str = "tar";

/// An image that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// As it was asked for.
    pub image: String,
    /// Bytes.
    pub size: u64,
    file: PathBuf,
}

/// The folder that they are in.
fn folder(settings: &Settings) -> PathBuf {
    settings.home.join("kept-images")
}

fn file(settings: &Settings, image: &str) -> PathBuf {
    // One name for what is one image.
    let image = ImageName::of(image).tagged();
    let name = utf8_percent_encode(&image, IN_NAME);
    folder(settings).join(format!("{name}.{EXTENSION}"))
}

/// Those that there are, by name.
pub fn list(settings: &Settings) -> Result<Vec<Kept>> {
    let folder = folder(settings);
    let unreadable = || format!("cannot read {}", folder.display());
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::caused_by(ErrorId::Write, unreadable(), &error)),
    };
    let mut kept = Vec::new();
    for entry in entries {
        let entry = entry.context(ErrorId::Write, unreadable)?;
        let file = entry.path();
        // One that is being written has another extension, or none.
        if file
            .extension()
            .is_none_or(|extension| extension != EXTENSION)
        {
            continue;
        }
        let Some(name) = file.file_stem().and_then(|name| name.to_str()) else {
            continue;
        };
        let image = percent_decode_str(name).decode_utf8_lossy().into_owned();
        let size = entry.metadata().context(ErrorId::Write, unreadable)?.len();
        kept.push(Kept { image, size, file });
    }
    kept.sort_by(|a, b| a.image.cmp(&b.image));
    Ok(kept)
}

/// Keeps an image that a machine has.
pub async fn add(settings: &Settings, agent: &AgentClient, image: &str) -> Result<u64> {
    let folder = folder(settings);
    atomic::create_private_dirs(&folder).context(ErrorId::Write, || {
        format!("cannot make {}", folder.display())
    })?;
    let names = [image.to_owned()];
    save(agent, &names, &file(settings, image), &Meter::default()).await
}

/// Keeps an image no more.
pub fn remove(settings: &Settings, image: &str) -> Result<()> {
    let file = file(settings, image);
    if !file.exists() {
        let message = format!("no image {image} is kept");
        return Err(Error::new(ErrorId::GuestNotFound, message)
            .help("`coracle cache list` shows those that are"));
    }
    atomic::remove(&file).context(ErrorId::Write, || {
        format!("cannot remove {}", file.display())
    })
}

/// Loads one into a machine.
pub async fn give(agent: &AgentClient, kept: &Kept) -> Result<Loaded> {
    load(agent, open(&kept.file).await?, "", &Meter::default()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_are_names_of_files_and_back() {
        for image in ["app:1", "a.example:5000/b/c@sha256:d", "with space", "ü"] {
            let name = utf8_percent_encode(image, IN_NAME).to_string();
            assert!(!name.contains(['/', ':', ' '].as_slice()), "{name}");
            assert_eq!(percent_decode_str(&name).decode_utf8().unwrap(), image);
        }
    }
}
