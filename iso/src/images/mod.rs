//! Images on disk: the index, the store, the verifier; how an image is passed on.
//!
//! ```text
//! HOME/images/current             digest of the image that new machines use, one line
//! HOME/images/sha256-HEX/         HEX is the SHA-256 of image.json
//!     image.json                  the index: every other file with size and SHA-256
//!     vmlinuz initrd root.erofs kubernetes-V.erofs kubectl-V sbom.cdx.json
//!     absent                      names of the parts that were not fetched, where there are any
//! HOME/images/.incoming-*         an image being put in; left over after a crash, removed a day later
//! HOME/images/download.lock       held while an image is fetched
//!
//! Image --export--> FOLDER --copied, served--> Source --download--> Store
//! ```

pub mod download;
mod export;
mod index;
mod size;
mod store;

pub use export::{ExportError, ExportObserver, export};
pub use index::{ABSENT_FILE, FORMAT, INDEX_FILE, ImageIndex, Part, Role};
pub use size::{DownloadSize, PartSize, download_size};
pub use store::{Image, Store};

use crate::{Digest, ParseDigestError};
use std::io;
use std::path::PathBuf;

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No image with this digest is in the store.
    #[error("there is no image {0}")]
    NotFound(Digest),
    /// A file that the index lists does not exist.
    #[error("{} is missing", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// A file has another size than the index says.
    #[error("{} is truncated or was changed: {found} bytes instead of {expected}", file.display())]
    Truncated {
        /// The file.
        file: PathBuf,
        /// Size in the index, bytes.
        expected: u64,
        /// Size on disk, bytes.
        found: u64,
    },
    /// A file has the right size and another content.
    #[error("{} was tampered with or damaged: its digest is {found} instead of {expected}", file.display())]
    Tampered {
        /// The file.
        file: PathBuf,
        /// Digest in the index (for the index: in the folder's name).
        expected: Digest,
        /// Digest of what is on disk.
        found: Digest,
    },
    /// The index is not understood.
    #[error("the image index {} is not understood: {reason}", file.display())]
    Index {
        /// The index.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// `images/current` does not hold a digest.
    #[error("{} does not hold an image digest", file.display())]
    Current {
        /// The file.
        file: PathBuf,
        /// What it holds.
        source: ParseDigestError,
    },
    /// A file cannot be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

impl ImageError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
