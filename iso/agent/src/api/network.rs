//! Network: connections into the machine and out of it.

use super::{Agent, CHUNK, Replies};
use coracle_protocol::api::dial_message::Message;
use coracle_protocol::api::network_server::Network as Service;
use coracle_protocol::api::{DialMessage, DialOpen, Incoming, ListenRequest, Transport};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Connecting and resolving may take this long.
const LIMIT: Duration = Duration::from_secs(15);
/// An announced connection that nobody takes is closed after this.
const UNTAKEN: Duration = Duration::from_secs(30);
/// The largest datagram.
const DATAGRAM: usize = 65_536;

type Sender = mpsc::Sender<Result<DialMessage, Status>>;
type Announced = Arc<Mutex<HashMap<u64, TcpStream>>>;

pub(super) struct Network {
    agent: Arc<Agent>,
    announced: Announced,
    next: Arc<AtomicU64>,
}

impl Network {
    pub(super) fn new(agent: Arc<Agent>) -> Self {
        Self {
            agent,
            announced: Announced::default(),
            next: Arc::default(),
        }
    }

    /// An address for a name. The C library's resolver cannot be linked statically, so that
    /// the machine's `getent` is asked, which knows /etc/hosts and the name servers alike.
    async fn resolve(&self, host: &str, port: u16) -> Result<SocketAddr, Status> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok((address, port).into());
        }
        if host == "localhost" {
            return Ok((Ipv4Addr::LOCALHOST, port).into());
        }
        let unknown =
            |reason: String| Status::not_found(format!("cannot resolve {host}: {reason}"));
        let mut getent = Command::new("getent");
        getent.args(["ahostsv4", "--", host]);
        let found = self.agent.children.success(&mut getent, LIMIT).await;
        let found = found.map_err(|error| unknown(error.to_string()))?;
        let found = String::from_utf8_lossy(&found);
        let address = found
            .split_whitespace()
            .next()
            .and_then(|one| one.parse::<IpAddr>().ok());
        Ok((address.ok_or_else(|| unknown("no address".into()))?, port).into())
    }
}

#[tonic::async_trait]
impl Service for Network {
    type DialStream = Replies<DialMessage>;
    type ListenStream = Replies<Incoming>;
    type AcceptStream = Replies<DialMessage>;

