//! Whole projects: each folder of `tests/golden` has a Compose file and what becomes of it.
//!
//! `CORACLE_GOLDEN=write cargo test -p coracle-convert` writes down what comes out now, to be looked
//! at before it is kept.

// Helpers of tests may fail like tests.
#![allow(clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use coracle_convert::{Conversion, EnvFile, FileKind, Files, Source, convert, to_yaml};
use serde::Deserialize as _;

/// The files of one case.
struct Folder(PathBuf);

impl Files for Folder {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(self.0.join(path))
    }

    fn kind(&self, path: &str) -> Option<FileKind> {
        let path = self.0.join(path);
        match fs::metadata(path).ok()?.is_dir() {
            true => Some(FileKind::Folder),
            false => Some(FileKind::File),
        }
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn converted(name: &str) -> Conversion {
    let folder = folder(name);
    let text = fs::read_to_string(folder.join("compose.yaml")).expect("a Compose file");
    let mut variables = BTreeMap::new();
    if let Ok(text) = fs::read_to_string(folder.join(".env")) {
        let file = EnvFile::parse(&text, &|_| None).expect("a file of variables");
        variables.extend(file.variables);
    }
    let machine = format!("/home/me/{name}");
    let source = Source {
        file: "compose.yaml",
        text: &text,
        project: name,
        folder: &machine,
        home: Some("/home/me"),
        variables: &variables,
        profiles: &BTreeSet::new(),
        files: &Folder(folder),
    };
    convert(&source).unwrap_or_else(|error| panic!("{error}"))
}

fn same(file: &Path, text: &str) {
    // Who asks for it looks at what is written.
    #[allow(clippy::disallowed_methods)]
    if std::env::var_os("CORACLE_GOLDEN").is_some_and(|value| value == "write") {
        fs::write(file, text).expect("a file");
    }
    let expected = fs::read_to_string(file).unwrap_or_default();
    let differs = expected
        .lines()
        .zip(text.lines())
        .position(|(one, other)| one != other);
    assert!(
        expected == text,
        "{} differs from line {} on:\n{text}",
        file.display(),
        differs.map_or_else(|| "its end".to_owned(), |line| (line + 1).to_string())
    );
}

fn is_as_written_down(name: &str) {
    let conversion = converted(name);
    let yaml = to_yaml(&conversion.objects).expect("YAML");
    same(&folder(name).join("expected.yaml"), &yaml);
    let warnings = conversion.warnings.iter();
    let warnings: String = warnings.map(|warning| format!("{warning}\n")).collect();
    same(&folder(name).join("warnings.txt"), &warnings);
    // Another reader sees the objects that were written.
    let documents = serde_yaml::Deserializer::from_str(&yaml);
    let read = documents.map(|one| serde_json::Value::deserialize(one).expect("a document"));
    let objects = conversion.objects.iter();
    let objects = objects.map(|object| serde_json::to_value(object).expect("a value"));
    assert_eq!(read.collect::<Vec<_>>(), objects.collect::<Vec<_>>());
}

#[test]
fn a_shop_with_a_database_is_converted() {
    is_as_written_down("shop");
}

#[test]
fn five_services_that_vote_are_converted() {
    is_as_written_down("voting");
}

#[test]
fn a_platform_with_brokers_and_jobs_is_converted() {
    is_as_written_down("platform");
}

#[test]
fn what_is_rare_is_converted_or_told() {
    is_as_written_down("edges");
}

#[test]
fn a_text_cut_off_anywhere_is_converted_or_refused_with_a_line_of_it() {
    let mut refused = 0;
    for name in ["shop", "voting", "platform", "edges"] {
        let text = fs::read_to_string(folder(name).join("compose.yaml")).expect("a Compose file");
        for end in (0..text.len()).filter(|end| end % 5 == 0 && text.is_char_boundary(*end)) {
            let source = Source {
                file: "compose.yaml",
                text: &text[..end],
                project: name,
                folder: "/srv",
                home: None,
                variables: &BTreeMap::new(),
                profiles: &BTreeSet::new(),
                files: &Folder(folder(name)),
            };
            if let Err(error) = convert(&source) {
                let lines = text[..end].matches('\n').count() + 1;
                let line = error.fault.line();
                assert!(
                    (1..=lines + 1).contains(&line),
                    "{name}, {end} bytes: {error}"
                );
                refused += 1;
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn every_warning_names_a_line_that_says_what_it_is_about() {
    for name in ["shop", "voting", "platform", "edges"] {
        let text = fs::read_to_string(folder(name).join("compose.yaml")).expect("a Compose file");
        let lines: Vec<_> = text.lines().collect();
        for warning in converted(name).warnings {
            let line = lines[warning.line - 1];
            let last = warning.path.rsplit('.').next().expect("a path");
            let last = last.split('[').next().expect("a key");
            assert!(
                line.contains(last) || line.trim_start().starts_with('-') || line.contains('$'),
                "{name}: {warning}: {line}"
            );
        }
    }
}
