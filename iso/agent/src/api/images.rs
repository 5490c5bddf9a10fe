//! Images: the one store, through the CRI for what it knows and `ctr` for streams.

use super::{Agent, CHUNK, Replies};
use crate::children::{Child, Exit};
use crate::cri::{Cri, CriError};
use crate::images::{ctr, ctr_content};
use crate::session::Source;
use coracle_protocol::api::images_server::Images as Service;
use coracle_protocol::api::{
    ExportImagesRequest, Image, ImageChunk, ImportImagesReply, KnownContent, ListImagesReply,
    ListImagesRequest, RemoveImagesReply, RemoveImagesRequest,
};
use coracle_protocol::image_name::ImageName;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Short calls of `ctr`.
const LIMIT: Duration = Duration::from_secs(120);
/// The CRI hears of an import through an event: so long it may take.
const HEARD: Duration = Duration::from_secs(10);

pub(super) struct Images(pub(super) Arc<Agent>);

impl From<CriError> for Status {
    fn from(error: CriError) -> Self {
        match error {
            CriError::Connect(_) => Self::failed_precondition(error.to_string()),
            CriError::Call(status) => status,
        }
    }
}

#[tonic::async_trait]
impl Service for Images {
    type ExportStream = Replies<ImageChunk>;

    async fn list(
        &self,
        _: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesReply>, Status> {
        let images = Cri::connect().await?.images().await?;
        let images = images.into_iter().map(|image| {
            let digest = image
                .repo_digests
                .first()
                .and_then(|one| one.split_once('@'));
            Image {
                digest: digest.map_or(image.id, |(_, digest)| digest.to_owned()),
                names: if image.repo_tags.is_empty() {
                    image.repo_digests
                } else {
                    image.repo_tags
                },
                size_bytes: image.size,
            }
        });
        Ok(Response::new(ListImagesReply {
            images: images.collect(),
        }))
    }

    async fn import(
        &self,
        request: Request<Streaming<ImageChunk>>,
    ) -> Result<Response<ImportImagesReply>, Status> {
        let mut chunks = request.into_inner();
        let Some(mut chunk) = chunks.message().await? else {
            return Err(Status::invalid_argument("no archive was sent"));
        };
        let before = self.names().await?;
        let name = std::mem::take(&mut chunk.name);
        // The transfer service streams in small pieces, which takes five times as long.
        let mut arguments = vec!["import", "--local", "--sync-fs"];
        if !name.is_empty() {
            arguments.extend(["--index-name", &name]);
        }
        arguments.push("-");
        let mut command = ctr(&arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.0.children.spawn(&mut command)?;
        let mut input = pipe::Sender::from_owned_fd(taken(child.stdin.take())?.into())?;
        let (stdout, stderr) = (collect(child.stdout.take())?, collect(child.stderr.take())?);
        let sending = async {
            loop {
                // ctr has given up: its own words say why.
                if input.write_all(&chunk.data).await.is_err() {
                    return Ok(());
                }
                match chunks.message().await {
                    Ok(Some(next)) => chunk = next,
                    Ok(None) => return Ok(()),
                    Err(status) => return Err(status),
                }
            }
        };
        let sent: Result<(), Status> = sending.await;
        drop(input);
        if let Err(status) = sent {
            let _ = nix::sys::signal::kill(child.pid, nix::sys::signal::Signal::SIGKILL);
            child.exit().await;
            return Err(status);
        }
        let printed = stdout.await.unwrap_or_default();
        finish(&mut child, stderr.await.unwrap_or_default()).await?;
        let data = self.0.data.clone();
        let written = tokio::task::spawn_blocking(move || {
            File::open(data).and_then(|data| Ok(nix::unistd::syncfs(&data)?))
        });
        written
            .await
            .map_err(|error| Status::internal(error.to_string()))??;
        let after = self.names().await?;
        let names: Vec<String> = after
            .into_iter()
            .filter(|name| !before.contains(name) || printed.contains(name.as_str()))
            .collect();
        wait_until_heard(&names).await?;
        Ok(Response::new(ImportImagesReply { names }))
    }

    async fn export(
        &self,
        request: Request<ExportImagesRequest>,
    ) -> Result<Response<Self::ExportStream>, Status> {
        let names = self.present(&request.into_inner().names).await?;
        let platform = format!("linux/{}", architecture());
        let mut arguments = vec!["export", "--platform", &platform, "-"];
        arguments.extend(names.iter().map(String::as_str));
        let mut command = ctr(&arguments);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.0.children.spawn(&mut command)?;
        let stdout = taken(child.stdout.take())?;
        let mut stdout = Source::Pipe(pipe::Receiver::from_owned_fd(stdout.into())?);
        let stderr = collect(child.stderr.take())?;
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(async move {
            let mut buffer = vec![0; CHUNK];
            loop {
                let length = stdout.read(&mut buffer).await;
                if length == 0 {
                    break;
                }
                let chunk = ImageChunk {
                    data: buffer[..length].to_vec(),
                    name: String::new(),
                };
                if sender.send(Ok(chunk)).await.is_err() {
                    let _ = nix::sys::signal::kill(child.pid, nix::sys::signal::Signal::SIGKILL);
                    break;
                }
            }
            if let Err(status) = finish(&mut child, stderr.await.unwrap_or_default()).await {
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn remove(
        &self,
        request: Request<RemoveImagesRequest>,
    ) -> Result<Response<RemoveImagesReply>, Status> {
        let names = self.present(&request.into_inner().names).await?;
        let mut arguments = vec!["rm", "--sync"];
        arguments.extend(names.iter().map(String::as_str));
        let removed = self.0.children.success(&mut ctr(&arguments), LIMIT).await;
        removed.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(RemoveImagesReply {}))
    }

    async fn known(
        &self,
        request: Request<KnownContent>,
    ) -> Result<Response<KnownContent>, Status> {
        let listed = self
            .0
            .children
            .success(&mut ctr_content(&["ls", "--quiet"]), LIMIT)
            .await;
        let listed = listed.map_err(|error| Status::failed_precondition(error.to_string()))?;
        let listed = String::from_utf8_lossy(&listed);
        let present: BTreeSet<&str> = listed.lines().collect();
        let mut digests = request.into_inner().digests;
        digests.retain(|digest| present.contains(digest.as_str()));
        Ok(Response::new(KnownContent { digests }))
    }
}

impl Images {
    /// All names in the store, without the digests under which the CRI finds an image by its id.
    async fn names(&self) -> Result<BTreeSet<String>, Status> {
        let listed = self
            .0
            .children
            .success(&mut ctr(&["ls", "--quiet"]), LIMIT)
            .await;
        let listed = listed.map_err(|error| Status::failed_precondition(error.to_string()))?;
        Ok(String::from_utf8_lossy(&listed)
            .lines()
            .filter(|name| !name.starts_with("sha256:"))
            .map(str::to_owned)
            .collect())
    }

    /// Names as containerd has them. Those that are not there are refused, and with them what `ctr` would take
    /// for a flag.
    async fn present(&self, names: &[String]) -> Result<Vec<String>, Status> {
        if names.is_empty() {
            return Err(Status::invalid_argument("no image is named"));
        }
        let present = self.names().await?;
        let found = names.iter().map(|name| {
            let whole = ImageName::of(name).whole();
            let known = [&whole, name]
                .into_iter()
                .find(|name| present.contains(*name));
            known
                .cloned()
                .ok_or_else(|| Status::not_found(format!("there is no image {name}")))
        });
        found.collect()
    }
}

/// The machine's architecture in Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

fn taken<T>(stream: Option<T>) -> io::Result<T> {
    stream.ok_or_else(|| io::ErrorKind::BrokenPipe.into())
}

/// Reads a stream to its end beside everything else.
fn collect<T>(stream: Option<T>) -> io::Result<tokio::task::JoinHandle<String>>
where
    std::os::fd::OwnedFd: From<T>,
{
    let mut stream = pipe::Receiver::from_owned_fd(taken(stream)?.into())?;
    Ok(tokio::spawn(async move {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }))
}

async fn finish(child: &mut Child, stderr: String) -> Result<(), Status> {
    match child.exit().await {
        Exit::Status(0) => Ok(()),
        exit => Err(Status::invalid_argument(format!(
            "ctr {exit}: {}",
            stderr.trim()
        ))),
    }
}

/// An import is over when the kubelet sees what was imported.
async fn wait_until_heard(names: &[String]) -> Result<(), Status> {
    let cri = Cri::connect().await?;
    let deadline = Instant::now() + HEARD;
    for name in names {
        while !cri.has_image(name).await? && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}
