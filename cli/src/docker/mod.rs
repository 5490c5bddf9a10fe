//! Docker's clients on the host: what leads them to a cluster's engine.
//!
//! ```text
//! Cluster --Access::of--> Access --shells--> variables, as the shell that reads them writes them
//!                                --context-> a context of the docker command, in ~/.docker
//!         --Engine::of--> api: requests of this program's own, such as a build
//! ```

pub mod api;
pub mod build;
pub mod context;
pub mod daemon;
mod ignore;
pub mod registry;
pub mod shells;
mod trace;

use crate::cluster::Cluster;
use crate::error::{Error, ErrorId, Result};
use std::path::PathBuf;

/// How a client reaches the Docker API of a cluster's machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Such as `tcp://127.88.0.1:2376`.
    pub host: String,
    /// The folder of `ca.pem`, `cert.pem` and `key.pem`.
    pub certificates: PathBuf,
}

impl Access {
    /// The one of a cluster.
    ///
    /// # Errors
    /// The cluster was made from an image without an engine.
    pub fn of(cluster: &Cluster) -> Result<Self> {
        let name = cluster.dir().name();
        let Some(address) = cluster.endpoint().docker() else {
            let message = format!("the cluster \"{name}\" was made by a version without Docker");
            let help = format!(
                "`coracle delete -p {name}` and `coracle start -p {name}` make one that has it"
            );
            return Err(Error::new(ErrorId::Unsupported, message).help(help));
        };
        Ok(Self {
            host: format!("tcp://{address}"),
            certificates: cluster.identity_files().docker(),
        })
    }
}
