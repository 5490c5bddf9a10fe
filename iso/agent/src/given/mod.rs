//! What the host gives beyond settings and identity, put where the machine uses it.
//!
//! ```text
//! seed, when it boots ---+--> files -----> below /
//! Machine.Give, later ---+--> names -----> /etc/hosts
//!                        +--> authorities-> the image's bundle and these, in one file
//!                        +--> proxy -----> environment of the components that reach outward
//!                        +--> host access -> packet filter
//! ```
//!
//! What was given before and is not any more is taken back, but for files: those are the machine's.
//! Components that reach outward have read bundle and environment when they started, so whoever gives to
//! a machine that runs restarts them ([`crate::supervise::Supervisor::restart_outward`]).

mod access;
mod files;
mod names;

use crate::children::{Children, RunError};
use crate::place::{self, Access};
use coracle_protocol::given::{Given, HOST_NAMES};
use coracle_protocol::guest::GuestNetwork;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Upstream's authorities, as the image has them (iso/src/builder/root.rs).
const IMAGE_BUNDLE: &str = "usr/share/ca-certificates/ca-certificates.crt";
/// The file that programs read; in the image a link to the one above.
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";
const HOSTS: &str = "etc/hosts";

/// What components that reach outward have in their environment. Clones share it. It may hold a
/// password, so nothing prints it.
#[derive(Clone, Default)]
pub struct Environment(Arc<RwLock<BTreeMap<String, String>>>);

