//! TLS of what the agent serves: who it is and whom it answers, replaceable while it runs.

use coracle_protocol::guest::ServerIdentity;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::transport::server::Connected;

/// A handshake may take this long.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// Pause when no connection can be taken, for instance because files have run out.
const EXHAUSTED: Duration = Duration::from_secs(1);

/// What is spoken inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// gRPC: both ends are ours.
    Grpc,
    /// HTTP/1.1, by clients of any age.
    Http,
}

/// A server's certificate and the authority of its callers. Clones share it.
#[derive(Debug, Clone)]
pub struct Identity {
    config: Arc<RwLock<Arc<ServerConfig>>>,
    spoken: Spoken,
}

/// How many connections are open that use the machine. Clones count the same ones.
#[derive(Debug, Clone, Default)]
pub struct Callers(Arc<AtomicU32>);

impl Callers {
    /// How many there are now.
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more.
    pub(crate) fn enter(&self) -> Connection {
        self.0.fetch_add(1, Ordering::Relaxed);
        Connection(Arc::new(Counted {
            callers: self.clone(),
            aside: Mutex::default(),
        }))
    }
}

/// An open connection. It is counted, but for while it is set aside. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Connection(Arc<Counted>);

struct Counted {
    callers: Callers,
    /// How many streams of it use nothing: one connection carries several.
    aside: Mutex<u32>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.callers.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    fn aside(&self) -> MutexGuard<'_, u32> {
        self.0.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does not count the connection of a request until the value is dropped.
pub(crate) fn set_aside<T>(request: &Request<T>) -> Option<SetAside> {
    let connection = request.extensions().get::<Connection>()?.clone();
    let mut aside = connection.aside();
    if *aside == 0 {
        connection.0.callers.0.fetch_sub(1, Ordering::Relaxed);
    }
    *aside += 1;
    drop(aside);
    Some(SetAside(connection))
}

/// A connection that is not counted, until this is dropped.
pub(crate) struct SetAside(Connection);

impl Drop for SetAside {
    fn drop(&mut self) {
        let mut aside = self.0.aside();
        *aside -= 1;
        if *aside == 0 {
            self.0.0.callers.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("a server's {what} cannot be used: {reason}")]
pub struct IdentityError {
    what: &'static str,
    reason: String,
}

impl Identity {
    /// From PEM texts.
    pub fn new(identity: &ServerIdentity, spoken: Spoken) -> Result<Self, IdentityError> {
        let config = Arc::new(config(identity, spoken)?);
        Ok(Self {
            config: Arc::new(RwLock::new(config)),
            spoken,
        })
    }

    /// Takes another identity for the connections to come.
    pub fn replace(&self, identity: &ServerIdentity) -> Result<(), IdentityError> {
        let config = Arc::new(config(identity, self.spoken)?);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(
            &self.config.read().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

fn config(identity: &ServerIdentity, spoken: Spoken) -> Result<ServerConfig, IdentityError> {
    fn wrong<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> IdentityError {
        move |error| IdentityError {
            what,
            reason: error.to_string(),
        }
    }
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(identity.client_ca.as_bytes()) {
        let authority = authority.map_err(wrong("client authority"))?;
        roots.add(authority).map_err(wrong("client authority"))?;
    }
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(wrong("certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(wrong("key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let callers =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(wrong("client authority"))?;
    let versions: &[&rustls::SupportedProtocolVersion] = match spoken {
        Spoken::Grpc => &[&rustls::version::TLS13],
        Spoken::Http => &[&rustls::version::TLS13, &rustls::version::TLS12],
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(wrong("TLS"))?
        .with_client_cert_verifier(callers)
        .with_single_cert(chain, key)
        .map_err(wrong("certificate"))?;
    config.alpn_protocols = match spoken {
        Spoken::Grpc => vec![b"h2".to_vec()],
        Spoken::Http => vec![b"http/1.1".to_vec()],
    };
    Ok(config)
}

/// Connections whose TLS stands. Handshakes run beside each other, so that a caller that says
/// nothing holds nobody up.
pub(crate) fn incoming(
    listener: TcpListener,
    identity: Identity,
    callers: Callers,
) -> impl Stream<Item = io::Result<Secured>> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        while !sender.is_closed() {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(EXHAUSTED).await;
                continue;
            };
            let (acceptor, sender) = (identity.acceptor(), sender.clone());
            let callers = callers.clone();
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                if let Ok(Ok(stream)) =
                    tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await
                {
                    let connection = callers.enter();
                    let _ = sender.send(Ok(Secured { stream, connection })).await;
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

/// A connection, in the form that tonic takes.
pub(crate) struct Secured {
    stream: TlsStream<TcpStream>,
    connection: Connection,
}

impl Connected for Secured {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
