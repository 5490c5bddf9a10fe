//! `components/NAME/component.toml`: which programs a Go module gives, and where they go.

use super::BuildError;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// One upstream project, pinned by the `go.mod` and `go.sum` beside its description.
#[derive(Debug, Clone)]
pub(crate) struct Component {
    /// The folder's name.
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    /// Upstream's version as `go.mod` pins it, such as `v1.37.2`.
    pub(crate) version: String,
    pub(crate) description: Description,
}

/// The file's content.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Description {
    /// The Go module whose version is the component's.
    pub(crate) module: String,
    /// Whether C code is compiled too: then it is built in the build root, static.
    #[serde(default)]
    pub(crate) cgo: bool,
    /// Go build tags.
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    /// String variables set by the linker. `{version}` stands for the version, `{bare}` for it
    /// without the v, `{major}` and `{minor}` for its numbers.
    #[serde(default)]
    pub(crate) variables: BTreeMap<String, String>,
    #[serde(rename = "program")]
    pub(crate) programs: Vec<Program>,
}

/// One main package.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Program {
    /// The program's file name.
    pub(crate) name: String,
    /// Import path, or a folder of the component.
    pub(crate) package: String,
    pub(crate) place: Place,
    /// Further names, as links beside it.
    #[serde(default)]
    pub(crate) links: Vec<String>,
}

/// Where a program goes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Place {
    /// A path of the root file system.
    Root(String),
    /// A path of the Kubernetes layer.
    Kubernetes(String),
    /// Beside the image's files, for the host.
    Host,
    /// Into container images only.
    Image,
}

impl Component {
    /// Reads all components, ordered by name.
    pub(crate) fn read_all(folder: &Path) -> Result<Vec<Self>, BuildError> {
        let mut components = Vec::new();
        for entry in fs::read_dir(folder).map_err(BuildError::io(folder))? {
            let folder = entry.map_err(BuildError::io(folder))?.path();
            if folder.join("component.toml").is_file() {
                components.push(Self::read(&folder)?);
            }
        }
        components.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(components)
    }

    fn read(folder: &Path) -> Result<Self, BuildError> {
        let file = folder.join("component.toml");
        let text = fs::read_to_string(&file).map_err(BuildError::io(&file))?;
        let wrong = |reason: String| BuildError::Source {
            file: file.clone(),
            reason,
        };
        let description: Description = toml::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        let modules = folder.join("go.mod");
        let text = fs::read_to_string(&modules).map_err(BuildError::io(&modules))?;
        let version = required_version(&text, &description.module)
            .ok_or_else(|| wrong(format!("go.mod does not require {}", description.module)))?;
        let name = folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(Self {
            name,
            folder: folder.to_owned(),
            version,
            description,
        })
    }

    /// The version without the v.
    pub(crate) fn bare_version(&self) -> &str {
        self.version.trim_start_matches('v')
    }

    /// The linker's flags: no symbol tables, no build id, the variables.
    pub(crate) fn linker_flags(&self) -> String {
        let numbers: Vec<_> = self.bare_version().split('.').collect();
        let number = |n: usize| numbers.get(n).copied().unwrap_or_default();
        let mut flags = String::from("-s -w -buildid=");
        for (variable, value) in &self.description.variables {
            let value = value
                .replace("{version}", &self.version)
                .replace("{bare}", self.bare_version())
                .replace("{major}", number(0))
                .replace("{minor}", number(1));
            flags += &format!(" -X {variable}={value}");
        }
        if self.description.cgo {
            flags += " -linkmode external -extldflags -static";
        }
        flags
    }

    /// Whether it gives the Kubernetes layer.
    pub(crate) fn is_kubernetes(&self) -> bool {
        self.description
            .programs
            .iter()
            .any(|p| matches!(p.place, Place::Kubernetes(_)))
    }
}

/// The version of a module that a `go.mod` requires (its grammar: go.dev/ref/mod#go-mod-file).
fn required_version(text: &str, module: &str) -> Option<String> {
    let mut in_require = false;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default().trim();
        let mut words = line.split_whitespace();
        match (words.next(), in_require) {
            (Some("require"), _) if line.ends_with('(') => in_require = true,
            (Some("require"), _) if words.next() == Some(module) => {
                return words.next().map(str::to_owned);
            }
            (Some(")"), _) => in_require = false,
            (Some(name), true) if name == module => return words.next().map(str::to_owned),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_go_mod() {
        let text = "module m\n\nrequire a.example/x v1.0.0\nrequire (\n\tb.example/y v2.3.4 // indirect\n)\nreplace (\n\tc.example/z => c.example/z v9.0.0\n)\n";
        assert_eq!(
            required_version(text, "a.example/x").as_deref(),
            Some("v1.0.0")
        );
        assert_eq!(
            required_version(text, "b.example/y").as_deref(),
            Some("v2.3.4")
        );
        assert_eq!(required_version(text, "c.example/z"), None);
    }

    #[test]
    fn the_source_tree_s_components_are_understood() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("components");
        let components = Component::read_all(&folder).unwrap();
        let names: Vec<_> = components.iter().map(|c| c.name.as_str()).collect();
        for name in ["cni", "containerd", "coredns", "etcd", "kubernetes", "runc"] {
            assert!(names.contains(&name), "{name} in {names:?}");
        }
        let kubernetes: Vec<_> = components.iter().filter(|c| c.is_kubernetes()).collect();
        assert_eq!(kubernetes.len(), 1);
        let flags = kubernetes[0].linker_flags();
        let version = &kubernetes[0].version;
        assert!(
            flags.contains(&format!("version.gitVersion={version}")),
            "{flags}"
        );
        assert!(!flags.contains('{'), "{flags}");
    }
}
