//! Files of a test: written, damaged, and where the sources are.

use crate::Run;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The folder of the sources.
pub fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("the tests' folder is in the repository")
        .to_owned()
}

/// Writes a file and the folders above it.
#[track_caller]
#[expect(
    clippy::disallowed_methods,
    reason = "nobody else reads a test's file while it is written"
)]
pub fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    let path = path.as_ref();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    }
    fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Adds to the end of a file.
#[track_caller]
pub fn append(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(content.as_ref()).unwrap();
}

/// Changes one byte in the middle of a file; its length stays.
#[track_caller]
pub fn damage(path: impl AsRef<Path>) {
    let mut bytes = fs::read(path.as_ref()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    write(path, bytes);
}

/// Replaces a text that has to be in a file, as a person's editor does: all else stays.
#[track_caller]
pub fn replace_in(path: impl AsRef<Path>, old: &str, new: &str) {
    let text = fs::read_to_string(path.as_ref()).unwrap();
    assert!(text.contains(old), "{old:?} is not in\n{text}");
    write(path, text.replace(old, new));
}

/// Every file of a gzip tar by its path in it, unpacked as a person does it.
#[track_caller]
pub fn unpacked(archive: &Path) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    Run::new("tar")
        .args(["-xzf"])
        .args([archive])
        .args(["-C"])
        .args([folder.path()])
        .ok();
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.path().to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder.path()).unwrap();
            let content = fs::read(&path).unwrap();
            files.insert(
                name.display().to_string(),
                String::from_utf8_lossy(&content).into_owned(),
            );
        }
    }
    files
}
