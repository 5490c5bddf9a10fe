//! UDP through a tunnel: each client's datagrams by an exchange of its own inside the machine, so that
//! answers find their way back.

use super::Port;
use coracle_protocol::client::{AgentClient, DatagramReceiver, DatagramSender};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// After this without an answer a client is forgotten; its next datagram makes it known again.
const SILENCE: Duration = Duration::from_secs(90);
/// Clients that are remembered at once.
const MOST_CLIENTS: usize = 1024;
/// The largest datagram.
const LARGEST: usize = 1 << 16;
/// The pause after an answer met nobody.
const PAUSE: Duration = Duration::from_millis(1);

/// Leads what comes to a socket to a Service, until it is dropped.
pub async fn serve(socket: UdpSocket, agent: AgentClient, port: Port) {
    let socket = Arc::new(socket);
    let mut clients: HashMap<SocketAddr, Client> = HashMap::new();
    let mut datagram = vec![0; LARGEST];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut datagram).await else {
            // What an earlier answer met: its client is gone.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        clients.retain(|_, client| !client.answers.is_finished());
        if !clients.contains_key(&from) {
            if clients.len() >= MOST_CLIENTS {
                continue;
            }
            match agent.dial_udp(&port.inside, port.number).await {
                Ok((to, answers)) => {
                    let client = Client::new(to, answers, Arc::clone(&socket), from);
                    clients.insert(from, client);
                }
                Err(error) => tracing::debug!(%error, "a ClusterIP is not reached"),
            }
        }
        if let Some(client) = clients.get(&from) {
            // Datagrams may be lost.
            let _ = client.to.send(&datagram[..length]).await;
        }
    }
}

/// One sender of datagrams.
struct Client {
    to: DatagramSender,
    answers: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

impl Client {
    fn new(
        to: DatagramSender,
        mut answers: DatagramReceiver,
        socket: Arc<UdpSocket>,
        client: SocketAddr,
    ) -> Self {
        let answers = tokio::spawn(async move {
            while let Ok(Ok(Some(datagram))) =
                tokio::time::timeout(SILENCE, answers.receive()).await
            {
                let _ = socket.send_to(&datagram, client).await;
            }
        });
        Self { to, answers }
    }
}
