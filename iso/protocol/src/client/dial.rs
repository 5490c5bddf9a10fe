//! Connections into the machine, and out of it.

use super::error::{AgentError, to_io};
use super::{AgentClient, transfer::CHUNK};
use crate::api::{
    DialMessage, DialOpen, Incoming, ListenRequest, Transport, dial_message::Message,
    network_client::NetworkClient,
};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::PollSender;

/// A TCP connection through the agent. Shutting down its writing side leaves the reading side
/// open, as with a socket.
#[derive(Debug)]
pub struct DialStream {
    sender: PollSender<DialMessage>,
    receiver: tonic::Streaming<DialMessage>,
    rest: Vec<u8>,
    read: usize,
    ended: bool,
}

/// Sends datagrams to the dialled address.
#[derive(Debug, Clone)]
pub struct DatagramSender(mpsc::Sender<DialMessage>);

/// Receives datagrams from the dialled address.
#[derive(Debug)]
pub struct DatagramReceiver(tonic::Streaming<DialMessage>);

/// A port on which the machine listens for the host; it is closed when this is dropped.
#[derive(Debug)]
pub struct Listener {
    client: AgentClient,
    incoming: tonic::Streaming<Incoming>,
}

impl AgentClient {
    /// Connects by TCP to a host and port as seen from inside the machine.
    pub async fn dial_tcp(&self, host: &str, port: u16) -> Result<DialStream, AgentError> {
        let (sender, receiver) = self.dial(Transport::Tcp, host, port).await?;
        Ok(DialStream::new(sender, receiver))
    }

    /// Exchanges datagrams with a host and port as seen from inside the machine.
    pub async fn dial_udp(
        &self,
        host: &str,
        port: u16,
    ) -> Result<(DatagramSender, DatagramReceiver), AgentError> {
        let (sender, receiver) = self.dial(Transport::Udp, host, port).await?;
        Ok((DatagramSender(sender), DatagramReceiver(receiver)))
    }

    async fn dial(
        &self,
        transport: Transport,
        host: &str,
        port: u16,
    ) -> Result<(mpsc::Sender<DialMessage>, tonic::Streaming<DialMessage>), AgentError> {
        let host = host.to_owned();
        let open = DialOpen {
            transport: transport.into(),
            host,
            port: port.into(),
        };
        let (sender, requests) = begin(Message::Open(open))?;
        let mut client = NetworkClient::new(self.channel());
        let replies = client.dial(requests).await?.into_inner();
        Ok((sender, opened(replies).await?))
    }

    /// Listens on a TCP port inside the machine; `address` empty means all of its addresses.
    /// Returns when it listens.
    pub async fn listen_tcp(&self, address: &str, port: u16) -> Result<Listener, AgentError> {
        let request = ListenRequest {
            transport: Transport::Tcp.into(),
            address: address.to_owned(),
            port: port.into(),
        };
        let mut client = NetworkClient::new(self.channel());
        let mut incoming = client.listen(request).await?.into_inner();
        match incoming.message().await? {
            Some(_) => Ok(Listener {
                client: self.clone(),
                incoming,
            }),
            None => Err(AgentError::Protocol("a listener ended before it listened")),
        }
    }
}

impl Listener {
    /// The next connection and its peer's address inside the machine.
    pub async fn accept(&mut self) -> Result<(DialStream, String), AgentError> {
        let Some(Incoming { id, peer }) = self.incoming.message().await? else {
            return Err(AgentError::Gone("the listener was closed".to_owned()));
        };
        let (sender, requests) = begin(Message::Accept(id))?;
        let mut client = NetworkClient::new(self.client.channel());
        let replies = client.accept(requests).await?.into_inner();
        Ok((DialStream::new(sender, opened(replies).await?), peer))
    }
}

/// A request stream whose first message already waits in it.
fn begin(
    first: Message,
) -> Result<(mpsc::Sender<DialMessage>, ReceiverStream<DialMessage>), AgentError> {
    let (sender, receiver) = mpsc::channel(8);
    let full = |_| AgentError::Protocol("a new stream takes no message");
    sender
        .try_send(DialMessage {
            message: Some(first),
        })
        .map_err(full)?;
    Ok((sender, ReceiverStream::new(receiver)))
}

async fn opened(
    mut replies: tonic::Streaming<DialMessage>,
) -> Result<tonic::Streaming<DialMessage>, AgentError> {
    match replies.message().await?.and_then(|reply| reply.message) {
        Some(Message::Opened(true)) => Ok(replies),
        _ => Err(AgentError::Protocol(
            "data came before the connection stood",
        )),
    }
}

impl DatagramSender {
    /// Sends one datagram.
    pub async fn send(&self, datagram: &[u8]) -> Result<(), AgentError> {
        let message = DialMessage {
            message: Some(Message::Data(datagram.to_vec())),
        };
        let gone = |_| AgentError::Gone("the machine closed it".to_owned());
        self.0.send(message).await.map_err(gone)
    }
}

impl DatagramReceiver {
    /// The next datagram; None when the machine gave the exchange up.
    pub async fn receive(&mut self) -> Result<Option<Vec<u8>>, AgentError> {
        while let Some(reply) = self.0.message().await? {
            if let Some(Message::Data(datagram)) = reply.message {
                return Ok(Some(datagram));
            }
        }
        Ok(None)
    }
}

impl DialStream {
    fn new(sender: mpsc::Sender<DialMessage>, receiver: tonic::Streaming<DialMessage>) -> Self {
        let sender = PollSender::new(sender);
        Self {
            sender,
            receiver,
            rest: Vec::new(),
            read: 0,
            ended: false,
        }
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        message: impl FnOnce() -> Message,
    ) -> Poll<io::Result<()>> {
        let broken = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.sender.poll_reserve(context)).map_err(broken)?;
        let message = DialMessage {
            message: Some(message()),
        };
        Poll::Ready(self.sender.send_item(message).map_err(broken))
    }
}

impl AsyncRead for DialStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.read == this.rest.len() && !this.ended {
            let reply = ready!(Pin::new(&mut this.receiver).poll_next(context));
            match reply.transpose().map_err(to_io)?.map(|reply| reply.message) {
                Some(Some(Message::Data(data))) => {
                    this.rest = data;
                    this.read = 0;
                }
                Some(Some(Message::Eof(true))) | None => this.ended = true,
                Some(_) => {}
            }
        }
        let rest = &this.rest[this.read..];
        let length = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..length]);
        this.read += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for DialStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let part = &bytes[..bytes.len().min(CHUNK)];
        let sent = ready!(
            self.get_mut()
                .poll_send(context, || Message::Data(part.to_vec()))
        );
        Poll::Ready(sent.map(|()| part.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.sender.is_closed() {
            return Poll::Ready(Ok(()));
        }
        let sent = ready!(this.poll_send(context, || Message::Eof(true)));
        this.sender.close();
        Poll::Ready(sent)
    }
}
