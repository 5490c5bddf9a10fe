//! What `coracle convert` makes of the Compose files and old manifests of its own tests, before a real API.

use coracle_tests::{Coracle, repository};
use std::path::{Path, PathBuf};

/// Manifests that the API has to refuse, and what it says: what is wrong with them is told, and left to people.
const REFUSED: [(&str, &str); 2] = [
    (
        "mismatch.now",
        "`selector` does not match template `labels`",
    ),
    ("policies.now", "no matches for kind \"PodSecurityPolicy\""),
];

pub(super) fn are_taken(coracle: &Coracle) {
    let composed = files(&repository().join("cli/convert/tests/golden"))
        .into_iter()
        .map(|project| project.join("expected.yaml"));
    let migrated = files(&repository().join("cli/migrate/tests/golden"))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "now"));
    let all: Vec<PathBuf> = composed.chain(migrated).collect();
    assert!(all.len() > 10, "{all:?}");
    let mut refused = 0;
    for path in all {
        let arguments = ["apply", "--dry-run=server", "--validate=strict", "-f"];
        let applied = coracle.kubectl_run(arguments).args([&path]).done();
        match REFUSED.iter().find(|(name, _)| path.ends_with(name)) {
            None => drop(applied.ok()),
            Some((_, reason)) => {
                refused += 1;
                assert_ne!(applied.code(), Some(0), "{applied}");
                assert!(applied.stderr.contains(reason), "{applied}");
            }
        }
    }
    assert_eq!(refused, REFUSED.len());
}

/// What is in a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}
