//! The cluster's ClusterIPs on this host, for as long as somebody waits: each Service at a loopback address
//! of its own with its own ports, led through the machine's agent, which reaches them from inside; and all of
//! them by their names, at a proxy.
//!
//! ```text
//! Services --watch--> Tunnel --+--> a listener each: TCP here, UDP in datagrams --> agent --> ClusterIP
//!                              +--> Names: a proxy (SOCKS) that finds them by name --> agent --> ClusterIP
//! ```

mod datagrams;
mod names;

use super::Cluster;
use super::services::{Key, Known, key, protocol};
use crate::error::Result;
use coracle_protocol::client::AgentClient;
use coracle_vm::address::{self, AddressError};
use coracle_vm::spec::Protocol;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use kube::api::Api;
use kube::runtime::watcher::{self, watcher};
use names::Names;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::task::AbortOnDropHandle;

/// The pause after the system refused another connection.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// A port of a ClusterIP, and where it is led.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// The Service's namespace and name.
    pub service: Key,
    /// The ClusterIP.
    pub inside: String,
    /// The Service's port.
    pub number: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// What became of a port.
#[derive(Debug)]
pub enum Change {
    /// It is led from this address.
    Opened(Port, SocketAddr),
    /// It could not be opened.
    Refused(Port, AddressError),
    /// Its Service is gone.
    Closed(Port),
    /// Programs that use this proxy reach Services by their names.
    Names(SocketAddr),
}

/// Leads the ClusterIPs of all Services, and of those to come, until it is dropped.
pub async fn open(cluster: &Cluster, mut tell: impl FnMut(&Change)) -> Result<Infallible> {
    let agent = cluster.agent().await?;
    let services: Api<Service> = Api::all(cluster.api()?);
    let mut events = std::pin::pin!(watcher(services, watcher::Config::default()));
    let number = address::number(cluster.endpoint().address);
    let names = Names::of(&cluster.record().spec);
    let mut tunnel = Tunnel {
        agent: agent.clone(),
        number,
        addresses: BTreeMap::new(),
        open: BTreeMap::new(),
    };
    let (listener, address) = names::listen(number)?;
    let _proxy = AbortOnDropHandle::new(tokio::spawn(names::serve(listener, agent, names.clone())));
    tell(&Change::Names(address));
    let mut known = Known::default();
    loop {
        if known.take(events.next().await)? {
            let wanted: Vec<Port> = known.services().values().flat_map(ports).collect();
            names.are_of(&wanted);
            tunnel.lead(&wanted, &mut tell);
        }
    }
}

struct Tunnel {
    agent: AgentClient,
    /// N of its addresses 127.89.N.M, beside those of the load balancers; none where the host has but one.
    number: Option<u8>,
    addresses: BTreeMap<Key, IpAddr>,
    open: BTreeMap<Port, AbortOnDropHandle<()>>,
}

impl Tunnel {
    fn lead(&mut self, wanted: &[Port], tell: &mut impl FnMut(&Change)) {
        let is_gone = |port: &Port| !wanted.contains(port);
        for port in self.open.keys().filter(|port| is_gone(port)) {
            tell(&Change::Closed(port.clone()));
        }
        self.open.retain(|port, _| !is_gone(port));
        self.addresses
            .retain(|service, _| wanted.iter().any(|port| port.service == *service));
        for port in wanted {
            if self.open.contains_key(port) {
                continue;
            }
            let change = match self.listen(port) {
                Ok((listening, address)) => {
                    self.open.insert(port.clone(), listening);
                    Change::Opened(port.clone(), address)
                }
                Err(error) => Change::Refused(port.clone(), error),
            };
            tell(&change);
        }
    }

    /// Listens at the Service's own port, where that can be had; else at any.
    fn listen(
        &mut self,
        port: &Port,
    ) -> std::result::Result<(AbortOnDropHandle<()>, SocketAddr), AddressError> {
        let own = SocketAddr::new(self.address(&port.service), port.number);
        let (agent, port) = (self.agent.clone(), port.clone());
        let opened = match port.protocol {
            Protocol::Tcp => listen(own).map(|(listener, address)| {
                let led = move |client| lead(client, agent.clone(), port.clone());
                (tokio::spawn(serve(listener, led)), address)
            }),
            Protocol::Udp => bind(own).map(|(socket, address)| {
                (tokio::spawn(datagrams::serve(socket, agent, port)), address)
            }),
        };
        let (task, address) = opened.map_err(|error| AddressError::of(own, error))?;
        Ok((AbortOnDropHandle::new(task), address))
    }

