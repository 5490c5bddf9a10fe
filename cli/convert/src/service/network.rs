//! A service in the network: its names, its published ports, and how its pod finds others.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    ContainerPort, HostAlias, PodDNSConfig, PodDNSConfigOption, Service, ServicePort, ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::pod::Pod;
use super::ports::Port;
use crate::at::At;
use crate::convert::{Member, Project};
use crate::fault::Result;
use crate::keys;
use crate::names;
use crate::object::Object;
use crate::report::Report;

/// The name that leads to this computer, in Docker and in the cluster.
const HOST: &str = "host.docker.internal";

/// Refuses services that would have one name, and warns of those that have another one.
pub(crate) fn check_names(project: &mut Project<'_>) -> Result<()> {
    for member in project.members {
        let (key, name) = (member.key, &member.name);
        let taken = &mut project.definitions.taken;
        if let Some(other) = taken.insert(name.clone(), key.to_owned()) {
            let message = format!("{key} and {other} are both {name} to Kubernetes");
            return Err(member.at.fault(message));
        }
        // Nobody asks DNS in letters of another size.
        if !name.eq_ignore_ascii_case(key) {
            let message = format!("it is {name} to Kubernetes, and not reached by the name {key}");
            project.report.warn(&member.at, message);
        }
    }
    Ok(())
}

/// Refuses networks that are not there, and warns where networks keep services apart.
pub(crate) fn check_networks(project: &mut Project<'_>) -> Result<()> {
    let defined = project.top.get("networks");
    let mut apart: Vec<BTreeSet<String>> = Vec::new();
    let mut used = BTreeSet::new();
    for member in project.members {
        let mut own = BTreeSet::new();
        if let Some(networks) = member.at.get("networks") {
            for (name, at) in networks.names()? {
                let known = defined.as_ref().is_some_and(|all| all.pair(name).is_some());
                if !known && name != "default" {
                    return Err(at.fault(format!("`networks` of the file has no {name}")));
                }
                own.insert(name.to_owned());
            }
        }
        if own.is_empty() {
            own.insert("default".to_owned());
        }
        used.extend(own.iter().cloned());
        apart.push(own);
    }
    let Some(defined) = defined else {
        return Ok(());
    };
    for (name, network) in defined.entries()? {
        if used.contains(name) {
            keys::check(&network, keys::NETWORK_KEYS, &mut project.report)?;
        }
    }
    let separate = |one: &BTreeSet<String>| apart.iter().any(|other| one.is_disjoint(other));
    if apart.iter().any(separate) {
        let message = "networks keep nobody apart: pods of all of them reach each other";
        project.report.warn(&defined, message);
    }
    Ok(())
}

/// Puts into the pod what it knows of the network.
pub(super) fn put(at: &At<'_>, ports: &[Port], pod: &mut Pod, report: &mut Report) -> Result<()> {
    if let Some(mode) = at.get("network_mode") {
        match mode.text()? {
            "host" => {
                pod.spec.host_network = Some(true);
                pod.spec.dns_policy = Some("ClusterFirstWithHostNet".to_owned());
                // Its ports are the machine's, which two pods cannot both have.
                pod.alone = true;
                report.warn(
                    &mode,
                    "the network is the machine's, not that of this computer",
                );
            }
            "bridge" | "default" | "" => {}
            "none" => report.warn(
                &mode,
                "not mapped: every pod is in the network of the cluster",
            ),
            _ => report.warn(
                &mode,
                "not mapped: only the containers of a pod share a network",
            ),
        }
    }
    if pod.spec.host_network.is_none() {
        let mut listed: Vec<ContainerPort> = Vec::new();
        for port in ports {
            let listed_port = ContainerPort {
                container_port: port.container.into(),
                protocol: other_than_tcp(port),
                ..ContainerPort::default()
            };
            if !listed.contains(&listed_port) {
                listed.push(listed_port);
            }
        }
        pod.container.ports = (!listed.is_empty()).then_some(listed);
    }
    if let Some(name) = at.get("hostname") {
        let text = name.text()?;
        if names::label(text) == text {
            pod.spec.hostname = Some(text.to_owned());
        } else {
            report.warn(
                &name,
                "not mapped: the host name of a pod is one label of DNS",
            );
        }
    }
    hosts(at, pod, report)?;
    resolver(at, pod, report)
}

