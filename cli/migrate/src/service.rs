//! Services and claims of volumes: annotations that became fields.

use crate::draft::{Object, Step, join, keys};
use coracle_yaml::{Value, YamlError};

const UNREADY: &str = "service.alpha.kubernetes.io/tolerate-unready-endpoints";
const ALPHA_CLASS: &str = "volume.alpha.kubernetes.io/storage-class";

/// Pods of a StatefulSet find each other before they are ready.
pub(crate) fn unready(object: &mut Object<'_>, _: &str) -> Result<(), YamlError> {
    let annotations = keys(["metadata", "annotations"]);
    let path = join(&annotations, &[Step::Key(UNREADY)]);
    if object.text(&path).as_deref() != Some("true") {
        return Ok(());
    }
    object.changed(
        &path,
        "the annotation for pods that are not ready is spec.publishNotReadyAddresses",
    );
    let field = "publishNotReadyAddresses";
    if object.get(&keys(["spec", field])).is_none() {
        let value = Value::Plain("true".to_owned());
        object.insert(&keys(["spec"]), None, field, &value)?;
    }
    match object
        .get(&annotations)
        .map_or(0, |node| node.pairs().len())
    {
        0 | 1 => object.remove(&keys(["metadata"]), "annotations"),
        _ => object.remove(&annotations, UNREADY),
    }
}

/// Whatever the annotation said, a default class was taken.
pub(crate) fn storage_class(object: &mut Object<'_>, _: &str) -> Result<(), YamlError> {
    let path = join(
        &keys(["metadata", "annotations"]),
        &[Step::Key(ALPHA_CLASS)],
    );
    if object.get(&path).is_some() {
        object.look(
            &path,
            &format!("the annotation {ALPHA_CLASS} does nothing any more; spec.storageClassName names a class"),
        );
    }
    Ok(())
}
