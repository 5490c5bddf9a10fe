//! ssh: the agent holds the port, and each connection gets an sshd of its own, so that none
//! runs while nobody is connected.

use crate::api::Agent;
use crate::supervise::in_own_session;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

const SSHD: &str = "/usr/sbin/sshd";
/// Connections at the same time; the others wait.
const MOST: usize = 64;
/// Pause when no connection can be taken, for instance because files have run out.
const EXHAUSTED: Duration = Duration::from_secs(1);

/// Listens for as long as the machine runs.
pub async fn listen(address: SocketAddr, agent: Arc<Agent>) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    tokio::spawn(async move {
        let room = Arc::new(Semaphore::new(MOST));
        while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
            let (stream, peer) = match listener.accept().await {
                Ok(connection) => connection,
                Err(error) => {
                    agent.logs.note(&format!("ssh: {error}"));
                    tokio::time::sleep(EXHAUSTED).await;
                    continue;
                }
            };
            let agent = Arc::clone(&agent);
            tokio::spawn(async move {
                if let Err(error) = serve(stream, &agent).await {
                    agent.logs.note(&format!("ssh from {peer}: {error}"));
                }
                drop(permit);
            });
        }
    });
    Ok(())
}

async fn serve(stream: TcpStream, agent: &Agent) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    let stream = OwnedFd::from(stream);
    let log = agent.logs.log("sshd")?;
    let mut command = Command::new(SSHD);
    command
        .args(["-i", "-e"])
        .env_clear()
        .env("PATH", crate::boot::PATH)
        .stdin(stream.try_clone()?)
        .stdout(stream)
        .stderr(Stdio::piped());
    in_own_session(&mut command);
    let mut child = agent.children.spawn(&mut command)?;
    // The command holds copies of the connection, which would keep it open.
    drop(command);
    if let Some(stderr) = child.stderr.take() {
        let stderr = tokio::net::unix::pipe::Receiver::from_owned_fd(stderr.into())?;
        crate::supervise::pump(stderr, log).await;
    }
    child.exit().await;
    Ok(())
}
