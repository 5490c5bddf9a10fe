//! Byte streams in and out: files, logs and images.

use super::error::{AgentError, to_io};
use super::{AgentClient, within};
use crate::api::{
    ExportImagesRequest, FileChunk, GetRequest, GiveRequest, Image, ImageChunk, ImportImagesReply,
    KnownContent, ListImagesRequest, LogChunk, PutReply, PutRequest, PutTarget, ReadLogRequest,
    RemoveImagesRequest, files_client::FilesClient, give_request::Request as Giving,
    images_client::ImagesClient, logs_client::LogsClient, put_request::Request,
};
use crate::given::Parcel;
use bytes::Bytes;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::io::StreamReader;

/// Bytes in one message of a stream.
pub(super) const CHUNK: usize = 64 << 10;
const LIST: Duration = Duration::from_secs(60);
/// How long files may be on their way, and what uses them may take to be ready again.
const GIVE: Duration = Duration::from_secs(300);

/// Bytes that the machine sends, as a reader. An error of the agent is a read error whose
/// inner error is an [`AgentError`].
pub struct ByteReader(Pin<Box<dyn AsyncRead + Send>>);

impl std::fmt::Debug for ByteReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ByteReader").finish_non_exhaustive()
    }
}

impl AsyncRead for ByteReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.0.as_mut().poll_read(context, buffer)
    }
}

impl ByteReader {
    fn new(chunks: impl Stream<Item = Result<Vec<u8>, tonic::Status>> + Send + 'static) -> Self {
        let chunks = chunks.map(|chunk| chunk.map(Bytes::from).map_err(to_io));
        Self(Box::pin(StreamReader::new(chunks)))
    }
}

/// Lines of logs as they come.
#[derive(Debug)]
pub struct LogLines(tonic::Streaming<LogChunk>);

impl LogLines {
    /// The next whole lines of one source; None at the end of what was asked for.
    pub async fn next(&mut self) -> Result<Option<LogChunk>, AgentError> {
        Ok(self.0.message().await?)
    }
}

impl AgentClient {
    /// Reads logs: of one component, of `agent` or `kernel`, or of all when it is empty;
    /// `tail_lines` 0 means all that is kept; `follow` goes on with what is written later.
    pub async fn logs(
        &self,
        component: &str,
        follow: bool,
        tail_lines: u32,
    ) -> Result<LogLines, AgentError> {
        let request = ReadLogRequest {
            component: component.to_owned(),
            follow,
            tail_lines,
        };
        let stream = LogsClient::new(self.channel()).read(request).await?;
        Ok(LogLines(stream.into_inner()))
    }

