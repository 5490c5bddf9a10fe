//! What Coracle keeps about a cluster beside its machine: the opaque part of `machine.json`.

use super::mount::Mount;
use super::spec::ClusterSpec;
use crate::docker::context::Kept;
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::settings::ProxyVariables;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use time::OffsetDateTime;

/// The format that this version writes and reads.
pub const FORMAT: u32 = 1;

/// A cluster as it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClusterRecord {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// What it was asked to be.
    pub spec: ClusterSpec,
    /// Digest of the image that it boots, `sha256:HEX`.
    pub image: String,
    /// Where the host reaches it.
    pub endpoint: Endpoint,
    /// Version by name of the add-ons that were applied. They are not applied again, so that what
    /// somebody changed in them by hand stays over a stop and a start.
    #[serde(default)]
    pub applied_addons: BTreeMap<String, String>,
    /// When it rests by itself.
    #[serde(default)]
    pub rest: Rest,
    /// Whether pods may connect to the host.
    #[serde(default)]
    pub host_access: bool,
    /// The proxy of the environment in which it was last started by hand.
    #[serde(default)]
    pub proxy: ProxyVariables,
    /// Folders of the host that its machine has; None where it never had one.
    #[serde(default)]
    pub mounts: Option<Vec<Mount>>,
    /// Somebody took the home folder of the host's user out of it: no container brings it back.
    #[serde(default)]
    pub home_is_kept_out: bool,
    /// The context of the docker command that it was given.
    #[serde(default)]
    pub docker_context: Option<Kept>,
    /// What stood in the kubeconfig before its context; None before that was written.
    pub former_kubeconfig: Option<coracle_kubeconfig::Former>,
    /// Whether a start ended well that had no kubeconfig to write.
    #[serde(default)]
    pub was_ready: bool,
}

impl ClusterRecord {
    /// Whether a start of it ever ended well: its context is written last.
    pub fn was_ready(&self) -> bool {
        self.was_ready || self.former_kubeconfig.is_some()
    }
}

/// When a cluster rests by itself. It may change at any time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rest {
    /// It is put to sleep when nobody has used it for so long.
    #[serde(with = "seconds", rename = "auto-stop-seconds", default)]
    pub auto_stop: Option<Duration>,
    /// It is stopped then.
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub stop_at: Option<OffsetDateTime>,
}

mod seconds {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use std::time::Duration;

    #[allow(clippy::ref_option, reason = "the form that serde calls")]
    pub fn serialize<S: Serializer>(
        after: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        after.map(|after| after.as_secs()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_secs))
    }
}

/// The cluster's ports on a loopback address of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Endpoint {
    /// The address, which `coracle ip` prints.
    pub address: IpAddr,
    /// Port of the Kubernetes API.
    pub api_port: u16,
    /// Port of the machine's agent.
    pub agent_port: u16,
    /// Port of sshd.
    pub ssh_port: u16,
    /// Port of the Docker API; None for a cluster whose image is older than that.
    #[serde(default)]
    pub docker_port: Option<u16>,
}

impl Endpoint {
    /// The Kubernetes API's socket address.
    pub fn api(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.api_port)
    }

    /// The agent's socket address.
    pub fn agent(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.agent_port)
    }

    /// The Docker API's socket address.
    pub fn docker(&self) -> Option<SocketAddr> {
        let port = self.docker_port?;
        Some(SocketAddr::new(self.address, port))
    }

    /// The URL for a kubeconfig.
    pub fn server(&self) -> String {
        format!("https://{}", self.api())
    }
}

impl ClusterRecord {
    /// Reads the opaque part of `machine.json`.
    pub fn decode(value: &serde_json::Value) -> Result<Self> {
        let broken = |reason: String| {
            Error::new(
                ErrorId::MachineBroken,
                "the machine's record does not describe a cluster",
            )
            .because(reason)
        };
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => {
                return Err(broken(format!(
                    "it has format {format}, this version reads {FORMAT}"
                )));
            }
            None => return Err(broken("it has no format".into())),
        }
        serde_json::from_value(value.clone()).map_err(|error| broken(error.to_string()))
    }

    /// The opaque part of `machine.json`.
    pub fn encode(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self).context(ErrorId::Internal, || {
            "cannot write the machine's record".into()
        })
    }
}

/// What a template or a snapshot carries for the cluster that begins with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Carried {
    /// Version by name of the add-ons that it has.
    pub applied_addons: BTreeMap<String, String>,
}

impl Carried {
    /// What this cluster would hand on.
    pub fn of(record: &ClusterRecord) -> Result<serde_json::Value> {
        let carried = Self {
            applied_addons: record.applied_addons.clone(),
        };
        serde_json::to_value(carried).context(ErrorId::Internal, || {
            "cannot write what the cluster hands on".into()
        })
    }
}
