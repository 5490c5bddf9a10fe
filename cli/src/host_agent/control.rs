//! What commands ask of a host agent: a socket in the runtime folder, one line of JSON a request and
//! one an answer. Whoever reaches the socket is the same user.

use super::Told;
use super::ports::Published;
use crate::error::{Context as _, Error, ErrorId, Result};
use coracle_vm::{Captured, MachineDir, Origin, TemplateFiles};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long a whole request may take: gigabytes to a slow disk, at the worst.
const LIMIT: Duration = Duration::from_secs(600);
/// The pause after the system refused another connection, for want of descriptors mostly.
#[cfg(unix)]
const EXHAUSTED: Duration = Duration::from_millis(100);
/// How long a request may take to arrive.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// Where a machine begins, in words that a process can be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LaunchFrom {
    /// Its disks.
    Boot,
    /// The state that was saved of it.
    Saved,
    /// The template in this folder.
    Template(PathBuf),
}

impl From<&Origin> for LaunchFrom {
    fn from(origin: &Origin) -> Self {
        match origin {
            Origin::Boot => Self::Boot,
            Origin::Saved(_) => Self::Saved,
            Origin::Template(files) => {
                Self::Template(files.ram.parent().unwrap_or(&files.ram).to_owned())
            }
        }
    }
}

impl LaunchFrom {
    /// The flags of the hidden command.
    pub fn arguments(&self) -> Vec<OsString> {
        match self {
            Self::Boot => Vec::new(),
            Self::Saved => vec!["--saved".into()],
            Self::Template(folder) => vec!["--template".into(), folder.into()],
        }
    }

    /// The files of a template, when it is one.
    pub fn template(&self) -> Option<TemplateFiles> {
        match self {
            Self::Template(folder) => Some(TemplateFiles::in_folder(folder)),
            Self::Boot | Self::Saved => None,
        }
    }
}

/// What is asked. But for [`Request::Published`] and [`Request::Mount`] the caller holds the machine's lock.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Launch the machine, which is off.
    Launch(LaunchFrom),
    /// Save the machine and end it.
    Hibernate,
    /// Save the machine and end it, and have the first who connects wake it.
    Sleep {
        /// When it has to be awake by itself, in seconds since the Unix epoch.
        wake_at: Option<i64>,
    },
    /// Save the machine into a folder, and let it go on.
    Capture(PathBuf),
    /// Tell which ports Services and containers have on the host.
    Published,
    /// Mount what the cluster's record says, and nothing else.
    Mount,
    /// Nothing: requests are answered one after the other, so this is when all others are done.
    Wait,
    /// Give the ports back and end. A machine that runs goes on.
    Retire,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Nobody is there.
    Nobody,
    /// The machine runs.
    Launched,
    /// The machine is saved, and ended.
    Hibernated,
    /// The cluster sleeps.
    Asleep,
    /// The machine is saved, and runs.
    Captured(Captured),
    /// What came of the ports that were asked for.
    Published(Vec<Published>),
    /// What of it could not be mounted, and why.
    Mounted(Vec<(String, String)>),
    /// Nothing is being done any more.
    Idle {
        /// Whether this host agent launched the machine that there is.
        launched: bool,
    },
    /// The ports are free, and nobody is there from now on.
    Retired,
    /// It could not be done.
    Failed(Told),
}

/// A request and who waits for its answer.
pub type Asked = (Request, oneshot::Sender<Answer>);

fn socket(dir: &MachineDir) -> Result<PathBuf> {
    dir.socket("host").context(ErrorId::Internal, || {
        "no place for the host agent's socket".into()
    })
}

/// Whether somebody would answer.
#[cfg(unix)]
pub async fn is_there(dir: &MachineDir) -> Result<bool> {
    Ok(tokio::net::UnixStream::connect(socket(dir)?).await.is_ok())
}

/// Asks the machine's host agent; [`Answer::Nobody`] also where it is gone before it answers.
pub async fn ask(dir: &MachineDir, request: &Request) -> Result<Answer> {
    ask_within(dir, request, LIMIT).await
}

