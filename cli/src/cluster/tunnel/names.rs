//! Services by their names, for programs of this host: a proxy (SOCKS 5, RFC 1928) that looks names up
//! among the cluster's Services and connects from inside. Nothing of the host's own resolver changes, so
//! it needs no root.
//!
//! What is not in the cluster it does not connect to: other users of this host reach the proxy too.

use super::{Port, listen as listen_at};
use crate::cluster::boot::GUEST_NETWORK;
use crate::cluster::services::Key;
use crate::cluster::spec::ClusterSpec;
use coracle_protocol::client::AgentClient;
use coracle_vm::address::AddressError;
use fast_socks5::server::{Socks5ServerProtocol, SocksServerError};
use fast_socks5::util::target_addr::TargetAddr;
use fast_socks5::{ReplyError, Socks5Command};
use ipnet::Ipv4Net;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// M of the proxy's address 127.89.N.M: the last one, which no Service gets.
pub const LAST: u8 = 254;
/// Where proxies of this kind usually listen.
const PORT: u16 = 1080;
/// How long a client may take to say where it wants to go.
const ASKING: Duration = Duration::from_secs(10);
/// The domain whose every name is the cluster's machine.
const MACHINE: &str = "coracle.test";

/// What names stand for, as of now.
#[derive(Debug, Clone)]
pub struct Names {
    /// The cluster's domain.
    domain: String,
    /// The addresses of its node's pods.
    pods: Ipv4Net,
    services: Arc<RwLock<BTreeMap<Key, IpAddr>>>,
}

impl Names {
    /// Those of a cluster, without Services yet.
    pub fn of(spec: &ClusterSpec) -> Self {
        Self {
            domain: spec.dns_domain.to_ascii_lowercase(),
            pods: spec.node_pods(),
            services: Arc::default(),
        }
    }

    /// The Services whose ports these are, and no others.
    pub fn are_of(&self, ports: &[Port]) {
        let services = ports
            .iter()
            .filter_map(|port| Some((port.service.clone(), port.inside.parse().ok()?)));
        *self
            .services
            .write()
            .unwrap_or_else(PoisonError::into_inner) = services.collect();
    }

    /// Where a target is inside; none where it is not in the cluster.
    fn find(&self, target: &TargetAddr) -> Result<(IpAddr, u16), ReplyError> {
        match target {
            TargetAddr::Ip(address) => {
                let ip = address.ip();
                let is_pod = matches!(ip, IpAddr::V4(ip) if self.pods.contains(&ip));
                let is_inside = is_pod || self.services().values().any(|known| *known == ip);
                let found = is_inside.then_some((ip, address.port()));
                found.ok_or(ReplyError::ConnectionNotAllowed)
            }
            TargetAddr::Domain(name, port) => {
                let ip = self.look_up(name).ok_or(ReplyError::HostUnreachable)?;
                Ok((ip, *port))
            }
        }
    }

    /// NAME, NAME.NAMESPACE, and that with `.svc` and the cluster's domain behind it, as in a pod of the
    /// namespace `default`; `coracle.test` and all below it is the machine, where an ingress listens.
    fn look_up(&self, name: &str) -> Option<IpAddr> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let below = name.strip_suffix(MACHINE);
        if below.is_some_and(|below| below.is_empty() || below.ends_with('.')) {
            return Some(GUEST_NETWORK.guest.into());
        }
        let suffix = format!(".svc.{}", self.domain);
        let short = name.strip_suffix(&suffix);
        let short = short.or_else(|| name.strip_suffix(".svc")).unwrap_or(&name);
        let (service, namespace) = short.split_once('.').unwrap_or((short, "default"));
        let key = (namespace.to_owned(), service.to_owned());
        self.services().get(&key).copied()
    }

    fn services(&self) -> RwLockReadGuard<'_, BTreeMap<Key, IpAddr>> {
        self.services.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens at the cluster's own address for it, or near there.
