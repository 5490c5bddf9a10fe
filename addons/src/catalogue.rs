//! The add-ons that there are: the built-in ones, and those of a user's folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::addon::Addon;
use crate::definition::{DefinitionError, Enabled};

/// Name, then file name and text, of each built-in add-on; written by `build.rs`.
type Embedded = &'static [(&'static str, &'static [(&'static str, &'static str)])];
static BUILTIN: Embedded = include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

/// All add-ons, by name.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    addons: BTreeMap<String, Addon>,
    broken: Vec<Broken>,
}

/// A folder of the user's that is not an add-on. It is listed, and does not keep others from work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Name of the folder.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
    /// What is wrong, with file and line where there is one.
    pub reason: String,
}

/// Why there is no catalogue.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// A built-in add-on is damaged: a defect of the program.
    #[error("the built-in add-on {name}: {source}")]
    Builtin {
        /// Name of the add-on.
        name: String,
        /// What is wrong with it.
        source: DefinitionError,
    },
    /// The user's folder cannot be read.
    #[error("cannot read the folder of add-ons {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Why an add-on cannot be had by its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// There is none of that name.
    #[error("there is no add-on {name:?}{}", suggestion(nearest))]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// Names that are like it, nearest first.
        nearest: Vec<String>,
    },
    /// There is a folder of that name, but it is not an add-on.
    #[error("the add-on {} in {} is broken: {}", .0.name, .0.path.display(), .0.reason)]
    Broken(Broken),
    /// Add-ons depend on each other in a circle.
    #[error("add-ons depend on each other in a circle: {}", .0.join(" -> "))]
    Circle(Vec<String>),
    /// What an add-on depends on cannot be had.
    #[error("the add-on {name} depends on {dependency}: {source}")]
    Dependency {
        /// The add-on that was asked for.
        name: String,
        /// What it depends on.
        dependency: String,
        /// Why that cannot be had.
        source: Box<LookupError>,
    },
}

fn suggestion(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        names => format!("; did you mean {}?", names.join(" or ")),
    }
}

impl Catalogue {
    /// The add-ons that are part of the program.
    ///
    /// # Errors
    /// One of them is damaged; the crate's tests rule that out.
    pub fn builtin() -> Result<Self, CatalogueError> {
        let mut addons = BTreeMap::new();
        for (name, files) in BUILTIN {
            let addon = Addon::embedded(name, files).map_err(|source| CatalogueError::Builtin {
                name: (*name).to_owned(),
                source,
            })?;
            addons.insert(addon.name.clone(), addon);
        }
        Ok(Self {
            addons,
            broken: Vec::new(),
        })
    }

    /// The built-in add-ons and those in `path`, one folder each. A `path` that is not there holds
    /// none. A folder that is no add-on, or has the name of a built-in one, is in [`broken`].
    ///
    /// # Errors
    /// `path` is there and cannot be read.
    ///
    /// [`broken`]: Self::broken
    pub fn with_folder(path: &Path) -> Result<Self, CatalogueError> {
        let mut catalogue = Self::builtin()?;
        let failed = |source| CatalogueError::Folder {
            path: path.to_owned(),
            source,
        };
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(catalogue),
            Err(error) => return Err(failed(error)),
        };
        let mut folders = BTreeSet::new();
        for entry in entries {
            let folder = entry.map_err(failed)?.path();
            let hidden = folder
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if folder.is_dir() && !hidden {
                folders.insert(folder);
            }
        }
        for folder in folders {
            catalogue.add(&folder);
        }
        Ok(catalogue)
    }

    fn add(&mut self, folder: &Path) {
        let name = folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let reason = if self.addons.contains_key(&name) {
            "there is a built-in add-on of this name; give the folder and its add-on another one"
                .to_owned()
        } else {
            match Addon::read(folder) {
                Ok(addon) => {
                    self.addons.insert(addon.name.clone(), addon);
                    return;
                }
                Err(error) => error.to_string(),
            }
        };
        self.broken.push(Broken {
            name,
            path: folder.to_owned(),
            reason,
        });
    }

    /// All add-ons, by name.
    pub fn addons(&self) -> impl Iterator<Item = &Addon> {
        self.addons.values()
    }

    /// The add-ons of a cluster that asks for nothing: those always there, and the default ones.
    pub fn default_addons(&self) -> impl Iterator<Item = &Addon> {
        self.addons()
            .filter(|addon| addon.enabled != Enabled::Optional)
    }

    /// Folders of the user's that are no add-ons.
    #[must_use]
    pub fn broken(&self) -> &[Broken] {
        &self.broken
    }

    /// The add-on called `name`.
    ///
    /// # Errors
    /// There is none, with the nearest names; or its folder is broken.
    pub fn get(&self, name: &str) -> Result<&Addon, LookupError> {
        if let Some(addon) = self.addons.get(name) {
            return Ok(addon);
        }
        if let Some(broken) = self.broken.iter().find(|broken| broken.name == name) {
            return Err(LookupError::Broken(broken.clone()));
        }
        let mut nearest: Vec<(f64, &String)> = self
            .addons
            .keys()
            .map(|known| (strsim::jaro_winkler(name, known), known))
            .filter(|(likeness, _)| *likeness > 0.7)
            .collect();
        nearest.sort_by(|one, other| other.0.total_cmp(&one.0));
        let nearest = nearest
            .into_iter()
            .take(3)
            .map(|(_, known)| known.clone())
            .collect();
        Err(LookupError::Unknown {
            name: name.to_owned(),
            nearest,
        })
    }

    /// The add-ons `names` and all that they depend on, each once, what is needed first coming
    /// first.
    ///
    /// # Errors
    /// One of them cannot be had, or they depend on each other in a circle.
    pub fn in_order<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<&Addon>, LookupError> {
        let mut order = Vec::new();
        for name in names {
            self.visit(name, &mut Vec::new(), &mut order)?;
        }
        Ok(order)
    }

    fn visit<'a>(
        &'a self,
        name: &str,
        path: &mut Vec<String>,
        order: &mut Vec<&'a Addon>,
    ) -> Result<(), LookupError> {
        let addon = self.get(name)?;
        if order.iter().any(|done| done.name == addon.name) {
            return Ok(());
        }
        path.push(name.to_owned());
        if path[..path.len() - 1].contains(&addon.name) {
            return Err(LookupError::Circle(path.clone()));
        }
        for dependency in &addon.dependencies {
            self.visit(dependency, path, order)
                .map_err(|source| match source {
                    circle @ LookupError::Circle(_) => circle,
                    source => LookupError::Dependency {
                        name: name.to_owned(),
                        dependency: dependency.clone(),
                        source: Box::new(source),
                    },
                })?;
        }
        path.pop();
        order.push(addon);
        Ok(())
    }
}
