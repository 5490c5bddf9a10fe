//! Why an image could not be fetched.

use super::Source;
use crate::images::ImageError;
use crate::{Digest, LockError};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a download ended without the image.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// Nobody was named who could have it.
    #[error("no place is named to fetch the image from")]
    NoSource,
    /// Every source was tried, and each failed in its own way.
    #[error("{what} could not be fetched")]
    Failed {
        /// The image, or one of its files.
        what: String,
        /// What each source did, in the order in which they were asked.
        failures: Vec<Failure>,
    },
    /// The image has no layer of this version of Kubernetes.
    #[error("the image {digest} has no Kubernetes {version}")]
    NoVersion {
        /// The image.
        digest: Digest,
        /// What was wanted.
        version: String,
        /// What it has.
        known: Vec<String>,
    },
    /// There is too little free space.
    #[error("the image takes {needed} bytes more in {}, where {free} are free", folder.display())]
    NoSpace {
        /// The store.
        folder: PathBuf,
        /// Bytes that are missing, with what fetching them takes for a while.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// Another process was fetching an image all the time.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// A proxy cannot be used. Its URL, which may hold a password, is not named.
    #[error("the proxy for {scheme} cannot be used: {reason}")]
    Proxy {
        /// `http` or `https`.
        scheme: &'static str,
        /// Why.
        reason: String,
    },
    /// An authority to trust is no certificate.
    #[error("a certificate to trust cannot be used: {reason}")]
    Authority {
        /// Why.
        reason: String,
    },
    /// The store cannot be written, or what is there cannot be used.
    #[error(transparent)]
    Store(#[from] ImageError),
}

impl DownloadError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Store(ImageError::Io { path, source })
    }

    /// What all failures of the sources come to; None for another error.
    pub fn kind(&self) -> Option<FailureKind> {
        let Self::Failed { failures, .. } = self else {
            return None;
        };
        let kinds = || failures.iter().map(|failure| failure.reason.kind());
        let telling = [
            FailureKind::Untrusted,
            FailureKind::Wrong,
            FailureKind::TimedOut,
        ];
        let found = telling.into_iter().find(|kind| kinds().any(|k| k == *kind));
        Some(match found {
            Some(kind) => kind,
            None if kinds().all(|kind| kind == FailureKind::NotFound) => FailureKind::NotFound,
            None => FailureKind::Unreachable,
        })
    }
}

/// The kinds of failure that are helped in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The sources do not have it.
    NotFound,
    /// A source sent something else than was asked for by digest.
    Wrong,
    /// A source's certificate is not believed.
    Untrusted,
    /// A source stopped sending.
    TimedOut,
    /// No source could be reached, or none went on to the end.
    Unreachable,
}

/// What one source did.
#[derive(Debug)]
pub struct Failure {
    /// The source.
    pub source: Source,
    /// Why it was given up.
    pub reason: Reason,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.source, self.reason)
    }
}

/// Why one request, or one source, failed. Reads on after the source's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// There is no such file.
    #[error("has no {what}{}", status.map(|status| format!(" ({status})")).unwrap_or_default())]
    NotFound {
        /// What was asked for.
        what: String,
        /// The status code of a server.
        status: Option<u16>,
    },
    /// There is an image, and it is another one.
    #[error("has another image: {found}")]
    OtherImage {
        /// Its digest.
        found: Digest,
    },
    /// A server answered so, and asking again would not change that.
    #[error("answered {status}")]
    Refused {
        /// The status code.
        status: u16,
    },
    /// A server answered that it cannot do so now.
    #[error("answered {status}")]
    Busy {
        /// The status code.
        status: u16,
        /// How long it asks to be left alone.
        wait: Option<Duration>,
    },
    /// No connection came about.
    #[error("cannot be reached: {detail}")]
    Unreachable {
        /// Why.
        detail: String,
    },
    /// The server's certificate is not believed.
    #[error("has a certificate that is not believed: {detail}")]
    Untrusted {
        /// Why.
        detail: String,
    },
    /// Nothing came for so long.
    #[error("sent nothing for {} s", limit.as_secs_f32())]
    Stalled {
        /// The limit.
        limit: Duration,
    },
    /// It ended before the file did.
    #[error("broke off: {detail}")]
    BrokeOff {
        /// How.
        detail: String,
    },
    /// What a server has is not as long as the file.
    #[error("has {found} bytes of {file} instead of {expected}")]
    WrongLength {
        /// The file.
        file: String,
        /// Bytes by the index, or the most that they can be when compressed.
        expected: u64,
        /// Bytes by the server.
        found: u64,
    },
    /// What came is not what its digest says.
    #[error("sent something else than {file}: {detail}")]
    WrongBytes {
        /// The file.
        file: String,
        /// How that was seen.
        detail: String,
    },
    /// A file of a folder cannot be read.
    #[error("cannot be read: {detail}")]
    Unreadable {
        /// Why.
        detail: String,
    },
}

impl Reason {
    /// Whether the same request may do better a moment later.
    pub(super) fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Busy { .. }
                | Self::Unreachable { .. }
                | Self::Stalled { .. }
                | Self::BrokeOff { .. }
        )
    }

    fn kind(&self) -> FailureKind {
        match self {
            Self::NotFound { .. } => FailureKind::NotFound,
            Self::OtherImage { .. } | Self::WrongLength { .. } | Self::WrongBytes { .. } => {
                FailureKind::Wrong
            }
            Self::Untrusted { .. } => FailureKind::Untrusted,
            Self::Stalled { .. } => FailureKind::TimedOut,
            Self::Refused { .. }
            | Self::Busy { .. }
            | Self::Unreachable { .. }
            | Self::BrokeOff { .. }
            | Self::Unreadable { .. } => FailureKind::Unreachable,
        }
    }
}

/// Why one try did not bring a file: of the source's making, or of this host's.
#[derive(Debug)]
pub(super) enum Stop {
    /// Another try or another source may do better.
    Source(Reason),
    /// Nobody else would do better.
    Here(DownloadError),
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self::Source(reason)
    }
}

impl Stop {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Here(DownloadError::io(path)(source))
    }
}
