//! What a host agent has this program do, as a process of its own: what a person would type, with the same
//! locks, steps and words. It says them into the host agent's log.

use crate::error::{Context as _, Error, ErrorId, Result};
use crate::settings::Settings;
use std::process::Stdio;

/// Runs a command for the current profile and waits for its end. One that is cut off goes on by itself.
pub async fn run(settings: &Settings, arguments: &[&str]) -> Result<()> {
    let words = arguments.join(" ");
    let mut command = tokio::process::Command::new(&settings.executable);
    // Of the environment of the first start only what the machine needs as long as it lives is for this one.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CORACLE_") {
            command.env_remove(name);
        }
    }
    let status = command
        .args(arguments)
        .args(["--quiet", "--profile", settings.profile.as_str()])
        .env("KUBECONFIG", "")
        .envs(settings.lasting_environment()?)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .await
        .context(ErrorId::Internal, || format!("cannot run `{words}`"))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::new(
        ErrorId::Internal,
        format!("`{words}` ended with {status}"),
    ))
}
