//! Where a monitor listens: a Unix socket, a Windows named pipe, or a TCP port.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// An address of a monitor. Every kind exists on every host; connecting tells which ones work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QmpEndpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// A named pipe on Windows, without the leading `\\.\pipe\`.
    Pipe(String),
    /// A TCP port. Anyone who reaches it controls the machine: for tests and for hypervisors that
    /// have nothing else.
    Tcp(SocketAddr),
}

/// A byte stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// An open connection, whatever it goes through.
pub type Connection = Box<dyn Duplex>;

impl QmpEndpoint {
    /// Connects.
    pub(super) async fn connect(&self) -> io::Result<Connection> {
        match self {
            #[cfg(unix)]
            Self::Unix(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
            #[cfg(windows)]
            Self::Pipe(name) => {
                let path = format!(r"\\.\pipe\{name}");
                Ok(Box::new(
                    tokio::net::windows::named_pipe::ClientOptions::new().open(path)?,
                ))
            }
            Self::Tcp(address) => Ok(Box::new(TcpStream::connect(address).await?)),
            #[allow(
                unreachable_patterns,
                reason = "which kinds are left depends on the host"
            )]
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl fmt::Display for QmpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Pipe(name) => write!(f, r"\\.\pipe\{name}"),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}
