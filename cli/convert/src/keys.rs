//! All keys of a Compose file, and what becomes of each: the table that warnings come from.

use crate::at::At;
use crate::fault::Result;
use crate::report::Report;

/// What becomes of a key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    /// It is in the manifests; the code that maps it warns of what it cannot.
    Mapped,
    /// It is of no matter in a cluster.
    Idle,
    /// It is not in the manifests, for this reason.
    Lost(&'static str),
}

use Fate::{Idle, Lost, Mapped};

/// A table of keys.
pub(crate) type Keys = &'static [(&'static str, Fate)];

const CGROUP: &str = "Kubernetes has no such limit for a container";
const SWARM: &str = "one node and its rollouts have no use for it";
const NETWORK: &str = "all pods are in the one network of the cluster";
const WINDOWS: &str = "there are no Windows containers";
/// Why a container has no devices.
pub(crate) const DEVICE: &str = "a pod has no devices of the machine unless it is privileged";
const ELSEWHERE: &str = "what is managed outside of Compose is not made here either";

/// At the top of the file.
pub(crate) const TOP: Keys = &[
    ("version", Idle),
    ("name", Mapped),
    ("services", Mapped),
    ("networks", Mapped),
    ("volumes", Mapped),
    ("secrets", Mapped),
    ("configs", Mapped),
    ("include", Mapped),
    ("models", Lost("models are not run in the cluster")),
    ("jobs", Lost("write it as a service with `restart: \"no\"`")),
];

/// Of a service.
#[rustfmt::skip]
pub(crate) const SERVICE: Keys = &[
    ("annotations", Mapped),
    ("attach", Idle),
    ("blkio_config", Lost(CGROUP)),
    ("build", Mapped),
    ("cap_add", Mapped),
    ("cap_drop", Mapped),
    ("cgroup", Lost(CGROUP)),
    ("cgroup_parent", Lost(CGROUP)),
    ("command", Mapped),
    ("configs", Mapped),
    ("container_name", Mapped),
    ("cpu_count", Lost(WINDOWS)),
    ("cpu_percent", Lost(WINDOWS)),
    ("cpu_period", Lost(CGROUP)),
    ("cpu_quota", Lost("write `cpus` in its place")),
    ("cpu_rt_period", Lost(CGROUP)),
    ("cpu_rt_runtime", Lost(CGROUP)),
    ("cpu_shares", Lost("shares come from `deploy.resources.reservations.cpus`")),
    ("cpus", Mapped),
    ("cpuset", Lost("the kubelet gives no single processors to pods")),
    ("credential_spec", Lost(WINDOWS)),
    ("depends_on", Mapped),
    ("deploy", Mapped),
    ("develop", Lost("`docker compose watch` does not reach pods; a mounted folder is live in them")),
    ("device_cgroup_rules", Lost(DEVICE)),
    ("devices", Mapped),
    ("dns", Mapped),
    ("dns_opt", Mapped),
    ("dns_search", Mapped),
    ("domainname", Lost("a pod's domain is its cluster's")),
    ("entrypoint", Mapped),
    ("env_file", Mapped),
    ("environment", Mapped),
    ("expose", Mapped),
    ("extends", Mapped),
    ("external_links", Lost("a Service of the cluster is reached by its name, without a link")),
    ("extra_hosts", Mapped),
    ("gpus", Lost("the machine has no GPU")),
    ("group_add", Mapped),
    ("healthcheck", Mapped),
    ("hostname", Mapped),
    ("image", Mapped),
    ("init", Mapped),
    ("ipc", Mapped),
    ("isolation", Lost(WINDOWS)),
    ("label_file", Lost("write its labels into `labels`")),
    ("labels", Mapped),
    ("links", Mapped),
    ("logging", Lost("the kubelet keeps the logs: `kubectl logs`")),
    ("mac_address", Lost(NETWORK)),
    ("mem_limit", Mapped),
    ("mem_reservation", Mapped),
    ("mem_swappiness", Lost(CGROUP)),
    ("memswap_limit", Lost("pods have no swap")),
    ("models", Lost("models are not run in the cluster")),
    ("network_mode", Mapped),
    ("networks", Mapped),
    ("oom_kill_disable", Lost(CGROUP)),
    ("oom_score_adj", Lost("the kubelet sets it by the resources of the pod")),
    ("pid", Mapped),
    ("pids_limit", Lost("the kubelet has one limit for all pods")),
    ("platform", Lost("an image of another platform than the machine's does not run")),
    ("ports", Mapped),
    ("post_start", Mapped),
    ("pre_start", Mapped),
    ("pre_stop", Mapped),
    ("privileged", Mapped),
    ("profiles", Mapped),
    ("provider", Mapped),
    ("pull_policy", Mapped),
    ("pull_refresh_after", Lost("the kubelet pulls always, if missing, or never")),
    ("read_only", Mapped),
    ("restart", Mapped),
    ("runtime", Lost("the machine has one container runtime")),
    ("scale", Mapped),
    ("secrets", Mapped),
    ("security_opt", Mapped),
    ("shm_size", Mapped),
    ("stdin_open", Mapped),
    ("stop_grace_period", Mapped),
    ("stop_signal", Mapped),
    ("storage_opt", Lost("the size of a container's own files is not limited")),
    ("sysctls", Mapped),
    ("tmpfs", Mapped),
    ("tty", Mapped),
    ("ulimits", Lost("Kubernetes sets no ulimits; they are the container runtime's")),
    ("use_api_socket", Lost("a pod is not given the engine's socket")),
    ("user", Mapped),
    ("userns_mode", Idle),
    ("uts", Lost("a pod has a host name of its own")),
    ("volumes", Mapped),
    ("volumes_from", Lost("name the volumes in both services")),
    ("working_dir", Mapped),
];

