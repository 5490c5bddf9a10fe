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
//! Containers of a deleted pod are there until the kubelet collects them, a minute later at worst. Whoever names an
//! image is not to wait for that: a pod uses nothing when the kubelet has forgotten it, which is when the pod's folder
//! is gone, a few seconds after the API has. A prune goes by the containers: a pod that takes another's place may
//! not have any yet.
//!
//! An image's id in the Docker API is TARGET, the digest of what its names stand for; the kubelet's id is that
//! of its configuration.

use super::Engine;
use super::asked::{Asked, decoded};
use crate::cri::{Container, Cri, CriError};
use coracle_protocol::image_name::ImageName;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

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

/// Who uses an image.
#[derive(Debug, Clone)]
struct User {
    /// As people are told.
    said: String,
    /// It has ended; if it was deleted too, it uses nothing in a moment.
    ended: bool,
}

/// Who uses what.
type Users = BTreeMap<String, User>;

/// What is used.
#[derive(Debug, Default)]
struct Used {
    /// Images, by their ids.
    images: Users,
    /// Names that pods have: without them no container of theirs could begin anew.
    names: Users,
}

/// A folder for each pod that the kubelet knows, by its uid.
const PODS: &str = "/var/lib/kubelet/pods";
/// The kubelet looks every two seconds which pods it may forget.
const LEAVES: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(250);
/// What begins dockerd's name of an image that has no other.
const NAMELESS: &str = "moby-dangling@";

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
        let cri = Cri::connect().await?;
        let patient_until = Instant::now() + LEAVES;
        loop {
            let used = used(&cri, Path::new(PODS)).await?;
            let by_name = used.names.get(&whole(&decoded(name)));
            let Some(user) = by_name.or_else(|| used.images.get(id)) else {
                break;
            };
            // One of several names may go, where no pod has it: the image stays.
            if by_name.is_none() && is_spare(&image, name) {
                return Ok(Verdict::Pass);
            }
            if !user.ended || Instant::now() > patient_until {
                return Ok(Verdict::Refused(format!(
                    "conflict: unable to remove {}: {} uses it",
                    decoded(name),
                    user.said
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
        forget(&cri, &image).await?;
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
        let cri = Cri::connect().await?;
        let users = used_by(&cri, cri.containers().await?).await?.images;
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
            forget(&cri, image).await?;
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

/// As [`used_by`], by the containers of pods that the kubelet, which has their folders in `pods`, did not forget.
async fn used(cri: &Cri, pods: &Path) -> Result<Used, CriError> {
    let mut containers = cri.containers().await?;
    containers.retain(|container| !is_left_over(container, pods));
    used_by(cri, containers).await
}

/// What pods have these containers of, or would have when one begins anew, and what no machine is to be without.
async fn used_by(cri: &Cri, mut containers: Vec<Container>) -> Result<Used, CriError> {
    let images = cri.images().await?;
    let mut by_name = Users::new();
    let mut used = Used::default();
    let mut uses = |names: &mut dyn Iterator<Item = &String>, user: &User| {
        by_name.extend(names.map(|name| (name.clone(), user.clone())));
    };
    let all_names = |image: &crate::cri::Image| {
        let more = image.repo_tags.iter().chain(&image.repo_digests);
        std::iter::once(&image.id)
            .chain(more)
            .cloned()
            .collect::<Vec<_>>()
    };
    // Of several users of an image the last is named: one that has not ended.
    containers.sort_by_key(|container| !container.has_ended());
    for container in containers {
        let user = User {
            said: format!(
                "the pod {} in the namespace {}",
                container.label("io.kubernetes.pod.name"),
                container.label("io.kubernetes.pod.namespace")
            ),
            ended: container.has_ended(),
        };
        // Any of its names leads to it: dockerd may have taken the kubelet's own.
        for image in images.iter().filter(|image| image.id == container.image_id) {
            uses(&mut all_names(image).iter(), &user);
        }
        if let Some(image) = container.image {
            let name = whole(&image.user_specified_image);
            uses(&mut [&name].into_iter(), &user);
            used.names.insert(name, user);
        }
    }
    let machine = User {
        said: "the machine".into(),
        ended: false,
    };
    for image in images.iter().filter(|image| image.pinned) {
        uses(&mut all_names(image).iter(), &machine);
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

/// Whether this is what a pod has left that the kubelet, which has its pods' folders in `pods`, has forgotten.
fn is_left_over(container: &Container, pods: &Path) -> bool {
    let pod = container.label("io.kubernetes.pod.uid");
    container.has_ended() && !pod.is_empty() && !pods.join(pod).exists()
}

/// An image's name as containerd has it.
fn whole(name: &str) -> String {
    ImageName::of(name).whole()
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
    let name = whole(&decoded(name));
    let tags = names(image);
    tags.len() > 1 && tags.iter().any(|tag| whole(tag) == name)
}

/// The values of a JSON list.
pub(super) fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn only_what_a_forgotten_pod_has_left_counts_for_nothing() {
        let pods = tempfile::tempdir().unwrap();
        std::fs::create_dir(pods.path().join("known")).unwrap();
        let is_left_over = |container| is_left_over(&container, pods.path());
        assert!(is_left_over(Container::ended("forgotten")));
        assert!(!is_left_over(Container::ended("known")));
        assert!(!is_left_over(Container::ended("")));
        // It has not ended: the kubelet will yet end it.
        assert!(!is_left_over(Container::default()));
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
