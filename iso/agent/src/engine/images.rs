//! Images as Docker's clients see them, where the kubelet has the same ones.
//!
//! ```text
//! containerd's names of an image:   app:1   moby-dangling@sha256:TARGET   sha256:CONFIGURATION
//!                                   people's     dockerd's own              the kubelet's own
//! ```
//!
//! The kubelet's names are left out of what is listed, or each image would be there three times, and none
//! would ever be without a name. Before an image is removed they go, and dockerd does what it would do
//! without them. What pods use stays, whoever asks dockerd to remove it: it knows its own containers alone.
//!
//! An image's id in the Docker API is TARGET, the digest of what its names stand for; the kubelet's id is that
//! of its configuration.

use super::Engine;
use crate::cri::{Cri, CriError};
use hyper::{Method, StatusCode, Uri};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io;

/// A request about images that dockerd alone would not answer right.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To list them; the path with its query, and whether to leave out those with names, or without.
    List {
        path: String,
        dangling: Option<bool>,
    },
    /// What is known of one.
    Inspect,
    /// To remove one, by name or id, as it stands in the path.
    Remove(String),
    /// To remove all that nothing uses, of those that the filters let through.
    Prune { path: String, dangling: bool },
    /// The same with filters that are not understood.
    PruneUnclear,
}

/// What comes of it.
#[derive(Debug)]
pub(super) enum Verdict {
    /// dockerd may answer.
    Pass,
    /// dockerd answers, and the kubelet's names are left out of it.
    PassWithout,
    /// This is the answer.
    Done(Value),
    /// It is not done, and why.
    Refused(String),
}

/// Who uses what.
type Users = BTreeMap<String, String>;

/// What is used.
#[derive(Debug, Default)]
struct Used {
    /// Images, by their ids.
    images: Users,
    /// Names that pods have: without them no container of theirs could begin anew.
    names: Users,
}

/// What begins dockerd's name of an image that has no other.
const NAMELESS: &str = "moby-dangling@";

impl Asked {
    /// What a request asks of images, if it does.
    pub(super) fn of(method: &Method, uri: &Uri) -> Option<Self> {
        let path = uri.path();
        let rest = unversioned(path).strip_prefix("/images/")?;
        let query = uri.query().unwrap_or_default();
        match (method, rest) {
            (&Method::GET, "json") => {
                let (query, dangling) = without_dangling(query)?;
                let path = format!("{path}?{query}");
                Some(Self::List { path, dangling })
            }
            (&Method::GET, rest) if rest.ends_with("/json") => Some(Self::Inspect),
            (&Method::POST, "prune") => {
                let Some((query, dangling)) = without_dangling(query) else {
                    return Some(Self::PruneUnclear);
                };
                let path = path.replace("/prune", "/json");
                Some(Self::Prune {
                    path: format!("{path}?{query}"),
                    dangling: dangling.unwrap_or(true),
                })
            }
            (&Method::DELETE, name) => Some(Self::Remove(name.to_owned())),
            _ => None,
        }
    }
}

impl Engine {
    pub(super) async fn judge(&self, asked: Asked) -> io::Result<Verdict> {
        match asked {
            Asked::Inspect => Ok(Verdict::PassWithout),
            Asked::List { path, dangling } => {
                let (status, mut listed) = self.ask(Method::GET, &path).await?;
                if status != StatusCode::OK {
                    return Ok(Verdict::Pass);
                }
                without_kubelets(&mut listed);
                if let (Some(dangling), Some(images)) = (dangling, listed.as_array_mut()) {
                    images.retain(|image| names(image).is_empty() == dangling);
                }
                Ok(Verdict::Done(listed))
            }
            Asked::PruneUnclear => Ok(Verdict::Refused(
                "the filters of this prune are not understood; nothing was removed".into(),
            )),
            Asked::Remove(name) => self.remove(&name).await,
            Asked::Prune { path, dangling } => self.prune(&path, dangling).await,
        }
    }

    async fn remove(&self, name: &str) -> io::Result<Verdict> {
        let (status, image) = self
            .ask(Method::GET, &format!("/images/{name}/json"))
            .await?;
        if status != StatusCode::OK {
            // dockerd says best what is wrong with a name.
            return Ok(Verdict::Pass);
        }
        let id = image["Id"].as_str().unwrap_or_default();
        let cri = self.cri().await.map_err(io::Error::other)?;
        let used = used(&cri).await.map_err(io::Error::other)?;
        let by_name = used.names.get(&normalized(&decoded(name)));
        if let Some(user) = by_name.or_else(|| used.images.get(id)) {
            // One of several names may go, where no pod has it: the image stays.
            if by_name.is_none() && is_spare(&image, name) {
                return Ok(Verdict::Pass);
            }
            let name = decoded(name);
            return Ok(Verdict::Refused(format!(
                "conflict: unable to remove {name}: {user} uses it"
            )));
        }
        forget(&cri, &image).await.map_err(io::Error::other)?;
        Ok(Verdict::Pass)
    }

