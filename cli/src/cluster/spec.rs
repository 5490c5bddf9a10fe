//! [`ClusterSpec`]: what a cluster is to be, checked once, from [`ClusterOptions`].

mod values;

use super::mount::{self, Mount};
use crate::docker::daemon::DaemonSettings;
use crate::error::{Error, ErrorId, Result};
use crate::options::{Amount, ClusterOptions};
use coracle_protocol::guest::NODE_PREFIX;
use coracle_vm::{DriverKind, Size};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
pub use values::duration;
use values::{extra_args, feature_gates, is_dns_name, kubernetes_version, overlaps, usage};

/// Kubernetes when none is asked for.
pub const DEFAULT_KUBERNETES_VERSION: &str = "v1.37.2";
/// The least memory that a control plane, DNS and a pod fit into.
pub const LEAST_MEMORY_MIB: u64 = 1800;
/// The least that a Docker engine and a container fit into.
pub const LEAST_MEMORY_WITHOUT_KUBERNETES_MIB: u64 = 512;
/// The least disk that images and a small volume fit into.
pub const LEAST_DISK_MIB: u64 = 2048;
const DEFAULT_MEMORY_MIB: u64 = 4096;
const DEFAULT_DISK_MIB: u64 = 20 * 1024;
const DEFAULT_CPUS: u32 = 2;
const POD_CIDR: &str = "10.244.0.0/16";
const DEFAULT_SERVICE_CIDR: &str = "10.96.0.0/12";
const DEFAULT_WAIT: Duration = Duration::from_secs(6 * 60);
const DEFAULT_CERTIFICATE_VALIDITY: Duration = Duration::from_secs(3 * 365 * 24 * 3600);
/// What defines a cluster and is kept with it: changing any of it takes a new machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClusterSpec {
    /// The hypervisor.
    pub driver: DriverKind,
    /// CPUs of the machine.
    pub cpus: u32,
    /// Memory of the machine.
    pub memory: Size,
    /// Largest size of the data disk.
    pub disk_size: Size,
    /// It is a machine with a Docker engine alone; what else is said of Kubernetes means nothing then.
    #[serde(default)]
    pub no_kubernetes: bool,
    /// Upstream's version, such as `v1.37.2`.
    pub kubernetes_version: String,
    /// CIDR of Service addresses.
    pub service_cidr: Ipv4Net,
    /// CIDR of pod addresses.
    pub pod_cidr: Ipv4Net,
    /// DNS domain.
    pub dns_domain: String,
    /// Feature gates of all components.
    pub feature_gates: BTreeMap<String, bool>,
    /// Flags by component and name.
    pub extra_args: BTreeMap<String, BTreeMap<String, String>>,
    /// Port of the API on the cluster's address; None for the usual one.
    pub api_port: Option<u16>,
    /// Further names in the serving certificate.
    pub api_names: Vec<String>,
    /// Further addresses in the serving certificate.
    pub api_addresses: Vec<IpAddr>,
    /// How long certificates are valid, in seconds.
    pub certificate_seconds: u64,
    /// Add-ons beyond the ones that every cluster has.
    pub addons: BTreeSet<String>,
    /// Whether the kubeconfig holds certificates rather than their paths.
    pub embed_certs: bool,
}

/// What holds for one start only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartOptions {
    /// Leave the kubeconfig's current context.
    pub keep_context: bool,
    /// What must be ready before the command returns.
    pub wait: BTreeSet<Wait>,
    /// For how long, over all of it.
    pub wait_limit: Duration,
    /// Boot a new cluster, without a template and without making one.
    pub cold: bool,
    /// Nobody typed it: the proxy stays the one of the last start that somebody did.
    pub unattended: bool,
    /// Whether pods may connect to the host, if that was said.
    pub host_access: Option<bool>,
    /// Folders of the host that its machine is to have beside those that it has.
    pub mounts: Vec<Mount>,
    /// Settings of its Docker engine beside those that it has.
    pub daemon: DaemonSettings,
    /// After how long without use the cluster is put to sleep, if that was said; never is `Some(None)`.
    #[allow(clippy::option_option, reason = "not said, never, or after so long")]
    pub auto_stop: Option<Option<Duration>>,
}

/// What `start` may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// The API answers.
    ApiServer,
    /// The node is Ready.
    Node,
    /// CoreDNS is available.
    Dns,
    /// The provisioner of the default StorageClass is available.
    Storage,
}

