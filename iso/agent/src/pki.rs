//! The certificates that never leave the machine.
//!
//! Three authorities are made at first boot and stay on the data disk: `node-ca` for everything
//! that talks to or is the API server inside, `etcd-ca` so that only the API server reaches
//! etcd, and `front-proxy-ca`, because the API server believes any user name that a front
//! proxy's certificate vouches for. What has less than a third of its life left is made anew at
//! boot; so is what no longer fits the machine's name or address.

use crate::place::{self, Access};
use coracle_protocol::guest::ClusterIdentity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

/// The name under which components inside reach the API server and the kubelet.
pub const NODE_NAME: &str = "node.coracle.internal";

const AUTHORITY_LIFE: Duration = Duration::days(3650);
const LEAF_LIFE: Duration = Duration::days(365);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Authority {
    Node,
    Etcd,
    FrontProxy,
}

impl Authority {
    fn file(self) -> &'static str {
        match self {
            Self::Node => "node-ca",
            Self::Etcd => "etcd-ca",
            Self::FrontProxy => "front-proxy-ca",
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Usage {
    Client,
    /// A server whose names are the machine's; etcd's peers are clients too.
    Server,
}

struct Leaf {
    file: &'static str,
    authority: Authority,
    /// `{node}` is the node's name.
    common_name: &'static str,
    organization: Option<&'static str>,
    usage: Usage,
}

const fn client(
    file: &'static str,
    common_name: &'static str,
    organization: Option<&'static str>,
) -> Leaf {
    Leaf {
        file,
        authority: Authority::Node,
        common_name,
        organization,
        usage: Usage::Client,
    }
}

const MASTERS: Option<&str> = Some("system:masters");

const LEAVES: &[Leaf] = &[
    Leaf {
        file: "node",
        authority: Authority::Node,
        common_name: "{node}",
        organization: None,
        usage: Usage::Server,
    },
    client("admin", "coracle-admin", MASTERS),
    client("kubelet", "system:node:{node}", Some("system:nodes")),
    client(
        "kube-controller-manager",
        "system:kube-controller-manager",
        None,
    ),
    client("kube-scheduler", "system:kube-scheduler", None),
    client("kube-proxy", "system:kube-proxy", None),
    client(
        "apiserver-kubelet-client",
        "kube-apiserver-kubelet-client",
        MASTERS,
    ),
    Leaf {
        file: "etcd",
        authority: Authority::Etcd,
        common_name: "{node}",
        organization: None,
        usage: Usage::Server,
    },
    Leaf {
        file: "apiserver-etcd-client",
        authority: Authority::Etcd,
        common_name: "kube-apiserver",
        organization: None,
        usage: Usage::Client,
    },
    Leaf {
        file: "front-proxy-client",
        authority: Authority::FrontProxy,
        common_name: "front-proxy-client",
        organization: None,
        usage: Usage::Client,
    },
];

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] io::Error),
    /// A certificate could not be made.
    #[error("cannot make the certificate {name}")]
    Make {
        /// Its file's name.
        name: &'static str,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
}

/// The machine that certificates are made for.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    /// Node name.
    pub name: &'a str,
    /// The machine's address.
    pub address: Ipv4Addr,
    /// The group that may read the administrator's key, if there is one.
    pub administrators: Option<u32>,
    /// The time as the machine knows it.
    pub now: OffsetDateTime,
}

