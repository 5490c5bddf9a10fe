//! Folders that a container is to have: whether the machine has them.
//!
//! A path in a bind mount is one of the computer before whoever types, which is the host. Below the home
//! folder of its user, and below what else is mounted of it, the machine has the same paths. What it has
//! under no such name is refused: dockerd would make an empty folder of it.

use super::Engine;
use bytes::Bytes;
use coracle_protocol::machine_path;
use hyper::Method;
use serde_json::Value;
use std::path::{Component, Path, PathBuf};

/// Where people's home folders are, also in the machine: what is there may be meant of the host.
const HOMES: [&str; 3] = ["/home", "/root", "/Users"];

/// Who asks for a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    /// Somebody with the cluster's certificate: the host's user.
    Outside,
    /// A program in the machine, or a pod that was given the socket. It gets nothing of the host.
    Inside,
}

/// Whether a request makes a container, or a volume that may stand for a folder.
pub(super) fn names_folders(method: &Method, path: &str) -> bool {
    let path = super::asked::unversioned(path);
    method == Method::POST && matches!(path, "/containers/create" | "/volumes/create")
}

impl Engine {
    /// Sees to it that the machine has what a container is to have of it. Gives the request's body, with paths
    /// as the machine has them; or why there can be no such container.
    pub(super) async fn settle_binds(&self, body: Bytes, client: Client) -> Result<Bytes, String> {
        let Ok(mut wanted) = serde_json::from_slice::<Value>(&body) else {
            // dockerd says best what is wrong with it.
            return Ok(body);
        };
        let is_changed = translate(&mut wanted);
        for source in sources(&wanted) {
            let path = normal(Path::new(&source));
            if client == Client::Outside && self.may_be_the_hosts(&path) {
                let brought = self.home.ask(&path.to_string_lossy()).await;
                // Also where the machine has a folder of that name: it is another one.
                brought.map_err(|reason| missing(&source, &format!(" ({reason})")))?;
            }
            if !self.host_folders.hold(&path) && !path.exists() {
                return Err(missing(&source, ""));
            }
        }
        match is_changed {
            true => Ok(Bytes::from(wanted.to_string())),
            false => Ok(body),
        }
    }

    fn may_be_the_hosts(&self, path: &Path) -> bool {
        let is_home = HOMES.iter().any(|home| path.starts_with(home));
        !self.host_folders.hold(path) && (is_home || !path.exists())
    }
}

/// What is said of a path that is not there, as dockerd begins it.
fn missing(source: &str, reason: &str) -> String {
    format!(
        "bind source path does not exist in the machine: {source}; `coracle mount HOST:GUEST` gives \
         it a folder of this host{reason}"
    )
}

/// A path without `.` and `..`, as dockerd takes it.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

/// Puts paths of a Windows host as the machine has them; whether there were any.
fn translate(wanted: &mut Value) -> bool {
    let mut is_changed = false;
    let mut put = |text: &mut Value, path: String| {
        *text = Value::String(path);
        is_changed = true;
    };
    let host = wanted.get_mut("HostConfig").and_then(Value::as_object_mut);
    let Some(host) = host else {
        return false;
    };
    let binds = host.get_mut("Binds").and_then(Value::as_array_mut);
    for bind in binds.into_iter().flatten() {
        let text = bind.as_str().unwrap_or_default();
        // The drive's own colon is the second character.
        let end = text.get(2..).and_then(|rest| rest.find(':'));
        let parts = end.map(|end| text.split_at(end + 2));
        let translated = parts.and_then(|(source, rest)| Some(machine_path(source)? + rest));
        if let Some(path) = translated {
            put(bind, path);
        }
    }
    let mounts = host.get_mut("Mounts").and_then(Value::as_array_mut);
    for mount in mounts.into_iter().flatten() {
        let is_bind = mount["Type"] == "bind";
        let source = mount.get_mut("Source").filter(|_| is_bind);
        if let Some(source) = source
            && let Some(path) = machine_path(source.as_str().unwrap_or_default())
        {
            put(source, path);
        }
    }
    is_changed
}

/// The paths in the machine that a container, or a volume, is to have.
fn sources(wanted: &Value) -> Vec<String> {
    let host = &wanted["HostConfig"];
    // A volume of the driver `local` may be a bind mount.
    let options = &wanted["DriverOpts"];
    let is_bind = options["o"]
        .as_str()
        .is_some_and(|o| o.split(',').any(|one| one == "bind"));
    let device = options["device"].as_str().filter(|_| is_bind);
    let binds = super::images::each(&host["Binds"]).filter_map(Value::as_str);
    let binds = binds.filter_map(|bind| bind.split_once(':').map(|(source, _)| source));
    let mounts = super::images::each(&host["Mounts"])
        .filter(|mount| mount["Type"] == "bind")
        .filter_map(|mount| mount["Source"].as_str());
    binds
        .chain(mounts)
        .chain(device)
        // All others are volumes' names.
        .filter(|source| source.starts_with('/'))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sources_are_paths_and_no_names_of_volumes() {
        let wanted = json!({"HostConfig": {
            "Binds": ["/home/me/src:/src:ro", "data:/data", "/var/run/docker.sock:/var/run/docker.sock"],
            "Mounts": [
                {"Type": "bind", "Source": "/home/me/conf", "Target": "/conf"},
                {"Type": "volume", "Source": "/odd", "Target": "/odd"},
                {"Type": "tmpfs", "Target": "/tmp"},
            ],
        }});
        let expected = ["/home/me/src", "/var/run/docker.sock", "/home/me/conf"];
        assert_eq!(sources(&wanted), expected);
        assert_eq!(sources(&json!({"Image": "app"})).len(), 0);
        let volume =
            json!({"DriverOpts": {"type": "none", "o": "rw,bind", "device": "/home/me/data"}});
        assert_eq!(sources(&volume), ["/home/me/data"]);
        let nowhere = normal(Path::new("/home/me/../../nowhere/./x"));
        assert_eq!(nowhere, Path::new("/nowhere/x"));
    }

    #[test]
    fn paths_of_windows_are_put_as_the_machine_has_them() {
        let mut wanted = json!({"HostConfig": {
            "Binds": [r"C:\Users\me\src:/src:ro", "data:/data", "/c:/d"],
            "Mounts": [{"Type": "bind", "Source": "d:/conf", "Target": "/conf"}],
        }});
        assert!(translate(&mut wanted));
        assert_eq!(
            sources(&wanted),
            ["/host/c/Users/me/src", "/c", "/host/d/conf"]
        );
        assert_eq!(
            wanted["HostConfig"]["Binds"][0],
            "/host/c/Users/me/src:/src:ro"
        );
        assert!(!translate(&mut wanted));
        // Whatever somebody sends, dockerd says what is wrong with it.
        for other in [
            "{}",
            "[]",
            "1",
            "null",
            r#"{"HostConfig": []}"#,
            r#"{"HostConfig": {"Mounts": [1]}}"#,
        ] {
            let mut other: Value = serde_json::from_str(other).unwrap();
            assert!(!translate(&mut other));
            assert_eq!(sources(&other).len(), 0);
        }
    }

    #[test]
    fn only_requests_that_name_folders_are_looked_into() {
        for (method, path, is) in [
            (Method::POST, "/v1.51/containers/create", true),
            (Method::POST, "/containers/create", true),
            (Method::POST, "/v1.44/volumes/create", true),
            (Method::GET, "/containers/create", false),
            (Method::POST, "/v1.51/containers/create/start", false),
        ] {
            assert_eq!(names_folders(&method, path), is, "{path}");
        }
    }
}
