//! What is in a pod, wherever it is described.

use crate::draft::{Object, Path, Step, join, keys};
use coracle_yaml::{Value, YamlError};

/// Where init containers once were, as JSON.
const INIT_CONTAINERS: [&str; 2] = [
    "pod.beta.kubernetes.io/init-containers",
    "pod.alpha.kubernetes.io/init-containers",
];
/// Annotations that do nothing any more, and what does.
const DEAD: [(&str, &str); 6] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "use priorityClassName: system-cluster-critical",
    ),
    (
        "scheduler.alpha.kubernetes.io/affinity",
        "use spec.affinity",
    ),
    (
        "scheduler.alpha.kubernetes.io/tolerations",
        "use spec.tolerations",
    ),
    (
        "seccomp.security.alpha.kubernetes.io/pod",
        "use securityContext.seccompProfile",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "use securityContext.sysctls",
    ),
    (
        "pod.alpha.kubernetes.io/initialized",
        "pods of a StatefulSet start by themselves",
    ),
];
/// Labels of nodes that have other names.
const NODE_LABELS: [(&str, &str); 2] = [
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
];

/// The pod of a workload.
pub(crate) fn in_template(object: &mut Object<'_>, _: &str) -> Result<(), YamlError> {
    bring(object, &keys(["spec", "template"]))
}

/// The pod of a CronJob's Job.
pub(crate) fn in_cron_job(object: &mut Object<'_>, _: &str) -> Result<(), YamlError> {
    bring(object, &keys(["spec", "jobTemplate", "spec", "template"]))
}

/// A pod by itself.
pub(crate) fn itself(object: &mut Object<'_>, _: &str) -> Result<(), YamlError> {
    bring(object, &[])
}

fn bring(object: &mut Object<'_>, pod: &[Step]) -> Result<(), YamlError> {
    if object.get(&join(pod, &keys(["spec"]))).is_none() {
        return Ok(());
    }
    init_containers(object, pod)?;
    let annotations = join(pod, &keys(["metadata", "annotations"]));
    for (name, instead) in DEAD {
        let path = join(&annotations, &[Step::Key(name)]);
        if object.get(&path).is_some() {
            object.look(
                &path,
                &format!("the annotation {name} does nothing any more; {instead}"),
            );
        }
    }
    let selector = join(pod, &keys(["spec", "nodeSelector"]));
    for (name, now) in NODE_LABELS {
        let path = join(&selector, &[Step::Key(name)]);
        if object.get(&path).is_some() {
            object.changed(&path, &format!("{name} is {now}"));
            object.rename(&selector, name, now)?;
        }
    }
    volumes(object, pod);
    Ok(())
}

/// They are a list of the pod's own.
fn init_containers(object: &mut Object<'_>, pod: &[Step]) -> Result<(), YamlError> {
    let annotations = join(pod, &keys(["metadata", "annotations"]));
    let spec = join(pod, &keys(["spec"]));
    for name in INIT_CONTAINERS {
        let path: Path = join(&annotations, &[Step::Key(name)]);
        let Some(json) = object.text(&path) else {
            continue;
        };
        let is_there = object
            .get(&join(&spec, &keys(["initContainers"])))
            .is_some();
        let parsed = serde_json::from_str(&json)
            .ok()
            .and_then(|json| value(&json));
        match parsed {
            Some(list @ Value::List(_)) if !is_there => {
                object.changed(
                    &path,
                    "init containers are in spec.initContainers, not in an annotation",
                );
                object.insert(&spec, Some("containers"), "initContainers", &list)?;
                remove_annotation(object, pod, name)?;
            }
            Some(Value::List(_)) => {
                object.changed(
                    &path,
                    "the annotation of init containers is removed: spec.initContainers counts",
                );
                remove_annotation(object, pod, name)?;
            }
            _ => object.look(
                &path,
                "the annotation's init containers are no JSON list, and do not run",
            ),
        }
    }
    Ok(())
}

/// With the mapping around it, where it was the only one.
fn remove_annotation(object: &mut Object<'_>, pod: &[Step], name: &str) -> Result<(), YamlError> {
    let metadata = join(pod, &keys(["metadata"]));
    let annotations = join(&metadata, &keys(["annotations"]));
    let count = object
        .get(&annotations)
        .map_or(0, |node| node.pairs().len());
    if count > 1 {
        return object.remove(&annotations, name);
    }
    object.remove(&metadata, "annotations")
}

/// JSON as YAML; None for numbers that are none of it.
fn value(json: &serde_json::Value) -> Option<Value> {
    use serde_json::Value as Json;
    Some(match json {
        Json::String(text) => Value::text(text),
        Json::Array(items) => Value::List(items.iter().map(value).collect::<Option<_>>()?),
        Json::Object(pairs) => {
            let pairs = pairs
                .iter()
                .map(|(key, item)| Some((key.clone(), value(item)?)));
            Value::Map(pairs.collect::<Option<_>>()?)
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => Value::Plain(json.to_string()),
    })
}

/// Volumes that nothing makes any more.
fn volumes(object: &mut Object<'_>, pod: &[Step]) {
    let path = join(pod, &keys(["spec", "volumes"]));
    let volumes = object.get(&path);
    let volumes = volumes.iter().flat_map(|volumes| volumes.items());
    let of_git: Vec<usize> = volumes
        .enumerate()
        .filter(|(_, volume)| volume.get("gitRepo").is_some())
        .map(|(index, _)| index)
        .collect();
    for index in of_git {
        object.look(
            &join(&path, &[Step::Index(index), Step::Key("gitRepo")]),
            "volumes of the type gitRepo are not made any more; clone into an emptyDir in an init container",
        );
    }
}
