//! Images on their way in and out of a machine, and those that are kept for new ones.
//!
//! ```text
//! archive --decompressed, without what the machine has--> machine --save--> file
//! cache (files) --load, into each new cluster--> machine
//! ```

mod archive;
pub mod cache;
mod compression;

pub use archive::{Archive, Sent};

use crate::error::{Context as _, Error, ErrorId, Result};
use crate::progress::Meter;
use crate::written;
use coracle_protocol::DISK_FULL;
use coracle_protocol::client::{AgentClient, AgentError};
use std::collections::BTreeSet;
use std::io::{Read, Write as _};
use std::path::Path;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::InspectReader;

/// Bytes that are written at a time.
const CHUNK: usize = 256 << 10;

/// What came of an archive that was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// The names of its images.
    pub names: Vec<String>,
    /// How many of its parts the machine had.
    pub known: usize,
    /// What was sent.
    pub sent: Sent,
}

/// Opens an archive or the folder of a layout.
pub async fn open(path: &Path) -> Result<Archive> {
    let owned = path.to_owned();
    let what = path.display().to_string();
    opened(&what, move || Archive::open(&owned)).await
}

/// What is opened where nothing else waits for it; `what` is for people.
async fn opened<T: Send + 'static>(
    what: &str,
    open: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T> {
    let opened = tokio::task::spawn_blocking(open).await;
    let opened = opened.map_err(std::io::Error::other).flatten();
    opened.context(ErrorId::Usage, || format!("cannot read {what}"))
}

/// Loads an archive into a machine, without what that has. `name` is for one that has none.
pub async fn load(
    agent: &AgentClient,
    archive: Archive,
    name: &str,
    meter: &Meter,
) -> Result<Loaded> {
    let known: BTreeSet<String> = match archive.digests() {
        digests if digests.is_empty() => BTreeSet::new(),
        digests => match agent.known_content(digests).await {
            Ok(known) => known.into_iter().collect(),
            // An earlier version's agent does not tell.
            Err(AgentError::Unknown) => BTreeSet::new(),
            Err(error) => return Err(error.into()),
        },
    };
    let sent = archive.without(&known);
    let metered = |known: BTreeSet<String>| {
        // Of what is sent whole the size is not known beforehand.
        let meter = match archive.without(&known).bytes {
            0 => meter.clone(),
            bytes => meter.of(bytes),
        };
        let pass = move |bytes: &[u8]| meter.pass(bytes.len());
        InspectReader::new(archive.clone().send(known), pass)
    };
    let reply = agent.import_images(name, metered(known.clone()));
    let reply = match reply.await {
        // Nothing kept them there until now.
        Err(AgentError::Invalid(reason)) if !known.is_empty() => {
            tracing::debug!(reason, "sending all of it");
            agent.import_images(name, metered(BTreeSet::new())).await
        }
        done => done,
    };
    Ok(Loaded {
        names: named(reply.map_err(refused)?.names),
        known: known.len(),
        sent,
    })
}

/// Loads an archive that comes as a stream; the names of its images.
pub async fn load_stream(
    agent: &AgentClient,
    archive: impl Read + Send + 'static,
    name: &str,
    meter: Meter,
) -> Result<Vec<String>> {
    let mut archive = opened("the archive", || compression::decompressed(archive)).await?;
    let archive = written::stream(move |sink| std::io::copy(&mut archive, sink).map(drop));
    let archive = InspectReader::new(archive, move |bytes: &[u8]| meter.pass(bytes.len()));
    let reply = agent.import_images(name, archive).await;
    Ok(named(reply.map_err(refused)?.names))
}

/// containerd keeps each image under its digest too, which is no name.
fn named(mut names: Vec<String>) -> Vec<String> {
    names.retain(|name| !name.starts_with("sha256:"));
    names
}

fn refused(error: AgentError) -> Error {
    match error {
        AgentError::Invalid(reason) if reason.contains(DISK_FULL) => {
            Error::new(ErrorId::GuestStorage, "the images have no room in the machine").because(reason)
        }
        AgentError::Invalid(reason) => Error::new(ErrorId::Runtime, "the archive cannot be loaded")
            .because(reason)
            .help("it has to be an OCI layout or what `docker save` writes, as a tar file or a folder"),
        AgentError::Local(source) => Error::new(ErrorId::Usage, "the archive cannot be read to its end")
            .because_of(&source)
            .help("see whether it is whole, as with `gzip -t` or `zstd -t`"),
        other => other.into(),
    }
}

/// Saves images of a machine to a file, whole or not at all; its size in bytes.
pub async fn save(
    agent: &AgentClient,
    images: &[String],
    file: &Path,
    meter: &Meter,
) -> Result<u64> {
    let unwritable = || format!("cannot write {}", file.display());
    // A device or a link would be replaced by a file.
    if std::fs::symlink_metadata(file).is_ok_and(|meta| !meta.is_file()) {
        return Err(Error::new(ErrorId::Usage, unwritable())
            .because("it is there already, and no file")
            .help("name a file, or - for standard output"));
    }
    let mut archive = agent.export_images(images).await?;
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut written = temporary(folder).context(ErrorId::Usage, unwritable)?;
    let mut chunk = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        let length = archive
            .read(&mut chunk)
            .await
            .context(ErrorId::Runtime, || {
                "cannot get the images out of the machine".into()
            })?;
        if length == 0 {
            break;
        }
        bytes += length as u64;
        meter.pass(length);
        let write = written.write_all(&chunk[..length]);
        write.context(ErrorId::HostStorage, unwritable)?;
    }
    let synced = written.as_file().sync_all();
    synced.context(ErrorId::HostStorage, unwritable)?;
    written.persist(file).context(ErrorId::Write, unwritable)?;
    Ok(bytes)
}

/// A temporary file with the permissions of any other new one.
#[cfg(unix)]
fn temporary(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::PermissionsExt as _;
    let permissions = std::fs::Permissions::from_mode(0o666);
    tempfile::Builder::new()
        .permissions(permissions)
        .tempfile_in(folder)
}

#[cfg(not(unix))]
fn temporary(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    tempfile::NamedTempFile::new_in(folder)
}
