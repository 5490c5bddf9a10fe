//! From an endpoint and credentials to a channel that has answered.

use crate::AGENT_SERVER_NAME;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};

/// How to reach an agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AgentEndpoint {
    /// A TCP address, mostly a forwarded port on loopback.
    Tcp(SocketAddr),
    /// A Unix socket that leads to the agent's port.
    #[cfg(unix)]
    Unix(std::path::PathBuf),
    /// A named pipe that leads to the agent's port, such as `\\.\pipe\coracle`.
    #[cfg(windows)]
    Pipe(std::ffi::OsString),
}

impl fmt::Display for AgentEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            #[cfg(unix)]
            Self::Unix(path) => path.display().fmt(f),
            #[cfg(windows)]
            Self::Pipe(name) => name.display().fmt(f),
        }
    }
}

/// What the host proves itself with, and whom it believes. PEM texts.
#[derive(Clone, PartialEq, Eq)]
pub struct AgentCredentials {
    /// The host's client certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
    /// The authority that signed the agent's serving certificate.
    pub server_ca: String,
}

impl fmt::Debug for AgentCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentCredentials").finish_non_exhaustive()
    }
}

/// Why there is no connection to the agent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there.
    #[error("nobody listens at {endpoint}")]
    Refused {
        /// Where.
        endpoint: String,
    },
    /// Somebody took the connection and closed it before saying anything: a forwarded port
    /// does so while the machine boots.
    #[error("the connection to {endpoint} was closed before the agent answered")]
    Closed {
        /// Where.
        endpoint: String,
    },
    /// No answer within the time limit.
    #[error("no answer from {endpoint} within {limit:?}")]
    TimedOut {
        /// Where.
        endpoint: String,
        /// How long was waited.
        limit: Duration,
    },
    /// One of the two did not believe the other's certificate, or it is no agent at all.
    #[error("cannot agree with {endpoint} on TLS")]
    Tls {
        /// Where.
        endpoint: String,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// The credentials given are not usable.
    #[error("the credentials for the agent are not usable: {0}")]
    Credentials(String),
    /// The first call failed, or the connection in another way.
    #[error("cannot talk to the agent at {endpoint}: {reason}")]
    Failed {
        /// Where.
        endpoint: String,
        /// The innermost cause.
        reason: String,
    },
}

impl ConnectError {
    /// Whether it looks as if the agent were not up yet, so that trying again makes sense.
    #[must_use]
    pub fn nobody_answers(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::Closed { .. } | Self::TimedOut { .. }
        )
    }
}

/// Any of the transports under TLS.
trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}
type Stream = BufReader<TlsStream<Box<dyn Transport>>>;

pub(super) async fn connect(
    endpoint: &AgentEndpoint,
    credentials: &AgentCredentials,
) -> Result<Channel, ConnectError> {
    let tls = TlsConnector::from(Arc::new(tls_config(credentials)?));
    // The first stream is made here, where its errors keep their types; should the channel
    // lose it, it makes the next one the same way.
    let first = open(endpoint, &tls).await?;
    let first = Arc::new(Mutex::new(Some(first)));
    let target = endpoint.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let ready = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (tls, target) = (tls.clone(), target.clone());
        async move {
            let stream = match ready {
                Some(stream) => stream,
                None => open(&target, &tls).await.map_err(io::Error::other)?,
            };
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    let failed = |error: &(dyn std::error::Error + 'static)| classify(endpoint, error);
    // TLS is ours, so tonic sees a plain connection.
    Endpoint::from_shared(format!("http://{AGENT_SERVER_NAME}"))
        .map_err(|error| failed(&error))?
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(30))
        .connect_with_connector(connector)
        .await
        .map_err(|error| failed(&error))
}

async fn open(endpoint: &AgentEndpoint, tls: &TlsConnector) -> Result<Stream, ConnectError> {
    let transport = open_transport(endpoint)
        .await
        .map_err(|error| classify(endpoint, &error))?;
    let name = ServerName::try_from(AGENT_SERVER_NAME)
        .map_err(|error| ConnectError::Credentials(error.to_string()))?;
    let open = async {
        let mut stream = BufReader::new(tls.connect(name, transport).await?);
        // With TLS 1.3 the agent refuses a client certificate only after the handshake. HTTP/2
        // lets the server speak at once, so that its first bytes, or its alert, come now; later
        // HTTP/2 would turn the alert into mere text.
        match stream.fill_buf().await? {
            [] => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(stream),
        }
    };
    open.await
        .map_err(|error: io::Error| classify(endpoint, &error))
}

async fn open_transport(endpoint: &AgentEndpoint) -> io::Result<Box<dyn Transport>> {
    Ok(match endpoint {
        AgentEndpoint::Tcp(address) => {
            let stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
        #[cfg(unix)]
        AgentEndpoint::Unix(path) => Box::new(tokio::net::UnixStream::connect(path).await?),
        #[cfg(windows)]
        AgentEndpoint::Pipe(name) => {
            Box::new(tokio::net::windows::named_pipe::ClientOptions::new().open(name)?)
        }
    })
}

/// Finds the telling error in a chain of causes.
fn classify(endpoint: &AgentEndpoint, error: &(dyn std::error::Error + 'static)) -> ConnectError {
    let endpoint = endpoint.to_string();
    let mut next = Some(error);
    let mut reason = String::new();
    while let Some(error) = next {
        reason = error.to_string();
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return ConnectError::Tls {
                endpoint,
                source: tls.clone(),
            };
        }
        let Some(io) = error.downcast_ref::<io::Error>() else {
            next = error.source();
            continue;
        };
        match io.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                return ConnectError::Refused { endpoint };
            }
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::BrokenPipe => return ConnectError::Closed { endpoint },
            // An io::Error's source() is the source of what it wraps.
            _ => {
                next = io
                    .get_ref()
                    .map(|inner| inner as &(dyn std::error::Error + 'static));
            }
        }
    }
    ConnectError::Failed { endpoint, reason }
}

fn tls_config(credentials: &AgentCredentials) -> Result<ClientConfig, ConnectError> {
    let unusable = |what: &str, error: &dyn fmt::Display| {
        ConnectError::Credentials(format!("{what}: {error}"))
    };
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(credentials.server_ca.as_bytes()) {
        let authority = authority.map_err(|error| unusable("authority", &error))?;
        roots
            .add(authority)
            .map_err(|error| unusable("authority", &error))?;
    }
    let chain = CertificateDer::pem_slice_iter(credentials.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable("certificate", &error))?;
    let key = PrivateKeyDer::from_pem_slice(credentials.key.as_bytes())
        .map_err(|error| unusable("key", &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable("TLS", &error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| unusable("certificate", &error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> AgentCredentials {
        AgentCredentials {
            certificate: String::new(),
            key: String::new(),
            server_ca: "".into(),
        }
    }

    #[test]
    fn causes_are_found_through_wrappers() {
        let endpoint = AgentEndpoint::Tcp(([127, 0, 0, 1], 1).into());
        let inner = rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, inner));
        assert!(matches!(
            classify(&endpoint, &wrapped),
            ConnectError::Tls { .. }
        ));
        let reset = io::Error::other(io::Error::from(io::ErrorKind::ConnectionReset));
        assert!(classify(&endpoint, &reset).nobody_answers());
    }

    #[test]
    fn credentials_are_checked_before_anybody_is_called() {
        assert!(matches!(
            tls_config(&credentials()),
            Err(ConnectError::Credentials(_))
        ));
        assert!(!format!("{:?}", credentials()).contains("key"));
    }
}
