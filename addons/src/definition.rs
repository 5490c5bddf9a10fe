//! `addon.toml`: its shape, and the checks that turn it into types.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer};

/// When an add-on is part of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Enabled {
    /// In every cluster; it cannot be switched off.
    Always,
    /// In every cluster unless it is switched off.
    Default,
    /// Only where it is asked for.
    Optional,
}

/// A container image that an add-on runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// What the manifests call it: `{{ images.NAME }}`.
    pub name: String,
    /// Where it comes from, with its tag: `coracle.internal/coredns:1.14.7`.
    pub reference: String,
    /// `sha256:HEX` of its manifest, where it is pinned.
    pub digest: Option<String>,
}

/// What has to be true of an object before its add-on counts as ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// `exists`: the object is there.
    Exists,
    /// `rolled-out`: a Deployment, StatefulSet or DaemonSet runs its newest template, all pods
    /// available.
    RolledOut,
    /// Any other word: the entry of `status.conditions` with this type is `True`, as in `Complete`
    /// of a Job or `Established` of a CustomResourceDefinition.
    Status(String),
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists => f.write_str("exists"),
            Self::RolledOut => f.write_str("rolled-out"),
            Self::Status(name) => f.write_str(name),
        }
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        match word.as_str() {
            "exists" => Ok(Self::Exists),
            "rolled-out" => Ok(Self::RolledOut),
            other if other.starts_with(|first: char| first.is_ascii_uppercase()) => {
                Ok(Self::Status(word))
            }
            _ => Err(serde::de::Error::custom(format!(
                "unknown condition {word:?}: use exists, rolled-out, or the type of a status \
                 condition such as Complete"
            ))),
        }
    }
}

/// One row of the table that says when an add-on is ready.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Readiness {
    /// Kind of the object, such as `Deployment`.
    pub kind: String,
    /// `GROUP/VERSION` of the kind; only needed for kinds that Kubernetes itself does not have.
    #[serde(rename = "api-version")]
    pub api_version: Option<String>,
    /// Namespace of the object; none for a kind that is in no namespace.
    pub namespace: Option<String>,
    /// Name of the object.
    pub name: String,
    /// What to wait for.
    pub condition: Condition,
    /// What a person can look at when it does not come true.
    pub hint: String,
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind)?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

/// `addon.toml` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Definition {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) version: String,
    pub(crate) enabled: Enabled,
    pub(crate) licence: String,
    pub(crate) source: String,
    #[serde(default)]
    pub(crate) dependencies: Vec<String>,
    #[serde(default)]
    pub(crate) images: Vec<Image>,
    #[serde(default)]
    pub(crate) values: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    pub(crate) readiness: Vec<Readiness>,
}

/// Why a folder is not an add-on.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// `addon.toml` is missing.
    #[error("there is no addon.toml")]
    Missing,
    /// `addon.toml` is not TOML of the expected shape; the message names line and column.
    #[error("addon.toml: {0}")]
    Toml(String),
    /// The name is not one that a label of Kubernetes can hold.
    #[error("addon.toml: the name {0:?} is not made of at most 63 of a-z, 0-9 and `-`")]
    Name(String),
    /// The name in the file and the folder's differ.
    #[error("addon.toml: the name is {name:?}, but the folder is called {folder:?}")]
    OtherName {
        /// Name in `addon.toml`.
        name: String,
        /// Name of the folder.
        folder: String,
    },
    /// Something that has to be there once is there twice, or not at all.
    #[error("addon.toml: {0}")]
    Content(String),
    /// No manifest.
    #[error("there is no manifest: no file manifests/*.yaml")]
    NoManifest,
    /// A manifest is not a template; the message names file and line.
    #[error("{0}")]
    Template(String),
    /// A file cannot be read.
    #[error("{file}: {source}")]
    Read {
        /// File, relative to the add-on's folder.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Definition {
    /// Parses and checks the text of `addon.toml` in a folder called `folder`.
    pub(crate) fn parse(text: &str, folder: &str) -> Result<Self, DefinitionError> {
        let definition: Self =
            toml::from_str(text).map_err(|error| DefinitionError::Toml(error.to_string()))?;
        if !is_label(&definition.name) {
            return Err(DefinitionError::Name(definition.name));
        }
        if definition.name != folder {
            let (name, folder) = (definition.name, folder.to_owned());
            return Err(DefinitionError::OtherName { name, folder });
        }
        definition
            .check_content()
            .map_err(DefinitionError::Content)?;
        Ok(definition)
    }

    fn check_content(&self) -> Result<(), String> {
        let mut seen = std::collections::BTreeSet::new();
        for image in &self.images {
            if !is_identifier(&image.name) {
                return Err(format!(
                    "the image name {:?} is not made of a-z, 0-9 and `_`",
                    image.name
                ));
            }
            if !seen.insert(&image.name) {
                return Err(format!("two images are called {:?}", image.name));
            }
            if image.reference.is_empty() || image.reference.contains(char::is_whitespace) {
                return Err(format!(
                    "image {}: {:?} is no reference",
                    image.name, image.reference
                ));
            }
            let digest = image.digest.as_deref();
            if digest.is_some_and(|digest| !is_digest(digest)) {
                return Err(format!(
                    "image {}: the digest is not sha256:HEX",
                    image.name
                ));
            }
        }
        if let Some(key) = self.values.keys().find(|key| !is_identifier(key)) {
            return Err(format!(
                "the value's name {key:?} is not made of a-z, 0-9 and `_`"
            ));
        }
        if self.dependencies.contains(&self.name) {
            return Err("the add-on depends on itself".to_owned());
        }
        Ok(())
    }
}

fn is_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn is_identifier(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && name.starts_with(|first: char| first.is_ascii_lowercase())
}

fn is_digest(digest: &str) -> bool {
    digest
        .strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
