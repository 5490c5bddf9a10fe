//! The Docker engine: the ports that its containers publish.

use super::{Agent, Replies};
use coracle_protocol::api::docker_server::Docker as Service;
use coracle_protocol::api::{ContainerPorts, WatchPortsRequest};
use std::sync::Arc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};

pub(super) struct Docker(pub(super) Arc<Agent>);

#[tonic::async_trait]
impl Service for Docker {
    type WatchPortsStream = Replies<ContainerPorts>;

    async fn watch_ports(
        &self,
        _: Request<WatchPortsRequest>,
    ) -> Result<Response<Self::WatchPortsStream>, Status> {
        // A host that waits for changes uses nothing.
        let aside = self.0.callers.set_aside();
        let changes = WatchStream::new(self.0.engine.published()).map(move |ports| {
            let _ = &aside;
            Ok(ContainerPorts { ports })
        });
        Ok(Response::new(Box::pin(changes)))
    }
}
