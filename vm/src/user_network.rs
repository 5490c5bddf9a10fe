//! Ports of the guest that the host reaches while the machine runs, beside those of its specification:
//! forwards of QEMU's user network, which only its human monitor can change and list.
//!
//! ```text
//! expose:  info usernet --parse--> there already? no --free port--> hostfwd_add     (again when taken)
//! conceal: hostfwd_remove
//! ```

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use crate::driver::{DriverError, DriverKind, Exposed, GuestPort};
use crate::spec::Protocol;

/// How often another port is tried: somebody may take one between its choice and its use.
const ATTEMPTS: usize = 8;
/// What the monitor calls a forwarded port in a list of connections.
const FORWARDED: &str = "HOST_FORWARD";

/// Whoever reaches a machine's human monitor.
pub(crate) trait HumanMonitor {
    /// Whose machine it is, for messages.
    const KIND: DriverKind;
    /// The network's name in QEMU.
    const NETWORK: &'static str;

    /// Sends one command, and gives the answer without white space around it.
    fn ask(&mut self, command: String) -> impl Future<Output = Result<String, DriverError>> + Send;
}

/// All that is forwarded now.
pub(crate) async fn list<M: HumanMonitor>(monitor: &mut M) -> Result<Vec<Exposed>, DriverError> {
    Ok(parse(&monitor.ask("info usernet".to_owned()).await?))
}

/// Forwards each of `ports` that is not yet, from `address` and ports of the host that are free.
pub(crate) async fn add<M: HumanMonitor>(
    monitor: &mut M,
    address: IpAddr,
    ports: &[GuestPort],
) -> Result<Vec<Exposed>, DriverError> {
    let IpAddr::V4(address) = address else {
        return Err(unable::<M>("its network forwards only IPv4".to_owned()));
    };
    let mut there = list(monitor).await?;
    let mut exposed = Vec::with_capacity(ports.len());
    for &guest in ports {
        let known = there.iter().find(|one| one.guest == guest);
        let one = match known {
            Some(known) => *known,
            None => forward(monitor, address, guest).await?,
        };
        exposed.push(one);
        there.push(one);
    }
    Ok(exposed)
}

/// Ends forwards; those that are not there are no error. Connections through them go on.
pub(crate) async fn remove<M: HumanMonitor>(
    monitor: &mut M,
    exposed: &[Exposed],
) -> Result<(), DriverError> {
    let network = M::NETWORK;
    for one in exposed {
        let protocol = one.guest.protocol.as_str();
        let command = format!("hostfwd_remove {network} {protocol}:{}", one.host);
        monitor.ask(command).await?;
    }
    Ok(())
}

/// Forwards one port from a place of the host. Gives what QEMU said when it could not; it says nothing
/// when it could.
pub(crate) async fn forward_from<M: HumanMonitor>(
    monitor: &mut M,
    one: Exposed,
) -> Result<Option<String>, DriverError> {
    let (network, protocol) = (M::NETWORK, one.guest.protocol.as_str());
    let rule = format!("{protocol}:{}-:{}", one.host, one.guest.port);
    let said = monitor.ask(format!("hostfwd_add {network} {rule}")).await?;
    Ok(Some(said).filter(|said| !said.is_empty()))
}

async fn forward<M: HumanMonitor>(
    monitor: &mut M,
    address: Ipv4Addr,
    guest: GuestPort,
) -> Result<Exposed, DriverError> {
    let mut why = String::new();
    for _ in 0..ATTEMPTS {
        let host = free::<M>(address, guest.protocol)?;
        let one = Exposed { guest, host };
        match forward_from(monitor, one).await? {
            None => return Ok(one),
            Some(said) => why = said,
        }
    }
    Err(unable::<M>(format!(
        "it does not forward the guest's port {}: {why}",
        guest.port
    )))
}

/// A port that nobody listens on.
fn free<M: HumanMonitor>(address: Ipv4Addr, protocol: Protocol) -> Result<SocketAddr, DriverError> {
    let any = SocketAddr::from((address, 0));
    let found: io::Result<SocketAddr> = match protocol {
        Protocol::Tcp => TcpListener::bind(any).and_then(|bound| bound.local_addr()),
        Protocol::Udp => UdpSocket::bind(any).and_then(|bound| bound.local_addr()),
    };
    found.map_err(|error| unable::<M>(format!("{address} has no free port: {error}")))
}

fn unable<M: HumanMonitor>(reason: String) -> DriverError {
    DriverError::Unable {
        kind: M::KIND,
        reason,
    }
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