/// Of `deploy`.
pub(crate) const DEPLOY: Keys = &[
    ("endpoint_mode", Idle),
    ("labels", Mapped),
    ("mode", Mapped),
    ("placement", Lost(SWARM)),
    ("replicas", Mapped),
    ("resources", Mapped),
    ("restart_policy", Mapped),
    ("rollback_config", Lost(SWARM)),
    ("update_config", Lost(SWARM)),
];

/// Of `deploy.restart_policy`.
pub(crate) const RESTART_POLICY: Keys = &[
    ("condition", Mapped),
    ("delay", Lost("the kubelet waits longer from time to time")),
    ("max_attempts", Mapped),
    ("window", Lost("the kubelet waits longer from time to time")),
];

/// Of `deploy.resources`.
pub(crate) const RESOURCES: Keys = &[("limits", Mapped), ("reservations", Mapped)];

/// Of `deploy.resources.limits` and `deploy.resources.reservations`.
pub(crate) const AMOUNTS: Keys = &[
    ("cpus", Mapped),
    ("memory", Mapped),
    ("pids", Lost("the kubelet has one limit for all pods")),
    ("devices", Lost("the machine has no such devices")),
    ("generic_resources", Lost("the node has no such resources")),
];

/// Of `healthcheck`.
pub(crate) const HEALTHCHECK: Keys = &[
    ("disable", Mapped),
    ("interval", Mapped),
    ("retries", Mapped),
    (
        "start_interval",
        Lost("checks are `interval` apart from the start"),
    ),
    // A pod that was never ready is not ready for as long as it takes: nothing counts its failures.
    ("start_period", Idle),
    ("test", Mapped),
    ("timeout", Mapped),
];

/// Of a service in `depends_on`.
pub(crate) const DEPENDENCY: Keys = &[
    ("condition", Mapped),
    ("required", Mapped),
    (
        "restart",
        Lost("no pod is restarted because another one was"),
    ),
];

/// Of a port in its long form.
pub(crate) const PORT: Keys = &[
    ("app_protocol", Mapped),
    ("host_ip", Mapped),
    ("mode", Idle),
    ("name", Mapped),
    ("protocol", Mapped),
    ("published", Mapped),
    ("target", Mapped),
];

/// Of a volume of a service in its long form.
pub(crate) const MOUNT: Keys = &[
    ("bind", Mapped),
    ("consistency", Idle),
    ("image", Mapped),
    ("read_only", Mapped),
    ("source", Mapped),
    ("target", Mapped),
    ("tmpfs", Mapped),
    ("type", Mapped),
    ("volume", Mapped),
];

/// Of `bind` in such a volume.
pub(crate) const BIND: Keys = &[
    ("create_host_path", Mapped),
    ("propagation", Mapped),
    ("recursive", Idle),
    ("selinux", Idle),
];

/// Of `volume` in such a volume.
pub(crate) const VOLUME_OPTIONS: Keys =
    &[("labels", Idle), ("nocopy", Mapped), ("subpath", Mapped)];

/// Of `tmpfs` in such a volume.
pub(crate) const TMPFS: Keys = &[
    ("mode", Lost("everybody may write to a volume in memory")),
    ("size", Mapped),
];

/// Of `image` in such a volume.
pub(crate) const IMAGE_OPTIONS: Keys = &[("subpath", Mapped)];

