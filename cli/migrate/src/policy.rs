//! Disruption budgets and roles.

use crate::draft::{Object, Step, join, keys};
use coracle_yaml::YamlError;

/// An empty selector chose no pod, and chooses all now.
pub(crate) fn empty_selector(object: &mut Object<'_>, _: &str) -> Result<(), YamlError> {
    let path = keys(["spec", "selector"]);
    let is_empty = object
        .get(&path)
        .is_some_and(|selector| selector.pairs().is_empty());
    if is_empty {
        object.look(
            &path,
            "an empty selector chose no pod, and chooses every pod of the namespace now",
        );
    }
    Ok(())
}

/// The group of a subject was once a version.
pub(crate) fn subjects(object: &mut Object<'_>, _: &str) -> Result<(), YamlError> {
    let list = keys(["subjects"]);
    let count = object
        .get(&list)
        .map_or(0, |subjects| subjects.items().len());
    for index in 0..count {
        let subject = join(&list, &[Step::Index(index)]);
        let version = join(&subject, &keys(["apiVersion"]));
        if object.get(&version).is_none() {
            continue;
        }
        let kind = object.text(&join(&subject, &keys(["kind"])));
        let group = match kind.as_deref() {
            Some("ServiceAccount") => "\"\"",
            _ => "rbac.authorization.k8s.io",
        };
        object.changed(&version, "a subject has an apiGroup, not an apiVersion");
        object.set(&subject, "apiVersion", group)?;
        object.rename(&subject, "apiVersion", "apiGroup")?;
    }
    Ok(())
}
