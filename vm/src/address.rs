//! Loopback addresses and ports of the host for a machine.
//!
//! On Linux and Windows the whole of 127.0.0.0/8 is the host's own, so each machine gets an address
//! of its own in 127.88.0.0/24 and the usual ports on it. On macOS only 127.0.0.1 exists without
//! root, so machines share it and get distinct ports.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use crate::spec::Protocol;

/// The first and the last number N of 127.88.0.N that machines get.
const LAST_BYTE: std::ops::RangeInclusive<u8> = 1..=254;

/// Ports for machines that share one address: above what services register, below what macOS and
/// Windows hand out for outgoing connections (49152 and up).
const SHARED_PORTS: std::ops::Range<u16> = 38_000..48_000;

/// No address or port could be had.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Every address is used.
    #[error("no free loopback address is left in 127.88.0.0/24 for the ports {ports:?}")]
    NoAddress {
        /// The ports that had to be free on it.
        ports: Vec<u16>,
    },
    /// Every port is used.
    #[error("no free port is left on {address} between {} and {}", SHARED_PORTS.start, SHARED_PORTS.end)]
    NoPort {
        /// The address.
        address: Ipv4Addr,
    },
    /// Somebody else listens there.
    #[error("{address} is used by another program")]
    Taken {
        /// Address and port.
        address: SocketAddr,
    },
    /// This user may not listen there.
    #[error("this user may not listen on {address}")]
    Forbidden {
        /// Address and port.
        address: SocketAddr,
    },
    /// The address is not the host's, or listening failed in another way.
    #[error("cannot listen on {address}")]
    Unusable {
        /// Address and port.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Whether this kind of host can listen on any address of 127.0.0.0/8.
pub const fn has_many_loopback_addresses() -> bool {
    !cfg!(target_os = "macos")
}

/// N of a machine at 127.88.0.N; none where it shares the one address that the host has.
pub fn number(address: IpAddr) -> Option<u8> {
    match address {
        IpAddr::V4(address) => match address.octets() {
            [127, 88, 0, number] => Some(number),
            _ => None,
        },
        IpAddr::V6(_) => None,
    }
}

/// Finds an address of its own for a machine: the first 127.88.0.N that is not in `used` and on
/// which each of `ports` passes `is_free` (normally `|at| check_free(at, Protocol::Tcp).is_ok()`).
pub fn allocate(
    used: &[Ipv4Addr],
    ports: &[u16],
    is_free: impl Fn(SocketAddr) -> bool,
) -> Result<Ipv4Addr, AddressError> {
    LAST_BYTE
        .map(|last| Ipv4Addr::new(127, 88, 0, last))
        .filter(|address| !used.contains(address))
        .find(|&address| {
            ports
                .iter()
                .all(|&port| is_free(SocketAddr::from((address, port))))
        })
        .ok_or_else(|| AddressError::NoAddress {
            ports: ports.to_owned(),
        })
}

/// Finds `count` distinct ports on a shared address: none of `used`, each passing `is_free`.
pub fn allocate_ports(
    address: Ipv4Addr,
    count: usize,
    used: &[u16],
    is_free: impl Fn(SocketAddr) -> bool,
) -> Result<Vec<u16>, AddressError> {
    let found: Vec<u16> = SHARED_PORTS
        .filter(|port| !used.contains(port))
        .filter(|&port| is_free(SocketAddr::from((address, port))))
        .take(count)
        .collect();
    if found.len() < count {
        Err(AddressError::NoPort { address })
    } else {
        Ok(found)
    }
}

/// Checks that this process could listen at an address now. Nothing stays open.
pub fn check_free(address: SocketAddr, protocol: Protocol) -> Result<(), AddressError> {
    let bound = match protocol {
        Protocol::Tcp => TcpListener::bind(address).map(drop),
        Protocol::Udp => UdpSocket::bind(address).map(drop),
    };
    bound.map_err(|source| AddressError::of(address, source))
}

/// Who holds a port that this process could not have, as `NAME (process PID)`. Processes of other users are
/// not seen on every host.
pub fn holder(address: SocketAddr, protocol: Protocol) -> Option<String> {
    let wanted = match protocol {
        Protocol::Tcp => listeners::Protocol::TCP,
        Protocol::Udp => listeners::Protocol::UDP,
    };
    let found = listeners::get_all().ok()?.into_iter().find(|one| {
        let ip = one.socket.ip();
        let is_waiting = protocol == Protocol::Udp || one.state == listeners::SocketState::Listen;
        one.protocol == wanted
            && is_waiting
            && one.socket.port() == address.port()
            && (ip == address.ip() || ip.is_unspecified())
    })?;
    let process = found.process;
    Some(format!("{} (process {})", process.name, process.pid))
}

impl AddressError {
    /// Why listening at an address failed.
    pub fn of(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::Taken { address },
            io::ErrorKind::PermissionDenied => Self::Forbidden { address },
            _ => Self::Unusable { address, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_first_address_that_is_unused_and_free_is_taken() {
        let used = [Ipv4Addr::new(127, 88, 0, 1), Ipv4Addr::new(127, 88, 0, 3)];
        let not_two = |at: SocketAddr| at.to_string() != "127.88.0.2:6443";
        assert_eq!(
            allocate(&used, &[6443, 7443], not_two).unwrap(),
            Ipv4Addr::new(127, 88, 0, 4)
        );
        assert!(matches!(
            allocate(&[], &[1], |_| false),
            Err(AddressError::NoAddress { .. })
        ));
    }

    #[test]
    fn a_machine_with_an_address_of_its_own_has_a_number() {
        assert_eq!(number([127, 88, 0, 4].into()), Some(4));
        assert_eq!(number([127, 88, 1, 4].into()), None);
        assert_eq!(number(Ipv4Addr::LOCALHOST.into()), None);
    }

    #[test]
    fn shared_ports_are_distinct_and_unused() {
        let ports =
            allocate_ports(Ipv4Addr::LOCALHOST, 3, &[38_001], |at| at.port() != 38_002).unwrap();
        assert_eq!(ports, [38_000, 38_003, 38_004]);
        assert!(allocate_ports(Ipv4Addr::LOCALHOST, 1, &[], |_| false).is_err());
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a port gives no event when it is free; the waiting has a limit"
    )]
    fn a_port_that_somebody_holds_is_not_free() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let held_by = holder(address, Protocol::Tcp).unwrap();
        let own = format!("(process {})", std::process::id());
        assert!(held_by.ends_with(&own), "{held_by}");
        assert!(
            matches!(check_free(address, Protocol::Tcp), Err(AddressError::Taken { address: at }) if at == address)
        );
        drop(listener);
        // A program that another test starts in this moment has the open port too, until it is that program.
        let begun = Instant::now();
        while let Err(error) = check_free(address, Protocol::Tcp) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{error}");
            thread::sleep(Duration::from_millis(10));
        }
        let elsewhere = "192.0.2.1:1".parse().unwrap();
        assert!(matches!(
            check_free(elsewhere, Protocol::Tcp),
            Err(AddressError::Unusable { .. })
        ));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_machine_gets_a_real_address_here() {
        let address = allocate(&[], &[0], |at| check_free(at, Protocol::Tcp).is_ok()).unwrap();
        assert_eq!(address, Ipv4Addr::new(127, 88, 0, 1));
    }
}
