//! The values of flags and files that are more than a number or a name: each read once, with what
//! to write instead when it cannot be read.

use super::DEFAULT_KUBERNETES_VERSION;
use crate::error::{Error, ErrorId, Result};
use ipnet::Ipv4Net;
use std::collections::BTreeMap;
use std::time::Duration;

/// Components that take flags from `--extra-config`.
const COMPONENTS: &[&str] = &[
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
];

/// A duration as flags take it: `90s`, `6m`, `1h30m`, `365d`, `500ms`.
pub fn duration(flag: &str, text: &str) -> Result<Duration> {
    let malformed = || {
        usage(
            flag,
            text,
            "write a duration such as 90s, 6m, 1h30m or 365d",
        )
    };
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .filter(|at| *at > 0)
            .ok_or_else(malformed)?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let number: u64 = number.parse().map_err(|_| malformed())?;
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(malformed()),
        };
        total = number
            .checked_mul(millis)
            .and_then(|millis| total.checked_add(Duration::from_millis(millis)))
            .filter(|total| total.as_secs() <= 100 * 365 * 86_400)
            .ok_or_else(malformed)?;
        rest = tail;
    }
    if text.is_empty() {
        Err(malformed())
    } else {
        Ok(total)
    }
}

pub fn kubernetes_version(text: Option<&str>) -> Result<String> {
    let text = match text {
        None | Some("stable" | "latest" | "") => return Ok(DEFAULT_KUBERNETES_VERSION.into()),
        Some(text) => text,
    };
    let bare = text.strip_prefix('v').unwrap_or(text);
    let parts: Vec<_> = bare.split('.').collect();
    let numeric = parts
        .iter()
        .all(|part| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit()));
    match parts.len() {
        3 if numeric => Ok(format!("v{bare}")),
        2 if numeric && DEFAULT_KUBERNETES_VERSION.starts_with(&format!("v{bare}.")) => {
            Ok(DEFAULT_KUBERNETES_VERSION.into())
        }
        _ => Err(usage(
            "kubernetes-version",
            text,
            "write a version such as v1.37.2, or stable",
        )),
    }
}

pub fn feature_gates(text: Option<&str>) -> Result<BTreeMap<String, bool>> {
    text.unwrap_or_default()
        .split(',')
        .filter(|gate| !gate.is_empty())
        .map(|gate| {
            gate.split_once('=')
                .and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
                .filter(|(name, _)| {
                    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric())
                })
                .ok_or_else(|| {
                    usage(
                        "feature-gates",
                        gate,
                        "write Name=true or Name=false, separated by commas",
                    )
                })
        })
        .collect()
}

pub fn extra_args(list: &[String]) -> Result<BTreeMap<String, BTreeMap<String, String>>> {
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for text in list {
        let (component, key, value) = text
            .split_once('=')
            .and_then(|(path, value)| {
                path.split_once('.')
                    .map(|(component, key)| (component, key, value))
            })
            .filter(|(_, key, _)| !key.is_empty())
            .ok_or_else(|| {
                usage(
                    "extra-config",
                    text,
                    "write COMPONENT.KEY=VALUE, such as kubelet.max-pods=50",
                )
            })?;
        // Minikube's short names for the components.
        let component = match component {
            "apiserver" => "kube-apiserver",
            "controller-manager" => "kube-controller-manager",
            "scheduler" => "kube-scheduler",
            other => other,
        };
        if !COMPONENTS.contains(&component) {
            return Err(usage(
                "extra-config",
                text,
                &format!("the components are {}", COMPONENTS.join(", ")),
            ));
        }
        all.entry(component.to_owned())
            .or_default()
            .insert(key.to_owned(), value.to_owned());
    }
    Ok(all)
}

pub fn overlaps(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

pub fn is_dns_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

pub fn usage(flag: &str, value: &str, help: &str) -> Error {
    Error::new(ErrorId::Usage, format!("--{flag} {value:?} is not valid")).help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_versions() {
        assert_eq!(duration("x", "1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(duration("x", "500ms").unwrap(), Duration::from_millis(500));
        for bad in ["", "m", "5", "5y", "99999999999999999999s", "40000d"] {
            assert!(duration("x", bad).is_err(), "{bad}");
        }
        assert_eq!(kubernetes_version(Some("1.37.2")).unwrap(), "v1.37.2");
        assert_eq!(kubernetes_version(Some("v1.37")).unwrap(), "v1.37.2");
    }

    #[test]
    fn extra_config_reaches_the_component() {
        let list = ["apiserver.v=4".to_owned(), "kubelet.max-pods=50".to_owned()];
        let all = extra_args(&list).unwrap();
        assert_eq!(all["kube-apiserver"]["v"], "4");
        assert_eq!(all["kubelet"]["max-pods"], "50");
    }
}
