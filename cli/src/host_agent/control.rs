//! What commands ask of a host agent: one line of JSON a request and one an answer, over [`channel`].

use super::Told;
use super::channel::{self, Listener};
use super::ports::Published;
use crate::error::{Context as _, Error, ErrorId, Result};
use coracle_vm::{Captured, MachineDir, Origin, TemplateFiles};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::sync::{mpsc, oneshot};

/// How long a whole request may take: gigabytes to a slow disk, at the worst.
const LIMIT: Duration = Duration::from_secs(600);
/// The pause after the system refused another connection, for want of descriptors mostly.
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

/// Whether somebody would answer.
pub async fn is_there(dir: &MachineDir) -> Result<bool> {
    Ok(channel::connect(dir).await?.is_some())
}

/// Asks the machine's host agent; [`Answer::Nobody`] also where it is gone before it answers.
pub async fn ask(dir: &MachineDir, request: &Request) -> Result<Answer> {
    ask_within(dir, request, LIMIT).await
}

/// As [`ask`], for at most `limit`.
pub async fn ask_within(dir: &MachineDir, request: &Request, limit: Duration) -> Result<Answer> {
    let failed = || "cannot read the host agent's answer".to_owned();
    let Some(stream) = channel::connect(dir).await? else {
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

/// Hands requests on and answers back, one after the other, until this host agent retires.
pub async fn serve(mut listener: Listener, requests: mpsc::Sender<Asked>) -> Result<()> {
    loop {
        let mut stream = match listener.accept().await {
            Ok(stream) => stream,
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
            let _ = stream.flush().await;
            if let Answer::Retired = answer {
                return Ok(());
            }
        }
    }
}

async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Result<Request> {
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
