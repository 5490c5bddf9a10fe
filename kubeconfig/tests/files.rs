//! Which files make up the kubeconfig, and what happens to them on disk.

// Helpers of tests may fail like tests, and no reader looks on while they write a file.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod support;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coracle_kubeconfig::{
    CurrentContext, EditError, Expected, Former, Identity, Kubeconfig, KubeconfigError, LockError,
    Status,
};
use support::{entry, entry_with_files, item, read, single};

const SHORT: Duration = Duration::from_millis(300);
const FIXTURE: &str = include_str!("fixtures/kubectl.yaml");

/// The kubeconfig that `$KUBECONFIG` makes of `paths`.
fn listed(paths: &[&Path]) -> Kubeconfig {
    let variable: OsString = std::env::join_paths(paths).expect("paths");
    Kubeconfig::locate(Some(&variable), Path::new("/nowhere"), SHORT).expect("files")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    let mut names: Vec<String> = names.map(|name| name.expect("UTF-8")).collect();
    names.sort();
    names
}

#[test]
fn the_files_are_found_as_client_go_does() {
    let home = Path::new("/home/me");
    for unset in [None, Some(OsString::new())] {
        let config = Kubeconfig::locate(unset.as_deref(), home, SHORT).expect("files");
        assert_eq!(config.files(), [home.join(".kube").join("config")]);
    }
    let separator = if cfg!(windows) { ";" } else { ":" };
    let list: OsString = ["", "/a", "", "/b", "/a", ""].join(separator).into();
    let config = Kubeconfig::locate(Some(&list), home, SHORT).expect("files");
    if cfg!(unix) {
        assert_eq!(config.files(), [PathBuf::from("/a"), PathBuf::from("/b")]);
    }
    let nothing: OsString = separator.into();
    let error = Kubeconfig::locate(Some(&nothing), home, SHORT).expect_err("no file");
    assert!(matches!(error, KubeconfigError::NoFile { .. }), "{error:?}");
}

#[test]
fn a_new_entry_goes_to_the_first_existing_file_else_to_the_last() {
    let folder = tempfile::tempdir().expect("a folder");
    let [one, two, three] = ["one", "two", "three"].map(|name| folder.path().join(name));
    let config = listed(&[&one, &two, &three]);
    assert_eq!(config.default_file(), three);
    fs::write(&two, FIXTURE).expect("a file");
    assert_eq!(config.default_file(), two);
    let change = config
        .set_context(&entry("coracle"), CurrentContext::Switch, None)
        .expect("set");
    assert_eq!(change.written, std::slice::from_ref(&two));
    assert!(!one.exists() && !three.exists());
    assert_eq!(
        config.current_context().expect("read").as_deref(),
        Some("coracle")
    );
    assert_eq!(
        config.contexts().expect("read"),
        ["production", "staging", "coracle"]
    );
    config
        .remove_context("coracle", Some(&change.former))
        .expect("removed");
    assert_eq!(fs::read_to_string(&two).expect("a file"), FIXTURE);
    assert_eq!(names(folder.path()), ["two"]);
}

#[test]
fn an_entry_is_changed_in_the_file_that_holds_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
    fs::write(&one, FIXTURE).expect("a file");
    let held = "users:\n- name: coracle\n  user:\n    token: old\n    x-mine: kept # by me\n";
    fs::write(&two, held).expect("a file");
    let config = listed(&[&one, &two]);
    let change = config
        .set_context(&entry("coracle"), CurrentContext::Switch, None)
        .expect("set");
    assert_eq!(change.written, [one.clone(), two.clone()]);
    let first = read(&fs::read_to_string(&one).expect("a file")).expect("YAML");
    assert!(item(&first, "clusters", "coracle").is_some());
    assert!(item(&first, "contexts", "coracle").is_some());
    assert!(item(&first, "users", "coracle").is_none());
    let second_text = fs::read_to_string(&two).expect("a file");
    let second = read(&second_text).expect("YAML");
    let user = &item(&second, "users", "coracle").expect("the user")["user"];
    assert!(user.get("client-key-data").is_some(), "{second_text}");
    assert!(user.get("token").is_none(), "{second_text}");
    assert!(
        second_text.contains("    x-mine: kept # by me\n"),
        "{second_text}"
    );
    assert!(second.get("clusters").is_none() && second.get("current-context").is_none());
}

