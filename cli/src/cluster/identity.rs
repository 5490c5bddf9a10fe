//! Everything that lets somebody into a cluster, made on the host, unique to the cluster.
//!
//! ```text
//! cluster-ca ---> apiserver                  what the API server shows; pods and kubectl trust it
//! client-ca  ---> admin                      who may call the API; its key signs CSRs in the guest
//! agent-ca   ---> agent, agent-client        the control API, both ends
//! docker/ca  ---> docker-api, docker/cert    the Docker API, both ends; its clients read the folder docker/
//! service-account                            signs tokens
//! ssh/host, ssh/id                           sshd's key and the one it lets in
//! ```
//!
//! The folder appears whole or not at all: it is made under a temporary name and renamed.

use super::record::Endpoint;
use super::spec::ClusterSpec;
use crate::error::{Context as _, Error, ErrorId, Result};
use coracle_kubeconfig::pki::{Authority, Credentials, LeafRequest, ServiceAccountKey, Usage};
use coracle_protocol::client::AgentCredentials;
use coracle_protocol::guest::{ClusterIdentity, ServerIdentity, SshIdentity};
use coracle_protocol::{AGENT_SERVER_NAME, GUEST_USER};
use coracle_vm::store::atomic;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The agent's own certificates: they are replaced with the machine, never renewed.
const AGENT_VALIDITY: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
/// Random bytes that a copy of a machine is given.
const ENTROPY: usize = 256;
/// Authorities outlive what they sign.
const AUTHORITY_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// The group whose members may do everything (bootstrap RBAC of Kubernetes).
const ADMIN_GROUP: &str = "system:masters";

/// The paths of a cluster's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    folder: PathBuf,
}

