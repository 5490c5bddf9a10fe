//! Where a monitor listens: a Unix socket, a Windows named pipe, or a TCP port.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// The first pause before another attempt; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// The longest pause before another attempt.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

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
    /// Connects. While others stand in line, which is short in QEMU, it tries again; the caller
    /// sets the limit.
    pub(super) async fn connect(&self) -> io::Result<Connection> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.try_connect().await {
                Err(error) if is_busy(&error) => tokio::time::sleep(pause).await,
                result => return result,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One attempt.
    async fn try_connect(&self) -> io::Result<Connection> {
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

/// Whether somebody listens and has no room in its line: EAGAIN of connect(2) on a Unix socket,
/// ERROR_PIPE_BUSY of Windows.
fn is_busy(error: &io::Error) -> bool {
    const ERROR_PIPE_BUSY: i32 = 231;
    if cfg!(windows) {
        error.raw_os_error() == Some(ERROR_PIPE_BUSY)
    } else {
        error.kind() == io::ErrorKind::WouldBlock
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
