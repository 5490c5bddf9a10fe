//! One public port of a cluster: a listener on the host whose connections are led into the machine.
//!
//! ```text
//! client --> listener (ours for life) --gate--> the driver's place for the guest's port --> guest
//! ```
//!
//! The listener stays while the machine is off: who connects then waits for it, up to a limit. Bytes
//! are copied as they come, each way ends by itself, and nothing is ever sent twice.

use super::activity::Activity;
use super::{datagrams, log};
use crate::cluster::Cluster;
use crate::error::{Error, ErrorId, Result};
use coracle_vm::GuestPort;
use coracle_vm::spec::Protocol;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Mutex, watch};
use tokio_util::io::InspectReader;
use tokio_util::task::AbortOnDropHandle;

/// How long who connects may wait for a machine that is off.
const ABSENCE: Duration = Duration::from_secs(120);
/// How long the way into the machine may take to open.
const OPENING: Duration = Duration::from_secs(30);
/// What opening takes where there is room. QEMU's listeners have room for two that were not taken yet,
/// and a third would be answered after a second only: it is given up sooner and asked again.
const PROMPT: Duration = Duration::from_millis(20);
/// The pause before it is asked again.
pub(super) const PAUSE: Duration = Duration::from_millis(1);
/// Bytes that are copied at once, each way.
const BUFFER: usize = 16 << 10;
/// The pause after the system refused another connection, for want of descriptors mostly.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Where the machine takes connections now; none while it is off.
pub type Way = watch::Receiver<Option<SocketAddr>>;

/// A public port that is open.
#[derive(Debug)]
pub struct Forward {
    /// Dropped, the port is free a moment later; connections go on.
    task: AbortOnDropHandle<()>,
}

impl Forward {
    /// Listens; an error tells why that cannot be.
    pub fn open(
        public: SocketAddr,
        guest: GuestPort,
        way: Way,
        activity: Arc<Activity>,
    ) -> io::Result<Self> {
        let task = match guest.protocol {
            Protocol::Tcp => tokio::spawn(tcp(listen(public)?, guest.port, way, activity)),
            Protocol::Udp => {
                let socket = std::net::UdpSocket::bind(public)?;
                socket.set_nonblocking(true)?;
                tokio::spawn(datagrams::lead(UdpSocket::from_std(socket)?, way, activity))
            }
        };
        Ok(Self {
            task: AbortOnDropHandle::new(task),
        })
    }

    /// Closes the port, which is free when this returns. Connections go on.
    pub async fn close(self) {
        self.task.abort();
        // It was aborted, and so ends with an error.
        let _ = self.task.await;
    }
}

/// With a queue for a crowd that comes at once.
fn listen(public: SocketAddr) -> io::Result<TcpListener> {
    /// Connections that may wait to be taken.
    const QUEUE: u32 = 4096;
    let socket = match public {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    // On Windows it would let two programs listen.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(public)?;
    socket.listen(QUEUE)
}

async fn tcp(listener: TcpListener, guest_port: u16, way: Way, activity: Arc<Activity>) {
    let gate = Arc::new(Mutex::new(()));
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let (way, gate, activity) = (way.clone(), Arc::clone(&gate), Arc::clone(&activity));
                tokio::spawn(lead(client, guest_port, way, gate, activity));
            }
            Err(error) => {
                log(&format!("a connection cannot be taken: {error}"));
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

/// From a client to the machine, and back, until both have said all.
async fn lead(
    client: TcpStream,
    guest_port: u16,
    way: Way,
    gate: Arc<Mutex<()>>,
    activity: Arc<Activity>,
) {
    activity.arrived();
    let Some(mut guest) = enter(way, &gate, &activity).await else {
        return;
    };
    let _open = activity.connection(guest_port);
    // What is small goes on at once.
    let _ = client.set_nodelay(true).and(guest.set_nodelay(true));
    let mut client = InspectReader::new(client, |bytes: &[u8]| activity.received(bytes.len()));
    // How it ends is between the two.
    let _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut guest, BUFFER, BUFFER).await;
}

/// A connection to the machine, as soon as it is there.
async fn enter(mut way: Way, gate: &Mutex<()>, activity: &Arc<Activity>) -> Option<TcpStream> {
    let now = *way.borrow();
    let address = match now {
        Some(address) => address,
        None => there(&mut way, activity).await?,
    };
    let knock = async {
        // One at a time, so that nobody overtakes into the place that another one knocks for.
        let _turn = gate.lock().await;
        loop {
            match tokio::time::timeout(PROMPT, TcpStream::connect(address)).await {
                Ok(opened) => return opened,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    };
    tokio::time::timeout(OPENING, knock).await.ok()?.ok()
}

/// Waits for a machine that is off.
pub(super) async fn there(way: &mut Way, activity: &Arc<Activity>) -> Option<SocketAddr> {
    let _waiting = activity.waiting();
    let there = tokio::time::timeout(ABSENCE, way.wait_for(Option::is_some));
    *there.await.ok()?.ok()?
}

/// A client of the Kubernetes API that does not count as use of the cluster, once the machine is there.
pub async fn api(cluster: &Cluster, way: &mut Way) -> Result<kube::Client> {
    let there = way.wait_for(Option::is_some).await.ok();
    let address = there.and_then(|there| *there);
    let address =
        address.ok_or_else(|| Error::new(ErrorId::MachineNotRunning, "the machine is gone"))?;
    cluster.api_at(address)
}
