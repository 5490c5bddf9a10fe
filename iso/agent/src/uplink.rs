//! A network that gives machines their addresses, by DHCP.
//!
//! The machine's own network is the same wherever it runs: the address that its certificates, its node and
//! its pods know, behind a gateway that leads to the host, with a name server. Where the card is told another
//! address, all of that stays, and is led to what the network has:
//!
//! ```text
//! udhcpc --lease--> the card's address, the default route
//!                   own address  -> on the loopback interface
//!                   own gateway  -> translated to the network's router  \  by the packet filter
//!                   own name server -> to the network's                 /
//! ```
//!
//! So another lease, while the machine runs, changes nothing that a component has read. One network of
//! the same addresses hides those two machines of it.

use crate::children::{Children, Exit, RunError};
use crate::given::Receiver;
use crate::logs::Logs;
use crate::network::{self, Addressing, NetworkError};
use coracle_protocol::guest::GuestNetwork;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io;
use std::net::Ipv4Addr;
use std::process::{ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// What udhcpc hands its leases to.
const SCRIPT: &str = "/usr/lib/coracle/udhcpc.sh";
/// How often the network is asked at boot, a second apart.
const TRIES: &str = "30";
/// How long the packet filter may take to be told.
const LIMIT: Duration = Duration::from_secs(30);
/// Between the end of an udhcpc and the next.
const PAUSE: Duration = Duration::from_secs(5);

/// What the network gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The card's address.
    pub address: Ipv4Addr,
    /// Length of the network's prefix in bits.
    pub prefix: u8,
    /// The default route.
    pub router: Option<Ipv4Addr>,
    /// The first name server.
    pub dns: Option<Ipv4Addr>,
}

/// Why there is no lease.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// udhcpc could not be run.
    #[error("cannot run udhcpc: {0}")]
    Run(#[source] io::Error),
    /// Nobody answered.
    #[error("the network of {card} gave no address by DHCP in {TRIES} tries: {said}")]
    NoLease {
        /// The card.
        card: String,
        /// What udhcpc said last.
        said: String,
    },
    /// The card could not be set.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

impl FromStr for Lease {
    type Err = ();

    /// Reads a line of [`SCRIPT`]'s.
    fn from_str(line: &str) -> Result<Self, ()> {
        let mut words = line.strip_prefix("lease ").ok_or(())?.split(' ');
        let (address, prefix) = words.next().and_then(|at| at.split_once('/')).ok_or(())?;
        let address = address.parse().map_err(|_| ())?;
        let prefix = prefix.parse().ok().filter(|&bits| bits <= 32).ok_or(())?;
        let mut lease = Self {
            address,
            prefix,
            router: None,
            dns: None,
        };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            match name {
                "router" => lease.router = value.parse().ok(),
                "dns" => lease.dns = value.parse().ok(),
                _ => {}
            }
        }
        Ok(lease)
    }
}

impl Lease {
    fn addressing(&self) -> Addressing {
        Addressing {
            address: self.address,
            prefix: self.prefix,
            gateway: self.router,
        }
    }
}

/// The card of a machine in such a network.
#[derive(Debug)]
pub struct Uplink {
    card: String,
    own: GuestNetwork,
    lease: Lease,
}

impl Uplink {
    /// Asks for a lease and sets the card to it. For the time before any thread exists.
    ///
    /// # Errors
    /// Nobody gives one; the card cannot be set.
    pub fn begin(card: String, own: &GuestNetwork) -> Result<Self, UplinkError> {
        network::bring_up(&card)?;
        let asked = udhcpc(&card)
            .args(["-n", "-q", "-T", "1", "-t", TRIES])
            .stderr(Stdio::piped())
            .output()
            .map_err(UplinkError::Run)?;
        let said = String::from_utf8_lossy(&asked.stdout);
        let lease = said
            .lines()
            .filter_map(|line| line.parse().ok())
            .next_back();
        let lease: Lease = lease.ok_or_else(|| {
            let complaint = String::from_utf8_lossy(&asked.stderr);
            UplinkError::NoLease {
                card: card.clone(),
                said: complaint.lines().next_back().unwrap_or_default().to_owned(),
            }
        })?;
        network::set(&card, &lease.addressing())?;
        network::own_address(own.address)?;
        Ok(Self {
            card,
            own: own.clone(),
            lease,
        })
    }

    /// Leads the machine's own network to what the lease says, then keeps the lease in the background.
    ///
    /// # Errors
    /// The packet filter could not be told.
    pub async fn keep(
        self,
        children: &Children,
        logs: &Arc<Logs>,
        given: &Arc<Receiver>,
    ) -> Result<Keeper, RunError> {
        let process = Arc::new(AtomicI32::new(0));
        let keeping = Keeping {
            uplink: self,
            children: children.clone(),
            logs: Arc::clone(logs),
            given: Arc::clone(given),
            process: Arc::clone(&process),
        };
        keeping.lead().await?;
        tokio::spawn(keeping.run());
        Ok(Keeper { process })
    }

    /// Translates the own gateway and name server. The second of two chains sees what the machine itself sends.
    fn rules(&self) -> String {
        let mut rules = "table ip coracle-uplink\ndelete table ip coracle-uplink\n\
                         table ip coracle-uplink {\n"
            .to_owned();
        for hook in ["prerouting", "output"] {
            rules += &format!("chain {hook} {{\ntype nat hook {hook} priority dstnat - 10;\n");
            let router = self.lease.router;
            for (own, to) in [
                (Some(self.own.gateway), router),
                (self.own.name_server(), self.lease.dns.or(router)),
            ] {
                if let (Some(own), Some(to)) = (own, to)
                    && own != to
                {
                    rules += &format!("ip daddr {own} dnat to {to}\n");
                }
            }
            rules += "}\n";
        }
        rules + "}\n"
    }
}

