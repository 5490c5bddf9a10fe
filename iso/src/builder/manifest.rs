//! The piece of the workspace that a package is compiled from: what `Cargo.lock` and the root
//! `Cargo.toml` say about anything else does not change its bytes, and must not build it again.

use super::BuildError;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use toml::{Table, Value};

/// A text that changes when the locked dependencies of a package, the settings of the workspace
/// that it inherits, or the profiles change.
pub(crate) fn relevant(source: &Path, package: &str) -> Result<String, BuildError> {
    let read = |name: &str| -> Result<Table, BuildError> {
        let file = source.join(name);
        let text = fs::read_to_string(&file).map_err(BuildError::io(&file))?;
        text.parse()
            .map_err(|error: toml::de::Error| BuildError::Source {
                file,
                reason: error.to_string(),
            })
    };
    let lock = read("Cargo.lock")?;
    let locked = closure(&lock, package);
    let mut text = format!("{locked:#?}\n");
    let manifest = read("Cargo.toml")?;
    let workspace = manifest.get("workspace").and_then(Value::as_table);
    let inherited = |key: &str| workspace.and_then(|w| w.get(key)).and_then(Value::as_table);
    text += &format!(
        "{:?}\n{:?}\n",
        manifest.get("profile"),
        inherited("package")
    );
    let names: BTreeSet<&str> = locked
        .values()
        .filter_map(|p| p.get("name")?.as_str())
        .collect();
    for (name, dependency) in inherited("dependencies").into_iter().flatten() {
        let real = dependency
            .get("package")
            .and_then(Value::as_str)
            .unwrap_or(name);
        if names.contains(real) {
            text += &format!("{name} {dependency:?}\n");
        }
    }
    Ok(text)
}

/// The locked packages that a package needs, itself among them, by name and version.
fn closure<'a>(lock: &'a Table, package: &str) -> BTreeMap<String, &'a Table> {
    let all: Vec<&Table> = lock
        .get("package")
        .and_then(Value::as_array)
        .map(|packages| packages.iter().filter_map(Value::as_table).collect())
        .unwrap_or_default();
    let field = |table: &'a Table, key: &str| table.get(key).and_then(Value::as_str).unwrap_or("");
    let mut found = BTreeMap::new();
    let mut todo = vec![package.to_owned()];
    while let Some(wanted) = todo.pop() {
        // `NAME`, `NAME VERSION` or `NAME VERSION (SOURCE)`: as much as is needed to tell apart.
        let mut words = wanted.split_whitespace();
        let (name, version) = (words.next().unwrap_or_default(), words.next());
        for table in &all {
            if field(table, "name") != name || version.is_some_and(|v| v != field(table, "version"))
            {
                continue;
            }
            let id = format!("{name} {}", field(table, "version"));
            if found.insert(id, *table).is_none() {
                let dependencies = table.get("dependencies").and_then(Value::as_array);
                let dependencies = dependencies.into_iter().flatten().filter_map(Value::as_str);
                todo.extend(dependencies.map(str::to_owned));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::write_atomic;

    const LOCK: &str = "[[package]]\nname = \"a\"\nversion = \"1\"\ndependencies = [\"b 2\"]\n\
        [[package]]\nname = \"b\"\nversion = \"1\"\n\
        [[package]]\nname = \"b\"\nversion = \"2\"\nchecksum = \"x\"\n\
        [[package]]\nname = \"c\"\nversion = \"1\"\n";
    const MANIFEST: &str =
        "[workspace.dependencies]\nb = \"2\"\nc = \"1\"\n[profile.guest]\nlto = true\n";

    fn text(lock: &str, manifest: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        write_atomic(&folder.path().join("Cargo.lock"), lock.as_bytes()).unwrap();
        write_atomic(&folder.path().join("Cargo.toml"), manifest.as_bytes()).unwrap();
        relevant(folder.path(), "a").unwrap()
    }

    #[test]
    fn only_what_a_package_needs_counts() {
        let base = text(LOCK, MANIFEST);
        let other = LOCK.replace(
            "name = \"c\"\nversion = \"1\"",
            "name = \"c\"\nversion = \"9\"",
        );
        assert_eq!(
            base,
            text(&other, &MANIFEST.replace("c = \"1\"", "c = \"9\""))
        );
        assert_ne!(base, text(&LOCK.replace("\"x\"", "\"y\""), MANIFEST));
        assert_ne!(
            base,
            text(LOCK, &MANIFEST.replace("b = \"2\"", "b = \"2.1\""))
        );
        assert_ne!(base, text(LOCK, &MANIFEST.replace("true", "false")));
    }
}