#[test]
fn what_the_user_added_to_our_context_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = single(&folder);
    let file = folder.path().join("config");
    let first = config
        .set_context(&entry("coracle"), CurrentContext::Switch, None)
        .expect("set");
    let text = fs::read_to_string(&file).expect("a file");
    let mine = text.replace(
        "    user: coracle\n",
        "    user: coracle\n    namespace: mine # my own\n",
    );
    assert_ne!(mine, text);
    fs::write(&file, &mine).expect("a file");
    let mut moved = entry("coracle");
    moved.server = "https://127.88.0.9:6443".to_owned();
    config
        .set_context(&moved, CurrentContext::Switch, Some(&first.former))
        .expect("set");
    let expected = mine.replace("127.88.0.1", "127.88.0.9");
    assert_eq!(fs::read_to_string(&file).expect("a file"), expected);
}

#[test]
fn the_former_current_context_comes_back_only_where_ours_is_still_current() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = single(&folder);
    let file = folder.path().join("config");
    fs::write(&file, FIXTURE).expect("a file");
    let set = |former: Option<&Former>| {
        let change = config.set_context(&entry("coracle"), CurrentContext::Switch, former);
        change.expect("set").former
    };
    let switch = |from: &str, to: &str| {
        let text = fs::read_to_string(&file).expect("a file");
        let (from, to) = (
            format!("current-context: {from}"),
            format!("current-context: {to}"),
        );
        assert!(text.contains(&from), "{text}");
        fs::write(&file, text.replace(&from, &to)).expect("a file");
    };
    // The user went elsewhere: that stays.
    let former = set(None);
    switch("coracle", "staging");
    config
        .remove_context("coracle", Some(&former))
        .expect("removed");
    assert_eq!(
        config.current_context().expect("read").as_deref(),
        Some("staging")
    );
    // The user went elsewhere, and a further start took over from there.
    let former = set(None);
    switch("coracle", "production");
    let former = set(Some(&former));
    config
        .remove_context("coracle", Some(&former))
        .expect("removed");
    assert_eq!(
        config.current_context().expect("read").as_deref(),
        Some("production")
    );
    // The former one is gone by then: none is better than one that is not there.
    let former = set(None);
    let other = config.set_context(&entry("other"), CurrentContext::Switch, None);
    let other = other.expect("set").former;
    config
        .remove_context("coracle", Some(&former))
        .expect("removed");
    config
        .remove_context("other", Some(&other))
        .expect("removed");
    assert_eq!(config.current_context().expect("read"), None);
}

#[test]
fn the_former_state_survives_being_stored() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = single(&folder);
    let file = folder.path().join("config");
    let text = "clusters: null\nusers: []\ncurrent-context: 'x'\n";
    fs::write(&file, text).expect("a file");
    let change = config.set_context(&entry("coracle"), CurrentContext::Switch, None);
    let stored = serde_json::to_string(&change.expect("set").former).expect("JSON");
    assert!(!stored.contains("LS0t"), "a secret in {stored}");
    let former: Former = serde_json::from_str(&stored).expect("JSON");
    config
        .remove_context("coracle", Some(&former))
        .expect("removed");
    assert_eq!(fs::read_to_string(&file).expect("a file"), text);
}

#[test]
fn without_the_former_state_the_context_is_removed_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = single(&folder);
    config
        .set_context(&entry("coracle"), CurrentContext::Switch, None)
        .expect("set");
    config.remove_context("coracle", None).expect("removed");
    let text = fs::read_to_string(folder.path().join("config")).expect("a file");
    let expected = "apiVersion: v1\nclusters: []\ncontexts: []\ncurrent-context: \"\"\nkind: Config\nusers: []\n";
    assert_eq!(text, expected);
    let written = config
        .remove_context("coracle", None)
        .expect("nothing to do");
    assert!(written.is_empty());
}

