//! Kinds that every cluster has: their resource names, their scope and the order they are applied
//! in. A start needs no discovery for them, which is slow while an API server comes up.

use std::collections::HashMap;

use kube::api::DynamicObject;
use kube::core::GroupVersionKind;
use kube::discovery::{self, ApiResource, Scope};
use kube::{Api, Client};

use crate::observer::ObjectName;
use crate::render::gvk;

/// One kind: group, the version readers use when none is written, kind, resource, scope, order.
struct Kind(
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Scope,
    u8,
);

/// Order of a kind that is not in the table: after the workloads, which may serve it.
const CUSTOM: u8 = 8;

use Scope::{Cluster, Namespaced};

const RBAC: &str = "rbac.authorization.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";

#[rustfmt::skip]
static KINDS: &[Kind] = &[
    Kind("", "v1", "Namespace", "namespaces", Cluster, 0),
    Kind("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", Cluster, 1),
    Kind("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", Cluster, 1),
    Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", Cluster, 2),
    Kind("storage.k8s.io", "v1", "StorageClass", "storageclasses", Cluster, 3),
    Kind("storage.k8s.io", "v1", "CSIDriver", "csidrivers", Cluster, 3),
    Kind("networking.k8s.io", "v1", "IngressClass", "ingressclasses", Cluster, 3),
    Kind("", "v1", "PersistentVolume", "persistentvolumes", Cluster, 3),
    Kind("", "v1", "ServiceAccount", "serviceaccounts", Namespaced, 4),
    Kind(RBAC, "v1", "ClusterRole", "clusterroles", Cluster, 5),
    Kind(RBAC, "v1", "Role", "roles", Namespaced, 5),
    Kind(RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", Cluster, 6),
    Kind(RBAC, "v1", "RoleBinding", "rolebindings", Namespaced, 6),
    Kind("", "v1", "ResourceQuota", "resourcequotas", Namespaced, 6),
    Kind("", "v1", "LimitRange", "limitranges", Namespaced, 6),
    Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", Namespaced, 6),
    Kind("", "v1", "ConfigMap", "configmaps", Namespaced, 6),
    Kind("", "v1", "Secret", "secrets", Namespaced, 6),
    Kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", Namespaced, 6),
    Kind("", "v1", "Service", "services", Namespaced, 6),
    Kind("", "v1", "Endpoints", "endpoints", Namespaced, 6),
    Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", Namespaced, 6),
    Kind("apps", "v1", "Deployment", "deployments", Namespaced, 7),
    Kind("apps", "v1", "StatefulSet", "statefulsets", Namespaced, 7),
    Kind("apps", "v1", "DaemonSet", "daemonsets", Namespaced, 7),
    Kind("apps", "v1", "ReplicaSet", "replicasets", Namespaced, 7),
    Kind("", "v1", "Pod", "pods", Namespaced, 7),
    Kind("batch", "v1", "Job", "jobs", Namespaced, 7),
    Kind("batch", "v1", "CronJob", "cronjobs", Namespaced, 7),
    Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", Namespaced, 7),
    Kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", Namespaced, 7),
    Kind("networking.k8s.io", "v1", "Ingress", "ingresses", Namespaced, 9),
    Kind("apiregistration.k8s.io", "v1", "APIService", "apiservices", Cluster, 9),
    Kind(ADMISSION, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", Cluster, 9),
    Kind(ADMISSION, "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", Cluster, 9),
    Kind(ADMISSION, "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", Cluster, 9),
    Kind(ADMISSION, "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", Cluster, 9),
];

fn find(group: &str, kind: &str) -> Option<&'static Kind> {
    KINDS
        .iter()
        .find(|known| known.0 == group && known.2 == kind)
}

/// The resource of `gvk` and its scope, when the table has it. Versions of a group differ in
/// neither, so the table's is not compared.
pub(crate) fn known(gvk: &GroupVersionKind) -> Option<(ApiResource, Scope)> {
    let kind = find(&gvk.group, &gvk.kind)?;
    Some((
        ApiResource::from_gvk_with_plural(gvk, kind.3),
        kind.4.clone(),
    ))
}

/// The kind called `kind` in the group and version that the table has for it.
pub(crate) fn by_name(kind: &str) -> Option<GroupVersionKind> {
    let known = KINDS.iter().find(|known| known.2 == kind)?;
    Some(GroupVersionKind::gvk(known.0, known.1, known.2))
}

/// Where a kind comes in an apply: smaller numbers first.
pub(crate) fn order(gvk: &GroupVersionKind) -> u8 {
    find(&gvk.group, &gvk.kind).map_or(CUSTOM, |kind| kind.5)
}

/// Resources of the kinds that were met: those of the table, and those that the API server told of.
#[derive(Default)]
pub(crate) struct Resources {
    discovered: HashMap<GroupVersionKind, (ApiResource, Scope)>,
}

impl Resources {
    /// The resource of `gvk`, when it is in the table or was learnt.
    pub(crate) fn find(&self, gvk: &GroupVersionKind) -> Option<(ApiResource, Scope)> {
        known(gvk).or_else(|| self.discovered.get(gvk).cloned())
    }

    /// Remembers what [`discover`] found.
    pub(crate) fn learn(&mut self, gvk: &GroupVersionKind, found: (ApiResource, Scope)) {
        self.discovered.insert(gvk.clone(), found);
    }

    /// The name by which people call an object: without a namespace where the kind has none.
    pub(crate) fn name(&self, object: &DynamicObject) -> ObjectName {
        let gvk = gvk(object);
        let scope = self.find(&gvk);
        let namespace = object.metadata.namespace.clone();
        ObjectName {
            namespace: match scope {
                Some((_, Cluster)) => None,
                Some((_, Namespaced)) => Some(namespace.unwrap_or_else(|| "default".to_owned())),
                None => namespace,
            },
            kind: gvk.kind,
            name: object.metadata.name.clone().unwrap_or_default(),
        }
    }
}

/// Asks the API server for the resource of `gvk`: one request, for its group and version only.
pub(crate) async fn discover(
    client: &Client,
    gvk: &GroupVersionKind,
) -> Result<(ApiResource, Scope), kube::Error> {
    let (resource, capabilities) = discovery::pinned_kind(client, gvk).await?;
    Ok((resource, capabilities.scope))
}

/// The API that serves a resource in `namespace`, or in `default` when none is given.
pub(crate) fn api(
    client: &Client,
    (resource, scope): &(ApiResource, Scope),
    namespace: Option<&str>,
) -> Api<DynamicObject> {
    match scope {
        Cluster => Api::all_with(client.clone(), resource),
        Namespaced => {
            Api::namespaced_with(client.clone(), namespace.unwrap_or("default"), resource)
        }
    }
}
