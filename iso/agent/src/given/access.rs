//! Whether pods and containers may connect to the host. Their packets are forwarded by the machine; what
//! the machine itself sends is not asked, and neither are answers to what the host has sent.

use crate::children::{Children, RunError};
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

/// How long the packet filter may take to be told.
const LIMIT: Duration = Duration::from_secs(30);

/// Lets them, or refuses them at once. `host` is the address under which the machine reaches the host;
/// where `name_server` leads to the same, it may be asked for names.
///
/// # Errors
/// nft(8) did not end well.
pub(super) async fn set(
    children: &Children,
    host: Ipv4Addr,
    name_server: Option<Ipv4Addr>,
    is_allowed: bool,
) -> Result<(), RunError> {
    // Made anew, so that it can be removed.
    let mut rules = "table ip coracle-host\ndelete table ip coracle-host\n".to_owned();
    if !is_allowed {
        let names = name_server.map_or_else(String::new, |server| {
            format!(
                "ct original ip daddr {server} meta l4proto {{ tcp, udp }} th dport 53 accept\n"
            )
        });
        rules += &format!(
            "table ip coracle-host {{\n\
             chain forward {{\n\
             type filter hook forward priority filter; policy accept;\n\
             {names}\
             ip daddr {host} ct direction original meta l4proto tcp reject with tcp reset\n\
             ip daddr {host} ct direction original reject with icmp type admin-prohibited\n\
             }}\n}}\n"
        );
    }
    let mut nft = Command::new("nft");
    nft.arg(rules).env("PATH", crate::boot::PATH);
    children.success(&mut nft, LIMIT).await.map(drop)
}
