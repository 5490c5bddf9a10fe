//! Objects of the Kubernetes API for a bug report: what they are and how they fare, without what
//! people put into them.

use serde_json::{Map, Value, json};

/// The kinds that a bundle holds, with their paths. No Secrets and no ConfigMaps.
pub const KINDS: &[(&str, &str)] = &[
    ("nodes", "/api/v1/nodes"),
    ("pods", "/api/v1/pods"),
    ("events", "/api/v1/events"),
    ("services", "/api/v1/services"),
];

/// Fields that hold anything at all: what was applied, whole configurations, programs' arguments,
/// requests of probes.
const DROPPED: &[&str] = &[
    "annotations",
    "managedFields",
    "command",
    "args",
    "httpHeaders",
    "data",
    "stringData",
    "binaryData",
];

/// Takes away what could be a secret, at any depth.
pub fn strip(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::Object(fields) => {
            fields.retain(|name, _| !DROPPED.contains(&name.as_str()));
            if let Some(variables) = fields.get_mut("env") {
                names_alone(variables);
            }
            // A container's last words may be taken from its log.
            if let Some(Value::Object(ended)) = fields.get_mut("terminated") {
                ended.remove("message");
            }
            fields.values_mut().for_each(strip);
        }
        _ => {}
    }
}

/// Of variables only what they are called.
fn names_alone(variables: &mut Value) {
    let Value::Array(items) = variables else {
        *variables = Value::Null;
        return;
    };
    for item in items {
        let name = item.get("name").cloned().unwrap_or_default();
        *item = Value::Object(Map::from_iter([("name".to_owned(), name)]));
    }
}

/// The record of a machine without what the kubeconfig had before: that is somebody else's.
pub fn record(mut value: Value) -> Value {
    if let Some(former) = value.pointer_mut("/cluster/former-kubeconfig")
        && !former.is_null()
    {
        *former = json!("[removed]");
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_keeps_what_it_is_and_loses_what_was_put_into_it() {
        let mut pod = json!({
            "metadata": {
                "name": "web", "labels": {"app": "web"},
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "planted"},
                "managedFields": [{"manager": "kubectl"}],
            },
            "spec": {"containers": [{
                "name": "web", "image": "web:1", "command": ["sh", "-c", "planted"], "args": ["planted"],
                "env": [
                    {"name": "PASSWORD", "value": "planted"},
                    {"name": "OTHER", "valueFrom": {"secretKeyRef": {"name": "planted", "key": "x"}}},
                ],
                "readinessProbe": {"httpGet": {"path": "/", "httpHeaders": [{"name": "A", "value": "planted"}]}},
                "livenessProbe": {"exec": {"command": ["planted"]}},
            }]},
            "status": {"containerStatuses": [
                {"lastState": {"terminated": {"exitCode": 1, "message": "planted"}}},
            ]},
        });
        strip(&mut pod);
        assert!(!pod.to_string().contains("planted"), "{pod}");
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["image"], "web:1");
        assert_eq!(
            container["env"],
            json!([{"name": "PASSWORD"}, {"name": "OTHER"}])
        );
        assert_eq!(
            pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"],
            1
        );
        assert_eq!(pod["metadata"]["labels"]["app"], "web");
    }

    #[test]
    fn a_record_loses_the_former_kubeconfig_alone() {
        let kept =
            json!({"format": 1, "cluster": {"image": "sha256:0", "former-kubeconfig": null}});
        assert_eq!(record(kept.clone()), kept);
        let stripped = record(json!({"cluster": {"former-kubeconfig": {"user": "planted"}}}));
        assert!(!stripped.to_string().contains("planted"), "{stripped}");
        assert_eq!(record(json!(null)), json!(null));
    }
}
