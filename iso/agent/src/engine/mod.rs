//! The Docker API. The agent holds its sockets; dockerd is started by the first who asks something of it.
//!
//! ```text
//! port of the Docker API, mutual TLS --+
//! /run/docker.sock, inside ------------+--> front: each request ----------> dockerd, at a socket of its own
//!                                             |                               ^
//!                                             +--> images: as the kubelet ----+
//!                                                    has the same ones, cri
//!                                             +--> binds: folders of the host
//! ```
//!
//! dockerd works on the containerd and the namespace that the kubelet has: what it builds a pod runs at once,
//! and what it removed a pod would miss.

mod asked;
mod binds;
mod containers;
mod front;
mod home;
mod images;
mod published;
mod settings;

use crate::host_folders::HostFolders;
use crate::logs::Logs;
use crate::place;
use crate::supervise::{RestartError, Supervisor};
use crate::tls::{self, Callers, Identity};
use binds::Client;
use coracle_protocol::api::ContainerPort;
pub use home::Home;
pub use settings::{SettingsError, share_registries};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::StreamExt as _;

/// Its row in `components.toml`.
const DOCKERD: &str = "dockerd";
/// Where dockerd listens, for this process alone.
pub const OWN_SOCKET: &str = "/run/coracle/dockerd.sock";
/// Where everybody inside connects.
pub const SOCKET: &str = "/run/docker.sock";
/// What it keeps of its containers.
pub const CONTAINERS: &str = "/var/lib/docker/containers";
/// How long dockerd may take until it answers.
const BEGINS: Duration = Duration::from_secs(180);
/// Pause when no connection can be taken, for instance because files have run out.
const EXHAUSTED: Duration = Duration::from_secs(1);

/// The Docker API of the machine.
#[derive(Debug)]
pub struct Engine {
    supervisor: Arc<Supervisor>,
    logs: Arc<Logs>,
    /// dockerd's own.
    socket: PathBuf,
    /// The machine's.
    address: Ipv4Addr,
    host_folders: Arc<HostFolders>,
    /// Whose requests use the machine.
    callers: Callers,
    home: Home,
    /// Held while settings are changed.
    configuring: tokio::sync::Mutex<()>,
    published: watch::Sender<Vec<ContainerPort>>,
    follows: AtomicBool,
}

impl Engine {
    /// One whose dockerd listens at `socket`, in the machine at `address` that has folders of its host. Requests
    /// from outside are counted among `callers` for as long as they last.
    #[must_use]
    pub fn new(
        supervisor: Arc<Supervisor>,
        logs: Arc<Logs>,
        socket: PathBuf,
        address: Ipv4Addr,
        host_folders: Arc<HostFolders>,
        callers: Callers,
    ) -> Arc<Self> {
        Arc::new(Self {
            supervisor,
            logs,
            socket,
            address,
            host_folders,
            callers,
            home: Home::default(),
            configuring: tokio::sync::Mutex::default(),
            published: watch::Sender::default(),
            follows: AtomicBool::new(false),
        })
    }

    /// What is asked of the host for its containers.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Serves those inside who are root or in `group`, until the process ends.
    ///
    /// # Errors
    /// There can be no socket at the path.
    pub fn serve_inside(self: &Arc<Self>, path: &Path, group: Option<u32>) -> io::Result<()> {
        let listener = place::socket(path, 0o755)?;
        std::os::unix::fs::chown(path, None, group)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        drop(tokio::spawn(
                            Arc::clone(&engine).serve(stream, Client::Inside),
                        ));
                    }
                    Err(error) => {
                        engine.logs.note(&format!("docker: {error}"));
                        tokio::time::sleep(EXHAUSTED).await;
                    }
                }
            }
        });
        Ok(())
    }

    /// Serves those outside who have a certificate, until the process ends.
    ///
    /// # Errors
    /// The address is not to be had.
    pub async fn serve_outside(
        self: &Arc<Self>,
        address: SocketAddr,
        identity: Identity,
    ) -> io::Result<()> {
        let listener = TcpListener::bind(address).await?;
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            let mut incoming =
                // A connection is kept for the next request: only requests use the machine.
                std::pin::pin!(tls::incoming(listener, identity, Callers::default()));
            while let Some(Ok(stream)) = incoming.next().await {
                tokio::spawn(Arc::clone(&engine).serve(stream, Client::Outside));
            }
        });
        Ok(())
    }

    /// Starts dockerd without being asked, where it runs `always` or has containers that are to run whenever the
    /// machine does.
    pub fn begin_if_wanted(self: &Arc<Self>, containers: &Path, always: bool) {
        if !always && !has_restarting(containers) {
            return;
        }
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = engine.begin().await {
                engine.logs.note(&format!("docker: {error}"));
            }
        });
    }

    /// Returns when dockerd answers, which it is started for.
    async fn begin(self: &Arc<Self>) -> Result<(), RestartError> {
        if !self.follows.swap(true, Ordering::Relaxed) {
            tokio::spawn(Arc::clone(self).follow());
        }
        self.supervisor.need(DOCKERD, BEGINS).await
    }
}

/// Ends the containers that dockerd has left running, for good.
pub async fn end_containers(grace: Duration) {
    containers::end(Path::new(containers::CGROUPS), Path::new(CONTAINERS), grace).await;
}

/// Whether one of the containers below the folder has a restart policy. Those that somebody stopped count
/// too: dockerd knows the rest.
fn has_restarting(containers: &Path) -> bool {
    let policy = |folder: &Path| {
        let text = fs::read(folder.join("hostconfig.json")).ok()?;
        let settings: serde_json::Value = serde_json::from_slice(&text).ok()?;
        let name = settings["RestartPolicy"]["Name"].as_str()?.to_owned();
        Some(name)
    };
    let folders = fs::read_dir(containers).into_iter().flatten().flatten();
    folders
        .filter_map(|folder| policy(&folder.path()))
        .any(|policy| !matches!(policy.as_str(), "" | "no"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_containers_with_a_policy_start_with_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!has_restarting(&folder.path().join("none")));
        let container = |id: &str, settings: &str| {
            let path = folder.path().join(id).join("hostconfig.json");
            fs::create_dir(path.parent().unwrap()).unwrap();
            place::file(&path, settings.as_bytes(), place::Access::PUBLIC).unwrap();
        };
        container(
            "a",
            r#"{"RestartPolicy":{"Name":"no","MaximumRetryCount":0}}"#,
        );
        container("b", "{");
        container("c", r#"{"RestartPolicy":{"Name":""}}"#);
        assert!(!has_restarting(folder.path()));
        container("d", r#"{"RestartPolicy":{"Name":"unless-stopped"}}"#);
        assert!(has_restarting(folder.path()));
    }
}
