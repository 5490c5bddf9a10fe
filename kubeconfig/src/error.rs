//! What can go wrong with the kubeconfig files.

use std::io;
use std::path::PathBuf;

use crate::edit::EditError;
use crate::lock::LockError;

/// An error that names the file. Nothing was changed when one is returned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KubeconfigError {
    /// `$KUBECONFIG` is set but names no file.
    #[error("KUBECONFIG is {value:?}, which names no file")]
    NoFile {
        /// The value of the variable.
        value: String,
    },
    /// A file cannot be read.
    #[error("{} cannot be read", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not a kubeconfig, or is one that cannot be edited without loss.
    #[error("{} is not usable as a kubeconfig", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What is wrong, and where.
        #[source]
        source: EditError,
    },
    /// A file, or its folder, cannot be written to.
    #[error("{} cannot be written", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another program is changing a file.
    #[error("the kubeconfig is locked")]
    Locked(#[from] LockError),
}