    async fn dial(
        &self,
        request: Request<Streaming<DialMessage>>,
    ) -> Result<Response<Self::DialStream>, Status> {
        let mut requests = request.into_inner();
        let Some(Message::Open(open)) = next(&mut requests).await? else {
            return Err(Status::invalid_argument(
                "the first message of a dial is its address",
            ));
        };
        let transport = open.transport();
        let DialOpen { host, port, .. } = open;
        let address = self.resolve(&host, port_number(port)?).await?;
        let failed = |error: io::Error| Status::unavailable(format!("{address}: {error}"));
        let late = |_| Status::deadline_exceeded(format!("{address}: no answer within {LIMIT:?}"));
        let (sender, receiver) = mpsc::channel(8);
        match transport {
            Transport::Tcp => {
                let connected = tokio::time::timeout(LIMIT, TcpStream::connect(address)).await;
                let stream = connected.map_err(late)?.map_err(failed)?;
                tokio::spawn(join(stream, requests, sender));
            }
            Transport::Udp => {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
                    .await
                    .map_err(failed)?;
                socket.connect(address).await.map_err(failed)?;
                tokio::spawn(exchange(socket, requests, sender));
            }
            Transport::Unspecified => {
                return Err(Status::invalid_argument("no transport is named"));
            }
        }
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn listen(
        &self,
        request: Request<ListenRequest>,
    ) -> Result<Response<Self::ListenStream>, Status> {
        let request = request.into_inner();
        if request.transport() != Transport::Tcp {
            return Err(Status::invalid_argument("only TCP can be listened for"));
        }
        let port = port_number(request.port)?;
        let address = match request.address.as_str() {
            "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            address => address
                .parse()
                .map_err(|_| Status::invalid_argument(format!("{address} is no address")))?,
        };
        let listener = TcpListener::bind((address, port)).await.map_err(|error| {
            Status::failed_precondition(format!("cannot listen on {address}:{port}: {error}"))
        })?;
        let (sender, receiver) = mpsc::channel(16);
        let (announced, ids) = (Arc::clone(&self.announced), Arc::clone(&self.next));
        tokio::spawn(async move {
            if sender.send(Ok(Incoming::default())).await.is_err() {
                return;
            }
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = sender.closed() => return,
                };
                let Ok((stream, peer)) = accepted else { return };
                let id = ids.fetch_add(1, Ordering::Relaxed) + 1;
                lock(&announced).insert(id, stream);
                let announcement = Incoming {
                    id,
                    peer: peer.to_string(),
                };
                let gone = sender.send(Ok(announcement)).await.is_err();
                let waiting = Arc::clone(&announced);
                tokio::spawn(async move {
                    if !gone {
                        tokio::time::sleep(UNTAKEN).await;
                    }
                    lock(&waiting).remove(&id);
                });
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn accept(
        &self,
        request: Request<Streaming<DialMessage>>,
    ) -> Result<Response<Self::AcceptStream>, Status> {
        let mut requests = request.into_inner();
        let Some(Message::Accept(id)) = next(&mut requests).await? else {
            return Err(Status::invalid_argument(
                "the first message of an accept is its id",
            ));
        };
        let stream = lock(&self.announced).remove(&id);
        let stream = stream.ok_or_else(|| Status::not_found("that connection is closed"))?;
        let (sender, receiver) = mpsc::channel(8);
        tokio::spawn(join(stream, requests, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn port_number(port: u32) -> Result<u16, Status> {
    u16::try_from(port).map_err(|_| Status::invalid_argument(format!("{port} is no port")))
}

async fn next(requests: &mut Streaming<DialMessage>) -> Result<Option<Message>, Status> {
    Ok(requests
        .message()
        .await?
        .and_then(|message| message.message))
}

fn message(message: Message) -> Result<DialMessage, Status> {
    Ok(DialMessage {
        message: Some(message),
    })
}

/// Joins a TCP connection and a pair of streams. Each direction ends by itself; when the host
/// is lost, the connection is reset.
async fn join(stream: TcpStream, mut requests: Streaming<DialMessage>, sender: Sender) {
    let _ = stream.set_nodelay(true);
    let (mut from, mut to) = stream.into_split();
    if sender.send(message(Message::Opened(true))).await.is_err() {
        return;
    }
    let outward = async {
        loop {
            match next(&mut requests).await {
                Ok(Some(Message::Data(data))) => {
                    if to.write_all(&data).await.is_err() {
                        return Ok(());
                    }
                }
                Ok(Some(Message::Eof(true)) | None) => {
                    let _ = to.shutdown().await;
                    return Ok(());
                }
                Ok(Some(_)) => {}
                Err(status) => return Err(status),
            }
        }
    };
    let inward = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            let data = match from.read(&mut buffer).await {
                Ok(0) => message(Message::Eof(true)),
                Ok(length) => message(Message::Data(buffer[..length].to_vec())),
                Err(error) => Err(Status::unavailable(error.to_string())),
            };
            let last = !matches!(
                &data,
                Ok(DialMessage {
                    message: Some(Message::Data(_))
                })
            );
            if sender.send(data).await.is_err() {
                return Err(Status::cancelled("the host has gone"));
            }
            if last {
                return Ok(());
            }
        }
    };
    let _ = tokio::try_join!(outward, inward);
}

/// Passes datagrams on, until the host ends it.
async fn exchange(socket: UdpSocket, mut requests: Streaming<DialMessage>, sender: Sender) {
    if sender.send(message(Message::Opened(true))).await.is_err() {
        return;
    }
    let mut buffer = vec![0; DATAGRAM];
    loop {
        tokio::select! {
            request = next(&mut requests) => match request {
                // An error stands for an earlier datagram that nobody took: not an end.
                Ok(Some(Message::Data(data))) => drop(socket.send(&data).await),
                Ok(Some(Message::Eof(true)) | None) | Err(_) => return,
                Ok(Some(_)) => {}
            },
            received = socket.recv(&mut buffer) => {
                if let Ok(length) = received {
                    let data = message(Message::Data(buffer[..length].to_vec()));
                    if sender.send(data).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}
