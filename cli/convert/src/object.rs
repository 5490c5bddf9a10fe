//! The kinds of objects that a project is made of.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

/// One object. It serialises to what the API server takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Object {
    /// The content of a config.
    ConfigMap(Box<ConfigMap>),
    /// The content of a secret.
    Secret(Box<Secret>),
    /// A named volume.
    PersistentVolumeClaim(Box<PersistentVolumeClaim>),
    /// A name in the network, or published ports.
    Service(Box<Service>),
    /// A service that runs.
    Deployment(Box<Deployment>),
    /// A service that runs once on each node.
    DaemonSet(Box<DaemonSet>),
    /// A service that ends.
    Job(Box<Job>),
}

impl Object {
    /// The kind: `Deployment`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ConfigMap(_) => "ConfigMap",
            Self::Secret(_) => "Secret",
            Self::PersistentVolumeClaim(_) => "PersistentVolumeClaim",
            Self::Service(_) => "Service",
            Self::Deployment(_) => "Deployment",
            Self::DaemonSet(_) => "DaemonSet",
            Self::Job(_) => "Job",
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::ConfigMap(object) => &object.metadata,
            Self::Secret(object) => &object.metadata,
            Self::PersistentVolumeClaim(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
            Self::Deployment(object) => &object.metadata,
            Self::DaemonSet(object) => &object.metadata,
            Self::Job(object) => &object.metadata,
        }
    }

    /// Where it comes among the others: what is used before what uses it.
    pub(crate) fn order(&self) -> u8 {
        match self {
            Self::ConfigMap(_) => 0,
            Self::Secret(_) => 1,
            Self::PersistentVolumeClaim(_) => 2,
            Self::Service(_) => 3,
            Self::Deployment(_) | Self::DaemonSet(_) | Self::Job(_) => 4,
        }
    }
}
