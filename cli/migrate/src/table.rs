//! What became of each kind of each version.

use crate::draft::Object;
use crate::{autoscaler, ingress, pod, policy, service, workload};
use coracle_yaml::YamlError;

/// A change of one object, which was of the version that is handed in.
pub(crate) type Change = fn(&mut Object<'_>, &str) -> Result<(), YamlError>;

/// What became of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is served in this version, under another name if one is there.
    Now {
        version: &'static str,
        kind: Option<&'static str>,
    },
    /// There is nothing like it; what to do instead.
    Gone(&'static str),
    /// The version that it is served in is too different; what to do.
    ByHand(&'static str, &'static str),
}

/// Kinds of some versions.
pub(crate) struct Row {
    versions: &'static [&'static str],
    kinds: &'static [&'static str],
    pub(crate) fate: Fate,
    pub(crate) steps: &'static [Change],
}

const fn now(version: &'static str) -> Fate {
    Fate::Now {
        version,
        kind: None,
    }
}

const fn called(version: &'static str, kind: &'static str) -> Fate {
    Fate::Now {
        version,
        kind: Some(kind),
    }
}

/// The current versions are there too: who changed no more than the version is helped with the rest.
const ROWS: &[Row] = &[
    Row {
        versions: &[
            "extensions/v1beta1",
            "apps/v1beta1",
            "apps/v1beta2",
            "apps/v1",
        ],
        kinds: &["Deployment", "DaemonSet", "ReplicaSet", "StatefulSet"],
        fate: now("apps/v1"),
        steps: &[
            workload::drop_what_is_gone,
            workload::select,
            workload::defaults,
            pod::in_template,
        ],
    },
    Row {
        versions: &["apps/v1beta1", "apps/v1beta2"],
        kinds: &["ControllerRevision"],
        fate: now("apps/v1"),
        steps: &[],
    },
    Row {
        versions: &[
            "extensions/v1beta1",
            "networking.k8s.io/v1beta1",
            "networking.k8s.io/v1",
        ],
        kinds: &["Ingress"],
        fate: now("networking.k8s.io/v1"),
        steps: &[ingress::backends, ingress::path_types, ingress::class],
    },
    Row {
        versions: &["networking.k8s.io/v1beta1"],
        kinds: &["IngressClass"],
        fate: now("networking.k8s.io/v1"),
        steps: &[],
    },
    Row {
        versions: &["extensions/v1beta1"],
        kinds: &["NetworkPolicy"],
        fate: now("networking.k8s.io/v1"),
        steps: &[],
    },
    Row {
        versions: &["batch/v2alpha1"],
        kinds: &["ScheduledJob"],
        fate: called("batch/v1", "CronJob"),
        steps: &[pod::in_cron_job],
    },
    Row {
        versions: &["batch/v2alpha1", "batch/v1beta1", "batch/v1"],
        kinds: &["CronJob"],
        fate: now("batch/v1"),
        steps: &[pod::in_cron_job],
    },
    Row {
        versions: &["extensions/v1beta1", "batch/v1"],
        kinds: &["Job"],
        fate: now("batch/v1"),
        steps: &[workload::own_selector, pod::in_template],
    },
    Row {
        versions: &["policy/v1beta1"],
        kinds: &["PodDisruptionBudget"],
        fate: now("policy/v1"),
        steps: &[policy::empty_selector],
    },
    Row {
        versions: &["policy/v1beta1"],
        kinds: &["Eviction"],
        fate: now("policy/v1"),
        steps: &[],
    },
    Row {
        versions: &["extensions/v1beta1", "policy/v1beta1"],
        kinds: &["PodSecurityPolicy"],
        fate: Fate::Gone(
            "label the namespace instead: pod-security.kubernetes.io/enforce: baseline",
        ),
        steps: &[],
    },
    Row {
        versions: &["extensions/v1beta1"],
        kinds: &["HorizontalPodAutoscaler"],
        fate: now("autoscaling/v1"),
        steps: &[autoscaler::of_extensions],
    },
    Row {
        versions: &["autoscaling/v2alpha1", "autoscaling/v2beta1"],
        kinds: &["HorizontalPodAutoscaler"],
        fate: now("autoscaling/v2"),
        steps: &[autoscaler::targets],
    },
    Row {
        versions: &["autoscaling/v2beta2"],
        kinds: &["HorizontalPodAutoscaler"],
        fate: now("autoscaling/v2"),
        steps: &[],
    },
    Row {
        versions: &[
            "rbac.authorization.k8s.io/v1alpha1",
            "rbac.authorization.k8s.io/v1beta1",
        ],
        kinds: &["Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"],
        fate: now("rbac.authorization.k8s.io/v1"),
        steps: &[policy::subjects],
    },
    Row {
        versions: &["storage.k8s.io/v1beta1"],
        kinds: &[
            "StorageClass",
            "CSIDriver",
            "CSINode",
            "VolumeAttachment",
            "CSIStorageCapacity",
        ],
        fate: now("storage.k8s.io/v1"),
        steps: &[],
    },
    Row {
        versions: &["scheduling.k8s.io/v1alpha1", "scheduling.k8s.io/v1beta1"],
        kinds: &["PriorityClass"],
        fate: now("scheduling.k8s.io/v1"),
        steps: &[],
    },
    Row {
        versions: &["coordination.k8s.io/v1beta1"],
        kinds: &["Lease"],
        fate: now("coordination.k8s.io/v1"),
        steps: &[],
    },
    Row {
        versions: &["v1"],
        kinds: &["ReplicationController"],
        fate: now("v1"),
        steps: &[pod::in_template],
    },
    Row {
        versions: &["v1"],
        kinds: &["Pod"],
        fate: now("v1"),
        steps: &[pod::itself],
    },
    Row {
        versions: &["v1"],
        kinds: &["Service"],
        fate: now("v1"),
        steps: &[service::unready],
    },
    Row {
        versions: &["v1"],
        kinds: &["PersistentVolumeClaim"],
        fate: now("v1"),
        steps: &[service::storage_class],
    },
    Row {
        versions: &["extensions/v1beta1"],
        kinds: &["ThirdPartyResource"],
        fate: Fate::Gone("write a CustomResourceDefinition of apiextensions.k8s.io/v1"),
        steps: &[],
    },
    Row {
        versions: &["settings.k8s.io/v1alpha1"],
        kinds: &["PodPreset"],
        fate: Fate::Gone("write what it adds into the pods, with envFrom for example"),
        steps: &[],
    },
    Row {
        versions: &["apiextensions.k8s.io/v1beta1"],
        kinds: &["CustomResourceDefinition"],
        fate: Fate::ByHand(
            "apiextensions.k8s.io/v1",
            "each version has a schema of its own, spec.versions[].schema.openAPIV3Schema",
        ),
        steps: &[],
    },
    Row {
        versions: &["admissionregistration.k8s.io/v1beta1"],
        kinds: &[
            "MutatingWebhookConfiguration",
            "ValidatingWebhookConfiguration",
        ],
        fate: Fate::ByHand(
            "admissionregistration.k8s.io/v1",
            "each webhook says admissionReviewVersions and sideEffects",
        ),
        steps: &[],
    },
];

/// The row of a kind in a version.
pub(crate) fn find(version: &str, kind: &str) -> Option<&'static Row> {
    let mut rows = ROWS.iter();
    rows.find(|row| row.versions.contains(&version) && row.kinds.contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_a_version_is_there_once() {
        let mut seen = std::collections::BTreeSet::new();
        for row in ROWS {
            for version in row.versions {
                for kind in row.kinds {
                    assert!(seen.insert((version, kind)), "{version} {kind}");
                }
            }
        }
    }
}
