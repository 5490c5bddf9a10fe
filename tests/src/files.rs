//! Files of a test: written, damaged, and where the sources are.

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
