//! Over a corpus of kubeconfigs in all styles: setting a context keeps what others wrote, and
//! removing it gives the former bytes back.

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

use coracle_kubeconfig::{ContextEntry, CurrentContext, EditError, Kubeconfig, KubeconfigError};
use serde_yaml::Value;
use support::{entry, entry_with_files, item, read, single, without};

const NAME: &str = "coracle";

/// Sets and removes a context in a file that holds `text`, and looks at each step.
fn check(label: &str, text: &str, entry: &ContextEntry, current: CurrentContext) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = single(&folder);
    let file = folder.path().join("config");
    fs::write(&file, text).expect("a file");
    let before_current = config.current_context().expect("readable");

    let change = config
        .set_context(entry, current, None)
        .unwrap_or_else(|error| panic!("{label}: {error:?}\n{text}"));
    let set = fs::read_to_string(&file).expect("a file");
    check_set(label, text, &set, entry);
    let expected = match current {
        CurrentContext::Switch => Some(NAME.to_owned()),
        CurrentContext::Keep => before_current.clone(),
    };
    assert_eq!(
        config.current_context().expect("readable"),
        expected,
        "{label}\n{set}"
    );

    let again = config
        .set_context(entry, current, Some(&change.former))
        .unwrap_or_else(|error| panic!("{label}, again: {error:?}\n{set}"));
    assert!(again.written.is_empty(), "{label}: written twice\n{set}");
    assert_eq!(again.former, change.former, "{label}");

    let mut moved = entry.clone();
    moved.server = "https://127.88.0.2:6443".to_owned();
    for extension in &mut moved.extensions {
        extension.fields[0].1 = "0.2.0".to_owned();
    }
    let moved_change = config
        .set_context(&moved, current, Some(&again.former))
        .unwrap_or_else(|error| panic!("{label}, moved: {error:?}\n{set}"));
    let moved_text = fs::read_to_string(&file).expect("a file");
    check_set(label, text, &moved_text, &moved);
    assert_eq!(
        moved_text.len(),
        set.len(),
        "{label}: only two digits change"
    );

    config
        .remove_context(NAME, Some(&moved_change.former))
        .unwrap_or_else(|error| panic!("{label}, removed: {error:?}\n{moved_text}"));
    let after = fs::read_to_string(&file).expect("a file");
    assert_eq!(after, text, "{label}: not the former bytes; set was\n{set}");
}

/// Looks at an edited text through another YAML reader.
fn check_set(label: &str, before: &str, after: &str, entry: &ContextEntry) {
    let Some(before) = read(before) else {
        return;
    };
    let after_value = read(after).unwrap_or_else(|| panic!("{label}: not YAML\n{after}"));
    let mut foreign = without(&after_value, NAME);
    if before.is_null() {
        let mapping = foreign.as_mapping_mut().expect("a mapping");
        let frame = (mapping.remove("apiVersion"), mapping.remove("kind"));
        let expected = (Some(Value::from("v1")), Some(Value::from("Config")));
        assert_eq!(frame, expected, "{label}\n{after:?}");
    }
    assert_eq!(foreign, without(&before, NAME), "{label}\n{after}");
    let Some(cluster) = item(&after_value, "clusters", NAME) else {
        panic!("{label}: no cluster in\n{after:?}");
    };
    assert_eq!(
        cluster["cluster"]["server"],
        Value::from(entry.server.as_str())
    );
    let context = item(&after_value, "contexts", NAME).expect("the context");
    assert_eq!(context["context"]["cluster"], Value::from(NAME));
    assert_eq!(context["context"]["user"], Value::from(NAME));
    if let Some(namespace) = &entry.namespace {
        assert_eq!(
            context["context"]["namespace"],
            Value::from(namespace.as_str())
        );
    }
    item(&after_value, "users", NAME).expect("the user");
}

/// Runs [`check`] in all ways of setting, with both kinds of line ends, with and without the last
/// one.
fn check_all(label: &str, text: &str) {
    let bare = text.strip_suffix('\n').unwrap_or(text);
    let windows = text.replace('\n', "\r\n");
    let bare_windows = windows.strip_suffix("\r\n").unwrap_or(&windows);
    for (kind, text) in [
        ("as it is", text),
        ("no last line end", bare),
        ("CRLF", &windows),
        ("CRLF, no last line end", bare_windows),
        ("byte order mark", &format!("\u{feff}{text}")),
    ] {
        for current in [CurrentContext::Switch, CurrentContext::Keep] {
            let label = format!("{label} ({kind}, {current:?})");
            check(&label, text, &entry(NAME), current);
            if kind == "as it is" {
                check(&label, text, &entry_with_files(NAME), current);
            }
        }
    }
}

