//! The kubeconfig as a user sees it: one file or several, merged by client-go's rules.
//! Source of the rules: k8s.io/client-go, tools/clientcmd, PathOptions and ModifyConfig.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::edit::{self, EditError, Entries, Parts};
use crate::entry::{ContextEntry, List};
use crate::error::KubeconfigError;
use crate::file::{self, Loaded};
use crate::former::{Former, FormerFile};
use crate::lock::Locks;

/// Whether a context that is set becomes the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CurrentContext {
    /// It does.
    Switch,
    /// The current context, or that there is none, stays.
    Keep,
}

/// What setting a context did.
#[derive(Debug, Clone)]
pub struct Change {
    /// What stood there before; to be kept for the next call for the same context.
    pub former: Former,
    /// The files that were written; none when everything was as wanted.
    pub written: Vec<PathBuf>,
}

/// The files of a kubeconfig.
#[derive(Debug, Clone)]
pub struct Kubeconfig {
    files: Vec<PathBuf>,
    lock_limit: Duration,
}

/// A kubeconfig file that was read and parsed.
pub(crate) struct Parsed {
    pub(crate) loaded: Loaded,
    pub(crate) entries: Entries,
}

/// The new text of a file.
struct Edited<'file> {
    old: &'file Loaded,
    new: String,
    /// Whether nothing is left of a file that was made for the context.
    dissolve: bool,
}

impl Kubeconfig {
    /// Finds the files as client-go does: those of `variable`, the value of `$KUBECONFIG`, without
    /// empty and repeated elements; where it is unset or empty, `.kube/config` in `home`.
    /// `lock_limit` is how long a change waits for the locks of others.
    ///
    /// # Errors
    /// [`KubeconfigError::NoFile`] when `variable` holds only empty elements.
    pub fn locate(
        variable: Option<&OsStr>,
        home: &Path,
        lock_limit: Duration,
    ) -> Result<Self, KubeconfigError> {
        let Some(variable) = variable.filter(|value| !value.is_empty()) else {
            return Ok(Self::at(home.join(".kube").join("config"), lock_limit));
        };
        let mut files = Vec::new();
        for path in std::env::split_paths(variable) {
            if path.as_os_str().is_empty() {
                continue;
            }
            let path = std::path::absolute(&path).unwrap_or(path);
            if !files.contains(&path) {
                files.push(path);
            }
        }
        if files.is_empty() {
            return Err(KubeconfigError::NoFile {
                value: variable.to_string_lossy().into_owned(),
            });
        }
        Ok(Self { files, lock_limit })
    }

    /// The kubeconfig that is this one file.
    #[must_use]
    pub fn at(file: PathBuf, lock_limit: Duration) -> Self {
        Self {
            files: vec![file],
            lock_limit,
        }
    }

    /// The files in order of precedence; they need not all exist.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The file that a new entry goes to: the first that exists, else the last.
    #[must_use]
    pub fn default_file(&self) -> &Path {
        let existing = self.files.iter().find(|file| file.exists());
        let file = existing.or(self.files.last());
        file.map_or(Path::new(""), PathBuf::as_path)
    }

