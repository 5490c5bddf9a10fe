//! dockerd's settings, `/etc/docker/daemon.json`: the host adds to them, and people inside write there too.
//!
//! ```text
//! the host's patch --> merged --dockerd --validate--> daemon.json --SIGHUP, or a restart--> dockerd
//!                                                        \--at each patch and boot--> containerd's certs.d,
//!                                                            registries               for the kubelet
//! ```

use super::{DOCKERD, Engine};
use crate::children::Children;
use crate::place::{self, Access};
use crate::supervise::RestartError;
use coracle_protocol::{is_mirror, is_registry};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Map, Value};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where dockerd reads them.
const FILE: &str = "/etc/docker/daemon.json";
/// Where containerd reads how registries are reached, at each pull.
const REGISTRIES: &str = "/etc/containerd/certs.d";
/// Its file about one registry, in a folder of the registry's name.
const HOSTS: &str = "hosts.toml";
/// The first line of those that follow dockerd's settings.
const OURS: &str = "# Follows /etc/docker/daemon.json.\n";
/// How long dockerd may take to check settings.
const CHECKS: Duration = Duration::from_secs(60);
/// Those that are flags of dockerd's here, which refuses to have them twice, and where this program looks for
/// what it keeps.
const FIXED: [&str; 6] = [
    "containerd",
    "containerd-namespace",
    "data-root",
    "exec-root",
    "group",
    "hosts",
];
/// Those that dockerd reads again when it gets SIGHUP (its documentation, "Configuration reload behavior").
const READ_AGAIN: [&str; 13] = [
    "authorization-plugins",
    "debug",
    "default-runtime",
    "features",
    "insecure-registries",
    "labels",
    "live-restore",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "registry-mirrors",
    "runtimes",
    "shutdown-timeout",
];

/// Why settings are not taken. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// They are wrong.
    #[error("{0}")]
    Invalid(String),
    /// The file cannot be read or written.
    #[error("{FILE}: {0}")]
    File(#[from] io::Error),
    /// dockerd did not take them up.
    #[error(transparent)]
    Dockerd(#[from] RestartError),
}

impl Engine {
    /// Adds settings to those that there are, and has a dockerd that runs take them up. Whether they were others.
    ///
    /// # Errors
    /// They are no settings of dockerd's, or it does not go on with them.
    pub async fn configure(
        &self,
        children: &Children,
        patch: &Map<String, Value>,
    ) -> Result<bool, SettingsError> {
        let _turn = self.configuring.lock().await;
        if let Some(fixed) = FIXED.iter().find(|name| patch.contains_key(**name)) {
            let text = format!("{fixed} cannot be changed: Coracle's own clients rely on it");
            return Err(SettingsError::Invalid(text));
        }
        if let Some(wrong) = wrong_registry(patch) {
            return Err(SettingsError::Invalid(format!("{wrong} is no registry")));
        }
        let path = Path::new(FILE);
        let present = read(path)?;
        let wanted = merged(&present, patch);
        let changed: Vec<&String> = wanted
            .iter()
            .filter(|(name, value)| present.get(*name) != Some(value))
            .map(|(name, _)| name)
            .collect();
        let is_changed = !changed.is_empty();
        if is_changed {
            check(children, path, &text(&wanted)?).await?;
            let is_read_again = |name: &&String| READ_AGAIN.contains(&name.as_str());
            let restarts = !changed.iter().all(is_read_again);
            write(path, &wanted)?;
            if let Err(error) = self.take_up(restarts).await {
                // It ran with those.
                write(path, &present)?;
                // Why the first did not go well matters more.
                let _ = self.take_up(restarts).await;
                return Err(error);
            }
        }
        // What people wrote there may be new to the kubelet.
        tell_containerd(Path::new(REGISTRIES), &wanted)?;
        Ok(is_changed)
    }

    /// Has a dockerd that runs read the file.
    async fn take_up(&self, restarts: bool) -> Result<(), SettingsError> {
        match self.supervisor.pid(DOCKERD) {
            None => {}
            Some(_) if restarts => self.supervisor.restart(DOCKERD).await?,
            Some(pid) => {
                kill(Pid::from_raw(pid.cast_signed()), Signal::SIGHUP).map_err(io::Error::from)?;
            }
        }
        Ok(())
    }
}

/// Has the kubelet reach registries as dockerd's file says.
///
/// # Errors
/// The file is none of dockerd's, or containerd's cannot be written.
pub fn share_registries() -> Result<(), SettingsError> {
    tell_containerd(Path::new(REGISTRIES), &read(Path::new(FILE))?)
}

/// Writes what containerd is to know, and takes away what it was told before and is not to know any more.
/// What others wrote there stays.
fn tell_containerd(folder: &Path, settings: &Map<String, Value>) -> Result<(), SettingsError> {
    let wanted = registries(settings);
    for (place, text) in &wanted {
        let text = format!("{OURS}{text}");
        place::file(&folder.join(place), text.as_bytes(), Access::PUBLIC)?;
    }
    let folders = match fs::read_dir(folder) {
        Ok(folders) => folders,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for host in folders {
        let host = host?.path();
        let file = host.join(HOSTS);
        let is_wanted = wanted.iter().any(|(place, _)| folder.join(place) == file);
        if !is_wanted && fs::read_to_string(&file).is_ok_and(|text| text.starts_with(OURS)) {
            fs::remove_file(&file)?;
            // It is kept where others have put something beside.
            let _ = fs::remove_dir(&host);
        }
    }
    Ok(())
}

/// A registry of a patch that would keep dockerd from starting, or is none to containerd.
fn wrong_registry(patch: &Map<String, Value>) -> Option<String> {
    let wrong = |name: &str, is_right: fn(&str) -> bool| {
        let list = patch.get(name).and_then(Value::as_array);
        let mut values = list.into_iter().flatten();
        let wrong = values.find(|value| !value.as_str().is_some_and(is_right));
        wrong.map(Value::to_string)
    };
    wrong("insecure-registries", is_registry).or_else(|| wrong("registry-mirrors", is_mirror))
}

fn read(path: &Path) -> Result<Map<String, Value>, SettingsError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(error.into()),
    };
    serde_json::from_str(&text).map_err(|error| {
        SettingsError::Invalid(format!("{FILE} in the machine is no JSON object: {error}"))
    })
}

