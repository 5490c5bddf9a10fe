//! Where the guest is reached: at an address of its own on the virtual switch.
//!
//! ```text
//! the guest's integration services (hv_kvp_daemon)  -> Get-VMNetworkAdapter  first
//! the host's table of neighbours, by the card's MAC -> Get-NetNeighbor       else
//! ```
//!
//! The switch that Windows makes gives addresses by DHCP from a range that changes when the host restarts,
//! so an address is asked for each time and kept nowhere.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::answers::Addresses;
use super::calls::Hyperv;
use super::note::Note;
use super::state::VmState;
use crate::driver::{DriverError, Exposed, GuestPort};

/// The guest's address now.
///
/// # Errors
/// [`DriverError::NotRunning`] for a machine that is off, [`DriverError::NoAddress`] for a guest that has
/// none yet.
pub(super) async fn address(hyperv: &Hyperv, note: &Note) -> Result<IpAddr, DriverError> {
    let addresses = hyperv.addresses(note).await?;
    if VmState::of(&addresses.state).is_off() {
        return Err(DriverError::NotRunning);
    }
    best(&addresses)
        .map(IpAddr::V4)
        .ok_or(DriverError::NoAddress)
}

/// Ports of the guest at its own address.
pub(super) fn exposed(address: IpAddr, ports: impl Iterator<Item = GuestPort>) -> Vec<Exposed> {
    let expose = |guest: GuestPort| Exposed {
        guest,
        host: SocketAddr::new(address, guest.port),
    };
    ports.map(expose).collect()
}

/// What the guest reports, else the neighbour that was heard of last.
fn best(addresses: &Addresses) -> Option<Ipv4Addr> {
    let reported = addresses.reported.iter().find_map(|text| usable(text));
    let heard = addresses.neighbours.iter().filter_map(|text| {
        let (state, address) = text.split_once(' ')?;
        Some((freshness(state)?, usable(address)?))
    });
    let heard = heard.max_by_key(|(freshness, _)| *freshness);
    reported.or_else(|| heard.map(|(_, address)| address))
}

/// An address that can be connected to: the guest's IPv4 one, not one that it gave itself.
fn usable(text: &str) -> Option<Ipv4Addr> {
    let address: Ipv4Addr = text.trim().parse().ok()?;
    let usable = !address.is_link_local() && !address.is_loopback() && !address.is_unspecified();
    usable.then_some(address)
}

/// How much an entry of the table says, by its name or by its number in MSFT_NetNeighbor; nothing for
/// one that says that nobody is there.
fn freshness(state: &str) -> Option<u8> {
    match state {
        "Reachable" | "5" => Some(5),
        "Permanent" | "6" => Some(4),
        "Delay" | "3" => Some(3),
        "Probe" | "2" => Some(2),
        "Stale" | "4" => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(reported: &[&str], neighbours: &[&str]) -> Option<String> {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let addresses = Addresses {
            state: "Running".to_owned(),
            reported: texts(reported),
            neighbours: texts(neighbours),
        };
        best(&addresses).map(|address| address.to_string())
    }

    #[test]
    fn the_guests_own_word_comes_first() {
        let address = found(
            &["fe80::1", "169.254.3.4", "172.20.1.2"],
            &["Reachable 172.20.9.9"],
        );
        assert_eq!(address.as_deref(), Some("172.20.1.2"));
    }

    #[test]
    fn of_the_neighbours_the_one_that_answers_is_taken() {
        let neighbours = [
            "Unreachable 172.20.1.1",
            "Stale 172.20.1.2",
            "Reachable 172.20.1.3",
            "Incomplete 172.20.1.4",
        ];
        assert_eq!(found(&[], &neighbours).as_deref(), Some("172.20.1.3"));
        assert_eq!(
            found(&[], &["4 172.20.1.2", "0 172.20.1.3"]).as_deref(),
            Some("172.20.1.2")
        );
        assert_eq!(found(&[], &["Unreachable 172.20.1.1", "nonsense"]), None);
        assert_eq!(found(&[], &[]), None);
    }
}
