//! Where an image is fetched from: a server or a folder, and how files are named there.
//!
//! ```text
//! SOURCE/image.json              or  SOURCE/sha256-HEX/image.json, HEX being the image's digest
//!     sha256-HEX.zst                 a file, compressed, under the digest of what it unpacks to
//!     root.erofs, ...                or as it is, under its own name
//! ```
//!
//! So what `export` writes is a source, and so are an image's folder in a store and a store's folder of
//! images.

use super::error::Reason;
use crate::Digest;
use crate::images::Part;
use reqwest::Url;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A place that may have an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A folder of this host.
    Folder(PathBuf),
    /// The folder of a web server. A query in its URL goes with every request; name and password are used
    /// and never shown.
    Web(Url),
}

/// A text names no source. The text is not repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ParseSourceError {
    reason: String,
}

impl FromStr for Source {
    type Err = ParseSourceError;

    /// A URL (`http`, `https`, `file`), or else the path of a folder.
    fn from_str(text: &str) -> Result<Self, ParseSourceError> {
        let wrong = |reason: &str| ParseSourceError {
            reason: reason.to_owned(),
        };
        if text.trim().is_empty() {
            return Err(wrong("an empty text is neither a URL nor a folder"));
        }
        if !text.contains("://") {
            return Ok(Self::Folder(text.into()));
        }
        let mut url: Url = text
            .parse()
            .map_err(|error| wrong(&format!("no URL: {error}")))?;
        match url.scheme() {
            "http" | "https" => {
                if !url.path().ends_with('/') {
                    url.set_path(&format!("{}/", url.path()));
                }
                url.set_fragment(None);
                Ok(Self::Web(url))
            }
            "file" => match url.to_file_path() {
                Ok(path) => Ok(Self::Folder(path)),
                Err(()) => Err(wrong("a file:// URL names an absolute path of this host")),
            },
            scheme => Err(wrong(&format!(
                "{scheme}:// is not known: http, https, file and plain paths are"
            ))),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Web(url) => shown(url).fmt(f),
        }
    }
}

/// A URL without what may be secret: name, password, query.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // These fail for URLs that have no host, which no source is.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.into()
}

impl Source {
    /// Whether what comes from there is what somebody put there: a folder, TLS, or this host itself.
    pub fn is_authentic(&self) -> bool {
        match self {
            Self::Folder(_) => true,
            Self::Web(url) => {
                let host = url.host_str().unwrap_or_default();
                let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
                url.scheme() == "https"
                    || host == "localhost"
                    || address.is_ok_and(|address| address.is_loopback())
            }
        }
    }

    /// The folders of this source in which an image may be, the likelier one first.
    pub(super) fn places(&self, digest: Option<&Digest>) -> Vec<Self> {
        let named = digest.map(|digest| self.below(&digest.folder_name(), true));
        std::iter::once(self.clone()).chain(named).collect()
    }

    /// A file of this source.
    pub(super) fn file(&self, name: &str) -> Self {
        self.below(name, false)
    }

    fn below(&self, name: &str, is_folder: bool) -> Self {
        match self {
            Self::Folder(path) => Self::Folder(path.join(name)),
            Self::Web(url) => {
                let mut url = url.clone();
                if let Ok(mut path) = url.path_segments_mut() {
                    path.pop_if_empty().push(name);
                    if is_folder {
                        path.push("");
                    }
                }
                Self::Web(url)
            }
        }
    }

    /// That there is no file of this name.
    pub(super) fn lacks(what: &str, status: Option<u16>) -> Reason {
        Reason::NotFound {
            what: what.to_owned(),
            status,
        }
    }
}

/// How a file is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Compressed, under its digest.
    Zstd,
    /// As it is, under its name.
    Plain,
}

impl Encoding {
    /// In the order in which they are asked for.
    pub(super) const ALL: [Self; 2] = [Self::Zstd, Self::Plain];

    /// The name under which a source has a file.
    pub(super) fn name(self, part: &Part) -> String {
        match self {
            Self::Zstd => packed_name(&part.sha256),
            Self::Plain => part.file.clone(),
        }
    }

    /// The most bytes that a file of `size` bytes is sent in. What cannot be compressed becomes a little
    /// longer: 1/256 by zstd's own bound, and its headers.
    pub(super) fn most(self, size: u64) -> u64 {
        match self {
            Self::Zstd => size + size / 128 + 1024,
            Self::Plain => size,
        }
    }
}

/// The name of a compressed file.
pub(crate) fn packed_name(digest: &Digest) -> String {
    format!("{}.zst", digest.folder_name())
}

/// A file of a folder that is a source.
pub(super) fn is_missing(path: &Path, error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound || path.is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_url_or_a_folder() {
        let shown = |text: &str| text.parse::<Source>().unwrap().to_string();
        assert_eq!(shown("https://a.example/x"), "https://a.example/x/");
        assert_eq!(
            shown("http://me:secret@a.example:81/x/?sig=secret#f"),
            "http://a.example:81/x/"
        );
        assert_eq!(shown("/srv/an image"), "/srv/an image");
        assert_eq!(shown("Bilder/größer"), "Bilder/größer");
        if cfg!(unix) {
            assert_eq!(shown("file:///srv/an%20image"), "/srv/an image");
        }
        for wrong in ["", " ", "ftp://a.example", "http://", "file://host/x"] {
            assert!(wrong.parse::<Source>().is_err(), "{wrong}");
        }
        let secret = "https://me:secret@[/".parse::<Source>().unwrap_err();
        assert!(!secret.to_string().contains("secret"), "{secret}");
    }

    #[test]
    fn files_are_below_their_source_and_take_its_query_along() {
        let source: Source = "https://me:pw@a.example/x?sig=1".parse().unwrap();
        let Source::Web(url) = source.file("a b") else {
            panic!("not a server");
        };
        assert_eq!(url.as_str(), "https://me:pw@a.example/x/a%20b?sig=1");
        let digest = Digest::of("abc");
        let places = source.places(Some(&digest));
        let Source::Web(url) = places[1].file("image.json") else {
            panic!("not a server");
        };
        let path = format!("/x/{}/image.json", digest.folder_name());
        assert_eq!(url.path(), path);
        assert_eq!(source.places(None).len(), 1);
    }

    #[test]
    fn only_what_nobody_on_the_way_can_change_is_authentic() {
        let authentic = |text: &str| text.parse::<Source>().unwrap().is_authentic();
        assert!(authentic("/folder") && authentic("https://a.example"));
        assert!(authentic("http://127.0.0.1:8000") && authentic("http://[::1]/"));
        assert!(authentic("http://localhost/"));
        assert!(!authentic("http://a.example") && !authentic("http://10.0.0.1"));
        assert!(!authentic("http://localhost.example"));
    }
}