impl Environment {
    /// The variables as they are now.
    #[must_use]
    pub fn variables(&self) -> BTreeMap<String, String> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn replace(&self, variables: BTreeMap<String, String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = variables;
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

/// What was given last.
#[derive(Debug, Default)]
struct Present {
    given: Given,
    /// Components that reach outward have yet to start anew to see it.
    is_unseen: bool,
}

/// Takes what the host gives.
#[derive(Debug)]
pub struct Receiver {
    root: PathBuf,
    /// What `/etc/hosts` has to name.
    names: Vec<(Ipv4Addr, Vec<String>)>,
    /// The host, as the machine reaches it on the wire.
    host: Mutex<Ipv4Addr>,
    /// The name server that the machine asks.
    name_server: Option<Ipv4Addr>,
    environment: Environment,
    present: Mutex<Present>,
}

impl Receiver {
    /// A machine below `root`, of that name and in that network, that was given nothing yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, hostname: &str, network: &GuestNetwork) -> Self {
        Self {
            root: root.into(),
            names: vec![
                (network.address, vec![hostname.to_owned()]),
                (network.gateway, HOST_NAMES.map(str::to_owned).to_vec()),
            ],
            host: Mutex::new(network.gateway),
            name_server: network.name_server(),
            environment: Environment::default(),
            present: Mutex::default(),
        }
    }

    /// The environment of the components that reach outward.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Has the packet filter let pods and containers connect to the host, or not.
    ///
    /// # Errors
    /// It could not be told.
    pub async fn guard_host(&self, children: &Children, is_allowed: bool) -> Result<(), RunError> {
        let host = *self.host.lock().unwrap_or_else(PoisonError::into_inner);
        access::set(children, host, self.name_server, is_allowed).await
    }

    /// Says that the host is somewhere else, and guards it there.
    ///
    /// # Errors
    /// The packet filter could not be told.
    pub async fn host_is_at(&self, children: &Children, host: Ipv4Addr) -> Result<(), RunError> {
        *self.host.lock().unwrap_or_else(PoisonError::into_inner) = host;
        self.guard_host(children, self.host_access()).await
    }

    /// Whether pods and containers may connect to the host, as was given last.
    #[must_use]
    pub fn host_access(&self) -> bool {
        self.present().given.host_access
    }

    /// Digest of what was given; empty for nothing, and that of nothing that there is where it is not seen
    /// by all yet.
    #[must_use]
    pub fn digest(&self) -> String {
        let present = self.present();
        match present.is_unseen {
            true => "unseen".to_owned(),
            // Whatever cannot be told is given once more.
            false => present.given.digest().unwrap_or_default(),
        }
    }

    /// Says that every component that runs has started with what was taken last.
    pub fn is_seen(&self) {
        self.present().is_unseen = false;
    }

    fn present(&self) -> std::sync::MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is given in place of what was given before; `files` are the bytes of its archive, which
    /// are read only where they were not placed yet. Returns whether components that reach outward have
    /// to start anew to see it, after which [`is_seen`](Self::is_seen) has to be called.
    ///
    /// # Errors
    /// A file could not be placed. Whatever else is given is in its place all the same, but the machine
    /// does not count as given.
    pub fn take(&self, given: Given, files: impl Read) -> io::Result<bool> {
        let mut present = self.present();
        let placed = match &given.files {
            Some(mark) => files::place(&self.root, mark, files),
            None => Ok(()),
        };
        // Files may have brought another /etc/hosts.
        let named = self.name();
        let trusted = self.trust(&given.authorities);
        self.environment.replace(given.environment());
        placed.and(named).and(trusted)?;
        let former = &present.given;
        let differs = former.proxy != given.proxy || former.authorities != given.authorities;
        let is_unseen = present.is_unseen || differs;
        *present = Present { given, is_unseen };
        Ok(is_unseen)
    }

    fn name(&self) -> io::Result<()> {
        let path = self.root.join(HOSTS);
        let text = fs::read_to_string(&path).unwrap_or_default();
        match names::completed(&text, &self.names) {
            Some(text) => place::file_of_each_boot(&path, text.as_bytes(), Access::PUBLIC),
            None => Ok(()),
        }
    }

    /// Has the machine trust these beside the image's own, and no others.
    fn trust(&self, authorities: &[String]) -> io::Result<()> {
        let path = self.root.join(BUNDLE);
        if authorities.is_empty() {
            return match fs::symlink_metadata(&path) {
                Ok(meta) if !meta.is_symlink() => {
                    place::link(&path, &Path::new("/").join(IMAGE_BUNDLE))
                }
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let mut bundle = fs::read(self.root.join(IMAGE_BUNDLE))?;
        for authority in authorities {
            bundle.extend_from_slice(authority.as_bytes());
        }
        place::file_of_each_boot(&path, &bundle, Access::PUBLIC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_protocol::given::Parcel;
    use std::os::unix::fs::PermissionsExt as _;

    fn network() -> GuestNetwork {
        GuestNetwork {
            address: [10, 0, 2, 15].into(),
            prefix: 24,
            gateway: [10, 0, 2, 2].into(),
            dns: Vec::new(),
            dhcp: false,
        }
    }

    /// A machine whose image trusts one authority.
    fn machine() -> (tempfile::TempDir, Receiver) {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            place::file(&root.path().join(path), text.as_bytes(), Access::PUBLIC).unwrap();
        };
        put(IMAGE_BUNDLE, "of the image\n");
        put(HOSTS, "127.0.0.1 localhost\n127.0.1.1 coracle\n");
        fs::create_dir_all(root.path().join("etc/ssl/certs")).unwrap();
        place::link(&root.path().join(BUNDLE), &root.path().join(IMAGE_BUNDLE)).unwrap();
        let receiver = Receiver::new(root.path(), "coracle", &network());
        (root, receiver)
    }

    fn give(receiver: &Receiver, parcel: &Parcel) -> bool {
        let outward = receiver
            .take(parcel.given().clone(), parcel.files().as_ref())
            .unwrap();
        receiver.is_seen();
        outward
    }

    #[test]
    fn what_not_all_have_seen_is_not_what_the_machine_has() {
        let (_root, receiver) = machine();
        let parcel = Parcel::new(Some(proxy("http://10.0.2.2:3128")), Vec::new(), None);
        let take = |parcel: &Parcel| receiver.take(parcel.given().clone(), parcel.files().as_ref());
        assert!(take(&parcel).unwrap());
        assert_ne!(receiver.digest(), parcel.given().digest().unwrap());
        // Whoever broke off is followed by one who restarts what has to see it.
        assert!(take(&parcel).unwrap());
        receiver.is_seen();
        assert_eq!(receiver.digest(), parcel.given().digest().unwrap());
        assert!(!take(&parcel).unwrap());
        assert!(take(&Parcel::default()).unwrap());
        assert_ne!(receiver.digest(), "");
    }

    fn proxy(url: &str) -> coracle_protocol::given::Proxy {
        coracle_protocol::given::Proxy {
            http: Some(url.into()),
            https: None,
            exceptions: String::new(),
        }
    }

    #[test]
    fn authorities_are_added_to_the_images_own_and_taken_back() {
        let (root, receiver) = machine();
        let bundle = || fs::read_to_string(root.path().join(BUNDLE)).unwrap();
        let with = |authorities: &[&str]| {
            let authorities = authorities.iter().map(|one| (*one).to_owned()).collect();
            Parcel::new(None, authorities, None)
        };
        assert!(!give(&receiver, &Parcel::default()));
        assert_eq!(receiver.digest(), "");
        assert_eq!(bundle(), "of the image\n");
        assert!(give(&receiver, &with(&["one\n", "two\n"])));
        assert_eq!(bundle(), "of the image\none\ntwo\n");
        assert!(!give(&receiver, &with(&["one\n", "two\n"])), "it has them");
        assert!(give(&receiver, &with(&["two\n"])));
        assert_eq!(bundle(), "of the image\ntwo\n");
        assert!(give(&receiver, &Parcel::default()));
        let link = fs::read_link(root.path().join(BUNDLE)).unwrap();
        assert_eq!(link, Path::new("/").join(IMAGE_BUNDLE));
    }

    #[test]
    fn a_proxy_is_in_the_environment_until_it_is_taken_back() {
        let (_root, receiver) = machine();
        let environment = receiver.environment().clone();
        assert!(environment.variables().is_empty());
        assert!(give(
            &receiver,
            &Parcel::new(Some(proxy("a")), Vec::new(), None)
        ));
        assert_eq!(environment.variables()["HTTP_PROXY"], "a");
        assert!(give(
            &receiver,
            &Parcel::new(Some(proxy("b")), Vec::new(), None)
        ));
        assert_eq!(environment.variables()["http_proxy"], "b");
        assert_ne!(receiver.digest(), "");
        assert!(give(&receiver, &Parcel::default()));
        assert!(environment.variables().is_empty());
        assert_eq!(receiver.digest(), "");
    }

    #[test]
    fn the_hosts_names_are_there_whatever_files_bring() {
        let (root, receiver) = machine();
        let hosts = || fs::read_to_string(root.path().join(HOSTS)).unwrap();
        give(&receiver, &Parcel::default());
        let host = "10.0.2.2 host.coracle.internal host.docker.internal\n";
        assert_eq!(
            hosts(),
            format!("127.0.0.1 localhost\n127.0.1.1 coracle\n{host}")
        );
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(6);
        header.set_mode(0o640);
        archive
            .append_data(&mut header, HOSTS, &b"::1 me"[..])
            .unwrap();
        let parcel = Parcel::new(None, Vec::new(), Some(archive.into_inner().unwrap()));
        assert!(!give(&receiver, &parcel), "nothing has to start anew");
        assert_eq!(hosts(), format!("::1 me\n10.0.2.15 coracle\n{host}"));
    }

    #[test]
    fn what_could_not_be_placed_does_not_count_as_given() {
        let (root, receiver) = machine();
        let parcel = Parcel::new(Some(proxy("a")), Vec::new(), Some(vec![1; 700]));
        let refused = receiver.take(parcel.given().clone(), parcel.files().as_ref());
        assert!(refused.is_err());
        assert_eq!(receiver.digest(), "");
        assert_eq!(receiver.environment().variables()["HTTP_PROXY"], "a");
        let mode = fs::metadata(root.path().join(HOSTS)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o644);
    }
}
