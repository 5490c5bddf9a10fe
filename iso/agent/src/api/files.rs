//! Files: tar streams in and out.

use super::{Agent, CHUNK, Replies, blocking_reader};
use crate::accounts::{self, Account};
use coracle_protocol::api::files_server::Files as Service;
use coracle_protocol::api::put_request::Request as Message;
use coracle_protocol::api::{FileChunk, GetRequest, PutReply, PutRequest};
use std::cell::Cell;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

pub(super) struct Files(pub(super) Arc<Agent>);

#[tonic::async_trait]
impl Service for Files {
    type GetStream = Replies<FileChunk>;

    async fn put(
        &self,
        request: Request<Streaming<PutRequest>>,
    ) -> Result<Response<PutReply>, Status> {
        let mut requests = request.into_inner();
        let Some(PutRequest {
            request: Some(Message::Target(target)),
        }) = requests.message().await?
        else {
            return Err(Status::invalid_argument(
                "the first message of a put is its target",
            ));
        };
        let folder = absolute(&target.folder)?;
        let owner = match target.owner.as_str() {
            "" => None,
            name => Some(
                accounts::find(&self.0.etc, name)?
                    .ok_or_else(|| Status::not_found(format!("there is no user {name}")))?,
            ),
        };
        let reader = blocking_reader(requests, |request: PutRequest| match request.request? {
            Message::Data(data) => Some(data),
            Message::Target(_) => None,
        });
        let unpacked =
            tokio::task::spawn_blocking(move || unpack(reader, &folder, owner.as_ref())).await;
        let reply = unpacked.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(reply.map_err(|error| status(&error))?))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<Self::GetStream>, Status> {
        let path = absolute(&request.into_inner().path)?;
        // A symlink as the thing asked for stands for what it leads to.
        let meta = fs::metadata(&path).map_err(|error| status(&named(&path, &error)))?;
        let (sender, receiver) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || {
            let mut archive = tar::Builder::new(Chunks {
                sender: sender.clone(),
                buffer: Vec::new(),
            });
            archive.follow_symlinks(false);
            let root = PathBuf::from(path.file_name().unwrap_or("root".as_ref()));
            let packed = pack(&mut archive, &path, &root, &meta)
                .and_then(|()| archive.into_inner())
                .and_then(|mut chunks| chunks.flush());
            if let Err(error) = packed {
                let _ = sender.blocking_send(Err(status(&error)));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

fn absolute(path: &str) -> Result<PathBuf, Status> {
    let path = PathBuf::from(path);
    if path.is_absolute() && !path.components().any(|part| part == Component::ParentDir) {
        return Ok(path);
    }
    let text = format!("{} is not an absolute path without ..", path.display());
    Err(Status::invalid_argument(text))
}

fn status(error: &io::Error) -> Status {
    let text = error.to_string();
    match error.kind() {
        io::ErrorKind::NotFound => Status::not_found(text),
        io::ErrorKind::InvalidInput
        | io::ErrorKind::InvalidData
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::NotADirectory => Status::invalid_argument(text),
        io::ErrorKind::StorageFull => Status::resource_exhausted(text),
        _ => Status::internal(text),
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn refused(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Knows whether it was read to its end.
struct Watched<'a, R> {
    inner: R,
    ended: &'a Cell<bool>,
    bytes: u64,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.ended
            .set(self.ended.get() || (length == 0 && !buffer.is_empty()));
        self.bytes += length as u64;
        Ok(length)
    }
}

/// Unpacks an archive below a folder. Nothing lands outside of it: not by `..`, not by an
/// absolute path, not through a symlink of the archive.
fn unpack(reader: impl Read, folder: &Path, owner: Option<&Account>) -> io::Result<PutReply> {
    let new = missing_folders(folder);
    fs::create_dir_all(folder).map_err(|error| named(folder, &error))?;
    for made in new {
        give(&made, owner)?;
    }
    let folder = fs::canonicalize(folder).map_err(|error| named(folder, &error))?;
    let ended = Cell::new(false);
    let mut watched = Watched {
        inner: reader,
        ended: &ended,
        bytes: 0,
    };
    let mut archive = tar::Archive::new(&mut watched);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(owner.is_none());
    archive.set_overwrite(true);
    let unpacked = unpack_entries(&mut archive, &folder, owner);
    if ended.get() {
        return Err(cut_off());
    }
    let entries = unpacked?;
    io::copy(&mut watched, &mut io::sink())?;
    Ok(PutReply {
        entries,
        bytes: watched.bytes,
    })
}

fn unpack_entries(
    archive: &mut tar::Archive<impl Read>,
    folder: &Path,
    owner: Option<&Account>,
) -> io::Result<u64> {
    let mut count = 0;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let leads_out = || refused(format!("{} leads out of the folder", path.display()));
        let inward = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if !path.components().all(inward) {
            return Err(leads_out());
        }
        let target = folder.join(&path);
        let above = target.parent().map(missing_folders).unwrap_or_default();
        if !entry
            .unpack_in(folder)
            .map_err(|error| escaped(&path, &error))?
        {
            return Err(leads_out());
        }
        for made in above {
            give(&made, owner)?;
        }
        give(&target, owner)?;
        count += 1;
    }
    Ok(count)
}

/// An archive ends with two empty blocks; one that just stops was cut off on its way.
fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut off")
}

/// The tar crate reports a path through a symlink without a kind of its own.
fn escaped(path: &Path, error: &io::Error) -> io::Error {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    if text.contains("outside of") {
        return refused(format!("{} leads out of the folder", path.display()));
    }
    io::Error::new(error.kind(), text)
}

fn missing_folders(folder: &Path) -> Vec<PathBuf> {
    let missing = folder
        .ancestors()
        .take_while(|one| fs::symlink_metadata(one).is_err());
    missing.map(Path::to_owned).collect()
}

fn give(path: &Path, owner: Option<&Account>) -> io::Result<()> {
    match owner {
        Some(owner) => std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid)),
        None => Ok(()),
    }
}

/// Packs a file or folder under a name.
fn pack<W: Write>(
    archive: &mut tar::Builder<W>,
    path: &Path,
    name: &Path,
    meta: &Metadata,
) -> io::Result<()> {
    let kind = meta.file_type();
    if kind.is_dir() {
        archive.append_dir(name, path)?;
        let mut entries: Vec<_> = fs::read_dir(path)
            .map_err(|error| named(path, &error))?
            .collect::<Result<_, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            // What has been deleted meanwhile is left out.
            if let Ok(meta) = fs::symlink_metadata(entry.path()) {
                pack(archive, &entry.path(), &name.join(entry.file_name()), &meta)?;
            }
        }
        return Ok(());
    }
    if kind.is_file() {
        return pack_file(archive, path, name);
    }
    if kind.is_symlink() {
        let mut header = tar::Header::new_gnu();
        header.set_metadata(meta);
        header.set_size(0);
        return archive.append_link(&mut header, name, fs::read_link(path)?);
    }
    if kind.is_fifo() {
        let mut header = tar::Header::new_gnu();
        header.set_metadata(meta);
        header.set_size(0);
        return archive.append_data(&mut header, name, io::empty());
    }
    // Sockets and devices mean nothing elsewhere.
    Ok(())
}

/// A file that grows or shrinks while it is read still becomes an entry of the size that its
/// header says.
fn pack_file<W: Write>(archive: &mut tar::Builder<W>, path: &Path, name: &Path) -> io::Result<()> {
    let file = File::open(path).map_err(|error| named(path, &error))?;
    let meta = file.metadata()?;
    let mut header = tar::Header::new_gnu();
    header.set_metadata(&meta);
    let content = file.chain(io::repeat(0)).take(meta.size());
    archive.append_data(&mut header, name, content)
}

/// Collects bytes into messages.
struct Chunks {
    sender: mpsc::Sender<Result<FileChunk, Status>>,
    buffer: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = &bytes[..bytes.len().min(CHUNK - self.buffer.len())];
        self.buffer.extend_from_slice(part);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let data = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        let sent = self.sender.blocking_send(Ok(FileChunk { data }));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
