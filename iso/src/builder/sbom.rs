//! The bill of materials: CycloneDX 1.6 (JSON) of every Debian package, Go module and Rust crate
//! that is in an image.

use super::licence;
use crate::Arch;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One thing that came from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Material {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Package URL (github.com/package-url/purl-spec).
    pub(crate) purl: String,
    /// Licence names as upstream or Debian writes them; empty when none was found.
    pub(crate) licences: Vec<String>,
    /// SHA-256 of the file that was downloaded, hexadecimal.
    pub(crate) sha256: Option<String>,
    /// Further facts by name, such as Go's module hash.
    pub(crate) facts: Vec<(String, String)>,
}

impl Material {
    pub(crate) fn debian(name: &str, version: &str, arch: &str, sha256: &str) -> Self {
        let written = version.replace(':', "%3A").replace('+', "%2B");
        Self {
            name: name.into(),
            version: version.into(),
            purl: format!(
                "pkg:deb/debian/{}@{written}?arch={arch}&distro=trixie",
                name.replace('+', "%2B")
            ),
            licences: Vec::new(),
            sha256: Some(sha256.into()),
            facts: Vec::new(),
        }
    }

    /// `sum` is the module's hash in go.sum's form (`h1:` and base64).
    pub(crate) fn golang(module: &str, version: &str, sum: &str) -> Self {
        Self {
            name: module.into(),
            version: version.into(),
            purl: format!("pkg:golang/{module}@{}", version.replace('+', "%2B")),
            licences: Vec::new(),
            sha256: None,
            facts: vec![("go.sum".into(), sum.into())],
        }
    }

    pub(crate) fn cargo(
        name: &str,
        version: &str,
        licence: Option<&str>,
        sha256: Option<&str>,
    ) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            purl: format!("pkg:cargo/{name}@{}", version.replace('+', "%2B")),
            licences: licence.map(str::to_owned).into_iter().collect(),
            sha256: sha256.map(str::to_owned),
            facts: Vec::new(),
        }
    }

    fn component(&self) -> Value {
        let mut component = json!({
            "type": "library",
            "bom-ref": self.purl,
            "name": self.name,
            "version": self.version,
            "purl": self.purl,
            "licenses": self.licences(),
        });
        if let Some(sha256) = &self.sha256 {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": sha256 }]);
        }
        if !self.facts.is_empty() {
            let facts = self
                .facts
                .iter()
                .map(|(name, value)| json!({ "name": format!("coracle:{name}"), "value": value }));
            component["properties"] = facts.collect();
        }
        component
    }

    /// CycloneDX takes either one SPDX expression or a list of names and ids.
    fn licences(&self) -> Value {
        match &self.licences[..] {
            [] => json!([{ "license": { "name": "NOASSERTION" } }]),
            [one] if one.contains(' ') && licence::is_expression(one) => {
                json!([{ "expression": one }])
            }
            names => names
                .iter()
                .map(|name| {
                    let kind = if licence::is_spdx(name) { "id" } else { "name" };
                    json!({ "license": { kind: name } })
                })
                .collect(),
        }
    }
}

/// The document's bytes; materials are ordered, and those with the same package URL put together.
pub(crate) fn document(
    arch: Arch,
    version: &str,
    materials: Vec<Material>,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut ordered: BTreeMap<String, Material> = BTreeMap::new();
    for material in materials {
        match ordered.get_mut(&material.purl) {
            None => {
                ordered.insert(material.purl.clone(), material);
            }
            Some(there) => {
                there.facts.extend(material.facts);
                there.facts.sort_unstable();
                there.facts.dedup();
            }
        }
    }
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "operating-system",
                "bom-ref": "coracle-image",
                "name": format!("coracle-image-{arch}"),
                "version": version,
            },
        },
        "components": ordered.values().map(Material::component).collect::<Vec<_>>(),
    });
    let mut bytes = serde_json::to_vec_pretty(&document)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_lists_each_material_once_in_order() {
        let mut bash = Material::debian("bash", "1:5.2+b1", "amd64", "aa");
        bash.licences = vec!["GPL-3+".into()];
        let mut zap = Material::golang("go.uber.org/zap", "v1.0.0", "h1:x=");
        zap.facts.push(("in".into(), "etcd".into()));
        let mut again = Material::golang("go.uber.org/zap", "v1.0.0", "h1:x=");
        again.facts.push(("in".into(), "kubernetes".into()));
        let serde = Material::cargo("serde", "1.0.0", Some("MIT OR Apache-2.0"), Some("bb"));
        let bytes = document(Arch::Amd64, "1", vec![again, serde, zap, bash]).unwrap();
        let read: Value = serde_json::from_slice(&bytes).unwrap();
        let components = read["components"].as_array().unwrap();
        let purls: Vec<_> = components
            .iter()
            .map(|c| c["purl"].as_str().unwrap())
            .collect();
        assert_eq!(
            purls,
            [
                "pkg:cargo/serde@1.0.0",
                "pkg:deb/debian/bash@1%3A5.2%2Bb1?arch=amd64&distro=trixie",
                "pkg:golang/go.uber.org/zap@v1.0.0",
            ]
        );
        assert_eq!(
            components[0]["licenses"][0]["expression"],
            "MIT OR Apache-2.0"
        );
        assert_eq!(components[1]["licenses"][0]["license"]["name"], "GPL-3+");
        assert_eq!(
            components[2]["licenses"][0]["license"]["name"],
            "NOASSERTION"
        );
        assert_eq!(components[2]["properties"].as_array().unwrap().len(), 3);
    }
}