    /// Removes what neither a container of dockerd's nor a pod uses, as dockerd's own prune would.
    async fn prune(&self, listing: &str, dangling: bool) -> io::Result<Verdict> {
        let (status, listed) = self.ask(Method::GET, listing).await?;
        if status != StatusCode::OK {
            // It says of the same filters what is wrong with them.
            let said = listed["message"].as_str().unwrap_or("no list of images");
            return Ok(Verdict::Refused(said.to_owned()));
        }
        let cri = self.cri().await.map_err(io::Error::other)?;
        let users = used(&cri).await.map_err(io::Error::other)?.images;
        let (_, containers) = self.ask(Method::GET, "/containers/json?all=1").await?;
        let of_containers: Vec<&str> = each(&containers)
            .filter_map(|container| container["ImageID"].as_str())
            .collect();
        let before = self.size_of_images().await?;
        let mut removed = Vec::new();
        for image in each(&listed) {
            let id = image["Id"].as_str().unwrap_or_default();
            let names = names(image);
            let is_used = users.contains_key(id) || of_containers.contains(&id);
            if is_used || dangling && !names.is_empty() {
                continue;
            }
            forget(&cri, image).await.map_err(io::Error::other)?;
            let names = if names.is_empty() { vec![id] } else { names };
            for name in names {
                let path = format!("/images/{name}");
                let (status, parts) = self.ask(Method::DELETE, &path).await?;
                if status == StatusCode::OK {
                    removed.extend(each(&parts).cloned());
                }
            }
        }
        let freed = before.saturating_sub(self.size_of_images().await?);
        Ok(Verdict::Done(
            json!({ "ImagesDeleted": removed, "SpaceReclaimed": freed }),
        ))
    }

    /// Bytes that all images take together.
    async fn size_of_images(&self) -> io::Result<u64> {
        let (_, usage) = self.ask(Method::GET, "/system/df?type=image").await?;
        let of_images = &usage["ImageUsage"]["TotalSize"];
        let size = of_images.as_u64().or_else(|| usage["LayersSize"].as_u64());
        Ok(size.unwrap_or(0))
    }
}

/// What pods have containers of, or would have when one begins anew, and what no machine is to be without.
async fn used(cri: &Cri) -> Result<Used, CriError> {
    let images = cri.images().await?;
    let mut by_name = Users::new();
    let mut used = Used::default();
    let mut uses = |names: &mut dyn Iterator<Item = &String>, user: &str| {
        by_name.extend(names.map(|name| (name.clone(), user.to_owned())));
    };
    let all_names = |image: &crate::cri::Image| {
        let more = image.repo_tags.iter().chain(&image.repo_digests);
        std::iter::once(&image.id)
            .chain(more)
            .cloned()
            .collect::<Vec<_>>()
    };
    for image in images.iter().filter(|image| image.pinned) {
        uses(&mut all_names(image).iter(), "the machine");
    }
    for container in cri.containers().await? {
        let label = |name: &str| container.labels.get(name).map_or("", String::as_str);
        let user = format!(
            "the pod {} in the namespace {}",
            label("io.kubernetes.pod.name"),
            label("io.kubernetes.pod.namespace")
        );
        // Any of its names leads to it: dockerd may have taken the kubelet's own.
        for image in images.iter().filter(|image| image.id == container.image_id) {
            uses(&mut all_names(image).iter(), &user);
        }
        if let Some(image) = container.image {
            let name = normalized(&image.user_specified_image);
            uses(&mut [&name].into_iter(), &user);
            used.names.insert(name, user);
        }
    }
    for (name, user) in by_name {
        // dockerd's own name of one that has no other says what it stands for.
        let target = match name.split_once(NAMELESS) {
            Some((_, target)) => Some(target.to_owned()),
            None => cri.target(&name).await?,
        };
        if let Some(target) = target {
            used.images.insert(target, user);
        }
    }
    Ok(used)
}

