//! `coracle cp`.

use super::App;
use crate::cluster::Cluster;
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::written;
use coracle_protocol::GUEST_USER;
use std::path::{Path, PathBuf};

/// Copy files and folders to and from the machine
///
/// A path inside the machine has a colon in front: `coracle cp app.tar :/home/coracle/` copies
/// into it, `coracle cp :/var/log ./logs` out of it. Pods have files of their own: those are copied
/// with `coracle kubectl -- cp`.
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
    for text in [source, target] {
        if guest(text).is_none() && is_like_a_pods(text) {
            return Err(of_a_pod(text));
        }
    }
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

/// Whether a path is one that `kubectl cp` takes: `POD:/PATH` or `NAMESPACE/POD:/PATH`, and not the path of
/// something on this host.
fn is_like_a_pods(text: &str) -> bool {
    let Some((place, path)) = text.split_once(':') else {
        return false;
    };
    let is_name = |name: &str| {
        // A single letter is a drive.
        name.len() > 1
            && !name.starts_with(['.', '-'])
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
    };
    let names: Vec<&str> = place.split('/').collect();
    path.starts_with('/')
        && names.len() <= 2
        && names.into_iter().all(is_name)
        && !Path::new(text).exists()
        && !Path::new(&format!("{place}:")).exists()
}

fn of_a_pod(text: &str) -> Error {
    let place = text.split(':').next().unwrap_or_default();
    Error::new(
        ErrorId::Usage,
        format!("{text:?} is a path of the pod {place:?}, and this copies to and from the machine"),
    )
    .help(
        "for pods there is `coracle kubectl -- cp SOURCE NAMESPACE/POD:/PATH` (their image needs tar); \
         for another cluster's machine, name that with -p and write :/PATH",
    )
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
    let source = source.to_owned();
    let (reader, packing) = written::piped(move |sink| {
        let mut archive = tar::Builder::new(sink);
        archive.follow_symlinks(false);
        if meta.is_dir() {
            archive.append_dir_all(&name, &source)?;
        } else {
            archive.append_path_with_name(std::fs::canonicalize(&source)?, &name)?;
        }
        archive.finish()
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

    #[test]
    fn a_path_of_a_pod_is_explained() {
        for (source, target) in [
            ("a.txt", "web-0:/tmp/a"),
            ("a.txt", "shop/web-0:/tmp/a"),
            ("shop/web-0:/tmp/a", "a.txt"),
            (":/tmp/a", "web-0:/tmp/a"),
        ] {
            let error = places(source, target, "dev").unwrap_err();
            assert_eq!(error.exit_code(), 14);
            let told = error.render("dev");
            assert!(told.contains("kubectl -- cp"), "{told}");
            assert!(told.contains("web-0"), "{told}");
        }
        for (source, target) in [
            ("dev:/tmp/a", "a.txt"),
            ("C:/a.txt", ":/tmp/a"),
            ("./odd:/a", ":/tmp/a"),
            ("a:b", ":/tmp/a"),
            ("A/B/c:/d", ":/tmp/a"),
        ] {
            places(source, target, "dev").unwrap();
        }
        // A folder of this host whose name ends with a colon.
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("web:");
        std::fs::create_dir(&odd).unwrap();
        assert!(!is_like_a_pods(&format!("{}/a", odd.display())));
    }
}
