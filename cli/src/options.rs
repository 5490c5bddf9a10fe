//! The settings of a cluster as they come in: from flags, the environment, a cluster file and
//! `coracle config`, every one optional. [`crate::cluster::spec`] turns them into a checked
//! [`crate::cluster::spec::ClusterSpec`], once.

use crate::error::{Context as _, Error, ErrorId, Result};
use coracle_vm::Size;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

/// A [`Size`] as people write it: text such as `4g` in flags and files, never a count of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "AmountText")]
pub struct Amount(pub Size);

/// YAML reads `4096` as a number; it means what the flag's `4096` means.
#[derive(Deserialize)]
#[serde(untagged)]
enum AmountText {
    Text(String),
    Number(u64),
}

impl TryFrom<AmountText> for Amount {
    type Error = coracle_vm::size::SizeError;

    fn try_from(text: AmountText) -> std::result::Result<Self, Self::Error> {
        match text {
            AmountText::Text(text) => text.parse(),
            AmountText::Number(number) => number.to_string().parse(),
        }
    }
}

impl From<Amount> for String {
    fn from(Amount(size): Amount) -> Self {
        // Anything but whole MiB would be rounded for display.
        match size.bytes().is_multiple_of(1 << 20) {
            true => size.to_string(),
            false => format!("{} B", size.bytes()),
        }
    }
}