    /// Unpacks a tar archive below an absolute folder of the machine. `owner` is a user of the
    /// machine; empty keeps the owners that the archive names.
    pub async fn put(
        &self,
        folder: &str,
        owner: &str,
        archive: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<PutReply, AgentError> {
        let target = PutTarget {
            folder: folder.to_owned(),
            owner: owner.to_owned(),
        };
        let first = PutRequest {
            request: Some(Request::Target(target)),
        };
        let more = |data| PutRequest {
            request: Some(Request::Data(data)),
        };
        let (requests, failure) = upload(first, archive, more);
        let reply = FilesClient::new(self.channel()).put(requests).await;
        Ok(failure.check(reply)?.into_inner())
    }

    /// Gives the machine what the host has for it, in place of what that gave before; see
    /// `Machine.Give`.
    ///
    /// # Errors
    /// [`AgentError::Unknown`] where the machine's agent is of an earlier version.
    pub async fn give(&self, parcel: &Parcel) -> Result<(), AgentError> {
        let given = serde_json::to_vec(parcel.given()).map_err(std::io::Error::other);
        let first = GiveRequest {
            request: Some(Giving::Given(given.map_err(AgentError::Local)?)),
        };
        let more = |data| GiveRequest {
            request: Some(Giving::Files(data)),
        };
        let files = std::io::Cursor::new(parcel.files().clone());
        let (requests, failure) = upload(first, files, more);
        let call = async { failure.check(self.machine().give(requests).await) };
        within(GIVE, call).await?;
        Ok(())
    }

    /// Packs a file or folder of the machine, given by its absolute path, as a tar archive
    /// whose one root is the path's last part.
    pub async fn get(&self, path: &str) -> Result<ByteReader, AgentError> {
        let request = GetRequest {
            path: path.to_owned(),
        };
        let stream = FilesClient::new(self.channel())
            .get(request)
            .await?
            .into_inner();
        Ok(ByteReader::new(
            stream.map(|chunk| chunk.map(|FileChunk { data }| data)),
        ))
    }

    fn image_store(&self) -> ImagesClient<tonic::transport::Channel> {
        ImagesClient::new(self.channel())
    }

    /// The images of the machine.
    pub async fn images(&self) -> Result<Vec<Image>, AgentError> {
        let call = async { Ok(self.image_store().list(ListImagesRequest {}).await?) };
        Ok(within(LIST, call).await?.into_inner().images)
    }

    /// Loads an OCI layout or docker archive (tar, not compressed); `name` is for an
    /// archive that names none.
    pub async fn import_images(
        &self,
        name: &str,
        archive: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<ImportImagesReply, AgentError> {
        let first = ImageChunk {
            data: Vec::new(),
            name: name.to_owned(),
        };
        let more = |data| ImageChunk {
            data,
            name: String::new(),
        };
        let (requests, failure) = upload(first, archive, more);
        let reply = self.image_store().import(requests).await;
        Ok(failure.check(reply)?.into_inner())
    }

    /// Those among these parts of images, `sha256:HEX`, that the machine has.
    ///
    /// # Errors
    /// [`AgentError::Unknown`] where the machine's agent is of an earlier version.
    pub async fn known_content(&self, digests: Vec<String>) -> Result<Vec<String>, AgentError> {
        let call = async { Ok(self.image_store().known(KnownContent { digests }).await?) };
        Ok(within(LIST, call).await?.into_inner().digests)
    }

    /// The named images as one archive that docker, podman and containerd load.
    pub async fn export_images(&self, names: &[String]) -> Result<ByteReader, AgentError> {
        let request = ExportImagesRequest {
            names: names.to_vec(),
        };
        let stream = self.image_store().export(request).await?.into_inner();
        Ok(ByteReader::new(
            stream.map(|chunk| chunk.map(|one| one.data)),
        ))
    }

    /// Removes names of images; what no name leads to any more is collected.
    pub async fn remove_images(&self, names: &[String]) -> Result<(), AgentError> {
        let request = RemoveImagesRequest {
            names: names.to_vec(),
        };
        self.image_store().remove(request).await?;
        Ok(())
    }
}

/// The error of a reader whose bytes were on their way to the machine.
struct Failure(Arc<Mutex<Option<std::io::Error>>>);

impl Failure {
    /// The reader's own error explains more than what the agent made of it.
    fn check<T>(self, reply: Result<T, tonic::Status>) -> Result<T, AgentError> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(AgentError::Local(error)),
            None => Ok(reply?),
        }
    }
}

/// A first message, then a reader's bytes in chunks. When the reader fails the stream breaks
/// off with an empty, unfinished archive, and the failure is kept.
fn upload<T: Send + 'static>(
    first: T,
    mut source: impl AsyncRead + Send + Unpin + 'static,
    wrap: impl Fn(Vec<u8>) -> T + Send + 'static,
) -> (impl Stream<Item = T> + Send + 'static, Failure) {
    let failure = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&failure);
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        if sender.send(first).await.is_err() {
            return;
        }
        loop {
            let mut data = Vec::with_capacity(CHUNK);
            match (&mut source)
                .take(CHUNK as u64)
                .read_to_end(&mut data)
                .await
            {
                Ok(0) => return,
                Ok(_) => {
                    if sender.send(wrap(data)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return;
                }
            }
        }
    });
    (ReceiverStream::new(receiver), Failure(failure))
}