impl Wait {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();
    const ALL: [(&'static str, Self); 4] = [
        ("apiserver", Self::ApiServer),
        ("node", Self::Node),
        ("dns", Self::Dns),
        ("storage", Self::Storage),
    ];
}

impl ClusterSpec {
    /// Fills in defaults and checks every value by itself; the host is checked elsewhere.
    pub fn new(options: &ClusterOptions, host_memory: Size) -> Result<Self> {
        if let Some(nodes) = options.nodes.filter(|nodes| *nodes != 1) {
            return Err(Error::new(
                ErrorId::Usage,
                format!("--nodes {nodes}: a cluster has exactly one node"),
            )
            .help("leave out --nodes; several clusters side by side have a profile each (-p)"));
        }
        if let Some(runtime) = options
            .container_runtime
            .as_deref()
            .filter(|runtime| *runtime != "containerd")
        {
            return Err(usage(
                "container-runtime",
                runtime,
                "the runtime is containerd; docker uses the same image store",
            ));
        }
        let service_cidr: Ipv4Net = options
            .service_cluster_ip_range
            .as_deref()
            .unwrap_or(DEFAULT_SERVICE_CIDR)
            .parse()
            .map_err(|_| {
                usage(
                    "service-cluster-ip-range",
                    options
                        .service_cluster_ip_range
                        .as_deref()
                        .unwrap_or_default(),
                    "write an IPv4 CIDR such as 10.96.0.0/12",
                )
            })?;
        let pod_cidr: Ipv4Net = POD_CIDR
            .parse()
            .map_err(|_| Error::new(ErrorId::Internal, "the pod CIDR is not one"))?;
        if !(8..=28).contains(&service_cidr.prefix_len()) || overlaps(service_cidr, pod_cidr) {
            return Err(usage(
                "service-cluster-ip-range",
                &service_cidr.to_string(),
                "take a prefix of 8 to 28 bits that does not overlap the pods' 10.244.0.0/16",
            ));
        }
        let dns_domain = options
            .dns_domain
            .clone()
            .unwrap_or_else(|| "cluster.local".into());
        if !is_dns_name(&dns_domain) {
            return Err(usage(
                "dns-domain",
                &dns_domain,
                "write a DNS name such as cluster.local",
            ));
        }
        for name in options.apiserver_names.iter().flatten() {
            if !is_dns_name(name.strip_prefix("*.").unwrap_or(name)) {
                return Err(usage(
                    "apiserver-names",
                    name,
                    "write DNS names, separated by commas",
                ));
            }
        }
        if options.apiserver_port.is_some_and(|port| port == 0) {
            return Err(usage("apiserver-port", "0", "take a port from 1 to 65535"));
        }
        let no_kubernetes = options.no_kubernetes.unwrap_or(false);
        let addons: BTreeSet<String> = options.addons.iter().flatten().cloned().collect();
        if let Some(addon) = addons.first().filter(|_| no_kubernetes) {
            return Err(usage(
                "addons",
                addon,
                "leave it out, or leave out --no-kubernetes: add-ons are Kubernetes'",
            ));
        }
        let driver = match options.driver.as_deref() {
            // Whichever is found to be the best here.
            None => DriverKind::ALL[0],
            Some(name) => name.parse().map_err(Error::from)?,
        };
        Ok(Self {
            driver,
            cpus: options.cpus.unwrap_or(DEFAULT_CPUS),
            memory: options
                .memory
                .map_or_else(|| default_memory(host_memory), |Amount(size)| size),
            disk_size: options
                .disk_size
                .map_or(Size::from_mib(DEFAULT_DISK_MIB), |Amount(size)| size),
            no_kubernetes,
            kubernetes_version: kubernetes_version(options.kubernetes_version.as_deref())?,
            service_cidr: service_cidr.trunc(),
            pod_cidr,
            dns_domain,
            feature_gates: feature_gates(options.feature_gates.as_deref())?,
            extra_args: extra_args(options.extra_config.as_deref().unwrap_or_default())?,
            api_port: options.apiserver_port,
            api_names: options.apiserver_names.clone().unwrap_or_default(),
            api_addresses: options.apiserver_ips.clone().unwrap_or_default(),
            certificate_seconds: match options.cert_expiration.as_deref() {
                None => DEFAULT_CERTIFICATE_VALIDITY,
                Some(text) => duration("cert-expiration", text)?.max(Duration::from_secs(3600)),
            }
            .as_secs(),
            addons,
            embed_certs: options.embed_certs.unwrap_or(false),
        })
    }

    /// Whether its machine runs Kubernetes.
    pub fn has_kubernetes(&self) -> bool {
        !self.no_kubernetes
    }

