//! The few calls of containerd's CRI that the agent needs, and their messages.
//!
//! Field numbers are those of `k8s.io/cri-api/pkg/apis/runtime/v1/api.proto`; fields that are
//! not used are left out, which protobuf allows.

use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_prost::ProstCodec;

/// Where containerd listens.
pub const SOCKET: &str = "/run/containerd/containerd.sock";
const LIMIT: Duration = Duration::from_secs(30);
/// How containerd is told its namespace; CRI has this one anyway.
const NAMESPACE: &str = "containerd-namespace";
const RUNNING: i32 = 1;
const EXITED: i32 = 2;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CriError {
    /// containerd does not answer.
    #[error("containerd does not answer: {0}")]
    Connect(#[from] tonic::transport::Error),
    /// It answered with an error.
    #[error("{}", .0.message())]
    Call(#[from] tonic::Status),
}

impl From<CriError> for io::Error {
    fn from(error: CriError) -> Self {
        Self::other(error)
    }
}

/// A connection to containerd.
#[derive(Debug, Clone)]
pub struct Cri(Channel);

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
struct ListImagesResponse {
    #[prost(message, repeated, tag = "1")]
    images: Vec<Image>,
}

/// An image as the kubelet sees it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Image {
    /// Digest of its configuration.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Names with tags.
    #[prost(string, repeated, tag = "2")]
    pub repo_tags: Vec<String>,
    /// Names with digests.
    #[prost(string, repeated, tag = "3")]
    pub repo_digests: Vec<String>,
    /// Compressed size in bytes.
    #[prost(uint64, tag = "4")]
    pub size: u64,
    /// The kubelet never collects it.
    #[prost(bool, tag = "8")]
    pub pinned: bool,
}

/// How somebody names an image.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ImageSpec {
    /// By its name, or what that was resolved to.
    #[prost(string, tag = "1")]
    pub image: String,
    /// As the pod has it.
    #[prost(string, tag = "18")]
    pub user_specified_image: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageStatusRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageSpec>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ImageStatusResponse {
    #[prost(message, optional, tag = "1")]
    image: Option<Image>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerState {
    #[prost(int32, tag = "1")]
    state: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerFilter {
    #[prost(message, optional, tag = "2")]
    state: Option<ContainerState>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListContainersRequest {
    #[prost(message, optional, tag = "1")]
    filter: Option<ContainerFilter>,
}

/// A pod's container.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Container {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its image, as its pod names it.
    #[prost(message, optional, tag = "4")]
    pub image: Option<ImageSpec>,
    #[prost(int32, tag = "6")]
    state: i32,
    /// With the names of its pod.
    #[prost(map = "string, string", tag = "8")]
    labels: HashMap<String, String>,
    /// Digest of its image's configuration.
    #[prost(string, tag = "10")]
    pub image_id: String,
}

impl Container {
    /// One of a pod with this uid, that has ended.
    #[cfg(test)]
    pub(crate) fn ended(pod: &str) -> Self {
        Self {
            state: EXITED,
            labels: HashMap::from([("io.kubernetes.pod.uid".to_owned(), pod.to_owned())]),
            ..Self::default()
        }
    }

    /// Whether it ran, and has ended.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.state == EXITED
    }

    /// A label's value; nothing where it has none of this name.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// Of containerd's own API, `containerd/api/services/images/v1/images.proto`.
#[derive(Clone, PartialEq, prost::Message)]
struct GetImageRequest {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DeleteImageRequest {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GetImageResponse {
    #[prost(message, optional, tag = "1")]
    image: Option<NamedImage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NamedImage {
    #[prost(message, optional, tag = "3")]
    target: Option<Descriptor>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Descriptor {
    #[prost(string, tag = "2")]
    digest: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ListContainersResponse {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Container>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StopContainerRequest {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(int64, tag = "2")]
    timeout: i64,
}

impl Cri {
    /// Connects to the machine's containerd.
    pub async fn connect() -> Result<Self, CriError> {
        let path = PathBuf::from(SOCKET);
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost").connect_timeout(LIMIT);
        Ok(Self(endpoint.connect_with_connector(connector).await?))
    }

    async fn call<Request, Reply>(
        &self,
        method: &'static str,
        request: Request,
        limit: Duration,
    ) -> Result<Reply, CriError>
    where
        Request: prost::Message + 'static,
        Reply: prost::Message + Default + 'static,
    {
        let mut client =
            tonic::client::Grpc::new(self.0.clone()).max_decoding_message_size(16 << 20);
        client.ready().await?;
        let mut request = tonic::Request::new(request);
        request.set_timeout(limit);
        request
            .metadata_mut()
            .insert(NAMESPACE, MetadataValue::from_static("k8s.io"));
        let codec = ProstCodec::<Request, Reply>::default();
        let method = PathAndQuery::from_static(method);
        Ok(client.unary(request, method, codec).await?.into_inner())
    }

    /// All images.
    pub async fn images(&self) -> Result<Vec<Image>, CriError> {
        let reply: ListImagesResponse = self
            .call("/runtime.v1.ImageService/ListImages", Empty {}, LIMIT)
            .await?;
        Ok(reply.images)
    }

    /// Whether the kubelet would find an image of this name.
    pub async fn has_image(&self, name: &str) -> Result<bool, CriError> {
        let request = ImageStatusRequest {
            image: Some(ImageSpec {
                image: name.to_owned(),
                ..ImageSpec::default()
            }),
        };
        let reply: ImageStatusResponse = self
            .call("/runtime.v1.ImageService/ImageStatus", request, LIMIT)
            .await?;
        Ok(reply.image.is_some())
    }

    /// Ids of the containers that run, pods' pause processes not among them.
    pub async fn running_containers(&self) -> Result<Vec<String>, CriError> {
        let filter = ContainerFilter {
            state: Some(ContainerState { state: RUNNING }),
        };
        let running = self.list(Some(filter)).await?;
        Ok(running.into_iter().map(|one| one.id).collect())
    }

    /// All containers, also those that have ended.
    pub async fn containers(&self) -> Result<Vec<Container>, CriError> {
        self.list(None).await
    }

    async fn list(&self, filter: Option<ContainerFilter>) -> Result<Vec<Container>, CriError> {
        let request = ListContainersRequest { filter };
        let reply: ListContainersResponse = self
            .call("/runtime.v1.RuntimeService/ListContainers", request, LIMIT)
            .await?;
        Ok(reply.containers)
    }

    /// Removes a name of containerd's; what it stands for goes with the last one.
    pub async fn forget(&self, name: &str) -> Result<(), CriError> {
        let request = DeleteImageRequest {
            name: name.to_owned(),
        };
        let method = "/containerd.services.images.v1.Images/Delete";
        match self.call::<_, Empty>(method, request, LIMIT).await {
            Err(CriError::Call(status)) if status.code() == tonic::Code::NotFound => Ok(()),
            done => done.map(drop),
        }
    }

    /// Digest of the manifest or index that a name of containerd's stands for; None without such a name.
    pub async fn target(&self, name: &str) -> Result<Option<String>, CriError> {
        let request = GetImageRequest {
            name: name.to_owned(),
        };
        let method = "/containerd.services.images.v1.Images/Get";
        let reply: Result<GetImageResponse, _> = self.call(method, request, LIMIT).await;
        match reply {
            Ok(reply) => {
                let target = reply.image.and_then(|image| image.target);
                Ok(target.map(|target| target.digest))
            }
            Err(CriError::Call(status)) if status.code() == tonic::Code::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ends a container: asks it to, and after the grace kills it.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), CriError> {
        let request = StopContainerRequest {
            container_id: id.to_owned(),
            timeout: i64::try_from(grace.as_secs()).unwrap_or(i64::MAX),
        };
        let method = "/runtime.v1.RuntimeService/StopContainer";
        let _: Empty = self.call(method, request, grace + LIMIT).await?;
        Ok(())
    }
}