    /// The Service's own address; one for all where there are no more.
    fn address(&mut self, service: &Key) -> IpAddr {
        if let Some(known) = self.addresses.get(service) {
            return *known;
        }
        let address = free(self.number, &self.addresses);
        self.addresses.insert(service.clone(), address);
        address
    }
}

/// The first of 127.89.N that no Service has; where the host has but one address, or they are used up, that
/// one for all.
fn free(number: Option<u8>, taken: &BTreeMap<Key, IpAddr>) -> IpAddr {
    let own = number.and_then(|number| {
        (1..names::LAST)
            .map(|last| IpAddr::from(Ipv4Addr::new(127, 89, number, last)))
            .find(|ip| taken.values().all(|other| other != ip))
    });
    own.unwrap_or(Ipv4Addr::LOCALHOST.into())
}

/// What is bound there; where that cannot be had, at any port of the same address.
fn own_or_any<T>(own: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    bind(own).or_else(|_| bind(SocketAddr::new(own.ip(), 0)))
}

/// Listens there, or near there.
fn listen(own: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let bound = own_or_any(own, std::net::TcpListener::bind)?;
    bound.set_nonblocking(true)?;
    let listener = TcpListener::from_std(bound)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// The same for datagrams.
fn bind(own: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    let bound = own_or_any(own, std::net::UdpSocket::bind)?;
    bound.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(bound)?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

/// Takes connections, until it is dropped; what is done with each goes on beside it.
async fn serve<F>(listener: TcpListener, lead: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        match listener.accept().await {
            Ok((client, _)) => drop(tokio::spawn(lead(client))),
            Err(error) => {
                tracing::debug!(%error, "a connection cannot be taken");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

async fn lead(mut client: TcpStream, agent: AgentClient, port: Port) {
    match agent.dial_tcp(&port.inside, port.number).await {
        Ok(mut inside) => {
            // How it ends is between the two.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut inside).await;
        }
        Err(error) => tracing::debug!(%error, "a ClusterIP does not answer"),
    }
}

/// The ports of a Service that has a ClusterIP, but those of SCTP.
fn ports(service: &Service) -> Vec<Port> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let inside = spec.cluster_ip.clone().unwrap_or_default();
    if inside.parse::<IpAddr>().is_err() {
        // Headless, or a name.
        return Vec::new();
    }
    let ports = spec.ports.iter().flatten();
    ports
        .filter_map(|port| {
            Some(Port {
                service: key(service),
                inside: inside.clone(),
                number: u16::try_from(port.port).ok()?,
                protocol: protocol(port)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_of_cluster_ips_are_led() {
        let of = |spec: serde_json::Value| {
            let service = json!({"metadata": {"namespace": "a", "name": "b"}, "spec": spec});
            ports(&serde_json::from_value(service).unwrap())
        };
        let found = of(json!({"clusterIP": "10.96.0.7", "ports": [
            {"port": 80}, {"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"},
            {"port": 9, "protocol": "SCTP"},
        ]}));
        let numbers: Vec<_> = found
            .iter()
            .map(|port| (port.number, port.protocol))
            .collect();
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        assert_eq!(numbers, [(80, tcp), (53, udp), (53, tcp)]);
        assert_eq!(found[0].inside, "10.96.0.7");
        assert_eq!(
            of(json!({"clusterIP": "None", "ports": [{"port": 80}]})),
            []
        );
        assert_eq!(
            of(json!({"type": "ExternalName", "externalName": "example.org"})),
            []
        );
    }

    #[test]
    fn each_cluster_has_a_network_of_its_own() {
        let mut taken = BTreeMap::new();
        let first = free(Some(4), &taken);
        assert_eq!(first, IpAddr::from([127, 89, 4, 1]));
        taken.insert(("a".to_owned(), "b".to_owned()), first);
        assert_eq!(free(Some(4), &taken), IpAddr::from([127, 89, 4, 2]));
        assert_eq!(free(None, &taken), Ipv4Addr::LOCALHOST);
    }
}
