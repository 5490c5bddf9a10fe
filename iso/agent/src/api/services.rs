//! Leads each request to its service, by the first part of its path.
//!
//! tonic's own router would bring a web framework into the machine for one string comparison.

use super::{Agent, components, docker, files, images, logs, machine, network, processes};
use crate::host_folders;
use coracle_protocol::api::components_server::{self, ComponentsServer};
use coracle_protocol::api::docker_server::{self, DockerServer};
use coracle_protocol::api::files_server::{self, FilesServer};
use coracle_protocol::api::images_server::{self, ImagesServer};
use coracle_protocol::api::logs_server::{self, LogsServer};
use coracle_protocol::api::machine_server::{self, MachineServer};
use coracle_protocol::api::network_server::{self, NetworkServer};
use coracle_protocol::api::processes_server::{self, ProcessesServer};
use coracle_protocol::folders::folders_server::{self, FoldersServer};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};

#[derive(Clone)]
pub(super) struct Services {
    machine: MachineServer<machine::Machine>,
    components: ComponentsServer<components::Components>,
    docker: DockerServer<docker::Docker>,
    logs: LogsServer<logs::LogFiles>,
    processes: ProcessesServer<processes::Processes>,
    files: FilesServer<files::Files>,
    network: NetworkServer<network::Network>,
    images: ImagesServer<images::Images>,
    folders: FoldersServer<host_folders::Service>,
}

impl Services {
    pub(super) fn new(agent: Arc<Agent>) -> Self {
        Self {
            machine: MachineServer::new(machine::Machine::new(Arc::clone(&agent))),
            components: ComponentsServer::new(components::Components(Arc::clone(&agent))),
            docker: DockerServer::new(docker::Docker(Arc::clone(&agent))),
            logs: LogsServer::new(logs::LogFiles(Arc::clone(&agent))),
            processes: ProcessesServer::new(processes::Processes(Arc::clone(&agent))),
            files: FilesServer::new(files::Files(Arc::clone(&agent))),
            network: NetworkServer::new(network::Network::new(Arc::clone(&agent))),
            folders: FoldersServer::new(host_folders::Service {
                folders: Arc::clone(&agent.host_folders),
            }),
            images: ImagesServer::new(images::Images(agent)),
        }
    }
}

impl Service<http::Request<Body>> for Services {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match request.uri().path().split('/').nth(1).unwrap_or_default() {
            machine_server::SERVICE_NAME => self.machine.call(request),
            components_server::SERVICE_NAME => self.components.call(request),
            docker_server::SERVICE_NAME => self.docker.call(request),
            logs_server::SERVICE_NAME => self.logs.call(request),
            processes_server::SERVICE_NAME => self.processes.call(request),
            files_server::SERVICE_NAME => self.files.call(request),
            network_server::SERVICE_NAME => self.network.call(request),
            images_server::SERVICE_NAME => self.images.call(request),
            folders_server::SERVICE_NAME => self.folders.call(request),
            _ => Box::pin(async { Ok(Status::unimplemented("no such service").into_http()) }),
        }
    }
}
