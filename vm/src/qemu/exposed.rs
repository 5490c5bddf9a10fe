//! Ports of the guest that the host reaches while the machine runs, beside those of its specification:
//! forwards of QEMU's user network, which only its human monitor can change and list.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use qapi::qmp::human_monitor_command;

use super::{connect, unable};
use crate::driver::{DriverError, Exposed, GuestPort};
use crate::qmp::QmpClient;
use crate::spec::Protocol;
use crate::store::MachineDir;

/// The network's name on QEMU's command line.
const NETWORK: &str = "net";
/// How often another port is tried: somebody may take one between its choice and its use.
const ATTEMPTS: usize = 8;
/// What the monitor calls a forwarded port in a list of connections.
const FORWARDED: &str = "HOST_FORWARD";

/// All that is forwarded now.
pub(super) async fn list(dir: &MachineDir) -> Result<Vec<Exposed>, DriverError> {
    read(&mut connect(dir).await?).await
}

/// Forwards each of `ports` that is not yet, from `address` and ports of the host that are free.
pub(super) async fn add(
    dir: &MachineDir,
    address: IpAddr,
    ports: &[GuestPort],
) -> Result<Vec<Exposed>, DriverError> {
    let IpAddr::V4(address) = address else {
        return Err(unable("its network forwards only IPv4".to_owned()));
    };
    let mut monitor = connect(dir).await?;
    let mut there = read(&mut monitor).await?;
    let mut exposed = Vec::with_capacity(ports.len());
    for &guest in ports {
        let known = there.iter().find(|one| one.guest == guest);
        let one = match known {
            Some(known) => *known,
            None => forward(&mut monitor, address, guest).await?,
        };
        exposed.push(one);
        there.push(one);
    }
    Ok(exposed)
}

/// Ends forwards; those that are not there are no error. Connections through them go on.
pub(super) async fn remove(dir: &MachineDir, exposed: &[Exposed]) -> Result<(), DriverError> {
    let mut monitor = connect(dir).await?;
    for one in exposed {
        let protocol = one.guest.protocol.as_str();
        ask(
            &mut monitor,
            format!("hostfwd_remove {NETWORK} {protocol}:{}", one.host),
        )
        .await?;
    }
    Ok(())
}

async fn forward(
    monitor: &mut QmpClient,
    address: Ipv4Addr,
    guest: GuestPort,
) -> Result<Exposed, DriverError> {
    let mut said = String::new();
    for _ in 0..ATTEMPTS {
        let host = free(address, guest.protocol)?;
        let protocol = guest.protocol.as_str();
        let rule = format!("{protocol}:{host}-:{}", guest.port);
        said = ask(monitor, format!("hostfwd_add {NETWORK} {rule}")).await?;
        // It says something only when it could not do so.
        if said.is_empty() {
            return Ok(Exposed { guest, host });
        }
    }
    Err(unable(format!(
        "it does not forward the guest's port {}: {said}",
        guest.port
    )))
}

/// A port that nobody listens on.
fn free(address: Ipv4Addr, protocol: Protocol) -> Result<SocketAddr, DriverError> {
    let any = SocketAddr::from((address, 0));
    let found: io::Result<SocketAddr> = match protocol {
        Protocol::Tcp => TcpListener::bind(any).and_then(|bound| bound.local_addr()),
        Protocol::Udp => UdpSocket::bind(any).and_then(|bound| bound.local_addr()),
    };
    found.map_err(|error| unable(format!("{address} has no free port: {error}")))
}

async fn read(monitor: &mut QmpClient) -> Result<Vec<Exposed>, DriverError> {
    Ok(parse(&ask(monitor, "info usernet".to_owned()).await?))
}

async fn ask(monitor: &mut QmpClient, command_line: String) -> Result<String, DriverError> {
    let command = human_monitor_command {
        command_line,
        cpu_index: None,
    };
    Ok(monitor.execute(command).await?.trim().to_owned())
}

/// The forwards in the answer to `info usernet`: protocol and state, descriptor, address and port of
/// the host, address and port of the guest, and two queues.
fn parse(text: &str) -> Vec<Exposed> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [kind, _, host, host_port, _, guest_port, ..] = fields[..] else {
            return None;
        };
        let protocol = match kind.split_once('[')? {
            ("TCP", state) if state.starts_with(FORWARDED) => Protocol::Tcp,
            ("UDP", state) if state.starts_with(FORWARDED) => Protocol::Udp,
            _ => return None,
        };
        Some(Exposed {
            guest: GuestPort {
                protocol,
                port: guest_port.parse().ok()?,
            },
            host: SocketAddr::new(host.parse().ok()?, host_port.parse().ok()?),
        })
    };
    text.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_read_and_connections_are_not() {
        let text = "Hub -1 (net):\r\n  \
            Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
            TCP[ESTABLISHED]   22       127.88.0.1 40012       10.0.2.15  6443     0     0\r\n  \
            TCP[HOST_FORWARD]  14       127.88.0.1  7443       10.0.2.15  7443     0     0\r\n  \
            UDP[HOST_FORWARD]  15       127.88.0.1  5353       10.0.2.15 30053     0     0\r\n";
        let exposed = |protocol, port, host: &str| Exposed {
            guest: GuestPort { protocol, port },
            host: host.parse().unwrap(),
        };
        assert_eq!(
            parse(text),
            [
                exposed(Protocol::Tcp, 7443, "127.88.0.1:7443"),
                exposed(Protocol::Udp, 30053, "127.88.0.1:5353"),
            ]
        );
        assert_eq!(parse(""), []);
    }
}
