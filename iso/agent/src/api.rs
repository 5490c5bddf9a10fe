//! The control API: gRPC over mutual TLS, one file a service.

mod components;
mod docker;
mod files;
mod images;
mod logs;
mod machine;
mod network;
mod processes;
mod services;

use crate::children::Children;
use crate::engine::Engine;
use crate::given::Receiver;
use crate::host_folders::HostFolders;
use crate::logs::Logs;
use crate::power::Power;
use crate::rekey::Rekey;
use crate::supervise::Supervisor;
use crate::tls::{self, Callers, Identity, IdentityError};
use crate::upkeep::Upkeep;
use bytes::Bytes;
use services::Services;
use std::io::Read;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::io::{StreamReader, SyncIoBridge};
use tonic::transport::Server;
use tonic::{Status, Streaming};

/// What the services act on.
#[derive(Debug)]
pub struct Agent {
    /// Digest of the image, as the settings give it.
    pub image_digest: String,
    /// Version of the Kubernetes layer; empty without.
    pub kubernetes_version: String,
    /// Where passwd and group are.
    pub etc: PathBuf,
    /// Where the data disk is mounted.
    pub data: PathBuf,
    /// Starts and reaps processes.
    pub children: Children,
    /// All logs.
    pub logs: Arc<Logs>,
    /// The components.
    pub supervisor: Arc<Supervisor>,
    /// The way down.
    pub power: Power,
    /// The way to another identity.
    pub rekey: Rekey,
    /// What takes what the host gives beyond identity.
    pub given: Arc<Receiver>,
    /// Folders of the host that are mounted here.
    pub host_folders: Arc<HostFolders>,
    /// The Docker API.
    pub engine: Arc<Engine>,
    /// What looks after disk and certificates.
    pub upkeep: Upkeep,
    /// The connections to this API.
    pub callers: Callers,
}

/// Why the API is not served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The agent's identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The server ended.
    #[error("the control API ended")]
    Server(#[from] tonic::transport::Error),
}

impl From<IdentityError> for crate::boot::BootError {
    fn from(error: IdentityError) -> Self {
        ApiError::from(error).into()
    }
}

/// A stream of replies.
pub(crate) type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Bytes in one message of a stream.
const CHUNK: usize = 64 << 10;

/// What comes in the requests that follow, for code that blocks: the bytes that `data` finds in each. To be
/// made inside the runtime, and read outside of it.
fn blocking_reader<T: Send + 'static>(
    requests: Streaming<T>,
    data: impl Fn(T) -> Option<Vec<u8>> + Send + 'static,
) -> impl Read + Send + 'static {
    let chunks = requests.filter_map(move |request| match request {
        Ok(request) => data(request).map(|data| Ok(Bytes::from(data))),
        Err(status) => Some(Err(std::io::Error::other(status))),
    });
    SyncIoBridge::new(StreamReader::new(chunks))
}

/// Serves until the listener fails. The identity may be replaced meanwhile: connections made
/// from then on use the new one.
pub async fn serve(
    listener: TcpListener,
    identity: Identity,
    agent: Arc<Agent>,
) -> Result<(), ApiError> {
    let incoming = tls::incoming(listener, identity, agent.callers.clone());
    Server::builder()
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(60)))
        .serve_with_incoming(Services::new(agent), incoming)
        .await?;
    Ok(())
}