#[test]
fn duplicates_of_our_own_entry_are_made_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = single(&folder);
    let file = folder.path().join("config");
    let text = "clusters:\n- {name: coracle, cluster: {server: a}}\n- name: coracle\n- name: x\n";
    fs::write(&file, text).expect("a file");
    config
        .set_context(&entry("coracle"), CurrentContext::Keep, None)
        .expect("set");
    let after = fs::read_to_string(&file).expect("a file");
    assert_eq!(after.matches("server").count(), 1, "{after}");
    config.remove_context("coracle", None).expect("removed");
    let after = fs::read_to_string(&file).expect("a file");
    assert!(after.starts_with("clusters:\n- name: x\n"), "{after}");
}

#[test]
fn status_tells_whether_the_context_leads_to_the_cluster() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = single(&folder);
    let entry = entry("coracle");
    let Identity::Embedded {
        authority_pem,
        client_certificate_pem,
        ..
    } = &entry.identity
    else {
        panic!("embedded");
    };
    let expected = Expected {
        server: entry.server.clone(),
        authority_pem: authority_pem.clone(),
        client_certificate_pem: Some(client_certificate_pem.clone()),
    };
    let status = |expected: &Expected| config.status("coracle", expected).expect("a status");
    assert_eq!(status(&expected), Status::Missing);
    config
        .set_context(&entry, CurrentContext::Keep, None)
        .expect("set");
    assert_eq!(status(&expected), Status::Configured);
    for change in [
        |expected: &mut Expected| expected.server.push('1'),
        |expected: &mut Expected| expected.authority_pem = "other".to_owned(),
        |expected: &mut Expected| expected.client_certificate_pem = Some("other".to_owned()),
    ] {
        let mut other = expected.clone();
        change(&mut other);
        assert_eq!(status(&other), Status::Misconfigured);
    }
    // Credentials in files, one of them named from the kubeconfig's own folder.
    let mut files = entry_with_files("coracle");
    for (name, pem) in [
        ("ca.pem", authority_pem),
        ("client.pem", client_certificate_pem),
    ] {
        fs::write(folder.path().join(name), pem).expect("a file");
    }
    files.identity = Identity::Files {
        authority: PathBuf::from("ca.pem"),
        client_certificate: folder.path().join("client.pem"),
        client_key: folder.path().join("client.key"),
    };
    config
        .set_context(&files, CurrentContext::Keep, None)
        .expect("set");
    assert_eq!(status(&expected), Status::Configured);
    fs::remove_file(folder.path().join("ca.pem")).expect("removed");
    assert_eq!(status(&expected), Status::Misconfigured);
}

#[test]
fn a_file_that_is_no_kubeconfig_is_named_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = single(&folder);
    let file = folder.path().join("config");
    for (bytes, place) in [
        (&b"a: b\nc: [1, 2\n"[..], Some(2)),
        (b"clusters:\n  - a\n - b\n", Some(3)),
        (b"- a\n- b\n", Some(1)),
        (b"just words\n", Some(1)),
        (b"kind: Config\nclusters: {}\n", Some(2)),
        (b"kind: Config\n\nclusters: text\n", Some(3)),
        (b"clusters: []\nclusters: []\n", Some(2)),
        (b"current-context: [a]\n", Some(1)),
        (b"shared: &s []\nclusters: *s\n", Some(2)),
        (b"a: *unknown\n", Some(1)),
        (b"a: b\nc: \xff\n", Some(2)),
        (b"\xff\xfea\0:\0", Some(1)),
    ] {
        fs::write(&file, bytes).expect("a file");
        let label = String::from_utf8_lossy(bytes);
        let set = config.set_context(&entry("coracle"), CurrentContext::Switch, None);
        let error = set.expect_err(&label);
        let KubeconfigError::Invalid {
            file: named,
            source,
        } = &error
        else {
            panic!("{label:?}: {error:?}");
        };
        assert_eq!(named, &file);
        let line = source.place().map(|(line, _)| line);
        assert_eq!(line, place, "{label:?}: {source}");
        assert!(!matches!(source, EditError::NotLossless { .. }), "{source}");
        assert_eq!(fs::read(&file).expect("a file"), bytes);
        assert_eq!(names(folder.path()), ["config"], "{label:?}");
    }
}