    /// Writes a context with its cluster and its user. Each entry that is there already is changed
    /// in the file that holds it, and keeps what it holds beyond ours; a new one goes to
    /// [`Kubeconfig::default_file`], and so does the current context. `former` is what an earlier
    /// call for the same context gave.
    ///
    /// # Errors
    /// [`KubeconfigError`]; nothing was changed then.
    pub fn set_context(
        &self,
        entry: &ContextEntry,
        current: CurrentContext,
        former: Option<&Former>,
    ) -> Result<Change, KubeconfigError> {
        file::make_folder(&file::follow_links(self.default_file()))?;
        let locks = self.lock(&self.files)?;
        let default = self.default_file().to_owned();
        let files = read_all(&self.files)?;
        let mut former = former.cloned().unwrap_or_default();
        let mut edits = Vec::new();
        for parsed in &files {
            let path = &parsed.loaded.path;
            let lists = List::ALL.into_iter();
            let lists = lists.filter(|list| {
                let holder = files
                    .iter()
                    .find(|other| other.entries.holds(*list, &entry.name));
                holder.map_or(&default, |other| &other.loaded.path) == path
            });
            let parts = Parts {
                entry,
                lists: lists.collect(),
                current: current == CurrentContext::Switch && *path == default,
            };
            if parts.lists.is_empty() && !parts.current {
                continue;
            }
            let mut record = record_for(parsed, &entry.name, former.file(path));
            if let Some(name) = parsed.entries.current_context()
                && parts.current
                && name != entry.name
            {
                record.current_existed = context_exists(&files, name);
            }
            let new = edit::set(parsed.loaded.text(), &parts, &mut record)
                .map_err(|source| invalid(path, source))?;
            former.put(record);
            edits.push(Edited {
                old: &parsed.loaded,
                new,
                dissolve: false,
            });
        }
        let written = write_all(&edits, &locks)?;
        for edited in &edits {
            file::restrict(&edited.old.path);
        }
        Ok(Change { former, written })
    }

    /// Checks that [`Kubeconfig::set_context`] could write a context of this name now: takes the
    /// locks, reads every file, and asks whether those that would be changed may be. Changes
    /// nothing, but makes the folder of [`Kubeconfig::default_file`].
    ///
    /// # Errors
    /// [`KubeconfigError`], as setting the context would give it.
    pub fn check_editable(&self, name: &str) -> Result<(), KubeconfigError> {
        file::make_folder(&file::follow_links(self.default_file()))?;
        let locks = self.lock(&self.files)?;
        let default = self.default_file();
        for parsed in read_all(&self.files)? {
            let path = &parsed.loaded.path;
            let holds = List::ALL
                .iter()
                .any(|list| parsed.entries.holds(*list, name));
            if holds || path == default {
                may_write(path, &locks)?;
            }
        }
        Ok(())
    }

    /// Removes the context `name` with the cluster and the user of that name, and brings back what
    /// `former` says, from the files that `former` names; without it, from all files. The former
    /// current context comes back only where the current one is still `name`. Gives the files that
    /// were written.
    ///
    /// # Errors
    /// [`KubeconfigError`]; nothing was changed then.
    pub fn remove_context(
        &self,
        name: &str,
        former: Option<&Former>,
    ) -> Result<Vec<PathBuf>, KubeconfigError> {
        let paths: Vec<PathBuf> = match former {
            Some(former) => former.files().map(Path::to_owned).collect(),
            None => self.files.clone(),
        };
        let locks = self.lock(&paths)?;
        let files = read_all(&paths)?;
        let others = self.files.iter().filter(|file| !paths.contains(file));
        // A damaged file elsewhere must not keep a context from being removed.
        let others: Vec<Parsed> = others.filter_map(|file| read(file).ok()).collect();
        let exists = |name: &str| context_exists(&files, name) || context_exists(&others, name);
        let mut edits = Vec::new();
        for parsed in &files {
            let Some(old) = &parsed.loaded.text else {
                continue;
            };
            let path = &parsed.loaded.path;
            let record = former.and_then(|former| former.file(path));
            let new =
                edit::remove(old, name, record, &exists).map_err(|source| invalid(path, source))?;
            let dissolve = new.trim().is_empty() && record.is_some_and(|record| !record.existed);
            edits.push(Edited {
                old: &parsed.loaded,
                new,
                dissolve,
            });
        }
        write_all(&edits, &locks)
    }

    /// The current context: that of the first file that names one.
    ///
    /// # Errors
    /// [`KubeconfigError`] when a file cannot be read.
    pub fn current_context(&self) -> Result<Option<String>, KubeconfigError> {
        let files = read_all(&self.files)?;
        let mut current = files
            .iter()
            .filter_map(|file| file.entries.current_context());
        Ok(current.next().map(str::to_owned))
    }

