//! Container images as OCI image layouts in a tar archive, the way `ctr images import` reads it.
//!
//! Formats: OCI image specification 1.1, image-layout.md, manifest.md, config.md. Layers are not
//! compressed: the archive lies in a compressed file system, and unpacking costs start-up time.

use super::BuildError;
use super::command::Work;
use super::tree::Tree;
use crate::{Arch, Digest};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CREATED: &str = "2026-01-01T00:00:00Z";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `profile/images.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Images {
    #[serde(rename = "image")]
    pub(crate) images: Vec<Definition>,
}

/// One image to make.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Definition {
    /// Full name without the tag.
    pub(crate) name: String,
    pub(crate) tag: Tag,
    #[serde(default)]
    pub(crate) entrypoint: Vec<String>,
    #[serde(default)]
    pub(crate) command: Vec<String>,
    pub(crate) user: Option<String>,
    /// Executables and other files: where in the image, and which.
    #[serde(default)]
    pub(crate) files: BTreeMap<String, String>,
    /// Small files with their content.
    #[serde(default)]
    pub(crate) texts: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) folders: Vec<String>,
    pub(crate) links: Option<Links>,
}

/// An image's tag.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Tag {
    /// This text.
    Fixed(String),
    /// The version of a component, without the v.
    Of {
        /// The component's name.
        component: String,
    },
}

/// Many names for one file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Links {
    /// A file of the profile with one name a line.
    pub(crate) list: String,
    pub(crate) target: String,
    pub(crate) folder: String,
}

impl Images {
    pub(crate) fn read(path: &Path) -> Result<Self, BuildError> {
        let text = std::fs::read_to_string(path).map_err(BuildError::io(path))?;
        toml::from_str(&text).map_err(|error| BuildError::Source {
            file: path.to_owned(),
            reason: error.to_string(),
        })
    }
}

/// Writes an image with one layer; `reference` is its full name with the tag.
pub(crate) fn archive(
    work: &Work<'_>,
    definition: &Definition,
    reference: &str,
    arch: Arch,
    layer: &Tree,
) -> Result<Vec<u8>, BuildError> {
    let tar_of = |tree: &Tree| {
        let mut bytes = Vec::new();
        tree.to_tar(&mut bytes)
            .map(|()| bytes)
            .map_err(BuildError::io(reference))
    };
    let json = |value: &Value| serde_json::to_vec(value).map_err(|e| work.wrong(e.to_string()));
    let mut blobs = Tree::default();
    let mut blob = |media_type: &str, bytes: Vec<u8>| {
        let digest = Digest::of(&bytes);
        let size = bytes.len();
        blobs.file(&format!("blobs/sha256/{}", digest.hex()), bytes, 0o644);
        json!({ "mediaType": media_type, "digest": digest.to_string(), "size": size })
    };
    let layer = blob(LAYER, tar_of(layer)?);
    let mut settings = json!({ "Env": [format!("PATH={PATH}")], "WorkingDir": "/" });
    if !definition.entrypoint.is_empty() {
        settings["Entrypoint"] = json!(definition.entrypoint);
    }
    if !definition.command.is_empty() {
        settings["Cmd"] = json!(definition.command);
    }
    if let Some(user) = &definition.user {
        settings["User"] = json!(user);
    }
    let config = json!({
        "created": CREATED,
        "architecture": arch.name(),
        "os": "linux",
        "config": settings,
        "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        "history": [{ "created": CREATED, "created_by": "coracle" }],
    });
    let config = blob(CONFIG, json(&config)?);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
    });
    let mut manifest = blob(MANIFEST, json(&manifest)?);
    manifest["platform"] = json!({ "architecture": arch.name(), "os": "linux" });
    let tag = reference.rsplit(':').next().unwrap_or_default();
    manifest["annotations"] = json!({
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": tag,
    });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest] });
    blobs.file("index.json", json(&index)?, 0o644);
    blobs.file(
        "oci-layout",
        json(&json!({ "imageLayoutVersion": "1.0.0" }))?,
        0o644,
    );
    blobs.complete();
    tar_of(&blobs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NoObserver, Step};

    #[test]
    fn every_blob_has_the_digest_and_size_that_it_is_referred_to_with() {
        let step = Step {
            name: "s".into(),
            what: "s".into(),
        };
        let work = Work {
            step: &step,
            observer: &NoObserver,
        };
        let text = "[[image]]\nname = \"n\"\ntag = \"1\"\nentrypoint = [\"/p\"]\n";
        let images: Images = toml::from_str(text).unwrap();
        let mut layer = Tree::default();
        layer.file("p", *b"program", 0o755);
        let bytes = archive(&work, &images.images[0], "x.y/n:1", Arch::Amd64, &layer).unwrap();
        let tree = Tree::from_tar(bytes.as_slice()).unwrap();
        let read =
            |path: &str| -> Value { serde_json::from_slice(tree.content(path).unwrap()).unwrap() };
        let blob = |descriptor: &Value| {
            let digest: Digest = descriptor["digest"].as_str().unwrap().parse().unwrap();
            let path = format!("blobs/sha256/{}", digest.hex());
            let content = tree.content(&path).unwrap().clone();
            assert_eq!(Digest::of(&content), digest);
            assert_eq!(descriptor["size"], content.len());
            content
        };
        let index = read("index.json");
        assert_eq!(
            index["manifests"][0]["annotations"]["io.containerd.image.name"],
            "x.y/n:1"
        );
        let manifest: Value = serde_json::from_slice(&blob(&index["manifests"][0])).unwrap();
        let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        assert_eq!(config["config"]["Entrypoint"][0], "/p");
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            manifest["layers"][0]["digest"]
        );
        let layer = blob(&manifest["layers"][0]);
        assert!(Tree::from_tar(&layer[..]).unwrap().content("p").is_some());
    }
}
