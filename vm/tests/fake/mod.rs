//! A fake program of `vm/tests/fakes`, put where a test wants it: its folder is what it knows of the test.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a part of several test programs: a panic is a failed test"
)]

use std::path::{Path, PathBuf};

/// Puts the program into the folder under this name, and gives its path.
pub fn install(program: &str, folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    #[cfg(unix)]
    std::os::unix::fs::symlink(program, &path).unwrap();
    // Links take rights there that not everybody has.
    #[cfg(not(unix))]
    std::fs::copy(program, &path).map(drop).unwrap();
    path
}
