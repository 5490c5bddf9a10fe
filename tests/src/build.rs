//! Programs that a test builds: with other features, or of changed sources.

use crate::{Run, kept_folder};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Beyond a build with all that it depends on, on a busy host.
const LIMIT: Duration = Duration::from_secs(2 * 3600);
/// What `cargo test` sets for this very test, and would be taken for a setting of the build.
const OWN: [&str; 4] = [
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_BIN_",
    "CARGO_CRATE_",
];

/// Runs `cargo build ARGUMENTS` in a workspace, and gives the folder of its programs. All builds share one
/// target folder, which is kept between runs, so that what the programs depend on is compiled once; the
/// program `wanted` is copied to a folder `name`, since the next build replaces it.
#[track_caller]
pub fn build(name: &str, workspace: &Path, arguments: &[&str], wanted: &str) -> PathBuf {
    let target = kept_folder("programs");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Run::new(cargo);
    for (variable, value) in std::env::vars_os() {
        let text = variable.to_string_lossy();
        if !OWN.iter().any(|own| text.starts_with(own)) {
            cargo = cargo.env(&variable, value);
        }
    }
    let built = cargo
        .args(["build", "--locked"])
        .args(arguments)
        .env("CARGO_TARGET_DIR", &target)
        // Nobody debugs them.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .folder(workspace)
        .limit(LIMIT)
        .ok();
    eprintln!("a build of {name} took {:.1?}", built.took);
    let kept = kept_folder(&format!("programs/{name}")).join(wanted);
    // Another file: the former one may still run.
    let next = kept.with_extension("next");
    fs::copy(target.join("debug").join(wanted), &next).expect("it was built");
    fs::rename(&next, &kept).expect("the folder is ours");
    kept
}
