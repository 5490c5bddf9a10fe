//! One public UDP port of a cluster. Each client's datagrams go into the machine from a socket of its own, so
//! that answers find their way back.
//!
//! ```text
//! client --> socket (ours for life) --+--> client's own socket --> the driver's place --> guest
//!                                     |          ^
//!                                     +-- held --+  while the machine is off, which that wakes
//! ```

use super::activity::Activity;
use super::forward::{PAUSE, Way, there};
use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

/// After this without an answer a client is forgotten; its next datagram makes it known again.
const SILENCE: Duration = Duration::from_secs(90);
/// Clients that are remembered at once.
const MOST_CLIENTS: usize = 1024;
/// Datagrams that are held for a machine that is off. More are lost, as datagrams may be.
const MOST_HELD: usize = 64;

/// Leads datagrams until it is dropped.
pub(super) async fn lead(socket: UdpSocket, way: Way, activity: Arc<Activity>) {
    let socket = Arc::new(socket);
    let mut clients = Clients {
        public: Arc::clone(&socket),
        activity: Arc::clone(&activity),
        known: HashMap::new(),
    };
    // One waits for all.
    let mut waiting = None;
    let mut held: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
    let mut datagram = vec![0; 1 << 16];
    loop {
        let awake = async {
            match &mut waiting {
                Some(waiting) => waiting.await,
                None => pending().await,
            }
        };
        let received = tokio::select! {
            address = awake => {
                waiting = None;
                for (from, datagram) in held.drain(..) {
                    if let Some(address) = address {
                        clients.send(address, from, &datagram).await;
                    }
                }
                continue;
            }
            received = socket.recv_from(&mut datagram) => received,
        };
        let Ok((length, from)) = received else {
            // What an earlier answer met: its client is gone.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let datagram = &datagram[..length];
        let now = *way.borrow();
        match now {
            Some(address) if held.is_empty() => clients.send(address, from, datagram).await,
            // Those that came before go first.
            _ => {
                if held.len() < MOST_HELD {
                    held.push((from, datagram.to_vec()));
                }
                waiting.get_or_insert_with(|| {
                    let (mut way, activity) = (way.clone(), Arc::clone(&activity));
                    Box::pin(async move { there(&mut way, &activity).await })
                });
            }
        }
    }
}

/// Those who have sent something lately.
struct Clients {
    public: Arc<UdpSocket>,
    activity: Arc<Activity>,
    known: HashMap<SocketAddr, Client>,
}

impl Clients {
    /// Sends a client's datagram to the guest.
    async fn send(&mut self, address: SocketAddr, from: SocketAddr, datagram: &[u8]) {
        self.activity.received(datagram.len());
        self.known.retain(|_, client| !client.answers.is_finished());
        let known = self
            .known
            .get(&from)
            .filter(|client| client.address == address);
        let guest = match known {
            Some(client) => Arc::clone(&client.guest),
            None if self.known.len() >= MOST_CLIENTS => return,
            None => {
                let public = Arc::clone(&self.public);
                let Ok(client) = Client::open(public, from, address).await else {
                    return;
                };
                self.activity.arrived();
                let guest = Arc::clone(&client.guest);
                self.known.insert(from, client);
                guest
            }
        };
        // Datagrams may be lost.
        let _ = guest.send(datagram).await;
    }
}

/// One sender of datagrams.
struct Client {
    address: SocketAddr,
    guest: Arc<UdpSocket>,
    answers: AbortOnDropHandle<()>,
}

impl Client {
    async fn open(
        public: Arc<UdpSocket>,
        from: SocketAddr,
        address: SocketAddr,
    ) -> io::Result<Self> {
        // QEMU's network answers to this very address, whichever of the loopback ones a datagram came from.
        let guest = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        guest.connect(address).await?;
        let answering = Arc::clone(&guest);
        let answers = tokio::spawn(async move {
            let mut datagram = vec![0; 1 << 16];
            while let Ok(Ok(length)) =
                tokio::time::timeout(SILENCE, answering.recv(&mut datagram)).await
            {
                let _ = public.send_to(&datagram[..length], from).await;
            }
        });
        Ok(Self {
            address,
            guest,
            answers: AbortOnDropHandle::new(answers),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::watch;

    /// Beyond anything here; it only catches what hangs.
    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn what_comes_while_the_machine_is_off_waits_for_it_in_its_order() {
        let public = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = public.local_addr().unwrap();
        let guest = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (machine, way) = watch::channel(None);
        let activity = Activity::new();
        let led = tokio::spawn(lead(public, way, Arc::clone(&activity)));
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        for word in ["first", "second"] {
            client.send_to(word.as_bytes(), port).await.unwrap();
        }
        let waits = activity.somebody_waits();
        tokio::time::timeout(LIMIT, waits).await.unwrap();
        machine.send(Some(guest.local_addr().unwrap())).unwrap();
        client.send_to(b"third", port).await.unwrap();
        let mut datagram = [0; 16];
        for word in ["first", "second", "third"] {
            let heard = guest.recv_from(&mut datagram);
            let (length, from) = tokio::time::timeout(LIMIT, heard).await.unwrap().unwrap();
            assert_eq!(&datagram[..length], word.as_bytes());
            guest.send_to(b"heard", from).await.unwrap();
        }
        let answer = client.recv_from(&mut datagram);
        let (length, _) = tokio::time::timeout(LIMIT, answer).await.unwrap().unwrap();
        assert_eq!(&datagram[..length], b"heard");
        led.abort();
    }
}
