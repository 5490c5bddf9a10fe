//! One project: what goes in, what comes out, and the way between.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::at::At;
use crate::definitions::Definitions;
use crate::extends;
use crate::fault::{ConvertError, Result};
use crate::interpolate::substitute;
use crate::keys;
use crate::names;
use crate::object::Object;
use crate::report::{Report, Warning};
use crate::service;
use crate::yaml::{Kind, parse};

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A folder.
    Folder,
    /// A file.
    File,
}

/// The files beside the Compose file. A path is as the Compose file has it: absolute, relative to its
/// folder, or beginning with `~/`.
pub trait Files {
    /// The content of a file.
    ///
    /// # Errors
    /// As reading it fails.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;

    /// What is at `path`; nothing where nothing is.
    fn kind(&self, path: &str) -> Option<FileKind>;

    /// Whether the machine has what this computer has, at `path` of the machine: then nobody is told
    /// to mount it.
    fn is_mounted(&self, path: &str) -> bool {
        let _ = path;
        false
    }
}

/// A Compose file, and what it is to be read with.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// What messages call the file.
    pub file: &'a str,
    /// Its text.
    pub text: &'a str,
    /// The project's name where the file has none, such as the name of its folder.
    pub project: &'a str,
    /// Where its folder is in the machine: an absolute path of Linux. Relative paths that are bound
    /// are below it.
    pub folder: &'a str,
    /// Where the home folder is in the machine, for `~`.
    pub home: Option<&'a str>,
    /// Variables of the shell and of `.env`.
    pub variables: &'a BTreeMap<String, String>,
    /// The profiles that are active; `*` stands for all.
    pub profiles: &'a BTreeSet<String>,
    /// Its files.
    pub files: &'a dyn Files,
}

/// A path of the machine that pods are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPath {
    /// As the Compose file has it.
    pub written: String,
    /// In the machine.
    pub path: String,
    /// What [`Files`] says is there.
    pub kind: Option<FileKind>,
    /// Whether pods only read it.
    pub read_only: bool,
    /// The service.
    pub service: String,
    /// The line of the Compose file.
    pub line: usize,
}

/// An image that has to be built before its pods can run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The service.
    pub service: String,
    /// The name that its pods call it by.
    pub image: String,
    /// The line of the Compose file.
    pub line: usize,
}

/// A project in the words of Kubernetes.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversion {
    /// Its name.
    pub project: String,
    /// Its objects, what is used before what uses it.
    pub objects: Vec<Object>,
    /// What they do not say, by line.
    pub warnings: Vec<Warning>,
    /// Paths of the machine that its pods need.
    pub host_paths: Vec<HostPath>,
    /// Images that have to be built.
    pub builds: Vec<Build>,
}

/// A service that is active.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    /// As the file has it.
    pub(crate) key: &'a str,
    /// As Kubernetes has it.
    pub(crate) name: String,
    /// What it says.
    pub(crate) at: At<'a>,
}

/// What all services are converted with, and where it goes.
pub(crate) struct Project<'a> {
    /// The file.
    pub(crate) source: &'a Source<'a>,
    /// Its name.
    pub(crate) name: String,
    /// The top of the file.
    pub(crate) top: At<'a>,
    /// The active services.
    pub(crate) members: &'a [Member<'a>],
    /// Services that no active profile has.
    pub(crate) inactive: BTreeSet<&'a str>,
    /// What does not map.
    pub(crate) report: Report,
    /// The objects so far.
    pub(crate) objects: Vec<Object>,
    /// Volumes, secrets and configs that were used so far.
    pub(crate) definitions: Definitions,
    /// Paths of the machine so far.
    pub(crate) host_paths: Vec<HostPath>,
    /// Images to build so far.
    pub(crate) builds: Vec<Build>,
}

/// Turns a Compose file into objects.
///
/// # Errors
/// [`ConvertError`] where the file is no Compose file, or names files that cannot be read.
pub fn convert(source: &Source<'_>) -> std::result::Result<Conversion, ConvertError> {
    convert_file(source).map_err(|fault| ConvertError {
        file: source.file.to_owned(),
        fault,
    })
}