/// Settings as they stand in their file.
fn text(settings: &Map<String, Value>) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(settings)? + "\n")
}

fn write(path: &Path, settings: &Map<String, Value>) -> io::Result<()> {
    place::file(path, text(settings)?.as_bytes(), Access::PUBLIC)
}

/// Has dockerd check settings, in a file beside the one that it will read.
async fn check(children: &Children, path: &Path, text: &str) -> Result<(), SettingsError> {
    let checked = PathBuf::from(format!("{}.check", path.display()));
    place::file_of_each_boot(&checked, text.as_bytes(), Access::PUBLIC)?;
    let mut command = Command::new("/usr/local/bin/dockerd");
    command.arg("--validate").arg("--config-file").arg(&checked);
    let valid = children.success(&mut command, CHECKS).await;
    fs::remove_file(&checked)?;
    valid
        .map(drop)
        .map_err(|error| SettingsError::Invalid(error.to_string()))
}

/// Settings with others put in: lists of registries grow, everything else is replaced, name by name.
fn merged(present: &Map<String, Value>, patch: &Map<String, Value>) -> Map<String, Value> {
    let mut merged = present.clone();
    for (name, value) in patch {
        let former = merged.get(name);
        let value = match (former, value) {
            (Some(Value::Array(former)), Value::Array(more)) if is_of_registries(name) => {
                let mut all = former.clone();
                all.extend(more.iter().filter(|one| !former.contains(one)).cloned());
                Value::Array(all)
            }
            (Some(Value::Object(former)), Value::Object(more)) => {
                Value::Object(merged_object(former, more))
            }
            (_, value) => value.clone(),
        };
        merged.insert(name.clone(), value);
    }
    merged
}

fn merged_object(former: &Map<String, Value>, more: &Map<String, Value>) -> Map<String, Value> {
    let mut all = former.clone();
    all.extend(more.clone());
    all
}

fn is_of_registries(name: &str) -> bool {
    matches!(name, "insecure-registries" | "registry-mirrors")
}

