//! What a cluster is doing, from facts: the hypervisor, the agent, the kubeconfig.

use super::{Cluster, Found, kubeconfig};
use crate::error::Result;
use crate::host_agent;
use crate::settings::Settings;
use coracle_protocol::api::{ComponentState, Readiness};
use coracle_vm::MachineState;
use serde::Serialize;
use std::time::Duration;

/// How long the agent may take to answer before a cluster counts as not answering.
const AGENT_LIMIT: Duration = Duration::from_secs(10);

/// The status of one cluster, with Minikube's field names and words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ClusterStatus {
    /// The cluster's name.
    pub name: String,
    /// The machine: Running, Stopped, Asleep, Starting, Paused, Broken, or `Paused: host disk full`.
    pub host: String,
    /// The kubelet: Running, Starting, Stopped or Unknown; None without Kubernetes.
    pub kubelet: String,
    /// The API server, likewise.
    #[serde(rename = "APIServer")]
    pub api_server: String,
    /// The kubeconfig's context: Configured, Misconfigured or Missing; None without Kubernetes.
    pub kubeconfig: String,
    /// The Docker engine: Running, Starting, Stopped, Unknown, or Idle before the first request.
    pub docker: String,
    /// The process that holds its ports: Running, Stopped, or Missing where there should be one.
    pub host_agent: String,
    /// When it is stopped by itself, if that is scheduled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_at: Option<String>,
    /// What is wrong, in sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

const RUNNING: &str = "Running";
const STOPPED: &str = "Stopped";
const NONE: &str = "None";
const IDLE: &str = "Idle";
const CONFIGURED: &str = "Configured";

impl ClusterStatus {
    /// Asks everybody who knows.
    pub async fn of(settings: &Settings, found: &Found) -> Result<Self> {
        match found {
            Found::Broken { name, reason } => Ok(Self {
                name: name.to_string(),
                host: "Broken".into(),
                kubelet: "Unknown".into(),
                api_server: "Unknown".into(),
                kubeconfig: "Unknown".into(),
                docker: "Unknown".into(),
                host_agent: "Unknown".into(),
                stop_at: None,
                problems: vec![format!("{reason}; `coracle delete -p {name}` removes it")],
            }),
            Found::Whole(cluster) => Self::of_whole(settings, cluster).await,
        }
    }

    async fn of_whole(settings: &Settings, cluster: &Cluster) -> Result<Self> {
        let mut problems = Vec::new();
        let state = cluster.state().await?;
        let sleeps = state == MachineState::Off && host_agent::is_asleep(cluster.dir());
        let host_agent = match host_agent::is_there(cluster.dir()).await? {
            true => RUNNING,
            false if sleeps || state.has_process() => "Missing",
            false => STOPPED,
        };
        let components = match state {
            MachineState::Running => components(cluster, &mut problems).await,
            _ => None,
        };
        let kubeconfig = match kubeconfig::status(settings, cluster) {
            Ok(word) => word,
            Err(error) => {
                problems.push(error.message().to_owned());
                "Unknown"
            }
        };
        let component = |name: &str| match (&state, &components) {
            (MachineState::Off, _) => STOPPED,
            (MachineState::Paused | MachineState::PausedDiskFull, _) => "Paused",
            (_, Some(table)) => word(table, name),
            (_, None) => "Unknown",
        };
        let of_kubernetes = |name: &str| match cluster.record().spec.has_kubernetes() {
            true => component(name).into(),
            false => NONE.into(),
        };
        Ok(Self {
            name: cluster.dir().name().to_string(),
            host: match &state {
                MachineState::Off if sleeps => "Asleep".into(),
                MachineState::Off => STOPPED.into(),
                MachineState::Running => RUNNING.into(),
                MachineState::Starting => "Starting".into(),
                MachineState::Paused => "Paused".into(),
                MachineState::PausedDiskFull => "Paused: host disk full".into(),
                MachineState::Panicked => {
                    problems.push("the guest's kernel panicked".into());
                    "Broken".into()
                }
                MachineState::Broken { reason } => {
                    problems.push(reason.clone());
                    "Broken".into()
                }
            },
            kubelet: of_kubernetes("kubelet"),
            api_server: of_kubernetes("kube-apiserver"),
            kubeconfig: kubeconfig.into(),
            docker: component("dockerd").into(),
            host_agent: host_agent.into(),
            stop_at: cluster.record().rest.stop_at.map(|at| at.to_string()),
            problems,
        })
    }

