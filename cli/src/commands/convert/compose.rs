//! A Compose file and what is around it.

use crate::cluster::Cluster;
use crate::cluster::mount::Mount;
use crate::commands::App;
use crate::error::{Context as _, Error, ErrorId, Result};
use coracle_convert::{EnvFile, FileKind, Files, Source};
use coracle_protocol::machine_path;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Where Compose looks for its file, in this order.
const FILES: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
];

/// What is for Compose files only.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The project's name, if the Compose file has none
    #[arg(long, value_name = "NAME")]
    project_name: Option<String>,
    /// Services of these profiles too, or of all with *
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        env = "COMPOSE_PROFILES"
    )]
    compose_profile: Vec<String>,
    /// A file of variables instead of .env
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
}

impl Options {
    /// One of them that was typed.
    pub(super) fn typed(&self) -> Option<&'static str> {
        let project = self.project_name.is_some().then_some("--project-name");
        project.or_else(|| self.env_file.is_some().then_some("--env-file"))
    }
}

/// The manifests of a Compose file, and what they do not say.
pub(super) struct Converted {
    pub(super) manifests: String,
    /// Each with its line: `LINE: what is lost`.
    pub(super) warnings: Vec<String>,
}

/// Turns the Compose file at a path, whose text was read.
pub(super) fn convert(app: &App, file: &Path, text: &str, options: &Options) -> Result<Converted> {
    let file = std::path::absolute(file)
        .context(ErrorId::Usage, || format!("cannot read {}", file.display()))?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let home = &app.settings.user_home;
    let files = Beside {
        folder,
        home,
        mounts: Cluster::find(&app.settings)
            .ok()
            .and_then(|cluster| cluster.record().mounts.clone())
            .unwrap_or_default(),
    };
    let home = in_machine(home).ok();
    let variables = variables(folder, options.env_file.as_deref())?;
    let of_file = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    let mut profiles: BTreeSet<String> = options.compose_profile.iter().cloned().collect();
    if profiles.is_empty() {
        let named = of_file("COMPOSE_PROFILES").into_iter();
        profiles.extend(named.flat_map(|names| names.split(',')).map(str::to_owned));
    }
    let project = options.project_name.as_deref();
    let project = project.or_else(|| of_file("COMPOSE_PROJECT_NAME").map(String::as_str));
    let source = Source {
        file: &file.file_name().unwrap_or_default().to_string_lossy(),
        text,
        project: project.unwrap_or(&name),
        folder: &in_machine(folder)?,
        home: home.as_deref(),
        variables: &variables,
        profiles: &profiles,
        files: &files,
    };
    let converted = coracle_convert::convert(&source)
        .map_err(|error| Error::new(ErrorId::ComposeInvalid, error.to_string()))?;
    let manifests = coracle_convert::to_yaml(&converted.objects);
    Ok(Converted {
        manifests: manifests.context(ErrorId::Internal, || "cannot write manifests".into())?,
        warnings: converted.warnings.iter().map(ToString::to_string).collect(),
    })
}

/// The Compose file of the current folder.
pub(super) fn own_file(app: &App) -> Result<PathBuf> {
    warn_of_override(app);
    let found = FILES.iter().map(PathBuf::from).find(|file| file.is_file());
    found.ok_or_else(|| {
        let message = format!("there is no {} here", FILES[0]);
        Error::new(ErrorId::Usage, message).help("name the file: a Compose file, or manifests")
    })
}

/// Compose reads such a file beside its own, and this command does not.
fn warn_of_override(app: &App) {
    for name in ["compose.override", "docker-compose.override"] {
        for extension in ["yaml", "yml"] {
            let file = format!("{name}.{extension}");
            if Path::new(&file).is_file() {
                app.progress.warning(&format!(
                    "{file} is not read; `docker compose config` writes both as one file"
                ));
            }
        }
    }
}

/// The variables of the environment, and of a file where the environment has none.
fn variables(folder: &Path, file: Option<&Path>) -> Result<BTreeMap<String, String>> {
    let mut variables: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let usual = folder.join(".env");
    let named = file.unwrap_or(&usual);
    let text = match std::fs::read_to_string(named) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && file.is_none() => {
            return Ok(variables);
        }
        Err(error) => {
            let message = format!("cannot read {}", named.display());
            return Err(Error::caused_by(ErrorId::Usage, message, &error));
        }
    };
    let known = variables.clone();
    let parsed = EnvFile::parse(&text, &|name| known.get(name).cloned());
    let parsed = parsed.map_err(|error| {
        Error::new(
            ErrorId::ComposeInvalid,
            format!("{}: {error}", named.display()),
        )
    })?;
    // Of a name that is there twice, the last one counts.
    for (name, value) in parsed.variables.into_iter().rev() {
        variables.entry(name).or_insert(value);
    }
    Ok(variables)
}

/// Where the machine has a folder of this host.
fn in_machine(folder: &Path) -> Result<String> {
    let text = folder.to_str().ok_or_else(|| {
        let message = format!("the name of {} is not UTF-8", folder.display());
        Error::new(ErrorId::Usage, message)
    })?;
    Ok(machine_path(text).unwrap_or_else(|| text.to_owned()))
}

/// Files beside the Compose file.
struct Beside<'a> {
    folder: &'a Path,
    home: &'a Path,
    /// What the cluster has of this host.
    mounts: Vec<Mount>,
}

impl Beside<'_> {
    fn path(&self, path: &str) -> PathBuf {
        match path.strip_prefix("~/") {
            Some(rest) => self.home.join(rest),
            None => self.folder.join(path),
        }
    }
}

impl Files for Beside<'_> {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.path(path))
    }

    fn kind(&self, path: &str) -> Option<FileKind> {
        let meta = std::fs::metadata(self.path(path)).ok()?;
        Some(match meta.is_dir() {
            true => FileKind::Folder,
            false => FileKind::File,
        })
    }

    fn is_mounted(&self, path: &str) -> bool {
        let mut places = self.mounts.iter().map(|mount| &mount.guest);
        places.any(|place| Path::new(path).starts_with(place))
    }
}
