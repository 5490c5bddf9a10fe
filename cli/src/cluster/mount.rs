//! Folders of this host that a cluster's machine has: `--mount HOST:GUEST`, and `coracle mount`.

use super::{Cluster, LOCK_LIMIT, lock, update};
use crate::commands::App;
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::host_agent;
use crate::settings::Settings;
use coracle_protocol::folders::Folder;
use coracle_protocol::{MOUNT_ROOTS, machine_path};
use coracle_vm::{MachineLock, MachineName, MachineState};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

const COMMAND: &str = "coracle mount";
const ROOTS_HOME: &str = "/root";

/// A folder of the host and where the machine has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mount {
    /// Absolute.
    pub host: PathBuf,
    /// Absolute, without `.` and `..`: below one of [`MOUNT_ROOTS`], or where the host has its user's home.
    pub guest: String,
    /// Whether the machine may change nothing in it.
    #[serde(default)]
    pub read_only: bool,
}

impl fmt::Display for Mount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = if self.read_only { ":ro" } else { "" };
        write!(formatter, "{}:{}{suffix}", self.host.display(), self.guest)
    }
}

impl Mount {
    /// From `HOST:GUEST`, `HOST:GUEST:ro` or `HOST:GUEST:rw`. A relative HOST is one of the current folder,
    /// and has to be there.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid =
            |help: &str| Error::new(ErrorId::Usage, format!("{text:?} is no mount")).help(help);
        let (paths, read_only) = match text.strip_suffix(":ro") {
            Some(paths) => (paths, true),
            None => (text.strip_suffix(":rw").unwrap_or(text), false),
        };
        // A drive's colon is followed by a backslash, or by a slash that no path of the machine follows.
        let (host, guest) = paths
            .rsplit_once(":/")
            .filter(|(host, _)| !host.is_empty())
            .ok_or_else(|| {
                invalid("write HOST:GUEST, such as ./src:/mnt/src; GUEST is a path in the machine")
            })?;
        if guest.contains(':') {
            return Err(invalid("what may follow HOST:GUEST is :ro or :rw"));
        }
        let guest = guest_path(&format!("/{guest}"))
            .ok_or_else(|| invalid(&format!("choose a place below {}", roots())))?;
        Ok(Self {
            host: host_folder(Path::new(host))?,
            guest,
            read_only,
        })
    }

    /// The same as the machine is told of it.
    pub fn folder(&self) -> Folder {
        Folder {
            id: self.to_string(),
            guest_path: self.guest.clone(),
            read_only: self.read_only,
        }
    }

    /// Puts one into a list, in place of another at the same place.
    pub fn add_to(self, mounts: &mut Vec<Self>) {
        mounts.retain(|mount| mount.guest != self.guest);
        mounts.push(self);
    }

    /// Refuses a place below that of another one, or above it: one could not be made in the other.
    pub fn fits(&self, mounts: &[Self]) -> Result<()> {
        let mine = Path::new(&self.guest);
        let nested = mounts.iter().find(|other| {
            let theirs = Path::new(&other.guest);
            mine != theirs && (mine.starts_with(theirs) || theirs.starts_with(mine))
        });
        match nested {
            None => Ok(()),
            Some(other) => {
                let message = format!(
                    "{} and {} would be one in the other",
                    self.guest, other.guest
                );
                Err(Error::new(ErrorId::Usage, message)
                    .help("choose another place for one of them"))
            }
        }
    }
}

/// Those of a command line, in its order.
pub fn parse_all(texts: &[String]) -> Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    for text in texts {
        let mount = Mount::parse(text)?;
        mount.fits(&mounts)?;
        mount.add_to(&mut mounts);
    }
    Ok(mounts)
}

/// The mounts of the current profile's cluster.
pub fn all(app: &App) -> Result<Vec<Mount>> {
    let cluster = Cluster::find(&app.settings)?;
    Ok(cluster.record().mounts.clone().unwrap_or_default())
}

