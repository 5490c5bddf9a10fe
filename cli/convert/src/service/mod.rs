//! One service: its pod, what runs the pod, and its names in the network.

mod command;
mod environment;
mod grants;
mod health;
mod image;
mod lifecycle;
mod mounts;
mod network;
mod pod;
mod ports;
mod resources;
mod security;
#[cfg(test)]
pub(crate) mod tests;
mod workload;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::at::At;
use crate::convert::{Member, Project};
use crate::extends;
use crate::fault::Result;
use crate::keys;
use crate::names;
use crate::report::Report;

pub(crate) use network::{check_names, check_networks};

/// The label that names a service.
const NAME_LABEL: &str = "app.kubernetes.io/name";
/// The label that names its project.
const PROJECT_LABEL: &str = "app.kubernetes.io/part-of";

/// Puts the objects of a service into the project.
pub(crate) fn convert<'a>(member: &Member<'a>, project: &mut Project<'a>) -> Result<()> {
    let at = &member.at;
    keys::check(at, keys::SERVICE, &mut project.report)?;
    if let Some(provider) = at.get("provider") {
        let message = format!("{} is left out: a program outside provides it", member.key);
        project.report.warn(&provider, message);
        return Ok(());
    }
    let mut pod = pod::Pod::new(&member.name);
    container(member, &mut pod, project)?;
    health::put(at, &mut pod, &mut project.report)?;
    lifecycle::put(at, &mut pod, project)?;
    before(member, &mut pod, project)?;
    let ports = ports::of(at, &mut project.report)?;
    network::put(at, &ports, &mut pod, &mut project.report)?;
    network::services(member, &ports, project)?;
    workload::put(member, pod, project)
}

/// Puts into the pod what makes its container.
fn container(member: &Member<'_>, pod: &mut pod::Pod, project: &mut Project<'_>) -> Result<()> {
    image::put(member, pod, project)?;
    command::put(&member.at, pod, &mut project.report)?;
    environment::put(&member.at, pod, project)?;
    security::put(&member.at, pod, &mut project.report)?;
    resources::put(&member.at, pod, &mut project.report)?;
    lifecycle::terminal(&member.at, pod)?;
    mounts::put(member, pod, project)?;
    grants::put(&member.at, pod, project)
}

/// `pre_start`: containers that run to their end, one after the other, before the service does.
fn before(member: &Member<'_>, pod: &mut pod::Pod, project: &mut Project<'_>) -> Result<()> {
    let Some(commands) = member.at.get("pre_start") else {
        return Ok(());
    };
    for (number, command) in commands.items()?.into_iter().enumerate() {
        keys::check(&command, keys::SERVICE, &mut project.report)?;
        let node = extends::before(member.at.node, command.node);
        let first = Member {
            key: member.key,
            name: format!("before-{}", number + 1),
            at: At {
                node: &node,
                ..command
            },
        };
        pod.before(first.name.clone(), |pod| container(&first, pod, project))?;
    }
    Ok(())
}

impl Project<'_> {
    /// The labels that find the pods of a service.
    pub(crate) fn selector(&self, service: &str) -> BTreeMap<String, String> {
        let mut labels = self.labels();
        labels.insert(NAME_LABEL.to_owned(), service.to_owned());
        labels
    }

    fn labels(&self) -> BTreeMap<String, String> {
        [(PROJECT_LABEL.to_owned(), names::label_value(&self.name))].into()
    }

    /// The metadata of an object of the project, or of one of its services.
    pub(crate) fn metadata(&self, name: &str, service: Option<&str>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(match service {
                Some(service) => self.selector(service),
                None => self.labels(),
            }),
            ..ObjectMeta::default()
        }
    }
}

/// The labels of Docker in `key` of `at`, which are annotations to Kubernetes: its own labels take
/// short words only.
pub(crate) fn annotations(
    at: &At<'_>,
    key: &str,
    report: &mut Report,
) -> Result<Option<BTreeMap<String, String>>> {
    let mut annotations = BTreeMap::new();
    if let Some(labels) = at.get(key) {
        for entry in labels.pairs_or_list()? {
            if names::is_annotation(&entry.key) {
                annotations.insert(entry.key, entry.value.unwrap_or_default());
            } else {
                let message = format!("{:?} is left out: no annotation has such a key", entry.key);
                report.warn(&entry.at, message);
            }
        }
    }
    Ok((!annotations.is_empty()).then_some(annotations))
}
