//! Follows the cluster's Services: which ports of the host are to lead to which of the guest's.
//!
//! ```text
//! Services --watch--> plan: NodePorts on the cluster's address,
//!                           load balancers on addresses of their own --publish--> ports
//!                                     status of the load balancers <-- what came of it
//! ```
//!
//! The address of a load balancer is kept where everybody sees it: in the Service's own status.

use super::follow::{self, Pauses, RETRY};
use super::forward::{self, Way};
use super::log;
use super::ports::{Order, Owner, Source, Wanted};
use crate::cluster::Cluster;
use crate::cluster::services::{Key, Known, protocol};
use crate::error::Result;
use crate::settings::Settings;
use coracle_vm::{GuestPort, address};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::watcher::{self, watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::sync::mpsc;

/// Whoever started the machine comes first.
pub const COURTESY: Duration = Duration::from_millis(500);
/// The same on a clone of a template, which has no Services of anybody's yet, and whose first seconds are
/// dear.
pub const COURTESY_OF_A_CLONE: Duration = Duration::from_secs(5);
/// Services that are changed together are published together.
const GATHERING: Duration = Duration::from_millis(50);

type Services = BTreeMap<Key, Service>;

/// What the Services ask for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    ports: Vec<Wanted>,
    /// The addresses of the load balancers that are ours.
    addresses: BTreeMap<Key, IpAddr>,
}

/// Follows the Services of a machine that runs, for ever, beginning a while after it has its own identity.
pub async fn follow(
    settings: Settings,
    courtesy: Duration,
    mut api: Way,
    orders: mpsc::Sender<Order>,
) -> Infallible {
    follow::settled(&settings, courtesy).await;
    if Cluster::find(&settings).is_ok_and(|cluster| cluster.kubernetes().is_err()) {
        return std::future::pending().await;
    }
    let mut pauses = Pauses::new();
    loop {
        match watch(&settings, &mut api, &orders, &mut pauses).await {
            Ok(never) => match never {},
            Err(error) => {
                tracing::debug!(error = error.message(), "Services are not followed");
                pauses.pause().await;
            }
        }
    }
}

async fn watch(
    settings: &Settings,
    way: &mut Way,
    orders: &mpsc::Sender<Order>,
    pauses: &mut Pauses,
) -> Result<Infallible> {
    let cluster = Cluster::find(settings)?;
    let address = cluster.endpoint().address;
    let client = forward::api(&cluster, way).await?;
    let api: Api<Service> = Api::all(client.clone());
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
    let mut known = Known::default();
    let mut follower = Follower {
        client,
        address,
        orders: orders.clone(),
        troubled: false,
    };
    let mut dirty = false;
    loop {
        let wait = match (dirty, follower.troubled) {
            (true, _) => GATHERING,
            (false, true) => RETRY,
            (false, false) => Duration::MAX,
        };
        tokio::select! {
            said = events.next() => {
                if known.take(said)? {
                    pauses.reset();
                    dirty = true;
                }
            }
            () = tokio::time::sleep(wait) => {
                dirty = false;
                follower.publish(known.services()).await?;
            }
        }
    }
}

struct Follower {
    client: kube::Client,
    address: IpAddr,
    orders: mpsc::Sender<Order>,
    /// Whether a port is not where it should be, or an address was not told.
    troubled: bool,
}

impl Follower {
    /// Has the ports opened that the Services ask for, and tells the load balancers' addresses.
    async fn publish(&mut self, services: &Services) -> Result<()> {
        let plan = plan(services, self.address);
        let published = follow::publish(&self.orders, Source::Services, plan.ports).await;
        let Some(published) = published else {
            return Ok(());
        };
        self.troubled = published.iter().any(|one| one.reach.problem.is_some());
        for (key, service) in services {
            let Some(address) = plan.addresses.get(key) else {
                continue;
            };
            let wanted = ingress(*address);
            if present(service) == [wanted.clone()] {
                continue;
            }
            let api: Api<Service> = Api::namespaced(self.client.clone(), &key.0);
            let status = serde_json::json!({"status": {"loadBalancer": {"ingress": [wanted]}}});
            let patch = Patch::Merge(&status);
            match api
                .patch_status(&key.1, &PatchParams::default(), &patch)
                .await
            {
                Ok(_) => {}
                // It was deleted meanwhile.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    self.troubled = true;
                    log(&format!(
                        "the Service {}/{} is not told its address yet: {error}",
                        key.0, key.1
                    ));
                }
            }
        }
        Ok(())
    }
}

/// What a load balancer's status says. In the cluster nobody answers at a loopback address of the host:
/// `ipMode: Proxy` keeps kube-proxy from taking it for a local one.
fn ingress(address: IpAddr) -> LoadBalancerIngress {
    LoadBalancerIngress {
        ip: Some(address.to_string()),
        ip_mode: Some("Proxy".into()),
        ..LoadBalancerIngress::default()
    }
}

fn present(service: &Service) -> Vec<LoadBalancerIngress> {
    let status = service.status.as_ref();
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    balancer
        .and_then(|balancer| balancer.ingress.clone())
        .unwrap_or_default()
}

/// Which are ours: a class names somebody else.
fn is_our_balancer(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| {
        spec.type_.as_deref() == Some("LoadBalancer") && spec.load_balancer_class.is_none()
    })
}