    /// Upstream's version; None without Kubernetes.
    pub fn kubernetes(&self) -> Option<&str> {
        self.has_kubernetes().then_some(&*self.kubernetes_version)
    }

    /// The least memory that its machine may have.
    pub fn least_memory(&self) -> Size {
        Size::from_mib(match self.no_kubernetes {
            true => LEAST_MEMORY_WITHOUT_KUBERNETES_MIB,
            false => LEAST_MEMORY_MIB,
        })
    }

    /// The address of `svc/kubernetes`.
    pub fn api_service_address(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.service_cidr.network()) + 1)
    }

    /// The addresses of the pods: the one node has the first subnet of this size.
    pub fn node_pods(&self) -> Ipv4Net {
        let prefix = self.pod_cidr.prefix_len().max(NODE_PREFIX);
        let subnet = Ipv4Net::new(self.pod_cidr.network(), prefix);
        subnet.unwrap_or(self.pod_cidr)
    }

    /// The address of the cluster's DNS.
    pub fn dns_address(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.service_cidr.network()) + 10)
    }

    /// How long certificates are valid.
    pub fn certificate_validity(&self) -> Duration {
        Duration::from_secs(self.certificate_seconds)
    }

    /// The settings that `options` asks for and that this cluster has otherwise, for good: name, what it
    /// has, what was asked.
    pub fn differences(
        &self,
        options: &ClusterOptions,
        host_memory: Size,
    ) -> Result<Vec<(String, String, String)>> {
        let mut asked = Self::new(&options.clone().or(self.as_options()), host_memory)?;
        // A disk grows, and never shrinks.
        asked.disk_size = asked.disk_size.min(self.disk_size);
        let (have, want) = (self.as_options().to_map()?, asked.as_options().to_map()?);
        let text = |value: Option<&serde_json::Value>| match value {
            None => "the default".to_owned(),
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        Ok(ClusterOptions::names()
            .into_iter()
            .filter(|name| have.get(name) != want.get(name))
            .map(|name| (name.clone(), text(have.get(&name)), text(want.get(&name))))
            .collect())
    }

    /// This cluster's settings in the form in which they come in. Add-ons and the form of the
    /// kubeconfig are left out: they can change at any start.
    pub fn as_options(&self) -> ClusterOptions {
        let some_list = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
        let machine = ClusterOptions {
            driver: Some(self.driver.to_string()),
            cpus: Some(self.cpus),
            memory: Some(Amount(self.memory)),
            disk_size: Some(Amount(self.disk_size)),
            ..ClusterOptions::default()
        };
        if self.no_kubernetes {
            return ClusterOptions {
                no_kubernetes: Some(true),
                ..machine
            };
        }
        ClusterOptions {
            kubernetes_version: Some(self.kubernetes_version.clone()),
            apiserver_port: self.api_port,
            apiserver_names: some_list(&self.api_names),
            apiserver_ips: (!self.api_addresses.is_empty()).then(|| self.api_addresses.clone()),
            service_cluster_ip_range: Some(self.service_cidr.to_string()),
            dns_domain: Some(self.dns_domain.clone()),
            feature_gates: (!self.feature_gates.is_empty()).then(|| {
                self.feature_gates
                    .iter()
                    .map(|(gate, on)| format!("{gate}={on}"))
                    .collect::<Vec<_>>()
                    .join(",")
            }),
            extra_config: some_list(
                &self
                    .extra_args
                    .iter()
                    .flat_map(|(component, args)| {
                        args.iter()
                            .map(move |(key, value)| format!("{component}.{key}={value}"))
                    })
                    .collect::<Vec<_>>(),
            ),
            cert_expiration: Some(format!("{}s", self.certificate_seconds)),
            ..machine
        }
    }
}

/// The settings of a cluster for which nothing was asked.
pub fn defaults(host_memory: Size) -> Result<ClusterOptions> {
    Ok(ClusterSpec::new(&ClusterOptions::default(), host_memory)?.as_options())
}