/// `extra_hosts`: `NAME:ADDRESS`, `NAME=ADDRESS`, or a mapping.
fn hosts(at: &At<'_>, pod: &mut Pod, report: &mut Report) -> Result<()> {
    let Some(hosts) = at.get("extra_hosts") else {
        return Ok(());
    };
    let mut aliases: Vec<HostAlias> = Vec::new();
    for entry in hosts.pairs_or_list()? {
        let (name, address) = match &entry.value {
            Some(address) => (entry.key.as_str(), address.as_str()),
            None => match entry.key.split_once(':') {
                Some(pair) => pair,
                None => return Err(entry.at.expected("NAME:ADDRESS")),
            },
        };
        let address = address.trim_matches(['[', ']']);
        if address == "host-gateway" {
            if name != HOST {
                let message = format!("{name} is not mapped: this computer is {HOST} to pods");
                report.warn(&entry.at, message);
            }
            continue;
        }
        match aliases.iter_mut().find(|alias| alias.ip == address) {
            Some(alias) => alias
                .hostnames
                .get_or_insert_default()
                .push(name.to_owned()),
            None => aliases.push(HostAlias {
                ip: address.to_owned(),
                hostnames: Some(vec![name.to_owned()]),
            }),
        }
    }
    pod.spec.host_aliases = (!aliases.is_empty()).then_some(aliases);
    Ok(())
}

fn resolver(at: &At<'_>, pod: &mut Pod, report: &mut Report) -> Result<()> {
    let list = |key: &str| match at.get(key) {
        Some(list) => {
            let items = list.items_or_one()?;
            let texts = items.iter().map(|item| item.text().map(str::to_owned));
            texts.collect::<Result<Vec<_>>>()
        }
        None => Ok(Vec::new()),
    };
    let (servers, searches, options) = (list("dns")?, list("dns_search")?, list("dns_opt")?);
    if let Some(dns) = at.get("dns").filter(|_| !servers.is_empty()) {
        let message = "asked only where the cluster's own name server does not answer";
        report.warn(&dns, message);
    }
    let options: Vec<_> = options
        .iter()
        .map(|option| {
            let (name, value) = match option.split_once(':') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (option.as_str(), None),
            };
            PodDNSConfigOption {
                name: Some(name.to_owned()),
                value,
            }
        })
        .collect();
    let config = PodDNSConfig {
        nameservers: (!servers.is_empty()).then_some(servers),
        searches: (!searches.is_empty()).then_some(searches),
        options: (!options.is_empty()).then_some(options),
    };
    if config != PodDNSConfig::default() {
        pod.spec.dns_config = Some(config);
    }
    Ok(())
}