fn convert_file(source: &Source<'_>) -> Result<Conversion> {
    let mut report = Report::default();
    let parsed = parse(source.text)?;
    if let Some(line) = parsed.second {
        let message = "only the first document of the file is read".to_owned();
        report.warn_line(line, "---".to_owned(), message);
    }
    let mut root = parsed.root;
    let default = default_name(&At::root(&root), source);
    let variable = |name: &str| {
        let known = source.variables.get(name).cloned();
        known.or_else(|| (name == "COMPOSE_PROJECT_NAME").then(|| default.clone()))
    };
    substitute(&mut root, &variable, &mut report)?;
    let top = At::root(&root);
    if !matches!(root.kind, Kind::Mapping(_)) {
        return Err(top.expected("a Compose file, a mapping with `services`,"));
    }
    keys::check(&top, keys::TOP, &mut report)?;
    if let Some(include) = top.get("include").filter(|include| !include.is_idle()) {
        return Err(include.fault(
            "other files are not read: `docker compose config` writes all of them as one, which can \
             be converted",
        ));
    }
    let name = project_name(&top, &default)?;
    let Some(written) = top.get("services") else {
        return Err(top.fault("a Compose file has `services`, and this one has none"));
    };
    let services = extends::resolve(&written, &mut report)?;
    let services = At {
        node: &services,
        ..written
    };
    let (members, inactive) = members(&services, source, &mut report)?;
    let mut project = Project {
        source,
        name,
        top,
        members: &members,
        inactive,
        report,
        objects: Vec::new(),
        definitions: Definitions::default(),
        host_paths: Vec::new(),
        builds: Vec::new(),
    };
    service::check_names(&mut project)?;
    service::check_networks(&mut project)?;
    for member in &members {
        service::convert(member, &mut project)?;
    }
    let mut objects = project.objects;
    objects.sort_by_key(Object::order);
    Ok(Conversion {
        project: project.name,
        objects,
        warnings: project.report.into_warnings(),
        host_paths: project.host_paths,
        builds: project.builds,
    })
}

/// The name that variables are told: the file's, unless that needs variables itself.
fn default_name(top: &At<'_>, source: &Source<'_>) -> String {
    let written = top.get("name").and_then(|name| name.text().ok());
    match written.filter(|name| !name.contains('$') && !name.is_empty()) {
        Some(name) => name.to_owned(),
        None => names::project(source.project),
    }
}

fn project_name(top: &At<'_>, default: &str) -> Result<String> {
    let Some(name) = top.get("name").filter(|name| !name.is_idle()) else {
        return Ok(default.to_owned());
    };
    let text = name.text()?;
    match names::project(text) == text {
        true => Ok(text.to_owned()),
        false => Err(name.fault(format!(
            "{text:?} is no name of a project: it has small letters, digits, hyphens and \
             underscores, at most 52, and begins with a letter or digit"
        ))),
    }
}

/// The services that an active profile has, and those that none has.
fn members<'n>(
    services: &At<'n>,
    source: &Source<'_>,
    report: &mut Report,
) -> Result<(Vec<Member<'n>>, BTreeSet<&'n str>)> {
    let mut members = Vec::new();
    let mut inactive = BTreeSet::new();
    for (key, at) in services.entries()? {
        if key.starts_with("x-") {
            continue;
        }
        if !matches!(at.node.kind, Kind::Mapping(_)) {
            return Err(at.expected("a service, a mapping,"));
        }
        if let Some(profiles) = at.get("profiles") {
            let own = profiles.texts()?;
            let all = source.profiles.contains("*");
            if !(own.is_empty() || all || own.iter().any(|one| source.profiles.contains(one))) {
                report.warn(
                    &profiles,
                    format!(
                        "{key} is left out: of its profiles none is active ({})",
                        own.join(", ")
                    ),
                );
                inactive.insert(key);
                continue;
            }
        }
        let name = names::label(key);
        members.push(Member { key, name, at });
    }
    Ok((members, inactive))
}
