//! An image as files that any web server can serve, and any folder can carry.
//!
//! ```text
//! FOLDER/image.json          the index, as it is
//!        sha256-HEX.zst      each file, compressed; HEX is the SHA-256 of what it unpacks to
//!        SHA256SUMS          of all these, for `sha256sum --check`
//! ```
//!
//! The same image and the same level give the same bytes. `super::download` reads this.

use super::download::packed_name;
use super::{INDEX_FILE, Image, ImageError, Part};
use crate::Digest;
use crate::files::{remove_all, sync_folder};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The list of digests beside the files.
const SUMS_FILE: &str = "SHA256SUMS";
/// What begins the name of a file that is being written.
const WRITING: &str = ".writing-";
/// Window of the compressor, as a power of two: 128 MiB. Receivers allow as much and no more.
pub(super) const WINDOW_LOG: u32 = 27;

/// Why an image was not written to a folder.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There is something else in the folder.
    #[error("{} is not empty: it has {name}", folder.display())]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
        /// One of the things in it.
        name: String,
    },
    /// The image is damaged, or a file cannot be read or written.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// Hears how far an export is.
pub trait ExportObserver: Send + Sync {
    /// This file is next; `done` of `total` bytes of all files are done.
    fn file(&self, name: &str, done: u64, total: u64) {
        let _ = (name, done, total);
    }
}

/// Writes an image to a folder, which is made, or is empty, or has the same export or a part of it. The
/// level is zstd's, 1 to 22; 19 takes minutes. Parts that were not fetched are left out.
///
/// # Errors
/// The folder has something else, the image is damaged, or the folder cannot be written: what is there
/// then is whole, file by file, and without [`SUMS_FILE`] if that is not right.
pub fn export(
    image: &Image,
    folder: &Path,
    level: i32,
    observer: &dyn ExportObserver,
) -> Result<(), ExportError> {
    fs::create_dir_all(folder).map_err(ImageError::io(folder))?;
    check_empty(image, folder)?;
    let total = image.parts().map(|part| part.size).sum();
    let mut done = 0;
    let mut sums = BTreeMap::new();
    for part in image.parts() {
        observer.file(&part.name, done, total);
        let name = packed_name(&part.sha256);
        let path = folder.join(&name);
        pack(image, part, &path, level)?;
        let (digest, _) = Digest::of_file(&path).map_err(ImageError::io(&path))?;
        sums.insert(name, digest);
        done += part.size;
    }
    let path = image.folder().join(INDEX_FILE);
    let index = fs::read(&path).map_err(ImageError::io(&path))?;
    sums.insert(INDEX_FILE.to_owned(), Digest::of(&index));
    let lines = sums
        .iter()
        .map(|(name, digest)| format!("{}  {name}\n", digest.hex()));
    let sums: String = lines.collect();
    for (name, bytes) in [(SUMS_FILE, sums.as_bytes()), (INDEX_FILE, &index)] {
        let path = folder.join(name);
        put(&path, |file| file.write_all(bytes)).map_err(ImageError::io(&path))?;
    }
    Ok(())
}

fn check_empty(image: &Image, folder: &Path) -> Result<(), ExportError> {
    let ours: Vec<String> = [SUMS_FILE, INDEX_FILE]
        .into_iter()
        .map(str::to_owned)
        .chain(image.parts().map(|part| packed_name(&part.sha256)))
        .collect();
    let io = || ImageError::io(folder);
    let mut left = Vec::new();
    for entry in fs::read_dir(folder).map_err(io())? {
        let name = entry.map_err(io())?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(WRITING) {
            left.push(folder.join(&*name));
        } else if !ours.contains(&name.clone().into_owned()) {
            return Err(ExportError::NotEmpty {
                folder: folder.to_owned(),
                name: name.into_owned(),
            });
        }
    }
    // Of an export that was cut off. The list goes first: from now on it may not be right.
    left.push(folder.join(SUMS_FILE));
    for path in left {
        remove_all(&path).map_err(ImageError::io(&path))?;
    }
    Ok(())
}

/// Compresses one file, which has to be what its digest says.
fn pack(image: &Image, part: &Part, path: &Path, level: i32) -> Result<(), ImageError> {
    let from = image.path(part);
    let (found, length) = Digest::of_file(&from).map_err(ImageError::io(&from))?;
    if found != part.sha256 {
        return Err(ImageError::Tampered {
            file: from,
            expected: part.sha256,
            found,
        });
    }
    put(path, |file| {
        compress(File::open(&from)?, length, file, level)
    })
    .map_err(ImageError::io(path))
}

/// Writes a file that is there whole or not at all.
fn put(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    let mut file = tempfile::Builder::new()
        .prefix(WRITING)
        .tempfile_in(folder)?;
    write(file.as_file_mut())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    make_readable(path)?;
    sync_folder(folder)
}

/// Compresses in one thread, so that neither the number of processors nor chance changes the bytes.
pub(super) fn compress(
    mut from: impl io::Read,
    length: u64,
    to: impl io::Write,
    level: i32,
) -> io::Result<()> {
    let mut encoder = zstd::Encoder::new(to, level)?;
    encoder.set_pledged_src_size(Some(length))?;
    encoder.include_checksum(true)?;
    encoder.long_distance_matching(true)?;
    encoder.window_log(WINDOW_LOG)?;
    io::copy(&mut from, &mut encoder)?;
    encoder.finish()?;
    Ok(())
}

/// A server may run as somebody else, and an image holds no secret.
fn make_readable(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
