//! One add-on, read from its folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::definition::{Definition, DefinitionError, Enabled, Image, Readiness};
use crate::render;

/// Where an add-on was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Part of the program.
    Builtin,
    /// A folder of the user's.
    Folder(PathBuf),
}

/// An add-on that can be rendered and applied.
#[derive(Debug, Clone)]
pub struct Addon {
    /// Its name, also the folder's: at most 63 of a-z, 0-9 and `-`.
    pub name: String,
    /// One line for a list.
    pub description: String,
    /// Version of the software that it installs.
    pub version: String,
    /// When it is part of a cluster.
    pub enabled: Enabled,
    /// SPDX expression of the software that it installs.
    pub licence: String,
    /// Where the software comes from.
    pub source: String,
    /// Names of the add-ons that have to be there first.
    pub dependencies: Vec<String>,
    /// Images that it runs.
    pub images: Vec<Image>,
    /// What can be configured, with the defaults.
    pub values: BTreeMap<String, serde_json::Value>,
    /// When it is ready: every row is true.
    pub readiness: Vec<Readiness>,
    /// Where it was read from.
    pub origin: Origin,
    /// File name to template, in the order in which the files are rendered.
    pub(crate) manifests: BTreeMap<String, String>,
}

/// A manifest of a user's folder that is larger than this is a mistake, in bytes.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;

impl Addon {
    /// Reads the add-on in `path`, whose last component is its name.
    ///
    /// # Errors
    /// The folder is not an add-on; the error names the file, and the line where there is one.
    pub fn read(path: &Path) -> Result<Self, DefinitionError> {
        let folder = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let toml = read_text(path, "addon.toml")?.ok_or(DefinitionError::Missing)?;
        let mut manifests = BTreeMap::new();
        for name in manifest_names(path)? {
            let file = format!("manifests/{name}");
            if let Some(text) = read_text(path, &file)? {
                manifests.insert(file, text);
            }
        }
        Self::assemble(folder, &toml, manifests, Origin::Folder(path.to_owned()))
    }

    /// The add-on `folder` of the files that were embedded at build time.
    pub(crate) fn embedded(
        folder: &str,
        files: &[(&'static str, &'static str)],
    ) -> Result<Self, DefinitionError> {
        let toml = files.iter().find(|(name, _)| *name == "addon.toml");
        let (_, toml) = toml.ok_or(DefinitionError::Missing)?;
        let manifests = files
            .iter()
            .filter(|(name, _)| is_manifest(name.strip_prefix("manifests/").unwrap_or_default()))
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect();
        Self::assemble(folder, toml, manifests, Origin::Builtin)
    }

    fn assemble(
        folder: &str,
        toml: &str,
        manifests: BTreeMap<String, String>,
        origin: Origin,
    ) -> Result<Self, DefinitionError> {
        let definition = Definition::parse(toml, folder)?;
        if manifests.is_empty() {
            return Err(DefinitionError::NoManifest);
        }
        for (file, text) in &manifests {
            render::check_template(file, text).map_err(DefinitionError::Template)?;
        }
        Ok(Self {
            name: definition.name,
            description: definition.description,
            version: definition.version,
            enabled: definition.enabled,
            licence: definition.licence,
            source: definition.source,
            dependencies: definition.dependencies,
            images: definition.images,
            values: definition.values,
            readiness: definition.readiness,
            origin,
            manifests,
        })
    }
}

fn is_manifest(name: &str) -> bool {
    !name.contains('/') && (name.ends_with(".yaml") || name.ends_with(".yml"))
}

fn manifest_names(path: &Path) -> Result<Vec<String>, DefinitionError> {
    let failed = |source| DefinitionError::Read {
        file: "manifests".to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(path.join("manifests")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        names.extend(
            name.to_str()
                .filter(|name| is_manifest(name))
                .map(str::to_owned),
        );
    }
    Ok(names)
}

/// The text of one file, or none when it is not there.
fn read_text(path: &Path, file: &str) -> Result<Option<String>, DefinitionError> {
    let failed = |source| DefinitionError::Read {
        file: file.to_owned(),
        source,
    };
    let full = path.join(file);
    let length = match std::fs::metadata(&full) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if length > LARGEST_FILE {
        return Err(failed(std::io::Error::other(format!(
            "it has {length} bytes; at most {LARGEST_FILE} are read"
        ))));
    }
    std::fs::read_to_string(full).map(Some).map_err(failed)
}