    /// The names of all contexts, in the order of the files.
    ///
    /// # Errors
    /// [`KubeconfigError`] when a file cannot be read.
    pub fn contexts(&self) -> Result<Vec<String>, KubeconfigError> {
        let mut names: Vec<String> = Vec::new();
        for file in read_all(&self.files)? {
            for name in file.entries.names(List::Contexts) {
                if !names.iter().any(|other| other == name) {
                    names.push(name.to_owned());
                }
            }
        }
        Ok(names)
    }

    /// Reads and parses all files.
    pub(crate) fn read(&self) -> Result<Vec<Parsed>, KubeconfigError> {
        read_all(&self.files)
    }

    /// Locks `files`, under the names given and those of the files that links lead to.
    fn lock(&self, files: &[PathBuf]) -> Result<Locks, KubeconfigError> {
        let targets = files.iter().map(|file| file::follow_links(file));
        let all: Vec<PathBuf> = files.iter().cloned().chain(targets).collect();
        Ok(Locks::take(&all, self.lock_limit)?)
    }
}

fn read_all(files: &[PathBuf]) -> Result<Vec<Parsed>, KubeconfigError> {
    files.iter().map(|file| read(file)).collect()
}

fn read(file: &Path) -> Result<Parsed, KubeconfigError> {
    let loaded = Loaded::read(file)?;
    let entries = Entries::parse(loaded.text()).map_err(|source| invalid(file, source))?;
    Ok(Parsed { loaded, entries })
}

fn invalid(file: &Path, source: EditError) -> KubeconfigError {
    KubeconfigError::Invalid {
        file: file.to_owned(),
        source,
    }
}

fn context_exists(files: &[Parsed], name: &str) -> bool {
    files
        .iter()
        .any(|file| file.entries.holds(List::Contexts, name))
}

/// The record to go on with for a file: the one of an earlier call while the file still holds
/// something of the context, else a new one.
fn record_for(parsed: &Parsed, name: &str, earlier: Option<&FormerFile>) -> FormerFile {
    let mut record = FormerFile::new(&parsed.loaded.path, parsed.loaded.text.is_some());
    let holds = List::ALL
        .into_iter()
        .any(|list| parsed.entries.holds(list, name));
    match earlier {
        Some(earlier) if holds => earlier.clone(),
        Some(earlier) => {
            // The entries are gone, but the current context may still name them.
            let current = earlier.keys.get_key_value(edit::CURRENT_CONTEXT);
            let current = current.map(|(key, value)| (key.clone(), value.clone()));
            record.keys.extend(current);
            record.current_existed = earlier.current_existed;
            record
        }
        None => record,
    }
}

/// Checks that a locked file and its folder may be written to.
fn may_write(path: &Path, locks: &Locks) -> Result<(), KubeconfigError> {
    let refusal = locks
        .refusal(path)
        .or_else(|| locks.refusal(&file::follow_links(path)));
    match refusal {
        Some(kind) => Err(KubeconfigError::Write {
            file: path.to_owned(),
            source: kind.into(),
        }),
        None => file::check_writable(path),
    }
}

/// Writes every text that changed. When one cannot be written, those before it are put back.
fn write_all(edits: &[Edited<'_>], locks: &Locks) -> Result<Vec<PathBuf>, KubeconfigError> {
    let changed: Vec<_> = edits
        .iter()
        .filter(|edited| edited.old.text.as_deref() != Some(&edited.new))
        .collect();
    for edited in &changed {
        may_write(&edited.old.path, locks)?;
    }
    for (index, edited) in changed.iter().enumerate() {
        let path = &edited.old.path;
        let result = if edited.dissolve {
            file::remove(path)
        } else {
            file::replace(path, &edited.new)
        };
        if let Err(error) = result {
            for done in &changed[..index] {
                // Nothing better can be done when this fails too.
                let _ = match &done.old.text {
                    Some(text) => file::replace(&done.old.path, text),
                    None => file::remove(&done.old.path),
                };
            }
            return Err(error);
        }
    }
    Ok(changed
        .iter()
        .map(|edited| edited.old.path.clone())
        .collect())
}
