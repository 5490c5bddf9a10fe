//! Ingresses.

use crate::draft::{Object, Path, Step, join, keys};
use coracle_yaml::{Value, YamlError};

/// The annotation that names the controller.
const CLASS: &str = "kubernetes.io/ingress.class";

/// `serviceName` and `servicePort` are `service.name` and `service.port`; the backend of all other requests has
/// another name.
pub(crate) fn backends(object: &mut Object<'_>, _: &str) -> Result<(), YamlError> {
    let default = keys(["spec", "backend"]);
    if object.get(&default).is_some() {
        object.changed(&default, "spec.backend is spec.defaultBackend");
        backend(object, &default)?;
        object.rename(&keys(["spec"]), "backend", "defaultBackend")?;
    }
    for path in paths(object) {
        backend(object, &join(&path, &keys(["backend"])))?;
    }
    Ok(())
}

fn backend(object: &mut Object<'_>, path: &[Step]) -> Result<(), YamlError> {
    let name = object.get(&join(path, &keys(["serviceName"])));
    let port = object.get(&join(path, &keys(["servicePort"])));
    let Some(name) = name else {
        return Ok(());
    };
    let mut service = vec![("name".to_owned(), Value::Plain(object.raw(name)))];
    if let Some(port) = &port {
        let text = port.text().unwrap_or_default();
        // A name has a letter; some wrote numbers in quotes.
        let port = match text.parse::<u16>() {
            Ok(number) => ("number", Value::Plain(number.to_string())),
            Err(_) => ("name", Value::Plain(object.raw(port))),
        };
        service.push(("port".to_owned(), Value::map([port])));
    }
    object.changed(
        &join(path, &keys(["serviceName"])),
        "serviceName and servicePort are service.name and service.port",
    );
    object.insert(path, Some("serviceName"), "service", &Value::Map(service))?;
    object.remove(path, "serviceName")?;
    object.remove(path, "servicePort")
}

/// Every path says how it is matched. Before, the controller decided, and this type leaves it to that.
pub(crate) fn path_types(object: &mut Object<'_>, _: &str) -> Result<(), YamlError> {
    for path in paths(object) {
        if object.get(&join(&path, &keys(["pathType"]))).is_some() {
            continue;
        }
        object.changed(
            &path,
            "pathType: ImplementationSpecific is added, as it was matched before; Prefix and Exact mean the \
             same with every controller",
        );
        let value = Value::text("ImplementationSpecific");
        object.insert(&path, Some("backend"), "pathType", &value)?;
    }
    Ok(())
}

/// Controllers are named by a field.
pub(crate) fn class(object: &mut Object<'_>, _: &str) -> Result<(), YamlError> {
    let path = join(&keys(["metadata", "annotations"]), &[Step::Key(CLASS)]);
    if let Some(name) = object.text(&path) {
        object.look(
            &path,
            &format!(
                "the annotation {CLASS} is for controllers that still read it; spec.ingressClassName: {name} is \
                 for all, where there is an IngressClass of that name"
            ),
        );
    }
    Ok(())
}

/// Where each path of each rule is.
fn paths(object: &Object<'_>) -> Vec<Path> {
    let rules = keys(["spec", "rules"]);
    let count = |path: &[Step]| object.get(path).map_or(0, |list| list.items().len());
    let of_rule = |rule: usize| {
        join(
            &rules,
            &[Step::Index(rule), Step::Key("http"), Step::Key("paths")],
        )
    };
    (0..count(&rules))
        .map(of_rule)
        .flat_map(|list| (0..count(&list)).map(move |index| join(&list, &[Step::Index(index)])))
        .collect()
}
