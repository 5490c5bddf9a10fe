//! What the host gives a machine beyond its settings and its identity: a proxy, authorities to trust,
//! files, and whether its pods may reach the host.
//!
//! It is one value, [`Given`], and a digest of it says whether a machine has it already. It reaches a
//! machine that boots in its seed ([`crate::seed`]), and one that runs by `Machine.Give`. What lies in
//! its files travels beside it, in a [`Parcel`]. The host's names ([`HOST_NAMES`]) are the same in every
//! machine, so that nobody has to bring them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The names under which a machine, its pods and its containers reach the host: they lead to
/// [`crate::guest::GuestNetwork::gateway`].
pub const HOST_NAMES: [&str; 2] = ["host.coracle.internal", "host.docker.internal"];

/// What a machine is given. The default is nothing at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Given {
    /// How programs that fetch images reach the world; None for directly.
    pub proxy: Option<Proxy>,
    /// Certificates to trust besides those of the image: PEM, each one ended by a newline.
    pub authorities: Vec<String>,
    /// Which files are to be placed below `/`; None for none.
    pub files: Option<FilesMark>,
    /// Whether pods and containers may connect to the host.
    pub host_access: bool,
}

/// The values of the usual variables, as the machine is to see them. They may hold a password.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Proxy {
    /// `HTTP_PROXY`, a URL.
    pub http: Option<String>,
    /// `HTTPS_PROXY`, a URL.
    pub https: Option<String>,
    /// `NO_PROXY`: names, domains, addresses and CIDRs, separated by commas.
    pub exceptions: String,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").finish_non_exhaustive()
    }
}

/// Which tar archive it is. Its paths are relative to `/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesMark {
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of it, in hexadecimal.
    pub sha256: String,
}

impl Given {
    /// Whether it is nothing at all.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Tells one value from another: SHA-256 in hexadecimal; empty for nothing.
    ///
    /// # Errors
    /// Its JSON cannot be written.
    pub fn digest(&self) -> Result<String, serde_json::Error> {
        if self.is_nothing() {
            return Ok(String::new());
        }
        Ok(hex::encode(Sha256::digest(serde_json::to_vec(self)?)))
    }

    /// The proxy as environment variables, each in both cases.
    #[must_use]
    pub fn environment(&self) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        let Some(proxy) = &self.proxy else {
            return variables;
        };
        let values = [
            ("HTTP_PROXY", proxy.http.as_ref()),
            ("HTTPS_PROXY", proxy.https.as_ref()),
            ("NO_PROXY", Some(&proxy.exceptions)),
        ];
        for (name, value) in values {
            if let Some(value) = value {
                variables.insert(name.to_owned(), value.clone());
                variables.insert(name.to_ascii_lowercase(), value.clone());
            }
        }
        variables
    }
}

/// A [`Given`] with what is in its files.
#[derive(Debug, Clone, Default)]
pub struct Parcel {
    given: Given,
    files: Bytes,
}

impl Parcel {
    /// Packs it; `files` is a tar archive whose paths are relative to `/`.
    #[must_use]
    pub fn new(proxy: Option<Proxy>, authorities: Vec<String>, files: Option<Vec<u8>>) -> Self {
        let mark = files.as_ref().map(|archive| FilesMark {
            bytes: archive.len() as u64,
            sha256: hex::encode(Sha256::digest(archive)),
        });
        Self {
            given: Given {
                proxy,
                authorities,
                files: mark,
                host_access: false,
            },
            files: files.unwrap_or_default().into(),
        }
    }

    /// The same with or without access to the host.
    #[must_use]
    pub fn with_host_access(mut self, host_access: bool) -> Self {
        self.given.host_access = host_access;
        self
    }

    /// What is given.
    #[must_use]
    pub fn given(&self) -> &Given {
        &self.given
    }

    /// The archive; empty without files.
    #[must_use]
    pub fn files(&self) -> &Bytes {
        &self.files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy() -> Proxy {
        Proxy {
            http: Some("http://me:secret@proxy:3128".into()),
            https: None,
            exceptions: "localhost".into(),
        }
    }

    #[test]
    fn a_digest_tells_values_apart_and_is_empty_for_nothing() {
        let digest = |given: &Given| given.digest().unwrap();
        assert_eq!(digest(&Given::default()), "");
        let with_proxy = Parcel::new(Some(proxy()), Vec::new(), None);
        let with_files = Parcel::new(None, Vec::new(), Some(b"one".to_vec()));
        let with_others = Parcel::new(None, Vec::new(), Some(b"two".to_vec()));
        let digests = [&with_proxy, &with_files, &with_others].map(|one| digest(one.given()));
        assert!(digests.iter().all(|one| one.len() == 64), "{digests:?}");
        assert_ne!(digests[0], digests[1]);
        assert_ne!(digests[1], digests[2]);
        assert_eq!(digest(with_proxy.given()), digests[0]);
    }

    #[test]
    fn variables_are_set_in_both_cases_and_only_where_there_is_a_value() {
        let given = Given {
            proxy: Some(proxy()),
            ..Given::default()
        };
        let variables = given.environment();
        let names: Vec<&str> = variables.keys().map(String::as_str).collect();
        assert_eq!(names, ["HTTP_PROXY", "NO_PROXY", "http_proxy", "no_proxy"]);
        assert_eq!(variables["http_proxy"], "http://me:secret@proxy:3128");
        assert!(Given::default().environment().is_empty());
    }

    #[test]
    fn a_password_does_not_appear_in_debug_output() {
        let parcel = Parcel::new(Some(proxy()), Vec::new(), None);
        assert!(!format!("{parcel:?}").contains("secret"));
    }
}
