//! `coracle kubectl`, and this program under the name `kubectl`.

use super::App;
use super::convert::warn_of_old;
use crate::cluster::spec::DEFAULT_KUBERNETES_VERSION;
use crate::cluster::{self, Cluster};
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::settings::{GlobalOptions, Settings};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Run the kubectl of the cluster's own version
///
/// Everything behind `--` goes to kubectl, which acts on this cluster's context.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// kubectl's arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    arguments: Vec<OsString>,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        let cluster = Cluster::find(&app.settings)?;
        let mut command = Command::new(program(&app.settings, cluster.kubernetes()?)?);
        command
            .arg("--context")
            .arg(app.settings.profile.as_str())
            .args(&self.arguments);
        warn_of_old(&self.arguments);
        crate::exec::become_program(command)
    }
}

/// Acts as kubectl when this program was called by that name; None otherwise.
pub fn as_kubectl() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    let name = PathBuf::from(arguments.next()?);
    if name.file_stem()? != "kubectl" {
        return None;
    }
    let arguments: Vec<OsString> = arguments.collect();
    let outcome = Settings::resolve(
        &GlobalOptions {
            profile: None,
            quiet: false,
        },
        false,
    )
    .and_then(|settings| {
        let cluster = Cluster::find(&settings).ok();
        let version = cluster.and_then(|found| found.kubernetes().map(str::to_owned).ok());
        let version = version.unwrap_or_else(|| DEFAULT_KUBERNETES_VERSION.to_owned());
        let mut command = Command::new(program(&settings, &version)?);
        command.args(&arguments);
        warn_of_old(&arguments);
        crate::exec::become_program(command)
    });
    Some(match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            crate::print::stderr(&error.render("coracle"));
            ExitCode::from(error.exit_code())
        }
    })
}

/// The image's own kubectl of this version, or the host's when it is within one minor version.
fn program(settings: &Settings, version: &str) -> Result<PathBuf> {
    if let Some(own) = cluster::image::kubectl(settings, version) {
        return Ok(own);
    }
    let missing = |reason: &str| {
        Error::new(
            ErrorId::KubectlNotFound,
            format!("there is no kubectl for Kubernetes {version} here"),
        )
        .because(reason)
    };
    let host = settings
        .find_program("kubectl")
        .ok_or_else(|| missing("the image has none for this host, and none is installed"))?;
    let found = version_of(&host)?;
    match (minor(&found), minor(version)) {
        (Some(host_minor), Some(cluster_minor)) if host_minor.abs_diff(cluster_minor) <= 1 => {
            Ok(host)
        }
        _ => Err(missing(&format!(
            "the host's {} is of version {found}",
            host.display()
        ))),
    }
}

fn version_of(kubectl: &Path) -> Result<String> {
    let output = Command::new(kubectl)
        .args(["version", "--client", "--output=json"])
        .output()
        .context(ErrorId::KubectlNotFound, || {
            format!("cannot run {}", kubectl.display())
        })?;
    let value: serde_json::Value = serde_json::from_slice(&output.stdout)
        .context(ErrorId::KubectlNotFound, || {
            format!("{} did not tell its version", kubectl.display())
        })?;
    Ok(value["clientVersion"]["gitVersion"]
        .as_str()
        .unwrap_or("unknown")
        .to_owned())
}

/// The minor number of `v1.37.2`.
fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("v1.")?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minor_versions_are_read() {
        assert_eq!(minor("v1.37.2"), Some(37));
        assert_eq!(minor("v1.20.2-dirty"), Some(20));
        assert_eq!(minor("unknown"), None);
    }
}