/// Has the lease kept. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Keeper {
    /// udhcpc; 0 while there is none.
    process: Arc<AtomicI32>,
}

impl Keeper {
    /// Asks whether the lease still counts: after the machine stood still, nobody has counted its time.
    pub fn renew(&self) {
        let process = self.process.load(Ordering::Relaxed);
        if process > 0 {
            let _ = kill(Pid::from_raw(process), Signal::SIGUSR1);
        }
    }
}

struct Keeping {
    uplink: Uplink,
    children: Children,
    logs: Arc<Logs>,
    given: Arc<Receiver>,
    process: Arc<AtomicI32>,
}

impl Keeping {
    /// Leads to the present lease.
    async fn lead(&self) -> Result<(), RunError> {
        // First, so that nobody is led to a host that is not guarded.
        let host = self.uplink.lease.router.unwrap_or(self.uplink.own.gateway);
        self.given.host_is_at(&self.children, host).await?;
        let mut nft = Command::new("nft");
        nft.arg(self.uplink.rules()).env("PATH", crate::boot::PATH);
        self.children.success(&mut nft, LIMIT).await.map(drop)
    }

    async fn run(mut self) {
        loop {
            let ended = match self.listen().await {
                Ok(exit) => format!("udhcpc ended: {exit:?}"),
                Err(error) => format!("cannot run udhcpc: {error}"),
            };
            self.logs.note(&ended);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Takes leases until udhcpc ends.
    async fn listen(&mut self) -> io::Result<Exit> {
        let mut command = udhcpc(&self.uplink.card);
        command.args(["-r", &self.uplink.lease.address.to_string()]);
        command.stderr(Stdio::null());
        let mut child = self.children.spawn(&mut command)?;
        self.process.store(child.pid.as_raw(), Ordering::Relaxed);
        let heard = match child.stdout.take() {
            Some(leases) => self.hear(leases).await,
            None => Ok(()),
        };
        if heard.is_err() {
            let _ = kill(child.pid, Signal::SIGKILL);
        }
        let exit = child.exit().await;
        self.process.store(0, Ordering::Relaxed);
        heard.map(|()| exit)
    }

    async fn hear(&mut self, leases: ChildStdout) -> io::Result<()> {
        let leases = tokio::process::ChildStdout::from_std(leases)?;
        let mut lines = BufReader::new(leases).lines();
        while let Some(line) = lines.next_line().await? {
            if let Ok(lease) = line.parse()
                && lease != self.uplink.lease
            {
                self.take(lease).await;
            }
        }
        Ok(())
    }

    async fn take(&mut self, lease: Lease) {
        self.logs.note(&format!(
            "the network gave {}/{} instead of {}",
            lease.address, lease.prefix, self.uplink.lease.address
        ));
        self.uplink.lease = lease;
        if let Err(error) = network::set(&self.uplink.card, &lease.addressing()) {
            self.logs.note(&format!("the network card: {error}"));
        }
        if let Err(error) = self.lead().await {
            self.logs.note(&format!("the packet filter: {error}"));
        }
    }
}

/// udhcpc in the foreground, whose leases come as lines.
fn udhcpc(card: &str) -> Command {
    let mut command = Command::new("busybox");
    command
        .args(["udhcpc", "-f", "-i", card, "-s", SCRIPT])
        .env("PATH", crate::boot::PATH)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Lease = Lease {
        address: Ipv4Addr::new(172, 20, 1, 7),
        prefix: 20,
        router: Some(Ipv4Addr::new(172, 20, 0, 1)),
        dns: None,
    };

    #[test]
    fn leases_are_read_and_what_else_is_said_is_not() {
        let read = |line: &str| line.parse::<Lease>();
        assert_eq!(
            read("lease 172.20.1.7/20 router=172.20.0.1 dns="),
            Ok(LEASE)
        );
        let bare = Lease {
            router: None,
            ..LEASE
        };
        assert_eq!(read("lease 172.20.1.7/20 router= dns="), Ok(bare));
        for wrong in [
            "udhcpc: sending discover",
            "lease /24",
            "lease 1.2.3.4/33 dns=",
            "lease 1.2.3.4",
        ] {
            assert_eq!(read(wrong), Err(()), "{wrong}");
        }
    }

    #[test]
    fn gateway_and_name_server_are_led_to_the_networks() {
        let own = GuestNetwork {
            address: [10, 0, 2, 15].into(),
            prefix: 24,
            gateway: [10, 0, 2, 2].into(),
            dns: vec![std::net::IpAddr::from([10, 0, 2, 3])],
            dhcp: true,
        };
        let mut uplink = Uplink {
            card: "eth0".into(),
            own,
            lease: LEASE,
        };
        let count = |rules: &str, what: &str| rules.matches(what).count();
        let rules = uplink.rules();
        assert_eq!(count(&rules, "ip daddr 10.0.2.2 dnat to 172.20.0.1\n"), 2);
        // A network that names no server has one at its router, as a rule.
        assert_eq!(count(&rules, "ip daddr 10.0.2.3 dnat to 172.20.0.1\n"), 2);
        uplink.lease.dns = Some([9, 9, 9, 9].into());
        assert_eq!(
            count(&uplink.rules(), "ip daddr 10.0.2.3 dnat to 9.9.9.9\n"),
            2
        );
        uplink.lease.router = Some([10, 0, 2, 2].into());
        assert_eq!(count(&uplink.rules(), "ip daddr 10.0.2.2 "), 0);
    }
}
