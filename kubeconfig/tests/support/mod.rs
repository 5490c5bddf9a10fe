//! What the tests of this crate share: entries, folders, and a second YAML reader.

// Each test program uses its own part of this.
#![allow(dead_code, unreachable_pub)]

use std::path::PathBuf;
use std::time::Duration;

use coracle_kubeconfig::{ContextEntry, Extension, Identity, Kubeconfig};
use serde_yaml::Value;

/// An entry with embedded credentials.
pub fn entry(name: &str) -> ContextEntry {
    ContextEntry {
        name: name.to_owned(),
        server: "https://127.88.0.1:6443".to_owned(),
        identity: Identity::Embedded {
            authority_pem: "-----BEGIN CERTIFICATE-----\nauthority\n".to_owned(),
            client_certificate_pem: "-----BEGIN CERTIFICATE-----\nclient\n".to_owned(),
            client_key_pem: "-----BEGIN PRIVATE KEY-----\nkey\n".to_owned(),
        },
        namespace: None,
        extensions: vec![Extension {
            name: "coracle".to_owned(),
            fields: vec![("version".to_owned(), "0.1.0".to_owned())],
        }],
    }
}

/// The same with credentials in files, and a namespace.
pub fn entry_with_files(name: &str) -> ContextEntry {
    ContextEntry {
        identity: Identity::Files {
            authority: PathBuf::from("/home/me/with space/ca.pem"),
            client_certificate: PathBuf::from("/home/me/client.pem"),
            client_key: PathBuf::from("/home/me/key.pem"),
        },
        namespace: Some("123".to_owned()),
        extensions: Vec::new(),
        ..entry(name)
    }
}

/// A kubeconfig that is one file in a folder of its own.
pub fn single(folder: &tempfile::TempDir) -> Kubeconfig {
    Kubeconfig::at(folder.path().join("config"), Duration::from_secs(5))
}

/// The first document as the second reader sees it; `None` where that reader refuses the text.
pub fn read(text: &str) -> Option<Value> {
    use serde::Deserialize as _;
    // That reader takes a byte order mark for a column of the first line.
    let text = text.trim_start_matches('\u{feff}');
    let mut documents = serde_yaml::Deserializer::from_str(text);
    match documents.next() {
        Some(document) => Value::deserialize(document).ok(),
        None => Some(Value::Null),
    }
}

/// The item of `list` that bears `name`.
pub fn item<'value>(root: &'value Value, list: &str, name: &str) -> Option<&'value Value> {
    let mut items = root.get(list)?.as_sequence()?.iter();
    items.find(|item| item.get("name").and_then(Value::as_str) == Some(name))
}

/// `root` without the items that bear `name`, without empty lists and the current context.
pub fn without(root: &Value, name: &str) -> Value {
    let mut root = root.clone();
    if root.is_null() {
        root = Value::Mapping(serde_yaml::Mapping::new());
    }
    let mapping = root.as_mapping_mut().expect("a mapping");
    mapping.remove("current-context");
    for list in ["clusters", "contexts", "users"] {
        let Some(value) = mapping.get_mut(list) else {
            continue;
        };
        if let Some(items) = value.as_sequence_mut() {
            items.retain(|item| item.get("name").and_then(Value::as_str) != Some(name));
        }
        if value.is_null() || value.as_sequence().is_some_and(Vec::is_empty) {
            mapping.remove(list);
        }
    }
    root
}
