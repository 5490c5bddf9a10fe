//! The supervision table: what runs in the machine, as data.
//!
//! `components.toml` of the root file system has four parts: kernel modules, kernel
//! parameters, files to render, and components. Texts may hold `@{name}` ([`crate::render`]).

use crate::render::{RenderError, Values, fill};
use coracle_protocol::guest::KubernetesConfig;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Modules to load besides the drivers of the devices that are there.
    pub modules: Vec<String>,
    /// Kernel parameters in `sysctl`'s form.
    pub parameters: BTreeMap<String, String>,
    /// Files rendered at every boot.
    #[serde(rename = "file")]
    pub files: Vec<FileRow>,
    /// Programs, in the order in which they are shown.
    #[serde(rename = "component")]
    pub components: Vec<ComponentRow>,
}

/// A file rendered from a template.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRow {
    /// Its name in the folder of templates.
    pub template: String,
    /// Where it goes.
    pub path: PathBuf,
    /// Permission bits.
    #[serde(default = "public")]
    pub mode: u32,
    /// Name of its group, when not root's.
    pub group: Option<String>,
    /// Only in a machine with Kubernetes.
    #[serde(default)]
    pub kubernetes: bool,
    /// Values for this file only.
    #[serde(default)]
    pub values: Values,
    /// Rendered where it is missing, and people's from then on.
    #[serde(default)]
    pub once: bool,
}

/// A program to supervise.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentRow {
    /// Its name, also of its log.
    pub name: String,
    /// The program and its fixed first arguments.
    pub command: Vec<String>,
    /// Flags by name, without dashes; settings may replace them.
    #[serde(default)]
    pub flags: BTreeMap<String, String>,
    /// Whether it takes `--feature-gates`.
    #[serde(default)]
    pub feature_gates: bool,
    /// Only in a machine with Kubernetes.
    #[serde(default)]
    pub kubernetes: bool,
    /// Components that must be ready first.
    #[serde(default)]
    pub after: Vec<String>,
    /// When it counts as ready.
    pub ready: Ready,
    /// It does its work and ends; it is started again only when it failed.
    #[serde(default)]
    pub one_shot: bool,
    /// Nobody starts it until somebody needs it ([`crate::supervise::Supervisor::need`]); then it stays.
    #[serde(default)]
    pub on_demand: bool,
    /// Environment besides PATH.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// It answers at the Kubernetes API: it goes on where all others stand still ([`crate::standstill`]).
    #[serde(default)]
    pub api: bool,
    /// It fetches from outside of the machine: it has the host's proxy in its environment, and starts
    /// anew when that or the authorities to trust change ([`crate::given`]).
    #[serde(default)]
    pub outward: bool,
    /// By how many milliseconds its timers may be late, so that the kernel serves several at once.
    /// Its children have the same.
    #[serde(default)]
    pub timer_slack: u32,
    /// What the kernel adds to its badness when memory is out: -1000 to 1000.
    #[serde(default)]
    pub oom_score: i32,
    /// At power-off, low numbers stop first; pods are stopped before order 10.
    pub stop_order: u32,
    /// Seconds from SIGTERM to SIGKILL.
    #[serde(default = "ten")]
    pub stop_grace: u32,
}

/// When a component is ready.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "probe", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ready {
    /// As soon as it runs.
    Started,
    /// When it has ended with status 0.
    Ended,
    /// When a unix socket takes connections.
    Socket {
        /// Its path.
        path: PathBuf,
    },
    /// When an address takes TCP connections.
    Tcp {
        /// Address and port.
        address: String,
    },
    /// When a GET is answered with 200.
    Http {
        /// Address and port.
        address: String,
        /// Path of the request.
        path: String,
        /// Over TLS: under [`crate::pki::NODE_NAME`], as the administrator.
        #[serde(default)]
        tls: bool,
    },
    /// When a program ends with status 0.
    Exec {
        /// The program and its arguments.
        command: Vec<String>,
    },
}

fn public() -> u32 {
    0o644
}

fn ten() -> u32 {
    10
}

/// A component as it will be started: nothing left to fill in.
#[derive(Debug, Clone)]
pub struct Component {
    /// Its row.
    pub row: ComponentRow,
    /// The program and all its arguments.
    pub command: Vec<String>,
}

/// Why the table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It is not a table.
    #[error("components.toml is not understood")]
    Syntax(#[from] toml::de::Error),
    /// A component waits for one that is not there.
    #[error("{name} waits for {after}, which comes not before it in the table")]
    After {
        /// Who waits.
        name: String,
        /// For whom.
        after: String,
    },
    /// A component has no program.
    #[error("{0} has no command")]
    NoCommand(String),
    /// A text could not be filled in.
    #[error("{name}: {source}")]
    Render {
        /// Of which component or file.
        name: String,
        /// Why.
        source: RenderError,
    },
    /// Settings have flags for a component that is not in the table.
    #[error("there are extra flags for {0}, which is no component")]
    NoSuchComponent(String),
}

/// Reads a table.
pub fn parse(text: &str) -> Result<Table, TableError> {
    let table: Table = toml::from_str(text)?;
    for (index, row) in table.components.iter().enumerate() {
        if row.command.is_empty() {
            return Err(TableError::NoCommand(row.name.clone()));
        }
        // Waiting only for earlier rows means that no circle can be written.
        let earlier = |after: &&String| {
            table.components[..index]
                .iter()
                .any(|one| one.name == **after)
        };
        if let Some(after) = row.after.iter().find(|after| !earlier(after)) {
            return Err(TableError::After {
                name: row.name.clone(),
                after: after.clone(),
            });
        }
    }
    Ok(table)
}