/// The names that lead to a service, and its published ports.
pub(super) fn services<'a>(
    member: &Member<'a>,
    ports: &[Port],
    project: &mut Project<'a>,
) -> Result<()> {
    let mut inner: Vec<Port> = Vec::new();
    for port in ports {
        let same =
            |known: &Port| known.container == port.container && known.protocol == port.protocol;
        if !inner.iter().any(same) {
            inner.push(port.clone());
        }
    }
    let inner = service_ports(&inner, |port| port.container);
    headless(member, &member.name, inner.clone(), project);
    for (alias, at) in aliases(member, project)? {
        let name = names::label(alias);
        if alias.is_empty() {
            continue;
        }
        if !name.eq_ignore_ascii_case(alias) {
            let message = format!("{alias} is no name of a Service: nobody is reached by it");
            project.report.warn(&at, message);
            continue;
        }
        let taken = &mut project.definitions.taken;
        match taken.get(&name) {
            Some(owner) if owner == member.key => {}
            Some(owner) => {
                let message = format!("{alias} leads to {owner} only: a name leads to one service");
                project.report.warn(&at, message);
            }
            None => {
                taken.insert(name.clone(), member.key.to_owned());
                headless(member, &name, inner.clone(), project);
            }
        }
    }
    let published: Vec<Port> = ports
        .iter()
        .filter(|port| port.published.is_some())
        .cloned()
        .collect();
    if published.is_empty() {
        return Ok(());
    }
    let name = format!("{}-published", member.name);
    let taken = &mut project.definitions.taken;
    if let Some(other) = taken.insert(name.clone(), member.key.to_owned()) {
        let message = format!(
            "{other} has the name {name}, by which ports of {} are published",
            member.key
        );
        return Err(member.at.fault(message));
    }
    let mut outer = service_ports(&published, |port| port.published.unwrap_or(port.container));
    for (outer, port) in outer.iter_mut().zip(&published) {
        if outer.port != i32::from(port.container) {
            outer.target_port = Some(IntOrString::Int(port.container.into()));
        }
    }
    let service = Service {
        metadata: project.metadata(&name, Some(&member.name)),
        spec: Some(ServiceSpec {
            type_: Some("LoadBalancer".to_owned()),
            selector: Some(project.selector(&member.name)),
            ports: Some(outer),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    };
    project.objects.push(Object::Service(Box::new(service)));
    Ok(())
}

/// A name that leads to the pods themselves, at every port.
fn headless(member: &Member<'_>, name: &str, ports: Vec<ServicePort>, project: &mut Project<'_>) {
    let service = Service {
        metadata: project.metadata(name, Some(&member.name)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(project.selector(&member.name)),
            ports: (!ports.is_empty()).then_some(ports),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    };
    project.objects.push(Object::Service(Box::new(service)));
}

fn service_ports(ports: &[Port], number: impl Fn(&Port) -> u16) -> Vec<ServicePort> {
    let mut taken = BTreeSet::new();
    let ports = ports.iter().map(|port| {
        let own = port
            .name
            .as_deref()
            .filter(|name| names::label(name) == *name);
        let usual = format!("{}-{}", port.protocol.to_ascii_lowercase(), number(port));
        let name = match own {
            Some(own) if !taken.contains(own) => own.to_owned(),
            _ => usual,
        };
        taken.insert(name.clone());
        ServicePort {
            name: Some(name),
            port: number(port).into(),
            protocol: other_than_tcp(port),
            app_protocol: port.application.clone(),
            ..ServicePort::default()
        }
    });
    ports.collect()
}

fn other_than_tcp(port: &Port) -> Option<String> {
    (port.protocol != "TCP").then(|| port.protocol.to_owned())
}

/// All further names of a service: its container's, those in networks, and those that links of others
/// give it.
fn aliases<'a>(member: &Member<'a>, project: &mut Project<'a>) -> Result<Vec<(&'a str, At<'a>)>> {
    let mut aliases = Vec::new();
    if let Some(name) = member.at.get("container_name") {
        aliases.push((name.text()?, name.clone()));
    }
    if let Some(networks) = member.at.get("networks") {
        for (_, network) in networks.names()? {
            if !matches!(network.node.kind, crate::yaml::Kind::Mapping(_)) {
                continue;
            }
            keys::check(&network, keys::ATTACHMENT, &mut project.report)?;
            if let Some(list) = network.get("aliases") {
                for alias in list.items()? {
                    aliases.push((alias.text()?, alias));
                }
            }
        }
    }
    for other in project.members {
        let Some(links) = other.at.get("links") else {
            continue;
        };
        for link in links.items()? {
            let text = link.text()?;
            let (service, alias) = text.split_once(':').unwrap_or((text, text));
            if !project.members.iter().any(|member| member.key == service) {
                return Err(link.fault(format!("there is no service {service}")));
            }
            if service == member.key && alias != service {
                aliases.push((alias, link));
            }
        }
    }
    Ok(aliases)
}
