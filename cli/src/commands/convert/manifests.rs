//! Manifests of old API versions, in a file or about to be applied.

use crate::commands::App;
use crate::error::{Error, ErrorId, Result};
use coracle_migrate::{Migration, Weight};
use std::ffi::OsString;
use std::path::PathBuf;

/// A larger file is not looked at before it is applied, in bytes.
const LOOKED_AT: u64 = 1 << 20;
/// What of kubectl sends manifests to the API server.
const SENDING: [&str; 3] = ["apply", "create", "replace"];

/// Brings the text of a file of this name to current versions.
pub(super) fn migrate(name: &str, text: &str) -> Result<Migration> {
    coracle_migrate::migrate(text)
        .map_err(|error| Error::new(ErrorId::ManifestInvalid, format!("{name}: {error}")))
}

/// Says what was changed, and what is to be looked at.
pub(super) fn tell(app: &App, name: &str, migrated: &Migration) {
    for note in &migrated.notes {
        let line = format!("{name}:{note}");
        match note.weight {
            Weight::Changed => app.progress.info(&line),
            Weight::Look => app.progress.warning(&line),
        }
    }
    if migrated.notes.is_empty() {
        app.progress
            .info(&format!("{name} is of current versions already"));
    }
}

/// Says of each file that kubectl is about to send whether it is of versions that are gone. kubectl itself says
/// no more than that it knows no such kind.
pub fn warn_of_old(arguments: &[OsString]) {
    for file in old(arguments) {
        let file = file.display();
        crate::print::stderr(&format!(
            "warning: {file} is of API versions that are not served any more; `coracle convert {file}` brings it \
             to current ones\n"
        ));
    }
}

/// The files of a command line of kubectl's that have to be converted.
fn old(arguments: &[OsString]) -> Vec<PathBuf> {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    if !words.iter().any(|word| SENDING.contains(word)) {
        return Vec::new();
    }
    let mut files = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let value = match *word {
            "-f" | "--filename" => rest.next().copied(),
            _ => word
                .strip_prefix("--filename=")
                .or_else(|| word.strip_prefix("-f")),
        };
        let names = value.into_iter().flat_map(|value| value.split(','));
        files.extend(names.map(|name| PathBuf::from(name.trim_start_matches('='))));
    }
    let is_old = |file: &PathBuf| {
        let small =
            std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() <= LOOKED_AT);
        small
            && std::fs::read_to_string(file).is_ok_and(|text| {
                coracle_migrate::migrate(&text).is_ok_and(|migrated| migrated.is_changed())
            })
    };
    files.into_iter().filter(is_old).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_sent_and_old_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, version: &str| {
            let path = folder.path().join(name);
            let text = format!("apiVersion: {version}\nkind: CronJob\n");
            coracle_vm::store::atomic::write(&path, text.as_bytes()).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (before, now) = (
            file("before.yaml", "batch/v1beta1"),
            file("now.yaml", "batch/v1"),
        );
        let told = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            old(&words)
        };
        let expected = [PathBuf::from(&before)];
        for line in [
            format!("apply -f {before}"),
            format!("apply -n x -f{before} --server-side"),
            format!("create --filename={before} -f {now}"),
            format!("replace --filename {now},{before}"),
        ] {
            assert_eq!(told(&line), expected, "{line}");
        }
        for line in [
            format!("apply -f {now}"),
            format!("delete -f {before}"),
            "apply -f -".to_owned(),
            "apply -f".to_owned(),
            format!("apply -f {}", folder.path().display()),
        ] {
            assert_eq!(told(&line).len(), 0, "{line}");
        }
    }
}
