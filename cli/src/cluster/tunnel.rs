//! The cluster's ClusterIPs on this host, for as long as somebody waits: each Service at a loopback address
//! of its own with its own ports, led through the machine's agent, which reaches them from inside.

use super::Cluster;
use super::services::{Key, Known, key};
use crate::error::Result;
use coracle_protocol::client::AgentClient;
use coracle_vm::address::{self, AddressError};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use kube::api::Api;
use kube::runtime::watcher::{self, watcher};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

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
}

/// Leads the ClusterIPs of all Services, and of those to come, until it is dropped.
pub async fn open(cluster: &Cluster, mut tell: impl FnMut(&Change)) -> Result<Infallible> {
    let agent = cluster.agent().await?;
    let services: Api<Service> = Api::all(cluster.api()?);
    let mut events = std::pin::pin!(watcher(services, watcher::Config::default()));
    let mut tunnel = Tunnel {
        agent,
        number: address::number(cluster.endpoint().address),
        addresses: BTreeMap::new(),
        open: BTreeMap::new(),
    };
    let mut known = Known::default();
    loop {
        if known.take(events.next().await)? {
            let wanted: Vec<Port> = known.services().values().flat_map(ports).collect();
            tunnel.lead(&wanted, &mut tell);
        }
    }
}

struct Tunnel {
    agent: AgentClient,
    /// N of its addresses 127.89.N.M, beside those of the load balancers; none where the host has but one.
    number: Option<u8>,
    addresses: BTreeMap<Key, IpAddr>,
    open: BTreeMap<Port, Listening>,
}

struct Listening(JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
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
    ) -> std::result::Result<(Listening, SocketAddr), AddressError> {
        let ip = self.address(&port.service);
        let own = SocketAddr::new(ip, port.number);
        let bound = std::net::TcpListener::bind(own)
            .or_else(|_| std::net::TcpListener::bind(SocketAddr::new(ip, 0)));
        let listener = bound.and_then(|bound| {
            bound.set_nonblocking(true)?;
            TcpListener::from_std(bound)
        });
        let listener = listener.map_err(|error| AddressError::of(own, error))?;
        let address = listener
            .local_addr()
            .map_err(|error| AddressError::of(own, error))?;
        let task = tokio::spawn(serve(listener, self.agent.clone(), port.clone()));
        Ok((Listening(task), address))
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
        (1..=254)
            .map(|last| IpAddr::from(Ipv4Addr::new(127, 89, number, last)))
            .find(|ip| taken.values().all(|other| other != ip))
    });
    own.unwrap_or(Ipv4Addr::LOCALHOST.into())
}

async fn serve(listener: TcpListener, agent: AgentClient, port: Port) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::spawn(lead(client, agent.clone(), port.clone()));
            }
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

/// The TCP ports of a Service that has a ClusterIP.
fn ports(service: &Service) -> Vec<Port> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let inside = spec.cluster_ip.clone().unwrap_or_default();
    if inside.parse::<IpAddr>().is_err() {
        // Headless, or a name.
        return Vec::new();
    }
    let tcp = spec.ports.iter().flatten().filter(|port| {
        let protocol = port.protocol.as_deref();
        protocol.is_none_or(|protocol| protocol == "TCP")
    });
    tcp.filter_map(|port| {
        Some(Port {
            service: key(service),
            inside: inside.clone(),
            number: u16::try_from(port.port).ok()?,
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tcp_ports_of_cluster_ips_are_led() {
        let of = |spec: serde_json::Value| {
            let service = json!({"metadata": {"namespace": "a", "name": "b"}, "spec": spec});
            ports(&serde_json::from_value(service).unwrap())
        };
        let found = of(json!({"clusterIP": "10.96.0.7", "ports": [
            {"port": 80}, {"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"},
        ]}));
        let numbers: Vec<_> = found.iter().map(|port| port.number).collect();
        assert_eq!(numbers, [80, 53]);
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
