//! What stood in the kubeconfig files before a context was set, so that removing the context can
//! bring it back byte for byte.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The former state of every file that a context was written to. The caller keeps it with the
/// cluster's own state (it holds no secret) and gives it back with the next call for the same
/// context.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// One record a file.
    pub(crate) files: Vec<FormerFile>,
}

/// The former state of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FormerFile {
    /// The file, absolute, as `$KUBECONFIG` names it: links are not resolved.
    pub(crate) path: PathBuf,
    /// Whether it was there.
    pub(crate) existed: bool,
    /// What stood behind the top-level keys that were changed.
    pub(crate) keys: BTreeMap<String, FormerValue>,
    /// Whether the former current context was one that existed.
    pub(crate) current_existed: bool,
}

/// What a top-level key held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FormerValue {
    /// The key was not there.
    Absent,
    /// This text stood behind its colon.
    Raw(String),
}

impl Former {
    /// The files that hold something of the context.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// The record of `path`.
    pub(crate) fn file(&self, path: &Path) -> Option<&FormerFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Puts `record` in the place of the one for the same file.
    pub(crate) fn put(&mut self, record: FormerFile) {
        match self.files.iter_mut().find(|file| file.path == record.path) {
            Some(file) => *file = record,
            None => self.files.push(record),
        }
    }
}

impl FormerFile {
    /// The record of a file of which nothing was changed yet.
    pub(crate) fn new(path: &Path, existed: bool) -> Self {
        Self {
            path: path.to_owned(),
            existed,
            keys: BTreeMap::new(),
            current_existed: false,
        }
    }

    /// Whether `key` was added.
    pub(crate) fn was_absent(&self, key: &str) -> bool {
        self.keys.get(key) == Some(&FormerValue::Absent)
    }
}
