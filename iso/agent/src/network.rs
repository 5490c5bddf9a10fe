//! The first network card: its address and the default route, set with the classic interface calls
//! (netdevice(7)), so that no netlink library is needed.

use crate::kernel;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// How long a card may take to appear after its driver was loaded.
const CARD: Duration = Duration::from_secs(10);

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No card appeared.
    #[error("no network card within {CARD:?}")]
    NoCard,
    /// A call failed.
    #[error("cannot set {what} of {card}: {source}")]
    Call {
        /// What was set.
        what: &'static str,
        /// Which card.
        card: String,
        /// Why.
        source: io::Error,
    },
}

/// Where a card is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addressing {
    /// Its address.
    pub address: Ipv4Addr,
    /// Length of the network's prefix in bits.
    pub prefix: u8,
    /// Where the default route leads; None for a network that leads nowhere.
    pub gateway: Option<Ipv4Addr>,
}

/// Brings the loopback interface up.
pub fn loopback() -> Result<(), NetworkError> {
    Card::open("lo")?.bring_up()
}

/// The name of the first card, as soon as it is there.
pub fn first_card() -> Result<String, NetworkError> {
    kernel::wait_for(CARD, || {
        cards(Path::new("/sys/class/net")).into_iter().next()
    })
    .ok_or(NetworkError::NoCard)
}

/// Brings a card up, without any address.
pub fn bring_up(card: &str) -> Result<(), NetworkError> {
    Card::open(card)?.bring_up()
}

/// Gives a card its address and leads the default route there, in place of what it had.
pub fn set(card: &str, to: &Addressing) -> Result<(), NetworkError> {
    let card = Card::open(card)?;
    card.set_address(libc::SIOCSIFADDR, "the address", to.address)?;
    card.set_address(libc::SIOCSIFNETMASK, "the netmask", netmask(to.prefix))?;
    card.bring_up()?;
    card.remove_default_route()?;
    match to.gateway {
        Some(gateway) => card.add_default_route(gateway),
        None => Ok(()),
    }
}

/// Gives the machine an address that no card has.
pub fn own_address(address: Ipv4Addr) -> Result<(), NetworkError> {
    // A second address of an interface has a name of its own.
    let alias = Card::open("lo:0")?;
    alias.set_address(libc::SIOCSIFADDR, "the machine's address", address)?;
    alias.set_address(libc::SIOCSIFNETMASK, "the netmask", netmask(32))
}

/// Physical cards by name: those with a device behind them.
fn cards(sys_class_net: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(sys_class_net) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join("device").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn netmask(prefix: u8) -> Ipv4Addr {
    let host_bits = 32u32.saturating_sub(u32::from(prefix));
    Ipv4Addr::from(u32::MAX.checked_shl(host_bits).unwrap_or(0))
}

struct Card {
    name: String,
    socket: OwnedFd,
}

impl Card {
    fn open(name: &str) -> Result<Self, NetworkError> {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        );
        match socket {
            Ok(socket) => Ok(Self {
                name: name.to_owned(),
                socket,
            }),
            Err(error) => Err(NetworkError::Call {
                what: "anything",
                card: name.to_owned(),
                source: error.into(),
            }),
        }
    }

    fn request(&self) -> libc::ifreq {
        // SAFETY: ifreq is plain data, for which zeros are valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        let room = request.ifr_name.len() - 1;
        for (to, from) in request
            .ifr_name
            .iter_mut()
            .zip(self.name.bytes().take(room))
        {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        request
    }

    fn call<T>(
        &self,
        number: libc::Ioctl,
        argument: &mut T,
        what: &'static str,
    ) -> Result<(), NetworkError> {
        // SAFETY: every caller passes the structure that netdevice(7) names for its number.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), number, argument) };
        if result == 0 {
            return Ok(());
        }
        let source = io::Error::last_os_error();
        Err(NetworkError::Call {
            what,
            card: self.name.clone(),
            source,
        })
    }

    fn set_address(
        &self,
        number: libc::c_ulong,
        what: &'static str,
        address: Ipv4Addr,
    ) -> Result<(), NetworkError> {
        let mut request = self.request();
        request.ifr_ifru.ifru_addr = socket_address(address);
        self.call(number as libc::Ioctl, &mut request, what)
    }

    fn bring_up(&self) -> Result<(), NetworkError> {
        let mut request = self.request();
        self.call(libc::SIOCGIFFLAGS as libc::Ioctl, &mut request, "the flags")?;
        // SAFETY: SIOCGIFFLAGS has just filled this member in.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        request.ifr_ifru.ifru_flags = flags | (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        self.call(libc::SIOCSIFFLAGS as libc::Ioctl, &mut request, "the flags")
    }

    fn add_default_route(&self, gateway: Ipv4Addr) -> Result<(), NetworkError> {
        let mut route = default_route();
        route.rt_gateway = socket_address(gateway);
        route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
        self.call(
            libc::SIOCADDRT as libc::Ioctl,
            &mut route,
            "the default route",
        )
    }

    /// Removes the default route, if there is one.
    fn remove_default_route(&self) -> Result<(), NetworkError> {
        let mut route = default_route();
        route.rt_flags = libc::RTF_UP;
        let what = "the former default route";
        match self.call(libc::SIOCDELRT as libc::Ioctl, &mut route, what) {
            Err(NetworkError::Call { source, .. })
                if source.raw_os_error() == Some(libc::ESRCH) =>
            {
                Ok(())
            }
            removed => removed,
        }
    }
}

/// A route to everywhere, through nobody yet.
fn default_route() -> libc::rtentry {
    // SAFETY: rtentry is plain data, for which zeros are valid.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
    route
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    // sockaddr_in: two bytes of port, then the address.
    for (to, from) in data[2..6].iter_mut().zip(address.octets()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    libc::sockaddr {
        sa_family: libc::AF_INET as libc::sa_family_t,
        sa_data: data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netmasks() {
        assert_eq!(netmask(24), Ipv4Addr::new(255, 255, 255, 0));
        assert_eq!(netmask(0), Ipv4Addr::UNSPECIFIED);
        assert_eq!(netmask(32), Ipv4Addr::BROADCAST);
    }

    #[test]
    fn only_cards_with_a_device_count() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["lo", "eth1/device", "eth0/device", "cni0"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        assert_eq!(cards(dir.path()), ["eth0", "eth1"]);
    }
}
