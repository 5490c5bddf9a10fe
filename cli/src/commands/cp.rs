//! `coracle cp`.

use super::App;
use crate::cluster::Cluster;
use crate::error::{Context as _, Error, ErrorId, Result};
use coracle_protocol::GUEST_USER;
use std::path::{Path, PathBuf};

/// Copy files and folders to and from the machine
///
/// A path inside the machine has a colon in front: `coracle cp app.tar :/home/coracle/` copies
/// into it, `coracle cp :/var/log ./logs` out of it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to copy
    source: String,
    /// Where to: a folder that exists, or the new name
    target: String,
}

/// One end of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Host(PathBuf),
    Guest(String),
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        let profile = app.settings.profile.as_str();
        let (source, target) = places(&self.source, &self.target, profile)?;
        match (source, target) {
            (Place::Host(source), Place::Guest(target)) => put(app, &source, &target).await?,
            (Place::Guest(source), Place::Host(target)) => get(app, &source, &target).await?,
            _ => {
                return Err(Error::new(ErrorId::Usage, "one of the two paths has to be inside the machine")
                    .help("write a path inside the machine with a colon in front, such as :/home/coracle/file"));
            }
        }
        Ok(0)
    }
}

/// Which end is where. A path of the machine has `:`, or `NAME:`, in front; as with Minikube, an
/// absolute target beside a plain source is inside the machine.
fn places(source: &str, target: &str, profile: &str) -> Result<(Place, Place)> {
    let guest = |text: &str| -> Option<String> {
        let (machine, path) = text.split_once(':')?;
        (machine.is_empty() || machine == profile || machine == "coracle").then(|| path.to_owned())
    };
    let (source, target) = match (guest(source), guest(target)) {
        (Some(from), Some(to)) => (Place::Guest(from), Place::Guest(to)),
        (Some(from), None) => (Place::Guest(from), Place::Host(target.into())),
        (None, Some(to)) => (Place::Host(source.into()), Place::Guest(to)),
        (None, None) if target.starts_with('/') => {
            (Place::Host(source.into()), Place::Guest(target.into()))
        }
        (None, None) => (Place::Host(source.into()), Place::Host(target.into())),
    };
    for place in [&source, &target] {
        if let Place::Guest(path) = place
            && !path.starts_with('/')
        {
            return Err(Error::new(
                ErrorId::Usage,
                format!("{path:?} is not an absolute path inside the machine"),
            )
            .help("write it from the root, such as :/home/coracle/file"));
        }
    }
    Ok((source, target))
}

async fn put(app: &App, source: &Path, target: &str) -> Result<()> {
    let meta = std::fs::metadata(source).context(ErrorId::Usage, || {
        format!("cannot read {}", source.display())
    })?;
    let agent = Cluster::find(&app.settings)?.agent().await?;
    // An existing folder takes the source under its own name; anything else is the new name.
    let is_folder = target.ends_with('/') || guest_folder_exists(&agent, target).await?;
    let (folder, name) = if is_folder {
        let name = source
            .file_name()
            .ok_or_else(|| Error::new(ErrorId::Usage, "the source has no name"))?;
        (
            target.trim_end_matches('/').to_owned(),
            name.to_string_lossy().into_owned(),
        )
    } else {
        let (folder, name) = target.rsplit_once('/').unwrap_or(("", target));
        (folder.to_owned(), name.to_owned())
    };
    let folder = if folder.is_empty() {
        "/".to_owned()
    } else {
        folder
    };
    let owner = if folder.starts_with(&format!("/home/{GUEST_USER}")) {
        GUEST_USER
    } else {
        "root"
    };
    let (reader, writer) = tokio::io::duplex(256 << 10);
    let source = source.to_owned();
    let packing = tokio::task::spawn_blocking(move || {
        let mut archive = tar::Builder::new(tokio_util::io::SyncIoBridge::new(writer));
        archive.follow_symlinks(false);
        if meta.is_dir() {
            archive.append_dir_all(&name, &source)?;
        } else {
            archive.append_path_with_name(std::fs::canonicalize(&source)?, &name)?;
        }
        // A tar file ends with two empty blocks; the bridge is flushed and closed with it.
        let mut bridge = archive.into_inner()?;
        bridge.shutdown()
    });
    let reply = agent.put(&folder, owner, reader).await;
    let packed = packing
        .await
        .context(ErrorId::Internal, || "packing ended early".into())?;
    reply?;
    packed.context(ErrorId::Usage, || "cannot read all of the source".into())
}

async fn get(app: &App, source: &str, target: &Path) -> Result<()> {
    let agent = Cluster::find(&app.settings)?.agent().await?;
    let reader = agent.get(source).await?;
    let (folder, name) = if target.is_dir() || target.as_os_str().to_string_lossy().ends_with('/') {
        (target.to_owned(), None)
    } else {
        let name = target.file_name().ok_or_else(|| {
            Error::new(
                ErrorId::Usage,
                format!("{} is no file name", target.display()),
            )
        })?;
        let parent = target
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        (
            parent.unwrap_or_else(|| Path::new(".")).to_owned(),
            Some(name.to_owned()),
        )
    };
    let unpacking = tokio::task::spawn_blocking(move || {
        unpack(
            tokio_util::io::SyncIoBridge::new(reader),
            &folder,
            name.as_deref(),
        )
    });
    unpacking
        .await
        .context(ErrorId::Internal, || "unpacking ended early".into())?
        .context(ErrorId::GuestNotFound, || {
            format!("cannot copy {source} from the machine")
        })
}

/// Unpacks beside the target and moves the finished tree into place.
fn unpack(
    reader: impl std::io::Read,
    folder: &Path,
    name: Option<&std::ffi::OsStr>,
) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let workplace = tempfile::Builder::new()
        .prefix(".coracle-cp-")
        .tempdir_in(folder)?;
    let mut archive = tar::Archive::new(reader);
    archive.set_preserve_permissions(true);
    archive.unpack(workplace.path())?;
    for entry in std::fs::read_dir(workplace.path())? {
        let entry = entry?;
        let target = folder.join(name.map_or_else(|| entry.file_name(), std::ffi::OsStr::to_owned));
        if target.is_dir() && entry.file_type()?.is_dir() {
            return Err(std::io::Error::other(format!(
                "{} exists already",
                target.display()
            )));
        }
        std::fs::rename(entry.path(), target)?;
    }
    Ok(())
}

async fn guest_folder_exists(
    agent: &coracle_protocol::client::AgentClient,
    path: &str,
) -> Result<bool> {
    let start = coracle_protocol::api::ExecStart {
        argv: vec!["test".into(), "-d".into(), path.to_owned()],
        ..Default::default()
    };
    Ok(agent.run(start).await?.0 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_says_which_end_is_inside() {
        let into = places("a.txt", ":/tmp/a", "dev").unwrap();
        assert_eq!(
            into,
            (Place::Host("a.txt".into()), Place::Guest("/tmp/a".into()))
        );
        assert_eq!(
            places("dev:/tmp/a", ".", "dev").unwrap().0,
            Place::Guest("/tmp/a".into())
        );
        assert_eq!(
            places("a.txt", "/tmp/a", "dev").unwrap().1,
            Place::Guest("/tmp/a".into())
        );
        assert_eq!(
            places("a.txt", ":tmp/a", "dev").unwrap_err().exit_code(),
            14
        );
    }
}
