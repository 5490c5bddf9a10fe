//! Deployments, StatefulSets, DaemonSets, ReplicaSets and Jobs.

use crate::draft::{Object, Step, join, keys};
use coracle_yaml::{Kind, Node, Value, YamlError};

/// The labels of the pods.
const LABELS: [&str; 4] = ["spec", "template", "metadata", "labels"];

/// Fields that no served version has.
pub(crate) fn drop_what_is_gone(object: &mut Object<'_>, _: &str) -> Result<(), YamlError> {
    let spec = keys(["spec"]);
    let gone = [
        ("rollbackTo", "`kubectl rollout undo` is what rolls back"),
        ("templateGeneration", "it had no use"),
    ];
    for (key, why) in gone {
        if object.get(&keys(["spec", key])).is_some() {
            object.changed(&keys(["spec", key]), &format!("{key} is removed: {why}"));
            object.remove(&spec, key)?;
        }
    }
    Ok(())
}

/// A selector has to be written, and has to match the pods.
pub(crate) fn select(object: &mut Object<'_>, _: &str) -> Result<(), YamlError> {
    if object.get(&keys(["spec"])).is_none() {
        return Ok(());
    }
    let labels = object.get(&keys(LABELS)).cloned();
    let selector = object.get(&keys(["spec", "selector"]));
    let is_written = selector
        .as_ref()
        .is_some_and(|selector| !selector.is_null());
    if is_written {
        compare(object, labels.as_ref());
        return Ok(());
    }
    let Some(labels) = labels.filter(|labels| !labels.is_null()) else {
        object.look(
            &keys(["spec", "template", "metadata"]),
            "the pods have no labels, so that no selector finds them; write the same ones in \
             spec.template.metadata.labels and spec.selector.matchLabels",
        );
        return Ok(());
    };
    let labels = copied(object, &labels);
    let value = Value::map([("matchLabels", labels)]);
    object.changed(
        &keys(["spec"]),
        "spec.selector is filled in from the labels of the pods",
    );
    object.remove(&keys(["spec"]), "selector")?;
    object.insert(&keys(["spec"]), Some("template"), "selector", &value)
}

/// A mapping of scalars as it is written, or the alias that stands for it.
fn copied(object: &Object<'_>, labels: &Node) -> Value {
    match &labels.kind {
        Kind::Mapping { pairs, .. } => {
            let pairs = pairs.iter().filter_map(|(key, value)| {
                Some((key.text()?.to_owned(), Value::Plain(object.raw(value))))
            });
            Value::Map(pairs.collect())
        }
        _ => Value::Plain(object.raw(labels)),
    }
}

/// What the selector asks for and no pod has.
fn compare(object: &mut Object<'_>, labels: Option<&Node>) {
    let path = keys(["spec", "selector", "matchLabels"]);
    let Some(wanted) = object.get(&path).cloned() else {
        return;
    };
    let is_alias = |node: &Node| matches!(node.kind, Kind::Alias(_));
    if is_alias(&wanted) || labels.is_some_and(is_alias) {
        // They are the same, or are somewhere else.
        return;
    }
    for (index, (key, value)) in wanted.pairs().iter().enumerate() {
        let (Some(name), Some(value)) = (key.text(), value.text()) else {
            continue;
        };
        let has = labels
            .and_then(|labels| labels.get(name))
            .and_then(Node::text);
        if has == Some(value) || name == "<<" {
            continue;
        }
        let has = match has {
            Some(other) => format!("its pods have {name}: {other}"),
            None => format!("its pods have no label {name}"),
        };
        object.look(
            &join(&path, &[Step::Index(index)]),
            &format!("the selector wants {name}: {value}, and {has}"),
        );
    }
}

/// What goes without saying has changed for those that do not say it.
pub(crate) fn defaults(object: &mut Object<'_>, version: &str) -> Result<(), YamlError> {
    let kind = object.text(&keys(["kind"])).unwrap_or_default();
    let is_old = match kind.as_str() {
        "DaemonSet" => version == "extensions/v1beta1",
        "StatefulSet" => version == "apps/v1beta1",
        _ => false,
    };
    if is_old && object.get(&keys(["spec", "updateStrategy"])).is_none() {
        object.look(
            &keys(["spec"]),
            "changes reach running pods by themselves now; `updateStrategy: {type: OnDelete}` is as before",
        );
    }
    Ok(())
}

/// A Job's selector is made for it; the old versions let one be written by hand.
pub(crate) fn own_selector(object: &mut Object<'_>, version: &str) -> Result<(), YamlError> {
    let path = keys(["spec", "autoSelector"]);
    if version == "extensions/v1beta1" && object.get(&path).is_some() {
        object.changed(&path, "autoSelector is removed: it is the rule");
        object.remove(&keys(["spec"]), "autoSelector")?;
    }
    Ok(())
}