impl std::str::FromStr for Amount {
    type Err = coracle_vm::size::SizeError;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

macro_rules! options {
    ($(
        $(#[doc = $doc:literal])+
        [$($arg:tt)*]
        $field:ident: $type:ty,
    )*) => {
        /// What a start may be told about a cluster. Cluster files and `config` use the names of
        /// the flags, without the dashes in front.
        #[derive(Debug, Clone, Default, PartialEq, clap::Args, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
        pub struct ClusterOptions {
            $(
                $(#[doc = $doc])+
                #[arg($($arg)*)]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $field: Option<$type>,
            )*
        }

        impl ClusterOptions {
            /// The names of all settings, as flags spell them.
            pub fn names() -> Vec<String> {
                vec![$(stringify!($field).replace('_', "-"),)*]
            }

            /// These settings, and where one is missing, the one of `other`.
            #[must_use]
            pub fn or(self, other: Self) -> Self {
                Self { $($field: self.$field.or(other.$field),)* }
            }
        }
    };
}

options! {
    /// Hypervisor; without it the best that works here: `coracle doctor` lists them
    [long, value_name = "NAME", env = "CORACLE_DRIVER", alias = "vm-driver"]
    driver: String,
    /// Kubernetes version, such as v1.37.2 or `stable`
    [long, value_name = "VERSION", env = "CORACLE_KUBERNETES_VERSION"]
    kubernetes_version: String,
    /// A Docker engine alone, without Kubernetes
    [long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", env = "CORACLE_NO_KUBERNETES"]
    no_kubernetes: bool,
    /// Number of CPUs of the machine
    [long, value_name = "N", env = "CORACLE_CPUS"]
    cpus: u32,
    /// Memory of the machine, such as 4g, 4096mb or 4Gi
    [long, value_name = "SIZE", env = "CORACLE_MEMORY"]
    memory: Amount,
    /// Largest size of the machine's disk; it takes what is used
    [long, value_name = "SIZE", env = "CORACLE_DISK_SIZE"]
    disk_size: Amount,
    /// Container runtime: containerd
    [long, value_name = "NAME", env = "CORACLE_CONTAINER_RUNTIME"]
    container_runtime: String,
    /// Port of the Kubernetes API on the cluster's address
    [long, value_name = "PORT", env = "CORACLE_APISERVER_PORT"]
    apiserver_port: u16,
    /// Further names in the API server's certificate
    [long, value_name = "NAMES", value_delimiter = ',']
    apiserver_names: Vec<String>,
    /// Further addresses in the API server's certificate
    [long, value_name = "ADDRESSES", value_delimiter = ',']
    apiserver_ips: Vec<IpAddr>,
    /// CIDR of Service addresses
    [long, value_name = "CIDR", env = "CORACLE_SERVICE_CLUSTER_IP_RANGE"]
    service_cluster_ip_range: String,
    /// DNS domain of the cluster
    [long, value_name = "DOMAIN", env = "CORACLE_DNS_DOMAIN"]
    dns_domain: String,
    /// Feature gates of all components, such as A=true,B=false
    [long, value_name = "GATES"]
    feature_gates: String,
    /// A flag of a component, such as kubelet.max-pods=50; may be repeated
    [long, value_name = "COMPONENT.KEY=VALUE"]
    extra_config: Vec<String>,
    /// How long the cluster's certificates are valid, such as 8760h or 365d
    [long, value_name = "DURATION", env = "CORACLE_CERT_EXPIRATION"]
    cert_expiration: String,
    /// Add-ons beyond DNS and storage
    [long, value_name = "NAMES", value_delimiter = ',']
    addons: Vec<String>,
    /// Number of nodes: 1
    [long, value_name = "N"]
    nodes: u32,
    /// Put certificates into the kubeconfig instead of naming their files
    [long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", env = "CORACLE_EMBED_CERTS"]
    embed_certs: bool,
    /// Leave the current context of the kubeconfig as it is
    [long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", env = "CORACLE_KEEP_CONTEXT"]
    keep_context: bool,
    /// Boot a new cluster cold, and share nothing with any other
    [long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", env = "CORACLE_COLD"]
    cold: bool,
    /// Let pods and containers connect to this host, at host.coracle.internal
    [long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", env = "CORACLE_HOST_ACCESS"]
    host_access: bool,
    /// Put the cluster to sleep when nobody has used it for so long, such as 30m, or `never`
    [long, value_name = "DURATION", env = "CORACLE_AUTO_STOP"]
    auto_stop: String,
    /// A folder of this host for pods and containers, as HOST:GUEST or HOST:GUEST:ro; may be repeated
    [long, value_name = "HOST:GUEST", visible_alias = "mount-string"]
    mount: Vec<String>,
    /// A registry without a certificate that anybody trusts, as HOST:PORT; may be repeated
    [long, value_name = "HOST:PORT", value_delimiter = ',']
    insecure_registry: Vec<String>,
    /// A mirror of Docker's registry, as a URL; may be repeated
    [long, value_name = "URL", value_delimiter = ',']
    registry_mirror: Vec<String>,
    /// A setting of the Docker engine, such as debug=true; may be repeated
    [long, value_name = "KEY=VALUE"]
    docker_opt: Vec<String>,
    /// What to wait for: all, none, or some of apiserver,node,dns,storage
    [long, value_name = "WHAT", value_delimiter = ',']
    wait: Vec<String>,
    /// How long to wait, such as 6m
    [long, value_name = "DURATION", env = "CORACLE_WAIT_TIMEOUT"]
    wait_timeout: String,
}

impl ClusterOptions {
    /// Reads a cluster file or the settings file; a missing settings file is an empty one.
    pub fn read(file: &Path, must_exist: bool) -> Result<Self> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => {
                return Ok(Self::default());
            }
            Err(error) => {
                return Err(Error::caused_by(
                    ErrorId::ConfigInvalid,
                    format!("cannot read {}", file.display()),
                    &error,
                ));
            }
        };
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_yaml::from_str(&text).context(ErrorId::ConfigInvalid, || {
            format!("{} is not a valid settings file", file.display())
        })
    }

    /// One setting from its name and text, as flags take it.
    pub fn from_name_and_text(name: &str, text: &str) -> Result<Self> {
        if !Self::names().iter().any(|known| known == name) {
            return Err(Error::new(
                ErrorId::ConfigNotFound,
                format!("there is no setting {name:?}"),
            ));
        }
        let argv = ["config".to_owned(), format!("--{name}={text}")];
        #[derive(clap::Parser)]
        struct One {
            #[command(flatten)]
            options: ClusterOptions,
        }
        use clap::Parser as _;
        let parsed = One::try_parse_from(argv)
            .map(|one| one.options)
            .map_err(|error| {
                let text = error.to_string();
                let reason = text
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .trim_start_matches("error: ")
                    .to_owned();
                Error::new(ErrorId::Usage, format!("{name} is wrong: {reason}"))
            })?;
        // What CORACLE_* variables say holds for this moment, and is not to be kept.
        let mut map = parsed.to_map()?;
        map.retain(|known, _| known == name);
        serde_json::to_value(map)
            .and_then(serde_json::from_value)
            .context(ErrorId::Internal, || "cannot read the setting".into())
    }

    /// The settings as a map from name to value, only those that are set.
    pub fn to_map(&self) -> Result<BTreeMap<String, serde_json::Value>> {
        let value = serde_json::to_value(self)
            .context(ErrorId::Internal, || "cannot list the settings".into())?;
        serde_json::from_value(value)
            .context(ErrorId::Internal, || "cannot list the settings".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_wins_over_a_file_and_a_file_over_the_settings() {
        let flag = ClusterOptions {
            cpus: Some(4),
            ..Default::default()
        };
        let file = ClusterOptions {
            cpus: Some(3),
            memory: Some("3g".parse().unwrap()),
            ..Default::default()
        };
        let merged = flag.or(file);
        assert_eq!(merged.cpus, Some(4));
        assert_eq!(merged.memory, Some("3g".parse().unwrap()));
        assert_eq!(merged.disk_size, None);
    }

    #[test]
    fn sizes_in_files_are_what_flags_take() {
        let file: ClusterOptions = serde_yaml::from_str("memory: 3g\ndisk-size: 4096").unwrap();
        assert_eq!(file.memory, Some("3g".parse().unwrap()));
        assert_eq!(file.disk_size, Some("4g".parse().unwrap()));
        let again: ClusterOptions =
            serde_yaml::from_str(&serde_yaml::to_string(&file).unwrap()).unwrap();
        assert_eq!(again, file);
        let odd = Amount(Size::from_bytes((3 << 30) + 512));
        assert_eq!(String::from(odd).parse::<Amount>().unwrap(), odd);
        assert!(serde_yaml::from_str::<ClusterOptions>("memry: 3g").is_err());
    }

    #[test]
    fn a_setting_is_checked_when_it_is_set() {
        assert_eq!(
            ClusterOptions::from_name_and_text("cpus", "3")
                .unwrap()
                .cpus,
            Some(3)
        );
        assert_eq!(
            ClusterOptions::from_name_and_text("cpus", "many")
                .unwrap_err()
                .id(),
            ErrorId::Usage
        );
        assert_eq!(
            ClusterOptions::from_name_and_text("colour", "red")
                .unwrap_err()
                .id(),
            ErrorId::ConfigNotFound
        );
    }
}
