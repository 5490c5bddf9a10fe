//! What commands ask of a running host agent: a socket in the runtime folder, one line of JSON a
//! request and one an answer. Whoever reaches the socket is the same user.

use super::Told;
use crate::cluster::{Cluster, hibernate};
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::settings::Settings;
use coracle_vm::{Captured, MachineDir};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// How long a whole request may take: gigabytes to a slow disk, at the worst.
const LIMIT: Duration = Duration::from_secs(600);
/// How long a request may take to arrive.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// What is asked. The caller holds the machine's lock.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Save the machine and end it.
    Hibernate,
    /// Save the machine into a folder, and let it go on.
    Capture(PathBuf),
    /// Nothing: requests are answered one after the other, so this is when all others are done.
    Wait,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Nobody is there.
    Nobody,
    /// The machine is saved, and ended.
    Hibernated,
    /// The machine is saved, and runs.
    Captured(Captured),
    /// Nothing is being done any more.
    Idle,
    /// It could not be done.
    Failed(Told),
}

fn socket(dir: &MachineDir) -> Result<PathBuf> {
    dir.socket("host").context(ErrorId::Internal, || {
        "no place for the host agent's socket".into()
    })
}

/// Asks the machine's host agent; [`Answer::Nobody`] also where it is gone before it answers.
#[cfg(unix)]
pub async fn ask(dir: &MachineDir, request: &Request) -> Result<Answer> {
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
    tokio::time::timeout(LIMIT, exchange)
        .await
        .map_err(|_| Error::new(ErrorId::MachineTimeout, "the host agent does not answer"))?
}

/// Where requests come in.
#[cfg(unix)]
pub type Listener = tokio::net::UnixListener;
/// Nothing is asked where no machine can be saved.
#[cfg(not(unix))]
pub type Listener = ();

/// Begins to listen, in place of a host agent that is gone: there is one a machine at a time.
#[cfg(unix)]
pub fn listen(dir: &MachineDir) -> Result<Listener> {
    let path = socket(dir)?;
    let failed = || format!("cannot listen on {}", path.display());
    coracle_vm::store::atomic::remove(&path).context(ErrorId::Write, failed)?;
    Listener::bind(&path).context(ErrorId::Write, failed)
}

/// Answers requests, one after the other, for ever. `busy` is held meanwhile.
#[cfg(unix)]
pub async fn serve(
    settings: &Settings,
    listener: Listener,
    busy: &tokio::sync::Mutex<()>,
) -> Result<std::convert::Infallible> {
    use tokio::io::AsyncWriteExt as _;
    loop {
        let accepted = listener.accept().await;
        let (mut stream, _) =
            accepted.context(ErrorId::Internal, || "cannot take a request".into())?;
        let request = tokio::time::timeout(REQUEST_LIMIT, request(&mut stream)).await;
        let Ok(Ok(request)) = request else {
            continue;
        };
        let _busy = busy.lock().await;
        let answer = match Box::pin(carry_out(settings, request)).await {
            Ok(answer) => answer,
            Err(error) => {
                super::log(&error.render(settings.profile.as_str()));
                Answer::Failed(Told::from(&error))
            }
        };
        // Whoever asked may be gone; what was done is done.
        let _ = stream.write_all(&line(&answer)?).await;
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

async fn carry_out(settings: &Settings, request: Request) -> Result<Answer> {
    Ok(match request {
        Request::Hibernate => {
            hibernate::hibernate(&Cluster::find(settings)?).await?;
            Answer::Hibernated
        }
        Request::Capture(folder) => {
            let cluster = Cluster::find(settings)?;
            Answer::Captured(super::asked::capture_from_here(settings, &cluster, &folder).await?)
        }
        Request::Wait => Answer::Idle,
    })
}

fn line(message: &impl Serialize) -> Result<Vec<u8>> {
    let text = serde_json::to_string(message);
    let text = text.context(ErrorId::Internal, || "cannot write a message".into())?;
    Ok(format!("{text}\n").into_bytes())
}

/// There is nothing to ask on a system where no machine can be saved.
#[cfg(not(unix))]
pub async fn ask(_dir: &MachineDir, _request: &Request) -> Result<Answer> {
    Ok(Answer::Nobody)
}

#[cfg(not(unix))]
pub fn listen(_dir: &MachineDir) -> Result<Listener> {
    Ok(())
}

#[cfg(not(unix))]
pub async fn serve(
    _settings: &Settings,
    _listener: Listener,
    _busy: &tokio::sync::Mutex<()>,
) -> Result<std::convert::Infallible> {
    std::future::pending().await
}