pub fn listen(number: Option<u8>) -> Result<(TcpListener, SocketAddr), AddressError> {
    let ip = number.map_or(Ipv4Addr::LOCALHOST, |number| {
        Ipv4Addr::new(127, 89, number, LAST)
    });
    let own = SocketAddr::from((ip, PORT));
    listen_at(own).map_err(|error| AddressError::of(own, error))
}

/// Serves clients of the proxy, until it is dropped.
pub async fn serve(listener: TcpListener, agent: AgentClient, names: Names) {
    let serve = |client| {
        let (agent, names) = (agent.clone(), names.clone());
        async move {
            if let Err(error) = lead(client, &agent, &names).await {
                tracing::debug!(%error, "a client of the proxy");
            }
        }
    };
    super::serve(listener, serve).await;
}

async fn lead(
    client: TcpStream,
    agent: &AgentClient,
    names: &Names,
) -> Result<(), SocksServerError> {
    let asked = async {
        let opened = Socks5ServerProtocol::accept_no_auth(client).await?;
        opened.read_command().await
    };
    let Ok(asked) = tokio::time::timeout(ASKING, asked).await else {
        return Ok(());
    };
    let (proxy, command, target) = asked?;
    if command != Socks5Command::TCPConnect {
        return proxy.reply_error(&ReplyError::CommandNotSupported).await;
    }
    let (ip, port) = match names.find(&target) {
        Ok(found) => found,
        Err(error) => return proxy.reply_error(&error).await,
    };
    match agent.dial_tcp(&ip.to_string(), port).await {
        Ok(mut inside) => {
            let mut client = proxy.reply_success(SocketAddr::new(ip, port)).await?;
            // How it ends is between the two.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut inside).await;
            Ok(())
        }
        Err(error) => {
            tracing::debug!(%error, "a Service does not answer");
            proxy.reply_error(&ReplyError::ConnectionRefused).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_vm::spec::Protocol;

    fn names() -> Names {
        let names = Names {
            domain: "cluster.local".into(),
            pods: "10.244.0.0/24".parse().unwrap(),
            services: Arc::default(),
        };
        let port = |namespace: &str, name: &str, inside: &str| Port {
            service: (namespace.into(), name.into()),
            inside: inside.into(),
            number: 80,
            protocol: Protocol::Tcp,
        };
        names.are_of(&[
            port("default", "shop", "10.96.0.7"),
            port("kube-system", "kube-dns", "10.96.0.10"),
        ]);
        names
    }

    #[test]
    fn services_are_found_by_each_of_their_names() {
        let names = names();
        for name in [
            "shop",
            "shop.default",
            "Shop.default.svc",
            "shop.default.svc.cluster.local",
            "shop.default.svc.cluster.local.",
        ] {
            assert_eq!(
                names.look_up(name),
                Some("10.96.0.7".parse().unwrap()),
                "{name}"
            );
        }
        for name in ["kube-dns", "shop.other", "shop.default.pod", "example.org"] {
            assert_eq!(names.look_up(name), None, "{name}");
        }
        let machine = Some(GUEST_NETWORK.guest.into());
        assert_eq!(names.look_up("coracle.test"), machine);
        assert_eq!(names.look_up("shop.coracle.test"), machine);
        assert_eq!(names.look_up("notcoracle.test"), None);
    }

    #[test]
    fn only_what_is_in_the_cluster_is_connected_to() {
        let names = names();
        let find = |target: &str| names.find(&TargetAddr::Ip(target.parse().unwrap()));
        assert!(find("10.96.0.7:80").is_ok());
        assert!(find("10.244.0.9:8080").is_ok());
        for outside in [
            "127.0.0.1:22",
            "10.0.2.2:80",
            "192.0.2.1:443",
            // Of no Service, and of no pod of this node.
            "10.96.0.8:80",
            "10.244.7.7:80",
        ] {
            assert!(
                matches!(find(outside), Err(ReplyError::ConnectionNotAllowed)),
                "{outside}"
            );
        }
    }
}
