//! The ports that containers of dockerd's publish on the machine's address.
//!
//! ```text
//! dockerd: what containers do --> its list of those that run --> ports --watch--> the host, by the API
//!                                        +--those bound to the loopback address--> relays
//! ```
//!
//! Who binds to `127.0.0.1` means the computer before them, which is outside: a relay on the machine's address
//! leads there.

use super::{BEGINS, DOCKERD, Engine};
use coracle_protocol::api::{ContainerPort, Transport};
use http_body_util::BodyExt as _;
use hyper::Method;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How long dockerd may take to list its containers.
const ANSWERS: Duration = Duration::from_secs(60);
/// After how long dockerd is asked again, where it did not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// Within how long dockerd tells what happens, once it was asked.
const SETTLING: Duration = Duration::from_secs(2);
/// What changes which ports are published: `{"type":["container"],"event":["start","die"]}`.
const EVENTS: &str = "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%2C\
    %22event%22%3A%5B%22start%22%2C%22die%22%5D%7D";

/// A port of a container as dockerd publishes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Bound {
    container: String,
    transport: Transport,
    port: u16,
    /// Only at the machine's own loopback address.
    is_local: bool,
}

/// The relays that are open, by port.
type Relays = BTreeMap<u16, AbortHandle>;

impl Engine {
    /// The ports of the containers that run, as they are now and become.
    #[must_use]
    pub fn published(&self) -> watch::Receiver<Vec<ContainerPort>> {
        self.published.subscribe()
    }

    /// Follows them from now on.
    pub(super) async fn follow(self: Arc<Self>) -> Infallible {
        let mut relays = Relays::new();
        loop {
            if let Err(error) = self.watch(&mut relays).await {
                // Its containers run on without it.
                self.logs
                    .note(&format!("docker: ports are not followed: {error}"));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Until dockerd ends.
    async fn watch(&self, relays: &mut Relays) -> io::Result<()> {
        let ready = self.supervisor.need(DOCKERD, BEGINS).await;
        ready.map_err(io::Error::other)?;
        let mut events = self.request(Method::GET, EVENTS).await?.into_body();
        let mut is_new = true;
        loop {
            let asking = self.ask(Method::GET, "/containers/json");
            let (_, running) = tokio::time::timeout(ANSWERS, asking).await??;
            let bound = bound(&running);
            self.relay(&bound, relays).await;
            let ports: BTreeSet<_> = bound
                .iter()
                .map(|one| (&one.container, one.transport, one.port))
                .collect();
            let ports = ports
                .into_iter()
                .map(|(container, transport, port)| ContainerPort {
                    container: container.clone(),
                    transport: transport.into(),
                    port: port.into(),
                });
            let ports: Vec<_> = ports.collect();
            self.published.send_if_modified(|present| {
                let is_changed = *present != ports;
                *present = ports;
                is_changed
            });
            // What happened before dockerd began to tell it does not tell.
            let patience = if is_new { SETTLING } else { Duration::MAX };
            match tokio::time::timeout(patience, events.frame()).await {
                Ok(Some(frame)) => drop(frame.map_err(io::Error::other)?),
                Ok(None) => return Ok(()),
                Err(_) => is_new = false,
            }
        }
    }

    async fn relay(&self, bound: &BTreeSet<Bound>, relays: &mut Relays) {
        let is_open = |local: &Bound| {
            let mut all = bound.iter();
            all.any(|one| {
                !one.is_local && one.port == local.port && one.transport == local.transport
            })
        };
        let wanted: BTreeSet<u16> = bound
            .iter()
            .filter(|one| one.is_local && !is_open(one))
            .map(|one| one.port)
            .collect();
        relays.retain(|port, relay| {
            let is_kept = wanted.contains(port) && !relay.is_finished();
            if !is_kept {
                relay.abort();
            }
            is_kept
        });
        for port in wanted {
            if relays.contains_key(&port) {
                continue;
            }
            match TcpListener::bind(SocketAddr::from((self.address, port))).await {
                Ok(listener) => {
                    let relay = tokio::spawn(lead(listener, port));
                    relays.insert(port, relay.abort_handle());
                }
                Err(error) => self
                    .logs
                    .note(&format!("docker: no relay for port {port}: {error}")),
            }
        }
    }
}

/// Leads each connection to the same port of the loopback address.
async fn lead(listener: TcpListener, port: u16) {
    loop {
        let Ok((mut outside, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        tokio::spawn(async move {
            let mut inside = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            copy_bidirectional(&mut outside, &mut inside).await
        });
    }
}

/// What a list of containers says of published ports. Each is there once for each address.
fn bound(containers: &Value) -> BTreeSet<Bound> {
    let each = |list: &Value| list.as_array().cloned().unwrap_or_default();
    let mut all = BTreeSet::new();
    for container in each(containers) {
        let name = container["Names"][0].as_str().unwrap_or_default();
        for port in each(&container["Ports"]) {
            let public = port["PublicPort"]
                .as_u64()
                .and_then(|port| u16::try_from(port).ok());
            let transport = match port["Type"].as_str() {
                Some("tcp") => Transport::Tcp,
                Some("udp") => Transport::Udp,
                _ => continue,
            };
            let address: Option<IpAddr> = port["IP"].as_str().and_then(|text| text.parse().ok());
            // Whoever listens elsewhere, or for datagrams on the loopback address, is not reached.
            let is_local = address == Some(Ipv4Addr::LOCALHOST.into());
            let is_open = address.is_none_or(|address| address.is_unspecified());
            let is_reached = is_open || is_local && transport == Transport::Tcp;
            if let Some(port) = public.filter(|_| is_reached) {
                all.insert(Bound {
                    container: name.trim_start_matches('/').to_owned(),
                    transport,
                    port,
                    is_local,
                });
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn published_ports_are_told_once_each() {
        let containers = json!([
            {"Names": ["/web"], "Ports": [
                {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                {"PrivatePort": 443, "Type": "tcp"},
                {"IP": "0.0.0.0", "PrivatePort": 9, "PublicPort": 9, "Type": "sctp"},
            ]},
            {"Names": ["/db"], "Ports": [
                {"IP": "127.0.0.1", "PrivatePort": 53, "PublicPort": 5353, "Type": "udp"},
                {"IP": "127.0.0.1", "PrivatePort": 5432, "PublicPort": 5432, "Type": "tcp"},
                {"IP": "172.17.0.1", "PrivatePort": 80, "PublicPort": 80, "Type": "tcp"},
            ]},
            {"Names": ["/none"]},
        ]);
        let one = |container: &str, transport, port, is_local| Bound {
            container: container.into(),
            transport,
            port,
            is_local,
        };
        let all: Vec<_> = bound(&containers).into_iter().collect();
        assert_eq!(
            all,
            [
                one("db", Transport::Tcp, 5432, true),
                one("web", Transport::Tcp, 8080, false),
            ]
        );
    }
}
