//! Services as they come out, area by area.

// Helpers of tests may fail like tests.
#![allow(clippy::expect_used, clippy::panic)]

mod container;
mod files;
mod network;
mod project;
mod storage;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde_json::Value;

use crate::convert::{Conversion, FileKind, Files, Source, convert};

/// A folder with nothing in it.
pub(crate) struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _: &str) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn kind(&self, _: &str) -> Option<FileKind> {
        None
    }
}

/// A folder with these files; what ends with a slash is a folder.
pub(crate) struct Folder<'a>(pub(crate) &'a [(&'a str, &'a str)]);

impl Files for Folder<'_> {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let found = self.0.iter().find(|(name, _)| *name == path);
        let found = found.map(|(_, content)| content.as_bytes().to_vec());
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn kind(&self, path: &str) -> Option<FileKind> {
        let folder = format!("{path}/");
        self.0.iter().find_map(|(name, _)| match *name {
            name if name == path => Some(FileKind::File),
            name if name == folder => Some(FileKind::Folder),
            _ => None,
        })
    }
}

static VARIABLES: std::sync::LazyLock<BTreeMap<String, String>> = std::sync::LazyLock::new(|| {
    let variables = [("SHELL_SET", "from the shell"), ("TAG", "7")];
    let owned = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    BTreeMap::from(owned)
});

static PROFILES: BTreeSet<String> = BTreeSet::new();

/// A file that is read as in the folder `/work/shop`.
pub(crate) fn source<'a>(text: &'a str, files: &'a dyn Files) -> Source<'a> {
    Source {
        file: "compose.yaml",
        text,
        project: "shop",
        folder: "/work/shop",
        home: Some("/home/me"),
        variables: &VARIABLES,
        profiles: &PROFILES,
        files,
    }
}

/// What became of a file.
struct Converted(Conversion);

/// Converts a file that names no others.
fn of(text: &str) -> Converted {
    with(text, &NoFiles)
}

/// Converts a file with others beside it.
fn with(text: &str, files: &dyn Files) -> Converted {
    match convert(&source(text, files)) {
        Ok(conversion) => Converted(conversion),
        Err(error) => panic!("{error}\n{text}"),
    }
}

/// Converts a file of one service, `web`, of which `text` is said, beside its image.
fn web(text: &str) -> Converted {
    let indented: String = text.lines().map(|line| format!("    {line}\n")).collect();
    of(&format!("services:\n  web:\n    image: nginx\n{indented}"))
}

/// The line that a file is refused for, and what is said.
fn refused(text: &str) -> (usize, String) {
    match convert(&source(text, &NoFiles)) {
        Ok(conversion) => panic!("{:?}\n{text}", conversion.objects),
        Err(error) => (error.fault.line(), error.to_string()),
    }
}

impl Converted {
    /// The object of a kind and name.
    fn object(&self, kind: &str, name: &str) -> Value {
        let mut objects = self.0.objects.iter();
        let found = objects.find(|object| object.kind() == kind && object.name() == name);
        let found = found.unwrap_or_else(|| panic!("no {kind} {name}: {:?}", self.names()));
        serde_json::to_value(found).expect("a value")
    }

    fn names(&self) -> Vec<String> {
        let objects = self.0.objects.iter();
        objects
            .map(|object| format!("{}/{}", object.kind(), object.name()))
            .collect()
    }

    /// The spec of the pods of a Deployment.
    fn pod(&self, name: &str) -> Value {
        self.object("Deployment", name)["spec"]["template"]["spec"].clone()
    }

    /// The container of `web`.
    fn container(&self) -> Value {
        self.pod("web")["containers"][0].clone()
    }

    /// The warnings as lines and paths.
    fn warned(&self) -> Vec<(usize, &str)> {
        let warnings = self.0.warnings.iter();
        warnings
            .map(|warning| (warning.line, warning.path.as_str()))
            .collect()
    }

    /// The only warning.
    fn warning(&self) -> &str {
        assert_eq!(self.0.warnings.len(), 1, "{:?}", self.0.warnings);
        &self.0.warnings[0].message
    }
}