/// Mounts the home folder of this host's user where the machine's containers look for `path`, if that is within.
/// Nothing that is mounted there is replaced.
pub async fn bring_home(settings: &Settings, path: &str) -> Result<()> {
    let host = &settings.user_home;
    let unfit = |why: &str| Err(Error::new(ErrorId::Usage, why.to_owned()));
    let text = host.to_str().unwrap_or_default();
    let place = match cfg!(windows) {
        true => machine_path(text).unwrap_or_default(),
        false => text.to_owned(),
    };
    if place.is_empty() || !Path::new(path).starts_with(&place) {
        return Ok(());
    }
    let guest = match place == ROOTS_HOME {
        // Where the machine has its own root's, which has no need of it.
        true => Some(place),
        false => guest_path(&place),
    };
    let Some(guest) = guest else {
        let shown = host.display();
        return unfit(&format!(
            "the machine cannot have {shown} at the same place"
        ));
    };
    let cluster = Cluster::find(settings)?;
    if cluster.record().home_is_kept_out {
        return unfit(&format!(
            "your home folder was taken out of this cluster; `coracle mount {guest}:{guest}` brings it back"
        ));
    }
    let mut mounts = cluster.record().mounts.iter().flatten();
    let wanted = match mounts.find(|mount| mount.guest == guest) {
        Some(other) if other.host != *host => {
            return unfit(&format!("another folder is mounted at {guest}"));
        }
        // Read-only stays read-only.
        Some(present) => present.clone(),
        None => Mount {
            host: host_folder(host)?,
            guest,
            read_only: false,
        },
    };
    add(settings, &wanted).await
}

/// Mounts one more in the running machine of the current profile. What cannot be mounted is not kept.
pub async fn add(settings: &Settings, wanted: &Mount) -> Result<()> {
    let cluster = Cluster::find(settings)?;
    cluster.require_running().await?;
    let name = cluster.dir().name();
    let lock = lock(settings, name, COMMAND, LOCK_LIMIT).await?;
    // Another command may have come first.
    let record = Cluster::find(settings)?.record().clone();
    let former = record.mounts.unwrap_or_default();
    wanted.fits(&former)?;
    update(settings, &lock, name, |record| {
        wanted.clone().add_to(record.mounts.get_or_insert_default());
        record.home_is_kept_out &= wanted.host != settings.user_home;
    })?;
    let id = wanted.to_string();
    let failed = match host_agent::mount(cluster.dir()).await {
        Ok(refused) => match refused.into_iter().find(|(what, _)| *what == id) {
            None => return Ok(()),
            Some((_, why)) => Error::new(ErrorId::Guest, format!("cannot mount {id}")).because(why),
        },
        Err(error) => error,
    };
    if !former.contains(wanted) {
        forget(settings, &lock, name, wanted)?;
    }
    Err(failed)
}

/// Unmounts what is at a place of the current profile's machine, and gives it.
pub async fn remove(app: &App, place: &str) -> Result<Mount> {
    let cluster = Cluster::find(&app.settings)?;
    let name = cluster.dir().name();
    let wanted = guest_path(place);
    let is_it = |mount: &Mount| Some(&mount.guest) == wanted.as_ref() || mount.guest == place;
    let mut mounts = cluster.record().mounts.iter().flatten();
    let Some(found) = mounts.find(|mount| is_it(mount)) else {
        return Err(
            Error::new(ErrorId::Usage, format!("nothing is mounted at {place}"))
                .help("`coracle mount` shows what is mounted"),
        );
    };
    let lock = lock(&app.settings, name, COMMAND, LOCK_LIMIT).await?;
    forget(&app.settings, &lock, name, found)?;
    if found.host == app.settings.user_home {
        // No container is to bring it back.
        update(&app.settings, &lock, name, |record| {
            record.home_is_kept_out = true;
        })?;
    }
    if cluster.state().await? == MachineState::Running {
        host_agent::mount(cluster.dir()).await?;
    }
    Ok(found.clone())
}

/// Takes one out of the cluster's record.
fn forget(settings: &Settings, lock: &MachineLock, name: &MachineName, gone: &Mount) -> Result<()> {
    update(settings, lock, name, |record| {
        let mounts = record.mounts.get_or_insert_default();
        mounts.retain(|mount| mount != gone);
    })
}