/// Makes what is missing, too old, or does not fit in `folder`; returns the names of what was
/// made. Files are `NAME.crt` and `NAME.key`.
pub fn ensure(folder: &Path, node: &Node<'_>) -> Result<Vec<&'static str>, PkiError> {
    place::folder(folder, 0o755)?;
    let mut made = Vec::new();
    for authority in [Authority::Node, Authority::Etcd, Authority::FrontProxy] {
        let name = authority.file();
        let failed = |source| PkiError::Make { name, source };
        let fresh = read(folder, name).is_some_and(|pem| fits(&pem, None, None, node.now));
        if !fresh {
            let key = KeyPair::generate().map_err(failed)?;
            let certificate = authority_params(name, node.now)
                .and_then(|params| params.self_signed(&key))
                .map_err(failed)?;
            write(folder, name, &certificate.pem(), &key.serialize_pem(), None)?;
            made.push(name);
        }
        let certificate = fs::read_to_string(path(folder, name, "crt"))?;
        let key = fs::read_to_string(path(folder, name, "key"))?;
        let issuer = KeyPair::from_pem(&key)
            .and_then(|key| Issuer::from_ca_cert_pem(&certificate, key))
            .map_err(failed)?;
        for leaf in LEAVES.iter().filter(|leaf| leaf.authority == authority) {
            let failed = |source| PkiError::Make {
                name: leaf.file,
                source,
            };
            let params = leaf_params(leaf, node).map_err(failed)?;
            let group = node.administrators.filter(|_| leaf.file == "admin");
            let fresh = read(folder, leaf.file)
                .is_some_and(|pem| fits(&pem, Some(&certificate), Some(&params), node.now));
            if fresh {
                continue;
            }
            let key = KeyPair::generate().map_err(failed)?;
            let leaf_certificate = params.signed_by(&key, &issuer).map_err(failed)?;
            write(
                folder,
                leaf.file,
                &leaf_certificate.pem(),
                &key.serialize_pem(),
                group,
            )?;
            made.push(leaf.file);
        }
    }
    Ok(made)
}

/// Places what the host made in a folder of its own, in memory: each boot places it again, and a copy
/// of a machine replaces it before anything else, which a disk would make slow. `clients-ca.crt` holds
/// both authorities whose client certificates the API server takes; `folder` is the one that [`ensure`]
/// filled.
pub fn place_identity(
    to: &Path,
    folder: &Path,
    identity: &ClusterIdentity,
) -> Result<(), PkiError> {
    let public =
        |name: &str, pem: &str| place::file(&to.join(name), pem.as_bytes(), Access::PUBLIC);
    let secret =
        |name: &str, pem: &str| place::file(&to.join(name), pem.as_bytes(), Access::SECRET);
    // What the API server reads again at once comes first.
    let node = fs::read_to_string(path(folder, Authority::Node.file(), "crt"))?;
    public(
        "clients-ca.crt",
        &format!("{}\n{}", node.trim_end(), identity.client_ca),
    )?;
    public("apiserver.crt", &identity.serving_certificate)?;
    secret("apiserver.key", &identity.serving_key)?;
    public("cluster-ca.crt", &identity.cluster_ca)?;
    public("client-ca.crt", &identity.client_ca)?;
    secret("client-ca.key", &identity.client_ca_key)?;
    secret("service-account.key", &identity.service_account_key)?;
    public("service-account.pub", &identity.service_account_public_key)?;
    Ok(())
}

fn path(folder: &Path, name: &str, extension: &str) -> PathBuf {
    folder.join(format!("{name}.{extension}"))
}

/// The certificate, when its key is there too.
fn read(folder: &Path, name: &str) -> Option<String> {
    KeyPair::from_pem(&fs::read_to_string(path(folder, name, "key")).ok()?).ok()?;
    fs::read_to_string(path(folder, name, "crt")).ok()
}

fn write(
    folder: &Path,
    name: &str,
    certificate: &str,
    key: &str,
    group: Option<u32>,
) -> io::Result<()> {
    let mode = if group.is_some() { 0o640 } else { 0o600 };
    place::file(
        &path(folder, name, "key"),
        key.as_bytes(),
        Access { mode, group },
    )?;
    place::file(
        &path(folder, name, "crt"),
        certificate.as_bytes(),
        Access::PUBLIC,
    )
}

fn authority_params(name: &str, now: OffsetDateTime) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("coracle {name}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params.not_before = now - Duration::HOUR;
    params.not_after = now + AUTHORITY_LIFE;
    Ok(params)
}

fn leaf_params(leaf: &Leaf, node: &Node<'_>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    let name = leaf.common_name.replace("{node}", node.name);
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(organization) = leaf.organization {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if matches!(leaf.usage, Usage::Server) {
        params
            .extended_key_usages
            .insert(0, ExtendedKeyUsagePurpose::ServerAuth);
        for name in [NODE_NAME, "localhost", node.name] {
            params
                .subject_alt_names
                .push(SanType::DnsName(name.try_into()?));
        }
        for address in [Ipv4Addr::LOCALHOST, node.address] {
            params
                .subject_alt_names
                .push(SanType::IpAddress(IpAddr::V4(address)));
        }
    }
    params.use_authority_key_identifier_extension = true;
    params.not_before = node.now - Duration::HOUR;
    params.not_after = node.now + LEAF_LIFE;
    Ok(params)
}

/// Whether a certificate can stay: signed by this authority, for these names, and with more
/// than a third of its life left.
fn fits(
    pem: &str,
    authority: Option<&str>,
    wanted: Option<&CertificateParams>,
    now: OffsetDateTime,
) -> bool {
    let Some(der) = to_der(pem) else { return false };
    let Ok((_, certificate)) = X509Certificate::from_der(&der) else {
        return false;
    };
    let begin = certificate.validity().not_before.timestamp();
    let end = certificate.validity().not_after.timestamp();
    let now = now.unix_timestamp();
    if now < begin || now > end - (end - begin) / 3 {
        return false;
    }
    if let Some(authority) = authority {
        let Some(der) = to_der(authority) else {
            return false;
        };
        let Ok((_, authority)) = X509Certificate::from_der(&der) else {
            return false;
        };
        if key_id(&authority).is_none() || key_id(&authority) != authority_key_id(&certificate) {
            return false;
        }
    }
    wanted.is_none_or(|wanted| {
        names(&certificate) == wanted.subject_alt_names
            && certificate
                .subject()
                .iter_common_name()
                .next()
                .and_then(|name| name.as_str().ok())
                == common_name(wanted)
    })
}

fn to_der(pem: &str) -> Option<Vec<u8>> {
    x509_parser::pem::parse_x509_pem(pem.as_bytes())
        .ok()
        .map(|(_, pem)| pem.contents)
}

fn common_name(params: &CertificateParams) -> Option<&str> {
    match params.distinguished_name.get(&DnType::CommonName) {
        Some(rcgen::DnValue::Utf8String(name)) => Some(name),
        _ => None,
    }
}

fn key_id<'a>(certificate: &X509Certificate<'a>) -> Option<&'a [u8]> {
    certificate
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
            _ => None,
        })
}

