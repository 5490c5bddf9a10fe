//! The settings and the identity that a machine boots with.
//!
//! Certificates and keys are PEM texts. Everything that lets somebody in from outside the
//! machine is made on the host and is unique to one cluster; what never leaves the machine
//! (etcd, kubelet and component certificates) is made and renewed by the agent itself.

use crate::folders::Folder;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// The format that this version writes and reads.
pub const FORMAT: u32 = 1;
/// The size of the pod network that the one node has, as a prefix's length: the first of that size in
/// `pod_cidr`, or all of a smaller one.
pub const NODE_PREFIX: u8 = 24;

/// Everything a guest is told when it boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestConfig {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// Digest of the image, `sha256:HEX`, reported back by `Machine.Info`.
    pub image_digest: String,
    /// Host name and, with Kubernetes, node name.
    pub hostname: String,
    /// The network that it is in.
    pub network: GuestNetwork,
    /// Who the agent is, and whom it answers.
    pub agent: ServerIdentity,
    /// Who sshd is, and whom it lets in.
    pub ssh: SshIdentity,
    /// Who the Docker API is, and whom it answers; None for a machine that serves none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<ServerIdentity>,
    /// None for a machine without Kubernetes.
    pub kubernetes: Option<KubernetesConfig>,
    /// Folders of the host that are mounted before anything starts that may need them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_folders: Vec<Folder>,
    /// The host's clock when the seed was written, milliseconds since the Unix epoch: a guest
    /// whose own clock is earlier starts from here.
    pub written_at_millis: u64,
}

/// The machine's own IPv4 network: the same wherever it runs, which is that of QEMU's user network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestNetwork {
    /// The machine's address.
    pub address: Ipv4Addr,
    /// Length of the network's prefix in bits.
    pub prefix: u8,
    /// Default route.
    pub gateway: Ipv4Addr,
    /// Name servers, first one first.
    pub dns: Vec<IpAddr>,
    /// Whether the card is in another network, which gives it an address by DHCP. The machine has its own
    /// one beside it, and `gateway` and [`GuestNetwork::name_server`] lead to what that network has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dhcp: bool,
}

impl GuestNetwork {
    /// The first name server with an IPv4 address.
    #[must_use]
    pub fn name_server(&self) -> Option<Ipv4Addr> {
        self.dns.iter().find_map(|server| match server {
            IpAddr::V4(server) => Some(*server),
            IpAddr::V6(_) => None,
        })
    }
}

/// Mutual TLS of an API that the machine serves.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerIdentity {
    /// Serving certificate, PEM.
    pub certificate: String,
    /// Its private key, PKCS#8 PEM.
    pub key: String,
    /// The authority whose client certificates may call, PEM.
    pub client_ca: String,
}

/// SSH host key and authorised keys.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshIdentity {
    /// OpenSSH private key (ed25519).
    pub host_key: String,
    /// Lines of `authorized_keys` for [`crate::GUEST_USER`].
    pub authorized_keys: Vec<String>,
}

/// Settings of the Kubernetes inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KubernetesConfig {
    /// Upstream's version of the layer, such as `v1.37.2`.
    pub version: String,
    /// CIDR of Service addresses, such as `10.96.0.0/12`.
    pub service_cidr: String,
    /// CIDR of pod addresses, such as `10.244.0.0/16`.
    pub pod_cidr: String,
    /// DNS domain of the cluster, such as `cluster.local`.
    pub dns_domain: String,
    /// Service address of the cluster's DNS, inside `service_cidr`.
    pub dns_address: Ipv4Addr,
    /// Feature gates for every component.
    pub feature_gates: BTreeMap<String, bool>,
    /// Flags by component name and flag name (no dashes); they win over the defaults.
    pub extra_args: BTreeMap<String, BTreeMap<String, String>>,
    /// What the API server serves with and trusts.
    pub identity: ClusterIdentity,
}

/// The host-made identity of a cluster.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterIdentity {
    /// Authority of the serving certificate, published to pods; its key stays on the host.
    pub cluster_ca: String,
    /// The API server's serving certificate for names and addresses outside the machine and
    /// for the `kubernetes` Service.
    pub serving_certificate: String,
    /// Its private key.
    pub serving_key: String,
    /// Authority of client certificates; signs CertificateSigningRequests too.
    pub client_ca: String,
    /// Its private key.
    pub client_ca_key: String,
    /// Signs service account tokens (ECDSA P-256, PKCS#8 PEM).
    pub service_account_key: String,
    /// Verifies them (SPKI PEM).
    pub service_account_public_key: String,
}

macro_rules! redacted_debug {
    ($($name:ident),*) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}
redacted_debug!(ServerIdentity, SshIdentity, ClusterIdentity);