#[test]
fn every_fixture_comes_back_byte_for_byte() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut seen = 0;
    for file in fs::read_dir(folder).expect("fixtures") {
        let path = file.expect("a fixture").path();
        let text = fs::read_to_string(&path).expect("text");
        check_all(&path.display().to_string(), &text);
        seen += 1;
    }
    assert!(seen >= 9, "only {seen} fixtures");
}

#[test]
fn odd_little_files_come_back() {
    for text in [
        "",
        "\n",
        "\n\n",
        "# only a comment\n",
        "# one\n\n# two",
        "---\n",
        "---\n# behind the marker\n",
        "--- # on the marker\n",
        "{}",
        "{ }\n",
        "{\n}\n",
        "{clusters: [], }",
        "{clusters: [ ], users: null, current-context: }",
        "kind: Config",
        "  kind: Config\n  clusters: []\n",
        "clusters:\n# none\nusers: # none\ncontexts:   []   # none\n",
        "clusters:\n  null\ncontexts: [\n]\nusers:\n  []\n",
        "clusters: !!seq []\n",
        "? kind\n: Config\n",
        "current-context:\n  folded-to-the-next-line\n",
        "current-context: |\n  literal\nkind: Config\n",
        "current-context: >-\n  folded\n",
        "\"clusters\" : []\n'users': null\n\"current-context\" : 'x'\n",
        "users:\n- name: a\n  user: {}\n\n\n\n# far away\n\n",
        "users:\n- name: a\n  user:\n    token: |+\n      keep\n\n\ncurrent-context: x\n",
        "users:\n- name: a\n  user:\n    token: |+\n      keep\n\n\n",
        "contexts:\n  -\n    name: a\n    context:\n      user: \"two\n        lines\"\n",
        "contexts:\n- context:\n    user: plain\n      continued\n  name: a",
    ] {
        check_all(&format!("{text:?}"), text);
    }
}

#[test]
fn every_mix_of_list_styles_comes_back() {
    const STYLES: [&str; 10] = [
        "",
        "KEY:\n",
        "KEY: null # none\n",
        "KEY: []\n",
        "KEY:\n- name: a\n  ITEM: {}\n",
        "KEY:\n  # lead\n  - ITEM:\n      x: y\n    name: a # tail\n    # inner\n# outer\n",
        "KEY: [{name: a, ITEM: {x: 1}}] # flow\n",
        "KEY: [\n  {name: a, ITEM: {}}, # one\n  {name: b, ITEM: {}},\n]\n\n",
        "KEY:\n-   ITEM:\n        x: |\n          text\n    name: a\n\n",
        "KEY: # lead\n-\n  name: a\n-\n  name: b\n",
    ];
    let styled =
        |style: &str, key: &str, item: &str| style.replace("KEY", key).replace("ITEM", item);
    let mut turn = 0;
    for clusters in STYLES {
        for contexts in STYLES {
            // Every pair of neighbours; the third list takes its turn.
            turn += 3;
            let users = STYLES[turn % STYLES.len()];
            let text = format!(
                "{}{}current-context: a\n{}",
                styled(clusters, "clusters", "cluster"),
                styled(contexts, "contexts", "context"),
                styled(users, "users", "user"),
            );
            let bare = text.strip_suffix('\n').expect("a line end");
            check(&text, &text, &entry(NAME), CurrentContext::Switch);
            check(bare, bare, &entry(NAME), CurrentContext::Keep);
        }
    }
}

/// With a line end behind it, that token would be another one.
#[test]
fn a_file_that_cannot_grow_without_loss_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = single(&folder);
    let file = folder.path().join("config");
    let text = "users:\n- name: a\n  user:\n    token: |\n      no end";
    fs::write(&file, text).expect("a file");
    let error = config
        .set_context(&entry(NAME), CurrentContext::Switch, None)
        .expect_err("a loss");
    assert!(
        matches!(
            &error,
            KubeconfigError::Invalid {
                source: EditError::NotLossless { .. },
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(fs::read_to_string(&file).expect("a file"), text);
}

#[test]
fn a_missing_file_goes_away_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("deep/er/config");
    let config = Kubeconfig::at(file.clone(), std::time::Duration::from_secs(5));
    let change = config
        .set_context(&entry(NAME), CurrentContext::Switch, None)
        .expect("set");
    assert_eq!(change.written, std::slice::from_ref(&file));
    let text = fs::read_to_string(&file).expect("a file");
    let keys: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with(char::is_alphabetic))
        .collect();
    assert_eq!(
        keys,
        [
            "apiVersion: v1",
            "clusters:",
            "contexts:",
            "current-context: coracle",
            "kind: Config",
            "users:"
        ],
    );
    config
        .remove_context(NAME, Some(&change.former))
        .expect("removed");
    assert!(!file.exists());
}
