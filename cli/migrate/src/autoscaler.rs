//! Autoscalers of pods.

use crate::draft::{Object, Path, Step, join, keys};
use coracle_yaml::{Value, YamlError};

/// A pair of an object: where it was, and what it is called now.
type Pair = (&'static str, &'static str);

/// How one kind of metric is written.
struct Metric {
    /// The key of the metric's own mapping.
    key: &'static str,
    /// What names the metric, in `metric` now.
    named: &'static [Pair],
    /// What else has another name.
    renamed: &'static [Pair],
    /// The possible targets: former key, type, key now.
    targets: &'static [(&'static str, &'static str, &'static str)],
}

const METRICS: [Metric; 4] = [
    Metric {
        key: "resource",
        named: &[],
        renamed: &[],
        targets: &[
            (
                "targetAverageUtilization",
                "Utilization",
                "averageUtilization",
            ),
            ("targetAverageValue", "AverageValue", "averageValue"),
        ],
    },
    Metric {
        key: "pods",
        named: &[("metricName", "name"), ("selector", "selector")],
        renamed: &[],
        targets: &[("targetAverageValue", "AverageValue", "averageValue")],
    },
    Metric {
        key: "object",
        named: &[("metricName", "name"), ("selector", "selector")],
        renamed: &[("target", "describedObject")],
        targets: &[
            ("targetValue", "Value", "value"),
            ("averageValue", "AverageValue", "averageValue"),
        ],
    },
    Metric {
        key: "external",
        named: &[("metricName", "name"), ("metricSelector", "selector")],
        renamed: &[],
        targets: &[
            ("targetValue", "Value", "value"),
            ("targetAverageValue", "AverageValue", "averageValue"),
        ],
    },
];

/// `scaleRef` and `cpuUtilization` of the first version.
pub(crate) fn of_extensions(object: &mut Object<'_>, _: &str) -> Result<(), YamlError> {
    let spec = keys(["spec"]);
    let reference = keys(["spec", "scaleRef"]);
    if object.get(&reference).is_some() {
        object.changed(&reference, "scaleRef is scaleTargetRef");
        object.remove(&reference, "subresource")?;
        object.rename(&spec, "scaleRef", "scaleTargetRef")?;
    }
    let utilization = keys(["spec", "cpuUtilization"]);
    let percentage = object.get(&join(&utilization, &keys(["targetPercentage"])));
    let percentage = percentage.map(|percentage| object.raw(percentage));
    if let Some(percentage) = percentage {
        object.changed(
            &utilization,
            "cpuUtilization.targetPercentage is targetCPUUtilizationPercentage",
        );
        let value = Value::Plain(percentage);
        object.insert(
            &spec,
            Some("cpuUtilization"),
            "targetCPUUtilizationPercentage",
            &value,
        )?;
        object.remove(&spec, "cpuUtilization")?;
    }
    reference_version(object)
}

/// A metric's target is one mapping with a type, and its name is in another one.
pub(crate) fn targets(object: &mut Object<'_>, _: &str) -> Result<(), YamlError> {
    let list = keys(["spec", "metrics"]);
    let count = object.get(&list).map_or(0, |metrics| metrics.items().len());
    for index in 0..count {
        for metric in &METRICS {
            let path = join(&list, &[Step::Index(index), Step::Key(metric.key)]);
            if object.get(&path).is_some() {
                bring(object, &path, metric)?;
            }
        }
    }
    reference_version(object)
}

fn bring(object: &mut Object<'_>, path: &Path, metric: &Metric) -> Result<(), YamlError> {
    let at = |key| join(path, &[Step::Key(key)]);
    for (key, now) in metric.renamed {
        if object.get(&at(key)).is_some() {
            object.changed(&at(key), &format!("{key} is {now}"));
            object.rename(path, key, now)?;
        }
    }
    let mut named = Vec::new();
    for (key, now) in metric.named {
        let Some(node) = object.get(&at(key)) else {
            continue;
        };
        let Some(value) = scalars(object, node) else {
            object.look(
                &at(key),
                &format!("{key} is metric.{now} now; write it there"),
            );
            return Ok(());
        };
        object.changed(&at(key), &format!("{key} is metric.{now}"));
        named.push(((*now).to_owned(), value, *key));
    }
    for (key, kind, now) in metric.targets {
        let Some(node) = object.get(&at(key)) else {
            continue;
        };
        let value = Value::Plain(object.raw(node));
        let target = Value::map([("type", Value::text(*kind)), (*now, value)]);
        object.changed(&at(key), &format!("{key} is target.{now}"));
        object.insert(path, Some(key), "target", &target)?;
        object.remove(path, key)?;
        break;
    }
    if named.is_empty() {
        return Ok(());
    }
    let pairs = named
        .iter()
        .map(|(now, value, _)| (now.clone(), value.clone()));
    object.insert(
        path,
        named.first().map(|(.., key)| *key),
        "metric",
        &Value::Map(pairs.collect()),
    )?;
    for (.., key) in named {
        object.remove(path, key)?;
    }
    Ok(())
}

/// A scalar, or mappings of such; None for what only its writer can write anew.
fn scalars(object: &Object<'_>, node: &coracle_yaml::Node) -> Option<Value> {
    use coracle_yaml::Kind;
    Some(match &node.kind {
        Kind::Scalar { .. } => Value::Plain(object.raw(node)),
        Kind::Mapping { pairs, .. } => {
            let pairs = pairs
                .iter()
                .map(|(key, value)| Some((key.text()?.to_owned(), scalars(object, value)?)));
            Value::Map(pairs.collect::<Option<_>>()?)
        }
        Kind::Sequence { items, .. } => Value::List(
            items
                .iter()
                .map(|item| scalars(object, item))
                .collect::<Option<_>>()?,
        ),
        Kind::Alias(_) => return None,
    })
}

/// What is scaled is of a current version too.
fn reference_version(object: &mut Object<'_>) -> Result<(), YamlError> {
    let reference = keys(["spec", "scaleTargetRef"]);
    let path = keys(["spec", "scaleTargetRef", "apiVersion"]);
    let version = object.text(&path).unwrap_or_default();
    if matches!(
        version.as_str(),
        "extensions/v1beta1" | "apps/v1beta1" | "apps/v1beta2"
    ) {
        object.changed(&path, &format!("{version} is apps/v1"));
        object.set(&reference, "apiVersion", "apps/v1")?;
    }
    Ok(())
}
