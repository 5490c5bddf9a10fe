//! Components: the supervised programs.

use super::Agent;
use crate::supervise::RestartError;
use coracle_protocol::api::components_server::Components as Service;
use coracle_protocol::api::{
    ListComponentsRequest, Readiness, RestartComponentReply, RestartComponentRequest,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub(super) struct Components(pub(super) Arc<Agent>);

#[tonic::async_trait]
impl Service for Components {
    async fn list(&self, _: Request<ListComponentsRequest>) -> Result<Response<Readiness>, Status> {
        let components = self.0.supervisor.watch().borrow().clone();
        Ok(Response::new(Readiness { components }))
    }

    async fn restart(
        &self,
        request: Request<RestartComponentRequest>,
    ) -> Result<Response<RestartComponentReply>, Status> {
        let restarted = self.0.supervisor.restart(&request.into_inner().name).await;
        restarted.map_err(|error| match error {
            RestartError::Unknown(_) => Status::not_found(error.to_string()),
            RestartError::Failed(_) | RestartError::NotReady { .. } => {
                Status::internal(error.to_string())
            }
            RestartError::Stopping => Status::failed_precondition(error.to_string()),
        })?;
        Ok(Response::new(RestartComponentReply {}))
    }
}
