//! UDP through a tunnel: each client's datagrams by an exchange of its own inside the machine, so that
//! answers find their way back.
//!
//! ```text
//! socket --its client's queue--> a task each: exchange with the Service --answers--> socket
//! ```

use super::Port;
use coracle_protocol::client::AgentClient;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// A client that neither says nor hears anything for so long is forgotten; its next datagram makes it known
/// again.
const SILENCE: Duration = Duration::from_secs(30);
/// How long the way into the machine may take to open.
const OPENING: Duration = Duration::from_secs(10);
/// Clients that are remembered at once: beyond that the one that said nothing for longest goes.
const MOST_CLIENTS: usize = 1024;
/// Datagrams of one client that may wait; more are lost, as datagrams may be.
const QUEUE: usize = 64;
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
        clients.retain(|_, client| !client.task.is_finished());
        if clients.len() >= MOST_CLIENTS && !clients.contains_key(&from) {
            let silent = clients.iter().min_by_key(|(_, client)| client.said);
            if let Some(silent) = silent.map(|(address, _)| *address) {
                clients.remove(&silent);
            }
        }
        let client = clients.entry(from).or_insert_with(|| {
            let (queue, datagrams) = mpsc::channel(QUEUE);
            let (socket, agent, port) = (Arc::clone(&socket), agent.clone(), port.clone());
            Client {
                queue,
                said: Instant::now(),
                task: AbortOnDropHandle::new(tokio::spawn(exchange(
                    datagrams, agent, port, socket, from,
                ))),
            }
        });
        client.said = Instant::now();
        let _ = client.queue.try_send(datagram[..length].to_vec());
    }
}

/// One sender of datagrams.
struct Client {
    queue: mpsc::Sender<Vec<u8>>,
    said: Instant,
    task: AbortOnDropHandle<()>,
}

/// Between one client and the Service, until both are silent.
async fn exchange(
    mut datagrams: mpsc::Receiver<Vec<u8>>,
    agent: AgentClient,
    port: Port,
    socket: Arc<UdpSocket>,
    client: SocketAddr,
) {
    let dialled = agent.dial_udp(&port.inside, port.number);
    let (to, mut answers) = match tokio::time::timeout(OPENING, dialled).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return tracing::debug!(%error, "a ClusterIP is not reached"),
        Err(_) => return tracing::debug!("a ClusterIP is not reached in time"),
    };
    loop {
        tokio::select! {
            datagram = datagrams.recv() => match datagram {
                Some(datagram) if to.send(&datagram).await.is_ok() => {}
                _ => return,
            },
            answer = answers.receive() => match answer {
                Ok(Some(answer)) => drop(socket.send_to(&answer, client).await),
                _ => return,
            },
            () = tokio::time::sleep(SILENCE) => return,
        }
    }
}