#[test]
fn a_folder_in_the_way_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = single(&folder);
    fs::create_dir(folder.path().join("config")).expect("a folder");
    let set = config.set_context(&entry("coracle"), CurrentContext::Switch, None);
    let error = set.expect_err("a folder");
    assert!(matches!(error, KubeconfigError::Read { .. }), "{error:?}");
    fs::write(folder.path().join("file"), "").expect("a file");
    let below = Kubeconfig::at(folder.path().join("file/config"), SHORT);
    let set = below.set_context(&entry("coracle"), CurrentContext::Switch, None);
    let error = set.expect_err("a file");
    assert!(matches!(error, KubeconfigError::Write { .. }), "{error:?}");
}

#[test]
fn the_lock_of_another_is_waited_for_and_never_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config");
    let lock = folder.path().join("config.lock");
    fs::write(&file, FIXTURE).expect("a file");
    fs::write(&lock, "").expect("a lock");
    let config = Kubeconfig::at(file.clone(), SHORT);
    let begin = Instant::now();
    let set = config.set_context(&entry("coracle"), CurrentContext::Switch, None);
    let error = set.expect_err("locked");
    let KubeconfigError::Locked(LockError::Held { lock: named, age }) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(named, &lock);
    assert!(
        age.is_some_and(|age| age < Duration::from_secs(60)),
        "{age:?}"
    );
    assert!(begin.elapsed() >= SHORT, "{:?}", begin.elapsed());
    config
        .remove_context("production", None)
        .expect_err("locked");
    assert_eq!(fs::read_to_string(&file).expect("a file"), FIXTURE);
    assert!(lock.exists());
    // Reading needs no lock.
    assert_eq!(config.contexts().expect("read").len(), 2);

    let config = Kubeconfig::at(file, Duration::from_secs(30));
    let (send, receive) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || {
        let change = config.set_context(&entry("coracle"), CurrentContext::Switch, None);
        send.send(()).expect("a listener");
        change
    });
    receive.recv_timeout(SHORT).expect_err("still waiting");
    fs::remove_file(&lock).expect("released");
    waiting.join().expect("no panic").expect("set");
    assert_eq!(names(folder.path()), ["config"]);
}

#[test]
fn contexts_added_and_removed_at_the_same_time_all_survive() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config");
    fs::write(&file, FIXTURE).expect("a file");
    let config = Kubeconfig::at(file.clone(), Duration::from_secs(60));
    let profiles: Vec<String> = (0..12).map(|number| format!("profile-{number}")).collect();
    let set = |name: &str| {
        let change = config.set_context(&entry(name), CurrentContext::Keep, None);
        change.expect("set").former
    };
    let formers: Vec<Former> = std::thread::scope(|scope| {
        let threads = profiles.iter().map(|name| scope.spawn(|| set(name)));
        let threads: Vec<_> = threads.collect();
        let formers = threads.into_iter().map(|thread| thread.join());
        formers.map(|former| former.expect("no panic")).collect()
    });
    let mut contexts = config.contexts().expect("read");
    contexts.sort();
    let mut expected = profiles.clone();
    expected.extend(["production".to_owned(), "staging".to_owned()]);
    expected.sort();
    assert_eq!(contexts, expected);
    std::thread::scope(|scope| {
        for (name, former) in profiles.iter().zip(&formers) {
            let config = &config;
            scope.spawn(move || config.remove_context(name, Some(former)).expect("removed"));
        }
    });
    assert_eq!(fs::read_to_string(&file).expect("a file"), FIXTURE);
    assert_eq!(names(folder.path()), ["config"]);
}

#[test]
fn locks_of_several_files_are_taken_in_one_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
    fs::write(&one, FIXTURE).expect("a file");
    fs::write(&two, "users: []\n").expect("a file");
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (first, second) = if number % 2 == 0 {
                (&one, &two)
            } else {
                (&two, &one)
            };
            let variable = std::env::join_paths([first, second]).expect("paths");
            let limit = Duration::from_secs(60);
            let config = Kubeconfig::locate(Some(&variable), Path::new("/"), limit);
            let config = config.expect("files");
            scope.spawn(move || {
                let entry = entry(&format!("profile-{number}"));
                config
                    .set_context(&entry, CurrentContext::Keep, None)
                    .expect("set");
            });
        }
    });
    assert_eq!(listed(&[&one, &two]).contexts().expect("read").len(), 10);
}
