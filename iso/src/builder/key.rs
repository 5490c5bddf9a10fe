//! The name of a part: the hash of everything that it is made from.

use super::BuildError;
use crate::Digest;
use crate::digest::Hasher;
use std::fs;
use std::path::{Path, PathBuf};

/// Collects inputs. Every field is written with its length, so that no two lists of inputs give
/// the same bytes.
pub(crate) struct Key(Hasher);

impl Key {
    /// `recipe` is the source text of the code that makes the part: changed code makes new parts.
    pub(crate) fn new(name: &str, recipe: &str) -> Self {
        Self(Hasher::default())
            .with("part", name)
            .with("recipe", recipe)
    }

    pub(crate) fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        for field in [name.as_bytes(), value.as_ref()] {
            self.0.update(&(field.len() as u64).to_le_bytes());
            self.0.update(field);
        }
        self
    }

    pub(crate) fn digest(self, name: &str, digest: &Digest) -> Self {
        self.with(name, digest.hex())
    }

    /// The content of one file.
    pub(crate) fn file(self, path: &Path) -> Result<Self, BuildError> {
        let (digest, _) = Digest::of_file(path).map_err(BuildError::io(path))?;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(self.digest(&name, &digest))
    }

    /// Paths, contents and executable bits of all files below a folder.
    pub(crate) fn folder(mut self, folder: &Path) -> Result<Self, BuildError> {
        for path in files_below(folder)? {
            let relative = path
                .strip_prefix(folder)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            let (digest, _) = Digest::of_file(&path).map_err(BuildError::io(&path))?;
            let executable = if is_executable(&path)? { "x" } else { "-" };
            self = self.with(&relative, executable).digest("content", &digest);
        }
        Ok(self)
    }

    pub(crate) fn finish(self) -> Digest {
        self.0.finish().0
    }
}

/// All files below a folder, in a fixed order.
pub(crate) fn files_below(folder: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(BuildError::io(&folder))? {
            let path = entry.map_err(BuildError::io(&folder))?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort_unstable();
    Ok(files)
}

pub(crate) fn is_executable(path: &Path) -> Result<bool, BuildError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path)
        .map_err(BuildError::io(path))?
        .permissions()
        .mode();
    Ok(mode & 0o100 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::write_atomic;

    #[test]
    fn every_input_counts_and_fields_do_not_run_together() {
        let base = || Key::new("p", "r");
        let keys = [
            base().finish(),
            Key::new("p", "r2").finish(),
            base().with("ab", "c").finish(),
            base().with("a", "bc").finish(),
            base().with("a", "b").with("", "c").finish(),
        ];
        for (n, key) in keys.iter().enumerate() {
            assert!(!keys[..n].contains(key), "{n}");
        }
    }

    #[test]
    fn a_folder_counts_by_names_and_contents() {
        let folder = tempfile::tempdir().unwrap();
        let key = || Key::new("p", "r").folder(folder.path()).unwrap().finish();
        let empty = key();
        fs::create_dir(folder.path().join("d")).unwrap();
        write_atomic(&folder.path().join("d/f"), b"1").unwrap();
        let one = key();
        assert_eq!(one, key());
        write_atomic(&folder.path().join("d/f"), b"2").unwrap();
        let two = key();
        fs::rename(folder.path().join("d/f"), folder.path().join("d/g")).unwrap();
        let moved = key();
        assert!(empty != one && one != two && two != moved);
    }
}