impl StartOptions {
    /// Fills in defaults and checks.
    pub fn new(options: &ClusterOptions) -> Result<Self> {
        let everything = || Wait::ALL.iter().map(|(_, wait)| *wait).collect();
        let wait = match options.wait.as_deref() {
            None => everything(),
            Some([word]) if word == "all" || word == "true" => everything(),
            Some([word]) if word == "none" || word == "false" => BTreeSet::new(),
            Some(words) => words
                .iter()
                .map(|word| {
                    Wait::ALL
                        .iter()
                        .find(|(name, _)| name == word)
                        .map(|(_, wait)| *wait)
                        .ok_or_else(|| {
                            usage(
                                "wait",
                                word,
                                "write all, none, or some of apiserver,node,dns,storage",
                            )
                        })
                })
                .collect::<Result<_>>()?,
        };
        Ok(Self {
            keep_context: options.keep_context.unwrap_or(false),
            cold: options.cold.unwrap_or(false),
            unattended: false,
            host_access: options.host_access,
            mounts: mount::parse_all(options.mount.as_deref().unwrap_or_default())?,
            daemon: DaemonSettings::new(options)?,
            auto_stop: options.auto_stop.as_deref().map(auto_stop).transpose()?,
            wait,
            wait_limit: options
                .wait_timeout
                .as_deref()
                .map_or(Ok(DEFAULT_WAIT), |text| duration("wait-timeout", text))?,
        })
    }
}

/// A time without use, or never.
fn auto_stop(text: &str) -> Result<Option<Duration>> {
    /// What is shorter would end before the first command.
    const LEAST: Duration = Duration::from_secs(5);
    if text == "never" {
        return Ok(None);
    }
    match duration("auto-stop", text)? {
        short if short < LEAST => Err(usage(
            "auto-stop",
            text,
            "write `never`, or a duration of at least 5s",
        )),
        after => Ok(Some(after)),
    }
}

fn default_memory(host: Size) -> Size {
    let half = host.mib() / 2;
    Size::from_mib(DEFAULT_MEMORY_MIB.min(half.max(LEAST_MEMORY_MIB)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Size {
        Size::from_mib(16 * 1024)
    }

    #[test]
    fn defaults_are_a_whole_cluster() {
        let spec = ClusterSpec::new(&ClusterOptions::default(), host()).unwrap();
        assert_eq!(spec.memory, Size::from_mib(4096));
        assert_eq!(spec.api_service_address(), Ipv4Addr::new(10, 96, 0, 1));
        assert_eq!(spec.dns_address(), Ipv4Addr::new(10, 96, 0, 10));
        let small = ClusterSpec::new(&ClusterOptions::default(), Size::from_mib(6000)).unwrap();
        assert_eq!(small.memory, Size::from_mib(3000));
    }

    #[test]
    fn the_same_settings_again_are_no_difference_and_others_are_named() {
        let spec = ClusterSpec::new(&ClusterOptions::default(), host()).unwrap();
        assert_eq!(
            spec.differences(&ClusterOptions::default(), host())
                .unwrap(),
            []
        );
        let same = ClusterOptions {
            cpus: Some(2),
            memory: Some("4096mb".parse().unwrap()),
            ..Default::default()
        };
        assert_eq!(spec.differences(&same, host()).unwrap(), []);
        let other = ClusterOptions {
            cpus: Some(3),
            dns_domain: Some("a.b".into()),
            ..Default::default()
        };
        let names: Vec<_> = spec
            .differences(&other, host())
            .unwrap()
            .into_iter()
            .map(|(name, ..)| name)
            .collect();
        assert_eq!(names, ["cpus", "dns-domain"]);
    }

    #[test]
    fn malformed_values_are_usage_errors() {
        let cases = [
            ClusterOptions {
                nodes: Some(3),
                ..Default::default()
            },
            ClusterOptions {
                container_runtime: Some("cri-o".into()),
                ..Default::default()
            },
            ClusterOptions {
                service_cluster_ip_range: Some("10.244.1.0/24".into()),
                ..Default::default()
            },
            ClusterOptions {
                service_cluster_ip_range: Some("ten".into()),
                ..Default::default()
            },
            ClusterOptions {
                dns_domain: Some("-x".into()),
                ..Default::default()
            },
            ClusterOptions {
                kubernetes_version: Some("1.x".into()),
                ..Default::default()
            },
            ClusterOptions {
                feature_gates: Some("A=perhaps".into()),
                ..Default::default()
            },
            ClusterOptions {
                extra_config: Some(vec!["kublet.x=1".into()]),
                ..Default::default()
            },
            ClusterOptions {
                cert_expiration: Some("soon".into()),
                ..Default::default()
            },
        ];
        for options in cases {
            let error = ClusterSpec::new(&options, host()).unwrap_err();
            assert_eq!(error.exit_code(), 14, "{options:?}: {error:?}");
        }
        let wait = ClusterOptions {
            wait: Some(vec!["everything".into()]),
            ..Default::default()
        };
        assert_eq!(StartOptions::new(&wait).unwrap_err().exit_code(), 14);
    }
}