/// Of a secret or config of a service in its long form.
pub(crate) const GRANT: Keys = &[
    (
        "gid",
        Lost("the file belongs to root; what matters is its `mode`"),
    ),
    ("mode", Mapped),
    ("source", Mapped),
    ("target", Mapped),
    (
        "uid",
        Lost("the file belongs to root; what matters is its `mode`"),
    ),
];

/// Of a network of a service.
pub(crate) const ATTACHMENT: Keys = &[
    ("aliases", Mapped),
    ("driver_opts", Lost(NETWORK)),
    ("gw_priority", Idle),
    ("interface_name", Lost(NETWORK)),
    (
        "ipv4_address",
        Lost("a pod's address is the cluster's choice; use the name of the service"),
    ),
    (
        "ipv6_address",
        Lost("a pod's address is the cluster's choice; use the name of the service"),
    ),
    ("link_local_ips", Lost(NETWORK)),
    ("mac_address", Lost(NETWORK)),
    ("priority", Idle),
];

/// Of a command in `post_start` and `pre_stop`.
pub(crate) const HOOK: Keys = &[
    ("command", Mapped),
    (
        "environment",
        Lost("a hook has the environment of its container"),
    ),
    ("privileged", Lost("a hook may do what its container may")),
    ("user", Lost("a hook runs as the user of its container")),
    ("working_dir", Lost("a hook runs where its container does")),
];

/// Of a file in the long form of `env_file`.
pub(crate) const ENV_FILE: Keys = &[("format", Mapped), ("path", Mapped), ("required", Mapped)];

/// Of `extends`.
pub(crate) const EXTENDS: Keys = &[("file", Mapped), ("service", Mapped)];

/// Of a network.
pub(crate) const NETWORK_KEYS: Keys = &[
    ("attachable", Idle),
    ("driver", Idle),
    ("driver_opts", Lost(NETWORK)),
    ("enable_ipv4", Idle),
    ("enable_ipv6", Lost(NETWORK)),
    ("external", Idle),
    (
        "internal",
        Lost("pods of this network reach the world as all do"),
    ),
    ("ipam", Lost(NETWORK)),
    ("labels", Idle),
    ("name", Idle),
];

/// Of a volume.
pub(crate) const VOLUME: Keys = &[
    ("driver", Mapped),
    ("driver_opts", Mapped),
    ("external", Mapped),
    ("labels", Mapped),
    ("name", Mapped),
];

/// Of a secret or a config.
pub(crate) const SOURCE: Keys = &[
    ("content", Mapped),
    ("driver", Lost(ELSEWHERE)),
    ("driver_opts", Lost(ELSEWHERE)),
    ("environment", Mapped),
    ("external", Mapped),
    ("file", Mapped),
    ("labels", Mapped),
    ("name", Mapped),
    ("template_driver", Lost(ELSEWHERE)),
];

/// Warns of each key of `at` that is not in `keys`, or is lost though it says something. Extensions,
/// `x-*`, are there for others.
pub(crate) fn check(at: &At<'_>, keys: Keys, report: &mut Report) -> Result<()> {
    for (key, value) in at.entries()? {
        if key.starts_with("x-") {
            continue;
        }
        match keys.iter().find(|(known, _)| *known == key) {
            Some((_, Mapped | Idle)) => {}
            Some((_, Lost(why))) => {
                if !value.is_idle() {
                    report.warn(&value, format!("not mapped: {why}"));
                }
            }
            None => report.warn(&value, "not mapped: Compose has no such key"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::parse;

    fn warnings(text: &str, keys: Keys) -> Vec<(usize, String)> {
        let root = parse(text).expect("YAML").root;
        let mut report = Report::default();
        check(&At::root(&root), keys, &mut report).expect("a mapping");
        let warnings = report.into_warnings().into_iter();
        warnings
            .map(|warning| (warning.line, warning.path))
            .collect()
    }

    #[test]
    fn what_is_lost_or_unknown_is_warned_of_and_nothing_else() {
        let text = "image: x\nulimits: {nofile: 1}\nx-mine: 1\nimagee: y\nattach: false\n";
        let expected = [(2, "ulimits".to_owned()), (4, "imagee".to_owned())];
        assert_eq!(warnings(text, SERVICE), expected);
    }

    #[test]
    fn what_says_nothing_is_not_warned_of() {
        let text = "oom_kill_disable: false\ndevices: []\nulimits:\nlogging: {}\n";
        assert_eq!(warnings(text, SERVICE), []);
    }

    #[test]
    fn tables_are_sorted_and_name_each_key_once() {
        let names = SERVICE.iter().map(|(name, _)| *name);
        assert!(
            names
                .clone()
                .zip(names.skip(1))
                .all(|(one, next)| one < next)
        );
    }
}
