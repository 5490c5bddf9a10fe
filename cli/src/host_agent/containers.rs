//! Follows the containers of the machine's Docker engine: what they publish is on the host's own loopback
//! address, as with an engine of the host, and on the cluster's; and folders of the host that they are to have
//! are brought.
//!
//! ```text
//! agent: ports of containers --watch--> plan --publish--> ports
//!        a folder that is missing --> home
//! ```

use super::follow::{self, Pauses, RETRY};
use super::home;
use super::ports::{Order, Owner, Source, Wanted};
use crate::cluster::Cluster;
use crate::error::Result;
use crate::settings::Settings;
use coracle_protocol::api::{ContainerPort, Transport};
use coracle_protocol::client::{AgentClient, AgentError};
use coracle_vm::GuestPort;
use coracle_vm::spec::Protocol;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long the agent may take until it answers.
const CONNECTS: Duration = Duration::from_secs(30);

/// Follows the containers of a machine that runs, for ever, beginning a while after it has its own identity.
pub async fn follow(
    settings: Settings,
    courtesy: Duration,
    orders: mpsc::Sender<Order>,
) -> Infallible {
    follow::settled(&settings, courtesy).await;
    let mut pauses = Pauses::new();
    loop {
        match watch(&settings, &orders, &mut pauses).await {
            // The machine's agent knows of no containers, and never will.
            Ok(()) => std::future::pending().await,
            Err(error) => {
                tracing::debug!(error = error.message(), "containers are not followed");
                pauses.pause().await;
            }
        }
    }
}

/// Until the machine is gone, which is an error.
async fn watch(
    settings: &Settings,
    orders: &mpsc::Sender<Order>,
    pauses: &mut Pauses,
) -> Result<()> {
    let cluster = Cluster::find(settings)?;
    let address = cluster.endpoint().address;
    if cluster.endpoint().docker_port.is_none() {
        return Ok(());
    }
    let agent = cluster.agent_within(CONNECTS).await?;
    tokio::select! {
        ended = ports(&agent, address, orders, pauses) => ended,
        ended = home::answer(settings, &agent) => match ended? {},
    }
}

/// Has opened what containers publish. Without an error where the machine's agent knows of no containers.
async fn ports(
    agent: &AgentClient,
    address: IpAddr,
    orders: &mpsc::Sender<Order>,
    pauses: &mut Pauses,
) -> Result<()> {
    let mut watch = match agent.watch_container_ports().await {
        Err(AgentError::Unknown) => return Ok(()),
        watch => watch?,
    };
    let mut ports = Vec::new();
    let mut is_troubled = false;
    loop {
        tokio::select! {
            changed = watch.next() => {
                ports = changed?;
                pauses.reset();
            }
            () = tokio::time::sleep(RETRY), if is_troubled => {}
        }
        let wanted = plan(&ports, address);
        // What cannot be had is in the log.
        if let Some(published) = follow::publish(orders, Source::Containers, wanted).await {
            is_troubled = published.iter().any(|one| one.reach.problem.is_some());
        }
    }
}

/// Where the host is to listen for what containers publish.
fn plan(ports: &[ContainerPort], cluster: IpAddr) -> Vec<Wanted> {
    let addresses = BTreeSet::from([IpAddr::from(Ipv4Addr::LOCALHOST), cluster]);
    let mut wanted = Vec::new();
    for port in ports {
        let (protocol, number) = match (port.transport(), u16::try_from(port.port)) {
            (Transport::Tcp, Ok(number)) => (Protocol::Tcp, number),
            (Transport::Udp, Ok(number)) => (Protocol::Udp, number),
            _ => continue,
        };
        wanted.extend(addresses.iter().map(|address| Wanted {
            owner: Owner::Container(port.container.clone()),
            public: SocketAddr::new(*address, number),
            guest: GuestPort {
                protocol,
                port: number,
            },
        }));
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_on_localhost_and_on_the_clusters_address() {
        let port = |transport: Transport, port| ContainerPort {
            container: "web".into(),
            transport: transport.into(),
            port,
        };
        let ports = [
            port(Transport::Tcp, 8080),
            port(Transport::Udp, 53),
            port(Transport::Tcp, 70_000),
            port(Transport::Unspecified, 1),
        ];
        let planned = |cluster: [u8; 4]| {
            let wanted = plan(&ports, IpAddr::from(cluster));
            let text = |one: &Wanted| format!("{} {}", one.public, one.guest.protocol.as_str());
            wanted.iter().map(text).collect::<Vec<_>>()
        };
        assert_eq!(
            planned([127, 88, 0, 1]),
            [
                "127.0.0.1:8080 tcp",
                "127.88.0.1:8080 tcp",
                "127.0.0.1:53 udp",
                "127.88.0.1:53 udp"
            ]
        );
        assert_eq!(
            planned([127, 0, 0, 1]),
            ["127.0.0.1:8080 tcp", "127.0.0.1:53 udp"]
        );
    }
}