macro_rules! files {
    ($($(#[$doc:meta])* $name:ident = $path:literal;)*) => {
        impl IdentityFiles {
            $($(#[$doc])* pub fn $name(&self) -> PathBuf { self.folder.join($path) })*
        }
    };
}

files! {
    /// Authority of the API server's certificate.
    cluster_ca = "cluster-ca.crt";
    cluster_ca_key = "cluster-ca.key";
    apiserver = "apiserver.crt";
    apiserver_key = "apiserver.key";
    client_ca = "client-ca.crt";
    client_ca_key = "client-ca.key";
    /// The user of the kubeconfig's context.
    admin = "admin.crt";
    admin_key = "admin.key";
    service_account_key = "service-account.key";
    service_account_public_key = "service-account.pub";
    agent_ca = "agent-ca.crt";
    agent = "agent.crt";
    agent_key = "agent.key";
    agent_client = "agent-client.crt";
    agent_client_key = "agent-client.key";
    /// What Docker's clients read, under the names that they know.
    docker = "docker";
    docker_ca = "docker/ca.pem";
    docker_client = "docker/cert.pem";
    docker_client_key = "docker/key.pem";
    docker_api = "docker-api.crt";
    docker_api_key = "docker-api.key";
    ssh_host_key = "ssh_host_ed25519_key";
    /// The private key that sshd lets in.
    ssh_key = "id_ed25519";
    ssh_public_key = "id_ed25519.pub";
    /// The host key as OpenSSH's clients keep it.
    known_hosts = "known_hosts";
}

impl IdentityFiles {
    /// The identity in a folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Whether the whole identity is there.
    pub fn exists(&self) -> bool {
        self.folder.join("complete").exists()
    }

    /// Makes the identity, unless it is there. With `shared`, the authority of the API server's
    /// certificate is that one's: pods that run already trust it.
    pub fn make(
        &self,
        spec: &ClusterSpec,
        endpoint: &Endpoint,
        guest: Ipv4Addr,
        shared: Option<&Self>,
    ) -> Result<()> {
        if self.exists() {
            return Ok(());
        }
        let parent = self.folder.parent().unwrap_or(Path::new("."));
        let failed = || format!("cannot write {}", self.folder.display());
        if self.folder.exists() {
            std::fs::remove_dir_all(&self.folder).context(ErrorId::Write, failed)?;
        }
        let workplace =
            atomic::private_folder(parent, ".identity-").context(ErrorId::Write, failed)?;
        let files = Self::new(workplace.path().to_owned());
        files.fill(spec, endpoint, guest, shared)?;
        write(&files.folder.join("complete"), "")?;
        let made = workplace.keep();
        std::fs::rename(&made, &self.folder).context(ErrorId::Write, failed)
    }

    fn fill(
        &self,
        spec: &ClusterSpec,
        endpoint: &Endpoint,
        guest: Ipv4Addr,
        shared: Option<&Self>,
    ) -> Result<()> {
        let validity = spec.certificate_validity();
        let authorities = AUTHORITY_VALIDITY.max(validity);
        let cluster_ca = match shared {
            Some(shared) => Authority::from_pem(
                &read(&shared.cluster_ca())?,
                &read(&shared.cluster_ca_key())?,
            )?,
            None => Authority::generate("coracle cluster CA", authorities)?,
        };
        let apiserver = cluster_ca.issue(&serving_request(spec, endpoint, guest))?;
        let client_ca = Authority::generate("coracle client CA", authorities)?;
        let admin = client_ca.issue(&client("coracle-admin", Some(ADMIN_GROUP), validity))?;
        let agent_ca = Authority::generate("coracle agent CA", AGENT_VALIDITY)?;
        let agent = agent_ca.issue(&LeafRequest {
            dns_names: vec![AGENT_SERVER_NAME.into()],
            usage: Usage::Server,
            ..client("coracle agent", None, AGENT_VALIDITY)
        })?;
        let agent_client = agent_ca.issue(&client("coracle host", None, AGENT_VALIDITY))?;
        let service_account = ServiceAccountKey::generate()?;

        write(&self.cluster_ca(), cluster_ca.certificate_pem())?;
        write(&self.cluster_ca_key(), &cluster_ca.key_pem())?;
        pair(&self.apiserver(), &self.apiserver_key(), &apiserver)?;
        write(&self.client_ca(), client_ca.certificate_pem())?;
        write(&self.client_ca_key(), &client_ca.key_pem())?;
        pair(&self.admin(), &self.admin_key(), &admin)?;
        write(&self.agent_ca(), agent_ca.certificate_pem())?;
        pair(&self.agent(), &self.agent_key(), &agent)?;
        pair(
            &self.agent_client(),
            &self.agent_client_key(),
            &agent_client,
        )?;
        write(&self.service_account_key(), &service_account.private_pem)?;
        write(
            &self.service_account_public_key(),
            &service_account.public_pem,
        )?;
        self.fill_docker(endpoint)?;
        self.fill_ssh(endpoint)
    }

    fn fill_docker(&self, endpoint: &Endpoint) -> Result<()> {
        if endpoint.docker_port.is_none() {
            return Ok(());
        }
        let ca = Authority::generate("coracle Docker CA", AGENT_VALIDITY)?;
        let api = ca.issue(&LeafRequest {
            dns_names: vec!["localhost".into()],
            addresses: vec![endpoint.address],
            usage: Usage::Server,
            ..client("dockerd", None, AGENT_VALIDITY)
        })?;
        let own = ca.issue(&client("docker", None, AGENT_VALIDITY))?;
        make_private_dirs(&self.docker())?;
        write(&self.docker_ca(), ca.certificate_pem())?;
        pair(&self.docker_api(), &self.docker_api_key(), &api)?;
        pair(&self.docker_client(), &self.docker_client_key(), &own)
    }

    /// Copies what clones of a template share and what reaches them at first: no key of this
    /// identity signs anything for a clone but the API server's certificate.
    pub fn copy_shared_part(&self, copy: &Self) -> Result<()> {
        make_private_dirs(&copy.folder)?;
        for path in [
            Self::cluster_ca,
            Self::cluster_ca_key,
            Self::agent_ca,
            Self::agent_client,
            Self::agent_client_key,
        ] {
            write(&path(copy), &read(&path(self))?)?;
        }
        write(&copy.folder.join("complete"), "")
    }

    /// Removes the identity.
    pub fn remove(&self) -> Result<()> {
        atomic::remove_dir(&self.folder).context(ErrorId::Write, || {
            format!("cannot remove {}", self.folder.display())
        })
    }

    fn fill_ssh(&self, endpoint: &Endpoint) -> Result<()> {
        let (host_private, host_public) = ssh_key_pair("coracle")?;
        let (private, public) = ssh_key_pair(GUEST_USER)?;
        write(&self.ssh_host_key(), &host_private)?;
        write(&self.ssh_key(), &private)?;
        write(&self.ssh_public_key(), &format!("{public}\n"))?;
        let line = match endpoint.ssh_port {
            22 => format!("{} {host_public}\n", endpoint.address),
            port => format!("[{}]:{port} {host_public}\n", endpoint.address),
        };
        write(&self.known_hosts(), &line)
    }

    /// The agent's end, for the seed.
    pub fn agent_identity(&self) -> Result<ServerIdentity> {
        Ok(ServerIdentity {
            certificate: read(&self.agent())?,
            key: read(&self.agent_key())?,
            client_ca: read(&self.agent_ca())?,
        })
    }

    /// The host's end of the control API.
    pub fn agent_credentials(&self) -> Result<AgentCredentials> {
        Ok(AgentCredentials {
            certificate: read(&self.agent_client())?,
            key: read(&self.agent_client_key())?,
            server_ca: read(&self.agent_ca())?,
        })
    }

    /// The Docker API's end, for the seed; None for a cluster without.
    pub fn docker_identity(&self) -> Result<Option<ServerIdentity>> {
        if !self.docker_api().exists() {
            return Ok(None);
        }
        Ok(Some(ServerIdentity {
            certificate: read(&self.docker_api())?,
            key: read(&self.docker_api_key())?,
            client_ca: read(&self.docker_ca())?,
        }))
    }

    /// sshd's part, for the seed.
    pub fn ssh_identity(&self) -> Result<SshIdentity> {
        Ok(SshIdentity {
            host_key: read(&self.ssh_host_key())?,
            authorized_keys: vec![read(&self.ssh_public_key())?.trim().to_owned()],
        })
    }

    /// The control plane's part, for the seed.
    pub fn cluster_identity(&self) -> Result<ClusterIdentity> {
        Ok(ClusterIdentity {
            cluster_ca: read(&self.cluster_ca())?,
            serving_certificate: read(&self.apiserver())?,
            serving_key: read(&self.apiserver_key())?,
            client_ca: read(&self.client_ca())?,
            client_ca_key: read(&self.client_ca_key())?,
            service_account_key: read(&self.service_account_key())?,
            service_account_public_key: read(&self.service_account_public_key())?,
        })
    }
}

/// Every name and address under which the API server is reached from outside, and from pods.
fn serving_request(spec: &ClusterSpec, endpoint: &Endpoint, guest: Ipv4Addr) -> LeafRequest {
    let mut dns_names: Vec<String> = ["localhost", "coracle", "kubernetes", "kubernetes.default"]
        .into_iter()
        .map(str::to_owned)
        .collect();
    dns_names.push("kubernetes.default.svc".into());
    dns_names.push(format!("kubernetes.default.svc.{}", spec.dns_domain));
    dns_names.extend(spec.api_names.iter().cloned());
    let mut addresses: Vec<IpAddr> = vec![
        endpoint.address,
        Ipv4Addr::LOCALHOST.into(),
        spec.api_service_address().into(),
        guest.into(),
    ];
    addresses.extend(&spec.api_addresses);
    addresses.sort_unstable();
    addresses.dedup();
    LeafRequest {
        dns_names,
        addresses,
        usage: Usage::Server,
        ..client("kube-apiserver", None, spec.certificate_validity())
    }
}

fn client(common_name: &str, group: Option<&str>, validity: Duration) -> LeafRequest {
    LeafRequest {
        common_name: common_name.to_owned(),
        organization: group.map(str::to_owned),
        dns_names: Vec::new(),
        addresses: Vec::new(),
        usage: Usage::Client,
        validity,
    }
}

/// A new ed25519 key: the private one in OpenSSH's format, the public one as a line.
fn ssh_key_pair(comment: &str) -> Result<(String, String)> {
    let failed = |error: ssh_key::Error| {
        Error::caused_by(ErrorId::Internal, "cannot make an SSH key", &error)
    };
    let mut key =
        ssh_key::PrivateKey::random(&mut ssh_key::rand_core::OsRng, ssh_key::Algorithm::Ed25519)
            .map_err(failed)?;
    key.set_comment(comment);
    let private = key
        .to_openssh(ssh_key::LineEnding::LF)
        .map_err(failed)?
        .to_string();
    let public = key.public_key().to_openssh().map_err(failed)?;
    Ok((private, public))
}

fn pair(certificate: &Path, key: &Path, credentials: &Credentials) -> Result<()> {
    write(certificate, &credentials.certificate_pem)?;
    write(key, &credentials.key_pem)
}

/// Makes a folder, and those above it, for its owner alone.
pub fn make_private_dirs(path: &Path) -> Result<()> {
    atomic::create_private_dirs(path)
        .context(ErrorId::Write, || format!("cannot make {}", path.display()))
}

/// Writes a file for its owner alone, whole or not at all.
pub fn write(path: &Path, text: &str) -> Result<()> {
    atomic::write(path, text.as_bytes()).context(ErrorId::Write, || {
        format!("cannot write {}", path.display())
    })
}

/// Random bytes of the system, for a machine that is a copy of another.
pub fn entropy() -> Result<Vec<u8>> {
    use ssh_key::rand_core::RngCore as _;
    let mut bytes = vec![0; ENTROPY];
    let filled = ssh_key::rand_core::OsRng.try_fill_bytes(&mut bytes);
    filled.map(|()| bytes).map_err(|error| {
        Error::new(ErrorId::Internal, "the system gives no random bytes").because(error.to_string())
    })
}

/// Reads a file of the identity.
pub fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        let message = format!(
            "a part of the cluster's identity is missing: {}",
            path.display()
        );
        Error::caused_by(ErrorId::MachineBroken, message, &error)
    })
}
