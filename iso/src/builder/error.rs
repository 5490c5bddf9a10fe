//! Why an image could not be built.

use crate::LockError;
use crate::images::ImageError;
use std::io;
use std::path::PathBuf;

/// A program that a build needs and that was not found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingTool {
    /// The program, such as `mmdebstrap`.
    pub tool: String,
    /// How to get it, a whole sentence or command line.
    pub install: String,
}

/// A locked Debian package that the archive no longer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GonePackage {
    /// Package name.
    pub name: String,
    /// The version in the lock file.
    pub version: String,
    /// The version that the archive has now, if any.
    pub available: Option<String>,
}

/// Why an image could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Images are built on Linux.
    #[error("an image can only be built on Linux")]
    Platform,
    /// There is no build root for this host's processor.
    #[error("an image can be built on amd64 and arm64, and this host is {host}")]
    Host {
        /// The host's architecture.
        host: String,
    },
    /// Programs are missing on this host.
    #[error("missing on this host: {}", .0.iter().map(|m| m.tool.as_str()).collect::<Vec<_>>().join(", "))]
    Tools(Vec<MissingTool>),
    /// Neither root nor an unprivileged user namespace: the build root cannot be entered.
    #[error(
        "cannot enter the build root: {reason}; run as root, or allow unprivileged user namespaces"
    )]
    Namespace {
        /// What was tried and said.
        reason: String,
    },
    /// The source tree lacks something or holds something that is not understood.
    #[error("{}: {reason}", file.display())]
    Source {
        /// The file or folder.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No component builds this version.
    #[error("Kubernetes {wanted} cannot be built; there is {}", known.join(", "))]
    KubernetesVersion {
        /// The version asked for.
        wanted: String,
        /// The versions that the source tree has.
        known: Vec<String>,
    },
    /// Locked packages are gone from the archive.
    #[error("the archive no longer has {} of the locked packages: {}", .0.len(), gone_list(.0))]
    Locked(Vec<GonePackage>),
    /// A program failed.
    #[error("{step}: {command} failed ({status}){}", if tail.is_empty() { String::new() } else { format!(":\n{tail}") })]
    Command {
        /// The step that ran it.
        step: String,
        /// The program and its arguments.
        command: String,
        /// Exit status or signal.
        status: String,
        /// The last lines it wrote.
        tail: String,
    },
    /// Something that was downloaded or built is not what it has to be.
    #[error("{step}: {reason}")]
    Content {
        /// The step.
        step: String,
        /// What is wrong.
        reason: String,
    },
    /// Another build holds the cache.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The image could not be put into the store.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A file cannot be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

#[cfg(unix)]
impl BuildError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

fn gone_list(gone: &[GonePackage]) -> String {
    let list: Vec<_> = gone
        .iter()
        .map(|package| match &package.available {
            Some(now) => format!("{} {} (now {now})", package.name, package.version),
            None => format!("{} {}", package.name, package.version),
        })
        .collect();
    list.join(", ")
}
