//! `ports` and `expose`.

use crate::at::At;
use crate::fault::Result;
use crate::keys;
use crate::report::Report;
use crate::yaml::Kind;

/// One port of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    /// In the container.
    pub(crate) container: u16,
    /// Outside, where it is published.
    pub(crate) published: Option<u16>,
    /// `TCP`, `UDP` or `SCTP`.
    pub(crate) protocol: &'static str,
    /// What the file calls it.
    pub(crate) name: Option<String>,
    /// What is spoken there.
    pub(crate) application: Option<String>,
}

/// The most ports of one range.
const MOST: u16 = 1000;

/// All ports of a service, exposed ones too; each published one once.
pub(super) fn of(at: &At<'_>, report: &mut Report) -> Result<Vec<Port>> {
    let mut ports = Vec::new();
    if let Some(list) = at.get("ports") {
        for item in list.items()? {
            let read = match item.node.kind {
                Kind::Mapping(_) => long(&item, report)?,
                _ => short(&item, report)?,
            };
            for port in read {
                if port.published.is_none() {
                    let number = port.container;
                    let message = format!(
                        "{number} is reached by pods only: Compose would choose a port outside; to \
                         choose one, write \"{number}:{number}\""
                    );
                    report.warn(&item, message);
                }
                add(&mut ports, port);
            }
        }
    }
    if let Some(list) = at.get("expose") {
        for item in list.items()? {
            let (range, protocol) = with_protocol(item.text()?, &item)?;
            let (first, last) = range_of(range, &item)?;
            for container in first..=last {
                add(&mut ports, simple(container, None, protocol));
            }
        }
    }
    Ok(ports)
}

fn add(ports: &mut Vec<Port>, port: Port) {
    let same = |known: &Port| {
        known.protocol == port.protocol
            && match (known.published, port.published) {
                (Some(one), Some(other)) => one == other,
                _ => known.container == port.container && port.published.is_none(),
            }
    };
    if !ports.iter().any(same) {
        ports.push(port);
    }
}

fn simple(container: u16, published: Option<u16>, protocol: &'static str) -> Port {
    Port {
        container,
        published,
        protocol,
        name: None,
        application: None,
    }
}

/// `[[IP:][PUBLISHED]:]TARGET[/PROTOCOL]`, where both may be ranges.
fn short(item: &At<'_>, report: &mut Report) -> Result<Vec<Port>> {
    let (rest, protocol) = with_protocol(item.text()?, item)?;
    let (before, target) = match rest.rsplit_once(':') {
        Some((before, target)) => (Some(before), target),
        None => (None, rest),
    };
    let (address, published) = match before.map(|before| before.rsplit_once(':')) {
        Some(Some((address, published))) => (address, published),
        Some(None) => ("", before.unwrap_or_default()),
        None => ("", ""),
    };
    host_address(address, item, report);
    let targets = range_of(target, item)?;
    pairs(targets, published, item, report).map(|pairs| {
        let ports = pairs.into_iter();
        ports
            .map(|(container, published)| simple(container, published, protocol))
            .collect()
    })
}

fn long(item: &At<'_>, report: &mut Report) -> Result<Vec<Port>> {
    keys::check(item, keys::PORT, report)?;
    let text = |key| {
        let at = item.get(key);
        at.map(|at| at.text()).transpose()
    };
    let Some(target) = item.get("target") else {
        return Err(item.expected("a mapping with `target`"));
    };
    if let Some(address) = item.get("host_ip") {
        host_address(address.text()?, &address, report);
    }
    let protocol = match item.get("protocol") {
        Some(at) => protocol_of(at.text()?, &at)?,
        None => "TCP",
    };
    let targets = range_of(target.text()?, &target)?;
    let published = text("published")?.unwrap_or_default();
    let place = item.get("published").unwrap_or_else(|| item.clone());
    let pairs = pairs(targets, published, &place, report)?;
    let (name, application) = (text("name")?, text("app_protocol")?);
    let ports = pairs.into_iter().map(|(container, published)| Port {
        name: name.map(str::to_owned),
        application: application.map(str::to_owned),
        ..simple(container, published, protocol)
    });
    Ok(ports.collect())
}

/// Which port is published as which.
fn pairs(
    (first, last): (u16, u16),
    published: &str,
    item: &At<'_>,
    report: &mut Report,
) -> Result<Vec<(u16, Option<u16>)>> {
    if published.is_empty() || published == "0" {
        return Ok((first..=last).map(|port| (port, None)).collect());
    }
    let (from, to) = range_of(published, item)?;
    if to - from != last - first {
        if first != last {
            return Err(item.fault("both ranges have to be of the same length"));
        }
        let message =
            format!("of the ports {published}, {from} is published; Compose would take a free one");
        report.warn(item, message);
    }
    let shift = |port: u16| from + (port - first);
    Ok((first..=last)
        .map(|port| (port, Some(shift(port))))
        .collect())
}

/// A published port is on loopback addresses of this computer whatever the file says.
fn host_address(address: &str, item: &At<'_>, report: &mut Report) {
    let address = address.trim_matches(['[', ']']);
    let usual = ["", "0.0.0.0", "::", "localhost", "::1"];
    if !usual.contains(&address) && !address.starts_with("127.") {
        let message =
            format!("{address} is not mapped: the load balancer has an address of its own");
        report.warn(item, message);
    }
}

fn with_protocol<'t>(text: &'t str, item: &At<'_>) -> Result<(&'t str, &'static str)> {
    match text.split_once('/') {
        Some((rest, protocol)) => Ok((rest, protocol_of(protocol, item)?)),
        None => Ok((text, "TCP")),
    }
}

fn protocol_of(text: &str, item: &At<'_>) -> Result<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" | "" => Ok("TCP"),
        "udp" => Ok("UDP"),
        "sctp" => Ok("SCTP"),
        _ => Err(item.expected("the protocol tcp, udp or sctp")),
    }
}

/// `80`, or `8000-8010`.
fn range_of(text: &str, item: &At<'_>) -> Result<(u16, u16)> {
    let number = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
    let range = match text.split_once('-') {
        Some((first, last)) => number(first).zip(number(last)),
        None => number(text).map(|port| (port, port)),
    };
    range
        .filter(|(first, last)| first <= last && last - first < MOST)
        .ok_or_else(|| item.expected("a port, [[IP:]PUBLISHED:]TARGET[/PROTOCOL],"))
}