/// As [`ask`], for at most `limit`.
#[cfg(unix)]
pub async fn ask_within(dir: &MachineDir, request: &Request, limit: Duration) -> Result<Answer> {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    let failed = || "cannot read the host agent's answer".to_owned();
    let Ok(stream) = tokio::net::UnixStream::connect(socket(dir)?).await else {
        return Ok(Answer::Nobody);
    };
    let exchange = async {
        let mut stream = BufReader::new(stream);
        let mut answer = String::new();
        let asked = stream.write_all(&line(request)?).await;
        if asked.is_err() || !matches!(stream.read_line(&mut answer).await, Ok(1..)) {
            return Ok(Answer::Nobody);
        }
        match serde_json::from_str(&answer).context(ErrorId::Machine, failed)? {
            Answer::Failed(told) => Err(told.into()),
            answer => Ok(answer),
        }
    };
    tokio::time::timeout(limit, exchange)
        .await
        .map_err(|_| Error::new(ErrorId::MachineTimeout, "the host agent does not answer"))?
}

/// Where requests come in. The socket is gone with it.
#[cfg(unix)]
#[derive(Debug)]
pub struct Listener {
    socket: tokio::net::UnixListener,
    path: PathBuf,
}

#[cfg(unix)]
impl Drop for Listener {
    fn drop(&mut self) {
        // What is left behind answers nobody, and the next one removes it.
        let _ = coracle_vm::store::atomic::remove(&self.path);
    }
}

/// Begins to listen, in place of a host agent that is gone. The caller is the only one there is.
#[cfg(unix)]
pub fn listen(dir: &MachineDir) -> Result<Listener> {
    let path = socket(dir)?;
    let failed = || format!("cannot listen on {}", path.display());
    coracle_vm::store::atomic::create_private_dirs(path.parent().unwrap_or(Path::new("/")))
        .context(ErrorId::Write, failed)?;
    coracle_vm::store::atomic::remove(&path).context(ErrorId::Write, failed)?;
    let socket = tokio::net::UnixListener::bind(&path).context(ErrorId::Write, failed)?;
    Ok(Listener { socket, path })
}

/// Hands requests on and answers back, one after the other, until this host agent retires.
#[cfg(unix)]
pub async fn serve(listener: Listener, requests: mpsc::Sender<Asked>) -> Result<()> {
    use tokio::io::AsyncWriteExt as _;
    loop {
        let mut stream = match listener.socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                super::log(&format!("a request cannot be taken: {error}"));
                tokio::time::sleep(EXHAUSTED).await;
                continue;
            }
        };
        let request = tokio::time::timeout(REQUEST_LIMIT, request(&mut stream)).await;
        let Ok(Ok(request)) = request else {
            continue;
        };
        let (sender, answer) = oneshot::channel();
        if requests.send((request, sender)).await.is_err() {
            return Ok(());
        }
        if let Ok(answer) = answer.await {
            // Whoever asked may be gone; what was done is done.
            let _ = stream.write_all(&line(&answer)?).await;
            if let Answer::Retired = answer {
                return Ok(());
            }
        }
    }
}

#[cfg(unix)]
async fn request(stream: &mut tokio::net::UnixStream) -> Result<Request> {
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let mut text = String::new();
    let failed = || "cannot read a request".to_owned();
    BufReader::new(stream)
        .read_line(&mut text)
        .await
        .context(ErrorId::Internal, failed)?;
    serde_json::from_str(&text).context(ErrorId::Internal, failed)
}

fn line(message: &impl Serialize) -> Result<Vec<u8>> {
    let text = serde_json::to_string(message);
    let text = text.context(ErrorId::Internal, || "cannot write a message".into())?;
    Ok(format!("{text}\n").into_bytes())
}

/// There is nothing to ask on a system without such sockets.
#[cfg(not(unix))]
pub async fn is_there(_dir: &MachineDir) -> Result<bool> {
    Ok(false)
}

#[cfg(not(unix))]
pub async fn ask_within(_dir: &MachineDir, _request: &Request, _limit: Duration) -> Result<Answer> {
    Ok(Answer::Nobody)
}

/// Nothing is asked there.
#[cfg(not(unix))]
#[derive(Debug)]
pub struct Listener;

#[cfg(not(unix))]
pub fn listen(_dir: &MachineDir) -> Result<Listener> {
    Ok(Listener)
}

#[cfg(not(unix))]
pub async fn serve(_listener: Listener, requests: mpsc::Sender<Asked>) -> Result<()> {
    requests.closed().await;
    Ok(())
}
