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
use std::path::Path;

/// Where people's home folders are, also in the machine: what is there may be meant of the host.
const HOMES: [&str; 3] = ["/home", "/root", "/Users"];

/// Whether a request makes a container.
pub(super) fn makes_a_container(method: &Method, path: &str) -> bool {
    method == Method::POST && super::asked::unversioned(path) == "/containers/create"
}

impl Engine {
    /// Sees to it that the machine has what a container is to have of it. Gives the request's body, with paths
    /// as the machine has them; or why there can be no such container.
    pub(super) async fn settle_binds(&self, body: Bytes) -> Result<Bytes, String> {
        let Ok(mut wanted) = serde_json::from_slice::<Value>(&body) else {
            // dockerd says best what is wrong with it.
            return Ok(body);
        };
        let is_changed = translate(&mut wanted);
        let mut reason = None;
        for source in sources(&wanted) {
            let path = Path::new(&source);
            if self.may_be_the_hosts(path) && reason.is_none() {
                reason = self.home.ask().await.err();
            }
            if self.host_folders.hold(path) || path.exists() {
                continue;
            }
            let mut said = format!(
                "bind source path does not exist in the machine: {source}; `coracle mount \
                 HOST:GUEST` gives it a folder of this host"
            );
            if let Some(reason) = reason {
                said += &format!(" (your home folder is not there: {reason})");
            }
            return Err(said);
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

/// Puts paths of a Windows host as the machine has them; whether there were any.
fn translate(wanted: &mut Value) -> bool {
    let mut is_changed = false;
    let host = &mut wanted["HostConfig"];
    for bind in host["Binds"].as_array_mut().into_iter().flatten() {
        let text = bind.as_str().unwrap_or_default();
        // The drive's own colon is the second character.
        let end = text.get(2..).and_then(|rest| rest.find(':'));
        if let Some((source, rest)) = end.map(|end| text.split_at(end + 2))
            && let Some(path) = machine_path(source)
        {
            *bind = Value::String(path + rest);
            is_changed = true;
        }
    }
    for mount in host["Mounts"].as_array_mut().into_iter().flatten() {
        let source = mount["Source"].as_str().unwrap_or_default();
        if let Some(path) = machine_path(source).filter(|_| mount["Type"] == "bind") {
            mount["Source"] = Value::String(path);
            is_changed = true;
        }
    }
    is_changed
}

/// The paths in the machine that a container is to have.
fn sources(wanted: &Value) -> Vec<String> {
    let host = &wanted["HostConfig"];
    let binds = super::images::each(&host["Binds"]).filter_map(Value::as_str);
    let binds = binds.filter_map(|bind| bind.split_once(':').map(|(source, _)| source));
    let mounts = super::images::each(&host["Mounts"])
        .filter(|mount| mount["Type"] == "bind")
        .filter_map(|mount| mount["Source"].as_str());
    binds
        .chain(mounts)
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
        assert!(!translate(&mut json!({"Image": "app"})));
    }

    #[test]
    fn only_requests_that_make_containers_are_looked_into() {
        for (method, path, is) in [
            (Method::POST, "/v1.51/containers/create", true),
            (Method::POST, "/containers/create", true),
            (Method::GET, "/containers/create", false),
            (Method::POST, "/v1.51/containers/create/start", false),
        ] {
            assert_eq!(makes_a_container(&method, path), is, "{path}");
        }
    }
}