/// An image's name as containerd has it: with registry and tag.
fn normalized(name: &str) -> String {
    let (registry, rest) = name.split_once('/').unwrap_or(("", name));
    let is_registry = registry.contains(['.', ':']) || registry == "localhost";
    let whole = match (is_registry, registry) {
        (true, _) => name.to_owned(),
        (false, "") => format!("docker.io/library/{rest}"),
        (false, _) => format!("docker.io/{name}"),
    };
    let last = whole.rsplit_once('/').map_or("", |(_, last)| last);
    match last.contains([':', '@']) {
        true => whole,
        false => format!("{whole}:latest"),
    }
}

/// Takes the kubelet's names from an image that is about to be removed.
async fn forget(cri: &Cri, image: &Value) -> Result<(), CriError> {
    let tags = each(&image["RepoTags"]).filter_map(Value::as_str);
    for name in tags.filter(|name| is_kubelets(name)) {
        cri.forget(name).await?;
    }
    Ok(())
}

/// Leaves the kubelet's names out of an image, or of each of a list.
pub(super) fn without_kubelets(answer: &mut Value) {
    match answer {
        Value::Array(images) => images.iter_mut().for_each(without_kubelets),
        Value::Object(image) => {
            for names in ["RepoTags", "RepoDigests"] {
                if let Some(Value::Array(names)) = image.get_mut(names) {
                    names.retain(|name| !name.as_str().is_some_and(is_kubelets));
                }
            }
        }
        _ => {}
    }
}

/// Whether a name is `sha256:DIGEST`, or that with another digest, as no repository is called.
fn is_kubelets(name: &str) -> bool {
    name.starts_with("sha256:") || name.starts_with("sha256@")
}

/// The names of an image by which people know it.
fn names(image: &Value) -> Vec<&str> {
    let tags = each(&image["RepoTags"]).filter_map(Value::as_str);
    tags.filter(|name| !is_kubelets(name)).collect()
}

/// Whether an image has another name than this one, which is a name and no id.
fn is_spare(image: &Value, name: &str) -> bool {
    let name = normalized(&decoded(name));
    let tags = names(image);
    tags.len() > 1 && tags.iter().any(|tag| normalized(tag) == name)
}

/// The path of a request without its version, `/v1.44`.
fn unversioned(path: &str) -> &str {
    let after = path.strip_prefix("/v").and_then(|rest| {
        let end = rest.find('/')?;
        let is_version = rest[..end].bytes().all(|c| c.is_ascii_digit() || c == b'.');
        is_version.then_some(&rest[end..])
    });
    after.unwrap_or(path)
}

