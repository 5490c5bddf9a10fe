//! Ports of the host that lead into a machine: rules of VirtualBox's own network behind its first card.
//!
//! The rules are part of the machine's settings. Those whose name begins with ours are ours: the ones of
//! the specification, and those that are there only while the machine runs, which the next launch
//! takes away. All others are people's, and stay.
//!
//! ```text
//! off:     modifyvm  --natpf1 RULE     --natpf1 delete NAME
//! running: controlvm   natpf1 RULE       natpf1 delete NAME
//! ```

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use super::failure::Failure;
use super::info::Info;
use super::manage::{CHANGE, Manage, words};
use super::unable;
use crate::address::{AddressError, check_free};
use crate::driver::{DriverError, Exposed, GuestPort};
use crate::spec::{MachineSpec, PortForward, Protocol};

/// What the names of our rules begin with.
const PREFIX: &str = "coracle-";
/// The guest's address, as VirtualBox gives it and as the guest takes it.
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// How often another port is tried: somebody may take one between its choice and its use.
const ATTEMPTS: usize = 8;

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// Its name, which no other rule of the machine has.
    pub(super) name: String,
    /// From where it leads where to.
    pub(super) exposed: Exposed,
}

impl Rule {
    fn new(exposed: Exposed) -> Self {
        let (protocol, host) = (exposed.guest.protocol.as_str(), exposed.host);
        Self {
            name: format!("{PREFIX}{protocol}-{}-{}", host.ip(), host.port()),
            exposed,
        }
    }

    fn of(forward: &PortForward) -> Self {
        Self::new(Exposed {
            guest: GuestPort {
                protocol: forward.protocol,
                port: forward.guest_port,
            },
            host: forward.host,
        })
    }

    pub(super) fn is_ours(&self) -> bool {
        self.name.starts_with(PREFIX)
    }

    /// As VirtualBox reads it.
    fn text(&self) -> String {
        let Exposed { guest, host } = self.exposed;
        format!(
            "{},{},{},{},{GUEST},{}",
            self.name,
            guest.protocol.as_str(),
            host.ip(),
            host.port(),
            guest.port
        )
    }
}

/// Our rules of a machine.
pub(super) fn ours(info: &Info) -> Vec<Exposed> {
    let rules = info.rules.iter().filter(|rule| rule.is_ours());
    rules.map(|rule| rule.exposed).collect()
}

/// What makes the rules those of the specification: the names of ours that have to go, and those that are
/// missing.
fn differences(info: &Info, spec: &MachineSpec) -> (Vec<String>, Vec<Rule>) {
    let wanted: Vec<Rule> = spec.network.forwards.iter().map(Rule::of).collect();
    let there = info.rules.iter();
    let stale = there.filter(|rule| rule.is_ours() && !wanted.contains(rule));
    let stale = stale.map(|rule| rule.name.clone()).collect();
    let missing = wanted.into_iter().filter(|rule| !info.rules.contains(rule));
    (stale, missing.collect())
}

/// Words for `modifyvm` that make the rules of a machine those of the specification.
pub(super) fn settle_words(info: &Info, spec: &MachineSpec) -> Vec<OsString> {
    let (stale, missing) = differences(info, spec);
    let mut all = Vec::new();
    for name in &stale {
        all.extend(words(["--natpf1", "delete", name]));
    }
    for rule in &missing {
        all.extend(words(["--natpf1", &rule.text()]));
    }
    all
}

/// Makes the rules of a machine that runs those of the specification.
pub(super) async fn settle_running(
    manage: &Manage,
    id: &str,
    info: &Info,
    spec: &MachineSpec,
) -> Result<(), Failure> {
    let (stale, missing) = differences(info, spec);
    for name in &stale {
        remove_rule(manage, id, name).await?;
    }
    for rule in &missing {
        add_rule(manage, id, rule).await?;
    }
    Ok(())
}

/// That all ports of the specification can be had, before VirtualBox fails at one that it does not name.
pub(super) fn check(spec: &MachineSpec) -> Result<(), DriverError> {
    for forward in &spec.network.forwards {
        let address = forward.host;
        match check_free(address, forward.protocol) {
            Ok(()) => {}
            Err(error @ AddressError::Forbidden { .. }) => {
                let detail = error.to_string();
                return Err(DriverError::PortForbidden { address, detail });
            }
            Err(error @ AddressError::Taken { .. }) => {
                let detail = error.to_string();
                return Err(DriverError::PortTaken { address, detail });
            }
            Err(error) => return Err(unable(error.to_string())),
        }
    }
    Ok(())
}

/// Forwards each of `ports` that is not yet, from `address` and ports of the host that are free.
pub(super) async fn add(
    manage: &Manage,
    id: &str,
    info: &Info,
    address: IpAddr,
    ports: &[GuestPort],
) -> Result<Vec<Exposed>, DriverError> {
    let IpAddr::V4(address) = address else {
        return Err(unable("its network forwards only IPv4".to_owned()));
    };
    let mut there = ours(info);
    let mut exposed = Vec::with_capacity(ports.len());
    for &guest in ports {
        let known = there.iter().find(|one| one.guest == guest).copied();
        let one = match known {
            Some(known) => known,
            None => forward(manage, id, address, guest).await?,
        };
        exposed.push(one);
        there.push(one);
    }
    Ok(exposed)
}

async fn forward(
    manage: &Manage,
    id: &str,
    address: Ipv4Addr,
    guest: GuestPort,
) -> Result<Exposed, DriverError> {
    let mut attempt = 1;
    loop {
        let host = free(address, guest.protocol)?;
        let rule = Rule::new(Exposed { guest, host });
        match add_rule(manage, id, &rule).await {
            Ok(()) => return Ok(rule.exposed),
            Err(failure) if attempt == ATTEMPTS => return Err(failure.into()),
            Err(failure) => {
                tracing::debug!(detail = failure.detail(), "a port is not forwarded");
                attempt += 1;
            }
        }
    }
}

/// Ends rules of ours; those that are not there are no error.
pub(super) async fn remove(
    manage: &Manage,
    id: &str,
    info: &Info,
    exposed: &[Exposed],
) -> Result<(), DriverError> {
    let ours = info.rules.iter().filter(|rule| rule.is_ours());
    for rule in ours.filter(|rule| exposed.contains(&rule.exposed)) {
        remove_rule(manage, id, &rule.name).await?;
    }
    Ok(())
}

async fn add_rule(manage: &Manage, id: &str, rule: &Rule) -> Result<(), Failure> {
    let words = words(["controlvm", id, "natpf1", &rule.text()]);
    manage.run(&words, CHANGE).await.map(drop)
}

async fn remove_rule(manage: &Manage, id: &str, name: &str) -> Result<(), Failure> {
    let words = words(["controlvm", id, "natpf1", "delete", name]);
    manage.run(&words, CHANGE).await.map(drop)
}

/// A port that nobody listens on.
fn free(address: Ipv4Addr, protocol: Protocol) -> Result<SocketAddr, DriverError> {
    let any = SocketAddr::from((address, 0));
    let found = match protocol {
        Protocol::Tcp => TcpListener::bind(any).and_then(|bound| bound.local_addr()),
        Protocol::Udp => UdpSocket::bind(any).and_then(|bound| bound.local_addr()),
    };
    found.map_err(|error| unable(format!("{address} has no free port: {error}")))
}
