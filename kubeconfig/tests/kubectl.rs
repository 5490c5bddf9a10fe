//! kubectl, where it is installed, reads what this crate writes and writes beside it.

// Helpers of tests may fail like tests, and no reader looks on while they write a file.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use coracle_kubeconfig::{CurrentContext, Kubeconfig};
use support::{entry, entry_with_files, single};

/// Runs kubectl; `None` where it is not installed.
fn kubectl(file: &Path, arguments: &[&str]) -> Option<Output> {
    let output = Command::new("kubectl")
        .args(arguments)
        .arg("--kubeconfig")
        .arg(file)
        .env_remove("KUBECONFIG")
        .output();
    if let Err(error) = &output {
        println!("not checked with kubectl: {error}");
    }
    output.ok()
}

/// What kubectl prints; it must succeed.
fn printed(file: &Path, arguments: &[&str]) -> Option<String> {
    let output = kubectl(file, arguments)?;
    let error = String::from_utf8_lossy(&output.stderr);
    let text = fs::read_to_string(file).expect("a file");
    assert!(
        output.status.success(),
        "kubectl {arguments:?}: {error}\n{text}"
    );
    Some(String::from_utf8(output.stdout).expect("UTF-8"))
}

#[test]
fn kubectl_reads_every_fixture_after_the_edit_as_before() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let view = ["config", "view", "--raw", "-o", "json"];
    let mut checked = 0;
    for fixture in fs::read_dir(fixtures).expect("fixtures") {
        let fixture = fixture.expect("a fixture").path();
        let folder = tempfile::tempdir().expect("a folder");
        let config = single(&folder);
        let file = folder.path().join("config");
        fs::copy(&fixture, &file).expect("a copy");
        let Some(before) = kubectl(&file, &view) else {
            return;
        };
        if !before.status.success() {
            // Names that are there twice are an error for kubectl.
            println!("kubectl refuses {}", fixture.display());
            continue;
        }
        for entry in [entry("coracle"), entry_with_files("coracle")] {
            let change = config
                .set_context(&entry, CurrentContext::Switch, None)
                .expect("set");
            let current = printed(&file, &["config", "current-context"]).expect("kubectl");
            assert_eq!(current.trim(), "coracle");
            let view = printed(&file, &view).expect("kubectl");
            let view: serde_json::Value = serde_json::from_str(&view).expect("JSON");
            let before: serde_json::Value = serde_json::from_slice(&before.stdout).expect("JSON");
            for list in ["clusters", "contexts", "users"] {
                let items = |view: &serde_json::Value| {
                    let items = view[list].as_array().cloned().unwrap_or_default();
                    let foreign = items.into_iter().filter(|item| item["name"] != "coracle");
                    foreign.collect::<Vec<_>>()
                };
                assert_eq!(items(&view), items(&before), "{}", fixture.display());
            }
            let minified = printed(&file, &["config", "view", "--minify"]).expect("kubectl");
            assert!(
                minified.contains("server: https://127.88.0.1:6443"),
                "{minified}"
            );
            config
                .remove_context("coracle", Some(&change.former))
                .expect("removed");
        }
        checked += 1;
    }
    assert!(checked >= 7, "only {checked} fixtures");
}

#[test]
fn kubectl_and_we_change_one_file_by_turns() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = single(&folder);
    let file = folder.path().join("config");
    let change = config
        .set_context(&entry("coracle"), CurrentContext::Switch, None)
        .expect("set");
    let namespace = ["config", "set-context", "--current", "--namespace=mine"];
    if printed(&file, &namespace).is_none() {
        return;
    }
    printed(&file, &["config", "set-context", "theirs", "--cluster=x"]);
    let mut moved = entry("coracle");
    moved.server = "https://127.88.0.2:6443".to_owned();
    let change = config
        .set_context(&moved, CurrentContext::Switch, Some(&change.former))
        .expect("set");
    let minified = printed(&file, &["config", "view", "--minify"]).expect("kubectl");
    assert!(minified.contains("namespace: mine"), "{minified}");
    assert!(minified.contains("127.88.0.2"), "{minified}");
    config
        .remove_context("coracle", Some(&change.former))
        .expect("removed");
    assert_eq!(config.contexts().expect("read"), ["theirs"]);
    let names = printed(&file, &["config", "get-contexts", "-o", "name"]).expect("kubectl");
    assert_eq!(names.trim(), "theirs");
}

#[test]
fn kubectl_reads_a_whole_file_while_several_of_us_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config");
    fs::write(&file, include_str!("fixtures/kubectl.yaml")).expect("a file");
    if printed(&file, &["config", "get-contexts"]).is_none() {
        return;
    }
    let config = Kubeconfig::at(file.clone(), Duration::from_secs(60));
    let count = || {
        let names = printed(&file, &["config", "get-contexts", "-o", "name"]).expect("kubectl");
        names.lines().count()
    };
    let mut seen = count();
    assert_eq!(seen, 2);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|number| {
                let config = &config;
                scope.spawn(move || {
                    let entry = entry(&format!("ours-{number}"));
                    config
                        .set_context(&entry, CurrentContext::Switch, None)
                        .expect("set");
                })
            })
            .collect();
        while !writers.iter().all(ScopedJoinHandle::is_finished) {
            let now = count();
            assert!(now >= seen, "{seen} contexts, then {now}");
            seen = now;
        }
    });
    assert_eq!(count(), 6);
}

/// What kubectl has read before it has the lock, it writes all the same: from then on only the lock keeps
/// the two from losing each other's changes.
#[test]
fn kubectl_changes_nothing_while_the_lock_is_held() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config");
    fs::write(&file, include_str!("fixtures/kubectl.yaml")).expect("a file");
    fs::write(folder.path().join("config.lock"), "").expect("a lock");
    let Some(refused) = kubectl(&file, &["config", "set-context", "theirs"]) else {
        return;
    };
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("config.lock"), "{said}");
    let text = fs::read_to_string(&file).expect("a file");
    assert_eq!(text, include_str!("fixtures/kubectl.yaml"));
}
