//! Modes, links and rights, as Unix has them.

// Helpers of tests may fail like tests, and no reader looks on while they write a file.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]
#![cfg(unix)]

mod support;

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use coracle_kubeconfig::{CurrentContext, Kubeconfig, KubeconfigError};
use support::{entry, single};

const FIXTURE: &str = include_str!("fixtures/kubectl.yaml");

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

#[test]
fn file_and_folder_are_for_their_owner_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path();
    let config = Kubeconfig::locate(None, home, Duration::from_secs(5)).expect("files");
    config
        .set_context(&entry("coracle"), CurrentContext::Switch, None)
        .expect("set");
    assert_eq!(mode(&home.join(".kube")), 0o700);
    assert_eq!(mode(&home.join(".kube/config")), 0o600);
    set_mode(&home.join(".kube/config"), 0o644);
    let again = config.set_context(&entry("coracle"), CurrentContext::Switch, None);
    assert!(again.expect("set").written.is_empty());
    assert_eq!(mode(&home.join(".kube/config")), 0o600);
}

#[test]
fn a_link_stays_and_its_target_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("dotfiles/config");
    fs::create_dir(folder.path().join("dotfiles")).expect("a folder");
    fs::write(&target, FIXTURE).expect("a file");
    symlink("dotfiles", folder.path().join("kube")).expect("a link");
    let link = folder.path().join("config");
    symlink("kube/config", &link).expect("a link");
    let config = single(&folder);
    let change = config
        .set_context(&entry("coracle"), CurrentContext::Switch, None)
        .expect("set");
    assert_eq!(
        fs::read_link(&link).expect("a link"),
        Path::new("kube/config")
    );
    assert!(
        fs::read_to_string(&target)
            .expect("a file")
            .contains("coracle")
    );
    assert_eq!(mode(&target), 0o600);
    config
        .remove_context("coracle", Some(&change.former))
        .expect("removed");
    assert_eq!(fs::read_to_string(&target).expect("a file"), FIXTURE);
}

#[test]
fn a_link_to_nothing_gets_its_target_and_loses_it_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let link = folder.path().join("config");
    symlink("far/away/config", &link).expect("a link");
    let config = single(&folder);
    let change = config
        .set_context(&entry("coracle"), CurrentContext::Switch, None)
        .expect("set");
    let target = folder.path().join("far/away/config");
    assert!(
        fs::read_to_string(&target)
            .expect("a file")
            .contains("coracle")
    );
    config
        .remove_context("coracle", Some(&change.former))
        .expect("removed");
    assert!(!target.exists());
    assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
}

#[test]
fn a_file_is_locked_under_the_name_of_its_target_too() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("target"), FIXTURE).expect("a file");
    fs::write(folder.path().join("target.lock"), "").expect("a lock");
    symlink("target", folder.path().join("config")).expect("a link");
    let config = Kubeconfig::at(folder.path().join("config"), Duration::from_millis(100));
    let set = config.set_context(&entry("coracle"), CurrentContext::Switch, None);
    assert!(matches!(set, Err(KubeconfigError::Locked(_))), "{set:?}");
}

/// Whether modes bind this user; root goes past them. Says so when they do not.
fn modes_bind(folder: &Path) -> bool {
    let probe = folder.join("probe");
    fs::write(&probe, "").expect("a file");
    set_mode(&probe, 0o400);
    let bind = OpenOptions::new().write(true).open(&probe).is_err();
    fs::remove_file(&probe).expect("removed");
    if !bind {
        println!("not checked: modes do not bind this user");
    }
    bind
}

#[test]
fn read_only_and_unreadable_files_and_folders_are_errors_that_change_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    if !modes_bind(folder.path()) {
        return;
    }
    let config = single(&folder);
    let file = folder.path().join("config");
    let set = || config.set_context(&entry("coracle"), CurrentContext::Switch, None);
    fs::write(&file, FIXTURE).expect("a file");
    set_mode(&file, 0o400);
    let error = set().expect_err("read-only file");
    assert!(matches!(&error, KubeconfigError::Write { file: named, .. } if *named == file));
    set_mode(&file, 0o000);
    let error = set().expect_err("unreadable file");
    assert!(matches!(&error, KubeconfigError::Read { file: named, .. } if *named == file));
    set_mode(&file, 0o600);
    set_mode(folder.path(), 0o500);
    let error = set().expect_err("read-only folder");
    assert!(matches!(&error, KubeconfigError::Write { file: named, .. } if *named == file));
    // What needs no change needs no right to change.
    let gone = config.remove_context("not-there", None);
    assert!(gone.expect("nothing to do").is_empty());
    set_mode(folder.path(), 0o700);
    assert_eq!(fs::read_to_string(&file).expect("a file"), FIXTURE);
}

#[test]
fn a_second_file_in_a_read_only_folder_is_no_obstacle() {
    let folder = tempfile::tempdir().expect("a folder");
    let shared = folder.path().join("shared");
    fs::create_dir(&shared).expect("a folder");
    fs::write(shared.join("config"), FIXTURE).expect("a file");
    set_mode(&shared, 0o500);
    let own = folder.path().join("own");
    fs::write(&own, "# mine\n").expect("a file");
    let variable = std::env::join_paths([&own, &shared.join("config")]).expect("paths");
    let config = Kubeconfig::locate(Some(&variable), Path::new("/"), Duration::from_secs(1));
    let config = config.expect("files");
    let change = config
        .set_context(&entry("coracle"), CurrentContext::Switch, None)
        .expect("set");
    assert_eq!(change.written, std::slice::from_ref(&own));
    config
        .remove_context("coracle", Some(&change.former))
        .expect("removed");
    assert_eq!(fs::read_to_string(&own).expect("a file"), "# mine\n");
    set_mode(&shared, 0o700);
}

/// A process that may write no byte to any file stands for a full disk: the signal for that is
/// ignored, so that the write fails.
#[test]
fn a_full_disk_leaves_the_old_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config");
    fs::write(&file, FIXTURE).expect("a file");
    let script = "trap '' XFSZ && ulimit -f 0 && exec \"$0\" --exact --ignored --nocapture \
                  writes_where_no_byte_fits";
    let limited = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().expect("this program"))
        .current_dir(folder.path())
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&limited.stdout);
    let error = String::from_utf8_lossy(&limited.stderr);
    assert!(limited.status.success(), "{said}{error}");
    assert!(said.contains("1 passed"), "{said}");
    assert_eq!(fs::read_to_string(&file).expect("a file"), FIXTURE);
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
}

#[test]
#[ignore = "runs inside a_full_disk_leaves_the_old_file"]
fn writes_where_no_byte_fits() {
    let config = Kubeconfig::at("config".into(), Duration::from_secs(5));
    let set = config.set_context(&entry("coracle"), CurrentContext::Switch, None);
    assert!(
        matches!(&set, Err(KubeconfigError::Write { .. })),
        "{set:?}"
    );
}