/// The flag of what a row's `feature_gates` is about.
const GATES_FLAG: &str = "feature-gates";

/// The components that a machine with these settings runs, filled in.
pub fn resolve(
    table: &Table,
    kubernetes: Option<&KubernetesConfig>,
    values: &Values,
) -> Result<Vec<Component>, TableError> {
    if let Some(settings) = kubernetes {
        for name in settings.extra_args.keys() {
            if !table.components.iter().any(|row| row.name == *name) {
                return Err(TableError::NoSuchComponent(name.clone()));
            }
        }
    }
    let rows = table
        .components
        .iter()
        .filter(|row| kubernetes.is_some() || !row.kubernetes);
    rows.map(|row| {
        let fill = |text: &String| {
            fill(text, values).map_err(|source| TableError::Render {
                name: row.name.clone(),
                source,
            })
        };
        let mut command = row
            .command
            .iter()
            .map(fill)
            .collect::<Result<Vec<_>, _>>()?;
        let mut flags = BTreeMap::new();
        for (flag, value) in &row.flags {
            flags.insert(flag.clone(), fill(value)?);
        }
        if let Some(settings) = kubernetes {
            if row.feature_gates && !settings.feature_gates.is_empty() {
                // Of a gate that is there twice, the last value counts.
                let of_row = flags.remove(GATES_FLAG);
                let of_settings = settings
                    .feature_gates
                    .iter()
                    .map(|(gate, on)| format!("{gate}={on}"));
                let gates: Vec<String> = of_row.into_iter().chain(of_settings).collect();
                flags.insert(GATES_FLAG.to_owned(), gates.join(","));
            }
            flags.extend(
                settings
                    .extra_args
                    .get(&row.name)
                    .cloned()
                    .unwrap_or_default(),
            );
        }
        command.extend(
            flags
                .iter()
                .map(|(flag, value)| format!("--{flag}={value}")),
        );
        let mut row = row.clone();
        // A machine without Kubernetes is there for what others start when it is asked for.
        row.on_demand &= kubernetes.is_some();
        Ok(Component { row, command })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        modules = []
        file = []
        [parameters]
        [[component]]
        name = "first"
        command = ["/bin/first"]
        flags = { domain = "@{dns_domain}", feature-gates = "A=false,C=false", v = "1" }
        ready = { probe = "started" }
        feature_gates = true
        kubernetes = true
        stop_order = 30
        [[component]]
        name = "second"
        command = ["/bin/second", "run"]
        ready = { probe = "http", address = "127.0.0.1:1", path = "/" }
        stop_order = 20
    "#;

    fn settings() -> KubernetesConfig {
        let extra = [
            ("v".to_owned(), "9".to_owned()),
            ("x".to_owned(), String::new()),
        ];
        KubernetesConfig {
            version: "v1".into(),
            service_cidr: String::new(),
            pod_cidr: String::new(),
            dns_domain: String::new(),
            dns_address: [0, 0, 0, 0].into(),
            feature_gates: [("A".to_owned(), true), ("B".to_owned(), false)].into(),
            extra_args: [("first".to_owned(), extra.into())].into(),
            identity: coracle_protocol::guest::ClusterIdentity {
                cluster_ca: String::new(),
                serving_certificate: String::new(),
                serving_key: String::new(),
                client_ca: String::new(),
                client_ca_key: String::new(),
                service_account_key: String::new(),
                service_account_public_key: String::new(),
            },
        }
    }

    #[test]
    fn settings_win_over_the_tables_flags() {
        let values = [("dns_domain".to_owned(), "d".to_owned())].into();
        let components = resolve(&parse(TEXT).unwrap(), Some(&settings()), &values).unwrap();
        let wanted = [
            "/bin/first",
            "--domain=d",
            "--feature-gates=A=false,C=false,A=true,B=false",
            "--v=9",
            "--x=",
        ];
        assert_eq!(components[0].command, wanted);
        assert_eq!(components[1].command, ["/bin/second", "run"]);
        let bare = resolve(&parse(TEXT).unwrap(), None, &values).unwrap();
        assert_eq!(bare.len(), 1);
    }

    #[test]
    fn mistakes_are_named() {
        let values = Values::new();
        let error = resolve(&parse(TEXT).unwrap(), Some(&settings()), &values).unwrap_err();
        assert_eq!(
            error.to_string(),
            "first: line 1: there is no value for @{dns_domain}"
        );
        let circle = TEXT.replace("v = \"1\" }", "v = \"1\" }\nafter = [\"second\"]");
        assert!(matches!(parse(&circle), Err(TableError::After { .. })));
        let mut wrong = settings();
        wrong.extra_args.insert("third".into(), BTreeMap::new());
        let error = resolve(&parse(TEXT).unwrap(), Some(&wrong), &values).unwrap_err();
        assert!(matches!(error, TableError::NoSuchComponent(name) if name == "third"));
    }

    #[test]
    fn the_images_own_table_is_sound() {
        let table = parse(include_str!("../../rootfs/usr/lib/coracle/components.toml")).unwrap();
        let names: Vec<&str> = table
            .components
            .iter()
            .map(|row| row.name.as_str())
            .collect();
        assert!(names.contains(&"kube-apiserver"));
        let outward = table.components.iter().filter(|row| row.outward);
        let outward: Vec<&str> = outward.map(|row| row.name.as_str()).collect();
        assert!(outward.contains(&"containerd"), "{outward:?}");
    }
}