fn authority_key_id<'a>(certificate: &X509Certificate<'a>) -> Option<&'a [u8]> {
    certificate
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                id.key_identifier.as_ref().map(|id| id.0)
            }
            _ => None,
        })
}

fn names(certificate: &X509Certificate<'_>) -> Vec<SanType> {
    use x509_parser::extensions::GeneralName;
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for name in &names.value.general_names {
        match name {
            GeneralName::DNSName(name) => {
                found.extend((*name).try_into().ok().map(SanType::DnsName));
            }
            GeneralName::IPAddress(bytes) => {
                let address = <[u8; 4]>::try_from(*bytes).ok().map(IpAddr::from);
                found.extend(address.map(SanType::IpAddress));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, now: OffsetDateTime) -> Node<'_> {
        Node {
            name,
            address: Ipv4Addr::new(10, 0, 2, 15),
            administrators: None,
            now,
        }
    }

    #[test]
    fn everything_is_made_once_and_renewed_below_a_third_of_its_life() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        let first = ensure(dir.path(), &node("coracle", now)).unwrap();
        assert_eq!(first.len(), LEAVES.len() + 3);
        assert!(
            ensure(dir.path(), &node("coracle", now))
                .unwrap()
                .is_empty()
        );
        let soon = now + Duration::days(200);
        assert!(
            ensure(dir.path(), &node("coracle", soon))
                .unwrap()
                .is_empty()
        );
        let late = now + Duration::days(300);
        assert_eq!(
            ensure(dir.path(), &node("coracle", late)).unwrap().len(),
            LEAVES.len()
        );
    }

    #[test]
    fn another_name_or_authority_means_new_certificates() {
        let dir = tempfile::tempdir().unwrap();
        let now = OffsetDateTime::now_utc();
        ensure(dir.path(), &node("coracle", now)).unwrap();
        let renamed = ensure(dir.path(), &node("other", now)).unwrap();
        assert_eq!(renamed, ["node", "kubelet", "etcd"]);
        fs::remove_file(dir.path().join("etcd-ca.key")).unwrap();
        let again = ensure(dir.path(), &node("other", now)).unwrap();
        assert_eq!(again, ["etcd-ca", "etcd", "apiserver-etcd-client"]);
        place::file(&dir.path().join("admin.key"), b"damaged", Access::SECRET).unwrap();
        assert_eq!(ensure(dir.path(), &node("other", now)).unwrap(), ["admin"]);
    }

    #[test]
    fn subjects_are_what_kubernetes_expects() {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path(), &node("coracle", OffsetDateTime::now_utc())).unwrap();
        let subject = |name: &str| {
            let der = to_der(&read(dir.path(), name).unwrap()).unwrap();
            X509Certificate::from_der(&der)
                .unwrap()
                .1
                .subject()
                .to_string()
        };
        assert_eq!(subject("kubelet"), "CN=system:node:coracle, O=system:nodes");
        assert_eq!(subject("admin"), "CN=coracle-admin, O=system:masters");
        assert_eq!(subject("kube-scheduler"), "CN=system:kube-scheduler");
    }
}