/// Has a running machine have its folders, if it ever had any; a warning says which of them it has not.
pub async fn settle(app: &App, cluster: &Cluster) {
    if cluster.record().mounts.is_none() {
        return;
    }
    match host_agent::mount(cluster.dir()).await {
        Ok(refused) => {
            for (what, why) in refused {
                app.progress
                    .warning(&format!("{what} is not mounted: {why}"));
            }
        }
        Err(error) => app
            .progress
            .warning(&format!("no folders are mounted: {}", error.message())),
    }
}

fn roots() -> String {
    let mut roots: Vec<String> = MOUNT_ROOTS.iter().map(|root| format!("/{root}")).collect();
    let last = roots.pop().unwrap_or_default();
    format!("{} or {last}", roots.join(", "))
}

/// A path in the machine that a folder may be mounted at, in its shortest form.
fn guest_path(text: &str) -> Option<String> {
    let parts: Vec<&str> = text
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    let is_below = parts.len() > 1 && MOUNT_ROOTS.contains(&parts[0]);
    let is_plain = |part: &str| part != ".." && !part.chars().any(char::is_control);
    (is_below && parts.iter().all(|part| is_plain(part))).then(|| format!("/{}", parts.join("/")))
}

fn host_folder(path: &Path) -> Result<PathBuf> {
    let shown = path.display();
    let absolute = std::path::absolute(path).context(ErrorId::Usage, || {
        format!("{shown} is no path of this host")
    })?;
    match std::fs::metadata(&absolute) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            return Err(Error::new(ErrorId::Usage, format!("{shown} is no folder"))
                .help("mount the folder that it is in"));
        }
        Err(error) => {
            return Err(
                Error::caused_by(ErrorId::Usage, format!("cannot mount {shown}"), &error)
                    .help("make the folder first, or correct its name"),
            );
        }
    }
    if absolute.to_str().is_none() {
        return Err(
            Error::new(ErrorId::Usage, format!("the name of {shown} is not UTF-8"))
                .help("mount a folder above it: names within may be any bytes"),
        );
    }
    Ok(absolute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_two_paths_and_a_mode() {
        let folder = tempfile::tempdir().unwrap();
        let host = folder.path().to_str().unwrap();
        let mount = Mount::parse(&format!("{host}:/mnt//src/./a")).unwrap();
        assert_eq!(
            (mount.guest.as_str(), mount.read_only),
            ("/mnt/src/a", false)
        );
        let mount = Mount::parse(&format!("{host}:/home/me/src:ro")).unwrap();
        assert!(mount.read_only);
        assert_eq!(mount.to_string(), format!("{host}:/home/me/src:ro"));
        for wrong in [
            "src",
            ":/mnt/src",
            &format!("{host}:/etc"),
            &format!("{host}:/mnt"),
            &format!("{host}:/mnt/../etc"),
            &format!("{host}:mnt/src"),
            &format!("{host}/missing:/mnt/src"),
            &format!("{host}:/mnt/src:readonly"),
            &format!("{host}:/mnt/src:ro:rw"),
        ] {
            let error = Mount::parse(wrong).unwrap_err();
            assert_eq!(error.id(), ErrorId::Usage, "{wrong}");
        }
    }

    #[test]
    fn the_last_one_at_a_place_counts() {
        let mount = |host: &str| Mount {
            host: host.into(),
            guest: "/mnt/src".into(),
            read_only: false,
        };
        let mut mounts = vec![mount("/a")];
        mount("/b").add_to(&mut mounts);
        assert_eq!(mounts, [mount("/b")]);
        for (guest, fits) in [
            ("/mnt/src/lib", false),
            ("/mnt/source", true),
            ("/mnt/src", true),
        ] {
            let guest = guest.to_owned();
            let other = Mount {
                guest,
                ..mount("/c")
            };
            assert_eq!(other.fits(&mounts).is_ok(), fits, "{other}");
        }
    }
}
