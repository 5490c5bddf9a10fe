//! The Docker engine: the ports that its containers publish, and the folders that they are to have.

use super::{Agent, Replies};
use crate::engine::SettingsError;
use crate::tls::set_aside;
use coracle_protocol::api::docker_server::Docker as Service;
use coracle_protocol::api::{
    ConfigureReply, ConfigureRequest, ContainerPorts, HomeAsked, HomeBrought, WatchPortsRequest,
};
use std::sync::Arc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status, Streaming};

pub(super) struct Docker(pub(super) Arc<Agent>);

#[tonic::async_trait]
impl Service for Docker {
    type WatchPortsStream = Replies<ContainerPorts>;

    async fn watch_ports(
        &self,
        request: Request<WatchPortsRequest>,
    ) -> Result<Response<Self::WatchPortsStream>, Status> {
        // A host that waits for changes uses nothing.
        let aside = set_aside(&request);
        let changes = WatchStream::new(self.0.engine.published()).map(move |ports| {
            let _ = &aside;
            Ok(ContainerPorts { ports })
        });
        Ok(Response::new(Box::pin(changes)))
    }

    async fn configure(
        &self,
        request: Request<ConfigureRequest>,
    ) -> Result<Response<ConfigureReply>, Status> {
        let settings = request.into_inner().settings;
        let settings = serde_json::from_str(&settings);
        let settings = settings.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let configured = self.0.engine.configure(&self.0.children, &settings).await;
        let changed = configured.map_err(|error| match error {
            SettingsError::Invalid(reason) => Status::invalid_argument(reason),
            SettingsError::File(_) | SettingsError::Dockerd(_) => {
                Status::internal(error.to_string())
            }
        })?;
        Ok(Response::new(ConfigureReply { changed }))
    }

    type BringHomeStream = Replies<HomeAsked>;

    async fn bring_home(
        &self,
        answers: Request<Streaming<HomeBrought>>,
    ) -> Result<Response<Self::BringHomeStream>, Status> {
        let aside = set_aside(&answers);
        let engine = Arc::clone(&self.0.engine);
        let mut answers = answers.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(answer)) = answers.message().await {
                engine.home().answer(answer);
            }
        });
        let questions = WatchStream::new(self.0.engine.home().asked()).filter_map(move |asked| {
            let _ = &aside;
            let (number, path) = (asked.number, asked.path);
            (number > 0).then_some(Ok(HomeAsked { number, path }))
        });
        Ok(Response::new(Box::pin(questions)))
    }
}
