//! The guest's serial console: what comes out of its first serial port is appended to a file.
//!
//! Hyper-V's worker process of the machine opens a named pipe when the machine starts and loses what
//! nobody reads. The process that launched the machine reads it, for as long as it lives: that is the
//! host agent, which lives as long as the machine. After it was lost, nobody reads until the next launch.
//!
//! Members of Hyper-V Administrators who are no administrators may be refused the pipe; then the console
//! stays empty, which is logged and no error: the machine runs without it.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use uuid::Uuid;

use crate::driver::DriverError;
use crate::log_file;
use crate::store::MachineDir;

#[cfg(windows)]
type Reader = tokio::net::windows::named_pipe::NamedPipeClient;
#[cfg(not(windows))]
type Reader = tokio::net::UnixStream;

/// How long the pipe may take to be there: the machine is started meanwhile.
const APPEAR_LIMIT: Duration = Duration::from_secs(60);
/// The pause between two looks for it. What the guest says until it is opened is lost.
const PAUSE: Duration = Duration::from_millis(20);

/// Where the machine's first serial port comes out: a named pipe. On other systems, where only tests come
/// here, a socket.
pub(super) fn pipe(dir: &MachineDir, id: Uuid) -> Result<PathBuf, DriverError> {
    if cfg!(windows) {
        return Ok(PathBuf::from(format!(r"\\.\pipe\coracle-{id}")));
    }
    Ok(dir.socket("com1")?)
}

/// Appends what comes out of the pipe to the console's file, until the machine closes it.
pub(super) async fn follow(pipe: PathBuf, console: PathBuf) {
    let followed = async {
        let from = appear(&pipe).await?;
        append(from, &console).await
    };
    if let Err(error) = followed.await {
        tracing::warn!(%error, pipe = %pipe.display(), "the guest's console is not written");
    }
}

/// Opens the pipe once it is there and nobody else reads it.
async fn appear(pipe: &Path) -> io::Result<Reader> {
    let begun = Instant::now();
    loop {
        match open(pipe).await {
            Err(error) if is_early(&error) && begun.elapsed() < APPEAR_LIMIT => {
                tokio::time::sleep(PAUSE).await;
            }
            opened => return opened,
        }
    }
}

async fn append(mut from: impl AsyncRead + Unpin, console: &Path) -> io::Result<()> {
    let mut to = tokio::fs::File::from_std(log_file::create(console)?);
    let mut buffer = vec![0; 16 << 10];
    loop {
        let length = match from.read(&mut buffer).await {
            // Windows' word for an end of the other side.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => 0,
            read => read?,
        };
        if length == 0 {
            return Ok(());
        }
        to.write_all(buffer.get(..length).unwrap_or_default())
            .await?;
        to.flush().await?;
    }
}

#[cfg(windows)]
async fn open(pipe: &Path) -> io::Result<Reader> {
    tokio::net::windows::named_pipe::ClientOptions::new()
        .write(false)
        .open(pipe)
}

#[cfg(not(windows))]
async fn open(pipe: &Path) -> io::Result<Reader> {
    tokio::net::UnixStream::connect(pipe).await
}

/// Whether the pipe may be opened a little later.
fn is_early(error: &io::Error) -> bool {
    /// ERROR_PIPE_BUSY: somebody else reads it.
    const BUSY: i32 = 231;
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused
    ) || (cfg!(windows) && error.raw_os_error() == Some(BUSY))
}
