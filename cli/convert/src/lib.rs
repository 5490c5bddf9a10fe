//! Compose files turned into Kubernetes manifests.
//!
//! ```text
//! text -> yaml (lines, anchors, merges) -> interpolate -> extends, profiles
//!      -> service (one service: pod, workload, Services)  -> Conversion: objects, warnings
//!         definitions (volumes, secrets, configs that services use)
//! ```
//!
//! [`convert`] takes values and gives values: it knows no machine, reads no file but through
//! [`Files`], and prints nothing. The same values give the same objects in the same order.
//!
//! # What a project becomes
//!
//! | Compose | Kubernetes |
//! |---|---|
//! | a service | a Deployment; a Job with `restart: "no"`; a DaemonSet with `deploy.mode: global` |
//! | its name, aliases, `container_name`, links | headless Services of these names |
//! | its published ports | a Service of the type LoadBalancer, `NAME-published` |
//! | a named volume | a PersistentVolumeClaim |
//! | a folder or file that is bound | a hostPath, told in [`Conversion::host_paths`] |
//! | secrets, configs | Secrets, ConfigMaps, mounted file by file |
//! | `healthcheck` | a readiness probe |
//! | `pre_start` | init containers |
//!
//! Only what an active service uses is made, as Compose does it.
//!
//! # Why so
//!
//! - **Headless Services.** In Compose a service's name leads to its containers at every port, also
//!   those that no line of the file names: a broker whose management port is published is still asked
//!   at its own. A ClusterIP would lead to the named ports only. A check does not take a container off
//!   the network either, so that pods are found before they are ready (`publishNotReadyAddresses`).
//! - **Deployments, not StatefulSets.** A volume belongs to the project, and replicas and services
//!   share it; a StatefulSet would make one for each replica. Where something outlives the pod or
//!   belongs to the machine (a volume that is written, a bound path, the machine's network), the old
//!   pod ends before the new one begins (`Recreate`): two would write to one database.
//! - **A service without `restart` is a Deployment**, though Compose would not restart it: nearly all
//!   such services are servers. Only `restart: "no"`, written out, says that one ends.
//! - **A Job that depends on others is tried again** where it fails, six times: Compose would start it
//!   when they are up, and Kubernetes starts all at once.
//! - **A check is a readiness probe.** Compose restarts nothing that is unhealthy, as a liveness probe
//!   would. A failure before the first success counts for nothing in a readiness probe, so that
//!   `start_period` needs no probe of its own.
//! - **Limits reserve nothing**, as in Compose: where only a limit is written, the request is 0.
//! - **`$(NAME)` stays what it is**: Kubernetes would put variables in there, and is told not to.
//! - A named volume begins empty; Docker would copy into it what the image has at that place. That is
//!   warned of where it commonly matters: volumes without a name, and those that services share.
//!
//! # Why a reader of its own
//!
//! Warnings name lines, and values are often variables. Of the crates that know Compose's types,
//! `compose_spec` 0.3 and `docker-compose-types` 0.24 are of serde over `serde_yaml` (archived) or its
//! other heirs: they drop positions, have no interpolation, and refuse what is of another type before
//! it (`${PORT}` for a number); the second refuses keys that it does not know as well. `compose-lens`
//! keeps positions, but 0.4 needs a newer compiler than this workspace's, and its own YAML reader
//! takes some anchored mappings for text. So `granit-parser`, which `kubeconfig/` reads with too, gives
//! events with lines, and the mapping goes over a tree of them.

mod at;
mod convert;
mod definitions;
mod env_file;
mod extends;
mod fault;
mod interpolate;
mod keys;
mod names;
mod object;
mod paths;
mod report;
mod service;
mod units;
mod words;
mod write;
mod yaml;

pub use convert::{Build, Conversion, FileKind, Files, HostPath, Source, convert};
pub use env_file::{EnvFile, EnvFileError};
pub use fault::{ConvertError, Fault};
pub use object::Object;
pub use report::Warning;
pub use write::to_yaml;