/// All ports that Services ask for. Each NodePort leads into the machine by the cluster's address, each
/// port of a load balancer by its own one, if its Service has a NodePort for it to lead to.
fn plan(services: &Services, address: IpAddr) -> Plan {
    let addresses = addresses(services, address);
    let mut ports = Vec::new();
    for (key, service) in services {
        let Some(spec) = &service.spec else {
            continue;
        };
        for port in spec.ports.iter().flatten() {
            let Some(protocol) = protocol(port) else {
                continue;
            };
            let number = |number: i32| u16::try_from(number).ok().filter(|number| *number != 0);
            let Some(node_port) = port.node_port.and_then(number) else {
                continue;
            };
            let wanted = |public| Wanted {
                owner: Owner::Service {
                    namespace: key.0.clone(),
                    name: key.1.clone(),
                    port: port.name.clone().unwrap_or_else(|| port.port.to_string()),
                },
                public,
                guest: GuestPort {
                    protocol,
                    port: node_port,
                },
            };
            ports.push(wanted(SocketAddr::new(address, node_port)));
            if let (Some(own), Some(number)) = (addresses.get(key), number(port.port)) {
                ports.push(wanted(SocketAddr::new(*own, number)));
            }
        }
    }
    Plan { ports, addresses }
}

/// An address for each load balancer: the one that it has, else the first of 127.88.N.0/24 that is free
/// for a cluster at 127.88.0.N. Where the host has but one loopback address they all share it.
fn addresses(services: &Services, cluster: IpAddr) -> BTreeMap<Key, IpAddr> {
    let ours = services.iter().filter(|(_, one)| is_our_balancer(one));
    let Some(network) = address::number(cluster) else {
        return ours.map(|(key, _)| (key.clone(), cluster)).collect();
    };
    let mut taken = BTreeSet::new();
    let mut given = BTreeMap::new();
    let (mut new, mut known) = (Vec::new(), Vec::new());
    for (key, service) in ours {
        let has = present(service)
            .into_iter()
            .find_map(|one| one.ip?.parse::<Ipv4Addr>().ok())
            .filter(|ip| ip.octets()[..3] == [127, 88, network] && ip.octets()[3] != 0);
        match has {
            Some(ip) => known.push((key, ip)),
            None => new.push((&service.metadata.creation_timestamp, key)),
        }
    }
    for (key, ip) in known {
        match taken.insert(ip) {
            true => drop(given.insert(key.clone(), IpAddr::from(ip))),
            false => new.push((&services[key].metadata.creation_timestamp, key)),
        }
    }
    new.sort();
    let mut free = (1..=254u8)
        .map(|last| Ipv4Addr::new(127, 88, network, last))
        .filter(|ip| !taken.contains(ip))
        .collect::<Vec<_>>()
        .into_iter();
    for (_, key) in new {
        if let Some(ip) = free.next() {
            given.insert(key.clone(), ip.into());
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::services::key;
    use coracle_vm::spec::Protocol;
    use serde_json::json;

    fn services(all: &[serde_json::Value]) -> Services {
        all.iter()
            .map(|one| {
                let service: Service = serde_json::from_value(one.clone()).unwrap();
                (key(&service), service)
            })
            .collect()
    }

    fn balancer(name: &str, created: u8, ip: Option<&str>) -> serde_json::Value {
        json!({
            "metadata": {
                "namespace": "default", "name": name,
                "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z"),
            },
            "spec": {"type": "LoadBalancer", "ports": [
                {"name": "http", "port": 80, "nodePort": 30000 + i32::from(created)},
            ]},
            "status": {"loadBalancer": {"ingress": ip.map(|ip| vec![json!({"ip": ip})])}},
        })
    }

    const CLUSTER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 88, 0, 3));

    #[test]
    fn node_ports_are_on_the_clusters_address_and_balancers_have_their_own() {
        let services = services(&[
            json!({"metadata": {"namespace": "a", "name": "inside"},
                "spec": {"type": "ClusterIP", "ports": [{"port": 80}]}}),
            json!({"metadata": {"namespace": "a", "name": "names"}, "spec": {"type": "NodePort", "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
                {"name": "odd", "port": 54, "protocol": "SCTP", "nodePort": 30054},
            ]}}),
            balancer("shop", 7, None),
        ]);
        let plan = plan(&services, CLUSTER);
        let ports: Vec<_> = plan
            .ports
            .iter()
            .map(|one| {
                let Owner::Service { name, .. } = &one.owner else {
                    panic!("{one:?}");
                };
                (name.as_str(), one.public.to_string(), one.guest.port)
            })
            .collect();
        assert_eq!(
            ports,
            [
                ("names", "127.88.0.3:30053".to_owned(), 30053),
                ("shop", "127.88.0.3:30007".to_owned(), 30007),
                ("shop", "127.88.3.1:80".to_owned(), 30007),
            ]
        );
        assert_eq!(plan.ports[0].guest.protocol, Protocol::Udp);
    }

    #[test]
    fn a_balancer_keeps_its_address_and_nobody_else_gets_it() {
        let mut foreign = balancer("foreign", 1, None);
        foreign["spec"]["loadBalancerClass"] = json!("example.com/other");
        let services = services(&[
            balancer("old", 5, Some("127.88.3.1")),
            balancer("double", 6, Some("127.88.3.1")),
            balancer("elsewhere", 4, Some("127.88.9.9")),
            balancer("new", 3, None),
            foreign,
        ]);
        let given: Vec<_> = addresses(&services, CLUSTER)
            .into_iter()
            .map(|(key, ip)| format!("{} {ip}", key.1))
            .collect();
        // Of the two that have the same the first by name keeps it.
        assert_eq!(
            given,
            [
                "double 127.88.3.1",
                "elsewhere 127.88.3.3",
                "new 127.88.3.2",
                "old 127.88.3.4",
            ]
        );
    }

    #[test]
    fn where_there_is_one_loopback_address_balancers_share_it() {
        let services = services(&[balancer("a", 1, None), balancer("b", 2, None)]);
        let given = addresses(&services, Ipv4Addr::LOCALHOST.into());
        assert!(given.values().all(IpAddr::is_loopback));
        assert_eq!(given.len(), 2);
    }
}