/// What containerd is to know of registries, as files below its folder (its documentation, `hosts.md`).
fn registries(settings: &Map<String, Value>) -> Vec<(String, String)> {
    let list = |name: &str| {
        let list = settings.get(name).and_then(Value::as_array);
        let texts = list.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut files = Vec::new();
    // A range of addresses is dockerd's alone: containerd knows hosts.
    for host in list("insecure-registries") {
        if host.contains('/') || !is_registry(&host) {
            continue;
        }
        let way = |scheme: &str| {
            format!(
                "[host.\"{scheme}://{host}\"]\ncapabilities = [\"pull\", \"resolve\", \"push\"]\nskip_verify = true\n"
            )
        };
        let text = format!(
            "server = \"https://{host}\"\n\n{}\n{}",
            way("https"),
            way("http")
        );
        files.push((format!("{host}/{HOSTS}"), text));
    }
    let mut mirrors = list("registry-mirrors");
    mirrors.retain(|mirror| is_mirror(mirror));
    if !mirrors.is_empty() {
        let mut text = "server = \"https://registry-1.docker.io\"\n".to_owned();
        for mirror in mirrors {
            let mirror = mirror.trim_end_matches('/');
            text += &format!("\n[host.\"{mirror}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
        }
        files.push((format!("docker.io/{HOSTS}"), text));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn settings_are_put_in_and_nothing_is_lost() {
        let present = object(&json!({
            "debug": false,
            "features": {"containerd-snapshotter": true},
            "insecure-registries": ["a:5000"],
            "mine": 1,
        }));
        let patch = object(&json!({
            "debug": true,
            "features": {"cdi": false},
            "insecure-registries": ["a:5000", "b:5000"],
        }));
        let expected = json!({
            "debug": true,
            "features": {"containerd-snapshotter": true, "cdi": false},
            "insecure-registries": ["a:5000", "b:5000"],
            "mine": 1,
        });
        assert_eq!(Value::Object(merged(&present, &patch)), expected);
    }

    #[test]
    fn what_is_no_registry_is_refused() {
        let wrong = |patch: &Value| wrong_registry(&object(patch));
        let right = json!({"insecure-registries": ["a:5000"], "debug": true});
        assert_eq!(wrong(&right), None);
        for patch in [
            json!({"insecure-registries": ["a:5000", "a:5000/team"]}),
            json!({"insecure-registries": [1]}),
            json!({"registry-mirrors": ["https://m\"/"]}),
        ] {
            assert!(wrong(&patch).is_some(), "{patch}");
        }
    }

    #[test]
    fn what_containerd_knows_follows_and_what_others_wrote_stays() {
        let folder = tempfile::tempdir().unwrap();
        let tell = |settings: &Value| tell_containerd(folder.path(), &object(settings)).unwrap();
        let is_there = |host: &str| folder.path().join(host).join(HOSTS).is_file();
        tell(&json!({}));
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            place::file(&path, text.as_bytes(), Access::PUBLIC).unwrap();
        };
        write(
            "others.example/hosts.toml",
            "server = \"https://others.example\"\n",
        );
        tell(&json!({"insecure-registries": ["a.example:5000", "b.example"]}));
        assert!(is_there("a.example:5000") && is_there("b.example"));
        write("a.example:5000/ca.crt", "");
        tell(&json!({"insecure-registries": ["c.example"]}));
        assert!(!is_there("a.example:5000") && is_there("c.example") && is_there("others.example"));
        assert!(folder.path().join("a.example:5000/ca.crt").is_file());
        assert!(!folder.path().join("b.example").exists());
    }

    #[test]
    fn the_kubelet_reaches_the_same_registries() {
        let settings = object(&json!({
            "insecure-registries": ["a.example:5000", "10.0.0.0/8"],
            "registry-mirrors": ["https://mirror.example/"],
        }));
        let files = registries(&settings);
        let places: Vec<_> = files.iter().map(|(place, _)| place.as_str()).collect();
        assert_eq!(
            places,
            ["a.example:5000/hosts.toml", "docker.io/hosts.toml"]
        );
        let insecure: toml::Table = files[0].1.parse().unwrap();
        assert_eq!(insecure["server"].as_str(), Some("https://a.example:5000"));
        let ways = insecure["host"].as_table().unwrap();
        assert_eq!(
            ways["http://a.example:5000"]["skip_verify"].as_bool(),
            Some(true)
        );
        let mirror: toml::Table = files[1].1.parse().unwrap();
        assert!(
            mirror["host"]
                .as_table()
                .unwrap()
                .contains_key("https://mirror.example")
        );
        assert!(registries(&object(&json!({}))).is_empty());
    }
}