    /// What is not well, added up: 1 the machine, 2 the cluster, 4 the kubeconfig.
    pub fn exit_code(&self) -> u8 {
        let machine = u8::from(self.host != RUNNING);
        let cluster = u8::from(!self.cluster_is_well());
        let kubeconfig = u8::from(![CONFIGURED, NONE].contains(&&*self.kubeconfig));
        machine + 2 * cluster + 4 * kubeconfig
    }

    /// Whether all that the machine is for runs: an engine without Kubernetes, or Kubernetes.
    fn cluster_is_well(&self) -> bool {
        match (&*self.kubelet, &*self.api_server) {
            (NONE, NONE) => self.docker == RUNNING,
            both => both == (RUNNING, RUNNING),
        }
    }

    /// One word for a list.
    pub fn summary(&self) -> String {
        if self.host == RUNNING && !self.cluster_is_well() {
            return "Starting".into();
        }
        self.host.clone()
    }

    #[cfg(test)]
    pub fn example() -> Self {
        Self {
            name: "dev".into(),
            host: RUNNING.into(),
            kubelet: RUNNING.into(),
            api_server: RUNNING.into(),
            kubeconfig: CONFIGURED.into(),
            docker: IDLE.into(),
            host_agent: RUNNING.into(),
            stop_at: None,
            problems: Vec::new(),
        }
    }
}

async fn components(cluster: &Cluster, problems: &mut Vec<String>) -> Option<Readiness> {
    let asked = async {
        Ok(cluster
            .agent_within(AGENT_LIMIT)
            .await?
            .components()
            .await?)
    };
    match asked.await {
        Ok(table) => Some(table),
        Err(error) => {
            let error: crate::error::Error = error;
            problems.push(error.message().to_owned());
            None
        }
    }
}

fn word(table: &Readiness, name: &str) -> &'static str {
    let found = table.components.iter().find(|one| one.name == name);
    match found.map(|one| one.state()) {
        Some(ComponentState::Waiting | ComponentState::Done)
            if found.is_some_and(|one| one.on_demand) =>
        {
            IDLE
        }
        Some(ComponentState::Ready) => RUNNING,
        Some(ComponentState::Waiting | ComponentState::Starting | ComponentState::BackingOff) => {
            "Starting"
        }
        Some(ComponentState::Done | ComponentState::Unspecified) | None => STOPPED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_adds_up_what_is_not_well() {
        let well = ClusterStatus::example();
        assert_eq!(well.exit_code(), 0);
        let stopped = ClusterStatus {
            host: STOPPED.into(),
            kubelet: STOPPED.into(),
            api_server: STOPPED.into(),
            ..well.clone()
        };
        assert_eq!(stopped.exit_code(), 3);
        assert_eq!(
            ClusterStatus {
                kubeconfig: "Missing".into(),
                ..stopped
            }
            .exit_code(),
            7
        );
        let engine = |docker: &str| ClusterStatus {
            kubelet: NONE.into(),
            api_server: NONE.into(),
            kubeconfig: NONE.into(),
            docker: docker.into(),
            ..well.clone()
        };
        assert_eq!(
            (engine(RUNNING).exit_code(), engine(STOPPED).exit_code()),
            (0, 2)
        );
        let starting = ClusterStatus {
            api_server: "Starting".into(),
            ..well
        };
        assert_eq!(
            (starting.exit_code(), starting.summary().as_str()),
            (2, "Starting")
        );
    }

    #[test]
    fn fields_have_minikubes_names() {
        let value = serde_json::to_value(ClusterStatus::example()).unwrap();
        for key in [
            "Name",
            "Host",
            "Kubelet",
            "APIServer",
            "Kubeconfig",
            "HostAgent",
        ] {
            assert!(value.get(key).is_some(), "{key}");
        }
    }
}
