//! What a cluster fills into the templates of an add-on.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::addon::Addon;

/// Facts of one cluster, and what its user configured for one add-on.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    /// Address of the cluster's name server, inside the service network: `{{ dns_address }}`.
    pub dns_address: IpAddr,
    /// Domain of the cluster's names, such as `cluster.local`: `{{ dns_domain }}`.
    pub dns_domain: String,
    /// Name of the only node: `{{ node_name }}`.
    pub node_name: String,
    /// Address of the host as pods see it: `{{ host_address }}`.
    pub host_address: IpAddr,
    /// Image name to reference, in place of the add-on's own: `{{ images.NAME }}`.
    pub images: BTreeMap<String, String>,
    /// Configured values, in place of the add-on's defaults: `{{ values.NAME }}`.
    pub configured: BTreeMap<String, Value>,
}

/// Why values do not fit an add-on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValuesError {
    /// A value that the add-on does not have.
    #[error("the add-on {addon} has no value {name:?}; it has {}", list(known))]
    Unknown {
        /// The add-on.
        addon: String,
        /// Name of the value.
        name: String,
        /// What can be configured.
        known: Vec<String>,
    },
    /// A value of another type than the default's.
    #[error("the add-on {addon}: {name} has to be {expected}")]
    Type {
        /// The add-on.
        addon: String,
        /// Name of the value.
        name: String,
        /// What it has to be, in words.
        expected: &'static str,
    },
    /// An image that the add-on does not have.
    #[error("the add-on {addon} has no image {name:?}; it has {}", list(known))]
    Image {
        /// The add-on.
        addon: String,
        /// Name of the image.
        name: String,
        /// The images that it has.
        known: Vec<String>,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

impl Values {
    /// Values of a cluster whose user configured nothing.
    #[must_use]
    pub fn new(
        dns_address: IpAddr,
        dns_domain: &str,
        node_name: &str,
        host_address: IpAddr,
    ) -> Self {
        Self {
            dns_address,
            dns_domain: dns_domain.to_owned(),
            node_name: node_name.to_owned(),
            host_address,
            images: BTreeMap::new(),
            configured: BTreeMap::new(),
        }
    }

    /// All that the templates of `addon` can name.
    pub(crate) fn context(&self, addon: &Addon) -> Result<Value, ValuesError> {
        let mut values = addon.values.clone();
        for (name, value) in &self.configured {
            let Some(default) = values.get_mut(name) else {
                return Err(ValuesError::Unknown {
                    addon: addon.name.clone(),
                    name: name.clone(),
                    known: addon.values.keys().cloned().collect(),
                });
            };
            if type_of(default) != type_of(value) {
                return Err(ValuesError::Type {
                    addon: addon.name.clone(),
                    name: name.clone(),
                    expected: type_of(default),
                });
            }
            *default = value.clone();
        }
        let mut images: BTreeMap<&str, String> = addon
            .images
            .iter()
            .map(|image| (image.name.as_str(), reference(image)))
            .collect();
        for (name, reference) in &self.images {
            match images.get_mut(name.as_str()) {
                Some(image) => reference.clone_into(image),
                None => {
                    return Err(ValuesError::Image {
                        addon: addon.name.clone(),
                        name: name.clone(),
                        known: addon
                            .images
                            .iter()
                            .map(|image| image.name.clone())
                            .collect(),
                    });
                }
            }
        }
        Ok(json!({
            "dns_address": self.dns_address.to_string(),
            "dns_domain": self.dns_domain,
            "node_name": self.node_name,
            "host_address": self.host_address.to_string(),
            "images": images,
            "values": values,
        }))
    }
}

fn reference(image: &crate::definition::Image) -> String {
    match &image.digest {
        Some(digest) => format!("{}@{digest}", image.reference),
        None => image.reference.clone(),
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}