/// A query whose filters do not say whether images have names, and what they said of it. None where the
/// filters cannot be read: dockerd says why.
fn without_dangling(query: &str) -> Option<(String, Option<bool>)> {
    let mut dangling = None;
    let mut parts = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let Some(filters) = part.strip_prefix("filters=") else {
            // Another spelling of the same, which dockerd would go by.
            if decoded(part).starts_with("filters=") {
                return None;
            }
            parts.push(part.to_owned());
            continue;
        };
        let filters = decoded(&filters.replace('+', "%20"));
        let mut filters: Map<String, Value> = match filters.as_str() {
            "" => Map::new(),
            text => serde_json::from_str(text).ok()?,
        };
        // Both forms that clients write: {"dangling": ["false"]} and {"dangling": {"false": true}}.
        if let Some(values) = filters.shift_remove("dangling") {
            let says = |words: [&str; 2]| {
                words.iter().any(|word| {
                    each(&values).any(|value| value == word)
                        || values.get(word).is_some_and(|value| value == true)
                })
            };
            dangling = match (says(["true", "1"]), says(["false", "0"])) {
                (true, false) => Some(true),
                (false, true) => Some(false),
                // Nothing that is understood: dockerd says so.
                _ => return None,
            };
        }
        parts.push(format!(
            "filters={}",
            encoded(&Value::Object(filters).to_string())
        ));
    }
    Some((parts.join("&"), dangling))
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// A path's or query's text without its escapes.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| *first == b'%');
        let escaped = escaped.and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn encoded(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                escaped.push(char::from(byte));
            }
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &Method, uri: &str) -> Option<Asked> {
        Asked::of(method, &uri.parse().unwrap())
    }

    #[test]
    fn requests_about_images_are_told_from_others() {
        let remove = |name: &str| Some(Asked::Remove(name.to_owned()));
        assert_eq!(
            asked(&Method::DELETE, "/v1.51/images/app:1"),
            remove("app:1")
        );
        assert_eq!(
            asked(&Method::DELETE, "/images/a.example:5000/b/c:1?force=1"),
            remove("a.example:5000/b/c:1")
        );
        let uri = "/v1.51/images/a%2Fb/json";
        assert_eq!(asked(&Method::GET, uri), Some(Asked::Inspect));
        for (method, uri) in [
            (Method::GET, "/v1.44/images/search"),
            (Method::GET, "/v1.44/images/app/history"),
            (Method::POST, "/v1.44/images/app/tag"),
            (Method::DELETE, "/v1.44/containers/images"),
            (Method::DELETE, "/version/images/x"),
        ] {
            assert_eq!(asked(&method, uri), None, "{uri}");
        }
    }

    #[test]
    fn whether_images_have_names_is_not_asked_of_dockerd() {
        let list = |query: &str| match asked(&Method::GET, &format!("/v1.44/images/json?{query}")) {
            Some(Asked::List { path, dangling }) => Some((decoded(&path), dangling)),
            other => panic!("{other:?}"),
        };
        let path = |query: &str| format!("/v1.44/images/json?{query}");
        assert_eq!(list("all=1"), Some((path("all=1"), None)));
        let filters = encoded(r#"{"dangling":{"true":true},"label":["a=b c"]}"#);
        let listed = list(&format!("filters={filters}&all=0"));
        let rest = path(r#"filters={"label":["a=b c"]}&all=0"#);
        assert_eq!(listed, Some((rest, Some(true))));
        let prune = "/images/prune?%66ilters=%7B%7D";
        assert_eq!(asked(&Method::POST, prune), Some(Asked::PruneUnclear));
        let wrong = format!("/images/json?filters={}", encoded(r#"{"dangling":["x"]}"#));
        assert_eq!(asked(&Method::GET, &wrong), None);
        assert_eq!(asked(&Method::GET, "/images/json?filters=%7B"), None);
    }

    #[test]
    fn a_prune_is_about_images_without_names_unless_it_says_otherwise() {
        let of = |filters: &str| {
            let uri = format!("/v1.44/images/prune?filters={}", encoded(filters));
            match asked(&Method::POST, &uri) {
                Some(Asked::Prune { path, dangling }) => (decoded(&path), dangling),
                other => panic!("{other:?}"),
            }
        };
        let path = |filters: &str| format!("/v1.44/images/json?filters={filters}");
        for filters in [
            "{}",
            r#"{"dangling":["true"]}"#,
            r#"{"dangling":{"1":true}}"#,
        ] {
            assert_eq!(of(filters), (path("{}"), true), "{filters}");
        }
        for filters in [r#"{"dangling":["false"]}"#, r#"{"dangling":{"0":true}}"#] {
            assert_eq!(of(filters), (path("{}"), false), "{filters}");
        }
        let until = r#"{"dangling":{"false":true},"until":{"24h":true}}"#;
        assert_eq!(of(until), (path(r#"{"until":{"24h":true}}"#), false));
    }

    #[test]
    fn the_kubelets_names_are_left_out() {
        let mut listed = json!([{
            "Id": "sha256:a",
            "RepoTags": ["app:1", "sha256:b"],
            "RepoDigests": ["app@sha256:a", "sha256@sha256:a"],
        }, { "Id": "sha256:c", "RepoTags": ["sha256:d"] }]);
        without_kubelets(&mut listed);
        assert_eq!(listed[0]["RepoTags"], json!(["app:1"]));
        assert_eq!(listed[0]["RepoDigests"], json!(["app@sha256:a"]));
        assert_eq!(names(&listed[1]).len(), 0);
    }

    #[test]
    fn names_are_told_as_containerd_has_them() {
        for (name, whole) in [
            ("app", "docker.io/library/app:latest"),
            ("app:1", "docker.io/library/app:1"),
            ("me/app:1", "docker.io/me/app:1"),
            ("docker.io/library/app", "docker.io/library/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("a.example:5000/app", "a.example:5000/app:latest"),
            ("a.example/b/c@sha256:d", "a.example/b/c@sha256:d"),
        ] {
            assert_eq!(normalized(name), whole, "{name}");
        }
    }

    #[test]
    fn one_of_several_names_may_go() {
        let image = |tags: &[&str]| json!({ "RepoTags": tags });
        assert!(is_spare(&image(&["app:1", "app:2"]), "app:1"));
        assert!(is_spare(&image(&["app:latest", "b:1"]), "app"));
        let escaped = "docker.io%2Flibrary%2Fapp";
        assert!(is_spare(&image(&["app:latest", "b:1"]), escaped));
        assert!(!is_spare(&image(&["app:1", "sha256:b"]), "app:1"));
        assert!(!is_spare(&image(&["app:1", "app:2"]), "sha256:abc"));
        assert!(!is_spare(&image(&["app:1", "app:2"]), "abc"));
    }
}
