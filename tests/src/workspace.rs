//! A copy of the sources that a test may change.

use crate::{Run, repository, write};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The sources as they are now, without what git ignores.
#[derive(Debug, Clone)]
pub struct Workspace {
    files: BTreeMap<PathBuf, File>,
}

#[derive(Debug, Clone)]
struct File {
    content: Vec<u8>,
    mode: u32,
}

impl Workspace {
    /// Reads them.
    #[track_caller]
    pub fn read() -> Self {
        let listed = Run::new("git")
            .args(["ls-files", "-z", "--cached", "--others"])
            .args(["--exclude-standard"])
            .folder(repository())
            .ok();
        let paths = listed.stdout.split_terminator('\0').map(PathBuf::from);
        let read = |path: PathBuf| {
            let from = repository().join(&path);
            // One may be listed and removed since.
            let content = fs::read(&from).ok()?;
            let mode = fs::metadata(&from).ok()?.permissions().mode();
            Some((path, File { content, mode }))
        };
        let files = paths.filter_map(read).collect();
        Self { files }
    }

    /// Adds a file, or gives one another content.
    pub fn put(&mut self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) {
        let content = content.into();
        let mode = 0o644;
        self.files.insert(path.into(), File { content, mode });
    }

    /// Replaces a text that has to be in a file.
    #[track_caller]
    pub fn replace(&mut self, path: impl AsRef<Path>, old: &str, new: &str) {
        let file = self.files.get_mut(path.as_ref()).expect("it is a source");
        let text = String::from_utf8(file.content.clone()).expect("it is text");
        assert!(text.contains(old), "{old:?} is not in\n{text}");
        file.content = text.replace(old, new).into_bytes();
    }

    /// Has a folder hold these files and no others. Those that are there already are left alone, so that
    /// a build compiles only what is new.
    #[track_caller]
    pub fn write(&self, folder: &Path) {
        for (path, File { content, mode }) in &self.files {
            let there = folder.join(path);
            if !fs::read(&there).is_ok_and(|now| now == *content) {
                write(&there, content);
            }
            let mode = fs::Permissions::from_mode(*mode);
            fs::set_permissions(there, mode).expect("the copy is ours");
        }
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(&next).expect("it was made").flatten() {
                let path = entry.path();
                let own = path.strip_prefix(folder).expect("it is below");
                if entry.file_type().expect("it was listed").is_dir() {
                    folders.push(path);
                } else if !self.files.contains_key(own) {
                    fs::remove_file(&path).expect("the copy is ours");
                }
            }
        }
    }
}
