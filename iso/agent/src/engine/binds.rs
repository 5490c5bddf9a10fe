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
        let (sources, is_changed) = sources(&mut wanted);
        for source in sources {
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

/// The paths in the machine that a container, or a volume, is to have. Those of a Windows host are put as the
/// machine has them; the second is whether there were any.
fn sources(wanted: &mut Value) -> (Vec<String>, bool) {
    let (mut sources, mut is_changed) = (Vec::new(), false);
    visit(wanted, |source| {
        let translated = machine_path(source);
        is_changed |= translated.is_some();
        let path = translated.as_deref().unwrap_or(source);
        // All others are volumes' names.
        if path.starts_with('/') {
            sources.push(path.to_owned());
        }
        translated
    });
    (sources, is_changed)
}

/// Visits all that may be a folder of the machine; what comes back takes its place.
fn visit(wanted: &mut Value, mut source: impl FnMut(&str) -> Option<String>) {
    let mut whole = |text: &mut Value| {
        if let Some(path) = text.as_str().and_then(&mut source) {
            *text = Value::String(path);
        }
    };
    // A volume of the driver `local` may be a bind mount.
    if let Some(options) = wanted.get_mut("DriverOpts") {
        let kinds = options["o"].as_str().unwrap_or_default();
        if kinds.split(',').any(|one| one == "bind")
            && let Some(device) = options.get_mut("device")
        {
            whole(device);
        }
    }
    let Some(host) = wanted.get_mut("HostConfig") else {
        return;
    };
    let mounts = host.get_mut("Mounts").and_then(Value::as_array_mut);
    for mount in mounts.into_iter().flatten() {
        if mount["Type"] == "bind"
            && let Some(place) = mount.get_mut("Source")
        {
            whole(place);
        }
    }
    let binds = host.get_mut("Binds").and_then(Value::as_array_mut);
    for bind in binds.into_iter().flatten() {
        let text = bind.as_str().unwrap_or_default();
        // A drive's own colon is the second character.
        let end = text.get(2..).and_then(|rest| rest.find(':'));
        let end = end.map(|end| end + 2).or_else(|| text.find(':'));
        let Some((place, rest)) = end.map(|end| text.split_at(end)) else {
            continue;
        };
        if let Some(path) = source(place) {
            *bind = Value::String(path + rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sources_are_paths_and_no_names_of_volumes() {
        let mut wanted = json!({"HostConfig": {
            "Binds": ["/home/me/src:/src:ro", "data:/data", "/var/run/docker.sock:/var/run/docker.sock"],
            "Mounts": [
                {"Type": "bind", "Source": "/home/me/conf", "Target": "/conf"},
                {"Type": "volume", "Source": "/odd", "Target": "/odd"},
                {"Type": "tmpfs", "Target": "/tmp"},
            ],
        }});
        let expected = ["/home/me/conf", "/home/me/src", "/var/run/docker.sock"];
        let paths = |wanted: &mut Value| sources(wanted).0;
        assert_eq!(paths(&mut wanted), expected);
        assert_eq!(paths(&mut json!({"Image": "app"})).len(), 0);
        let mut volume =
            json!({"DriverOpts": {"type": "none", "o": "rw,bind", "device": "/home/me/data"}});
        assert_eq!(paths(&mut volume), ["/home/me/data"]);
        let nowhere = normal(Path::new("/home/me/../../nowhere/./x"));
        assert_eq!(nowhere, Path::new("/nowhere/x"));
    }

    #[test]
    fn paths_of_windows_are_put_as_the_machine_has_them() {
        let mut wanted = json!({"HostConfig": {
            "Binds": [r"C:\Users\me\src:/src:ro", "data:/data", "/c:/d"],
            "Mounts": [{"Type": "bind", "Source": "d:/conf", "Target": "/conf"}],
        }});
        let places = ["/host/d/conf", "/host/c/Users/me/src", "/c"];
        assert_eq!(
            sources(&mut wanted),
            (places.map(str::to_owned).into(), true)
        );
        assert_eq!(
            wanted["HostConfig"]["Binds"][0],
            "/host/c/Users/me/src:/src:ro"
        );
        assert_eq!(
            sources(&mut wanted),
            (places.map(str::to_owned).into(), false)
        );
        let mut volume = json!({"DriverOpts": {"o": "bind", "device": r"C:\data"}});
        assert!(sources(&mut volume).1);
        assert_eq!(volume["DriverOpts"]["device"], "/host/c/data");
        // Whatever somebody sends, dockerd says what is wrong with it.
        for other in [
            "{}",
            "[]",
            "1",
            "null",
            r#"{"HostConfig": []}"#,
            r#"{"HostConfig": {"Mounts": [1], "Binds": [2]}, "DriverOpts": 3}"#,
        ] {
            let mut other: Value = serde_json::from_str(other).unwrap();
            assert_eq!(sources(&mut other), (Vec::new(), false));
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
