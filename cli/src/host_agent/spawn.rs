//! A host agent as a process of its own, and what it reports when it has begun.

use super::detach;
use super::keep::LONGEST_LOG;
use super::{First, Report};
use crate::cluster;
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::settings::Settings;
use coracle_vm::MachineDir;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::AsyncBufReadExt as _;

/// How long a hypervisor may take until the machine runs: longer than a restore may take.
const LAUNCH_LIMIT: Duration = Duration::from_secs(400);

/// Starts a host agent and returns when it has begun.
pub async fn spawn(settings: &Settings, dir: &MachineDir, first: &First) -> Result<()> {
    let log_path = cluster::host_agent_log(dir);
    let failed = || format!("cannot start the host agent ({})", log_path.display());
    let log = open_log(&log_path).context(ErrorId::Write, failed)?;
    let input = match &settings.tether {
        Some(tether) => Stdio::from(tether.try_clone().context(ErrorId::Internal, failed)?),
        None => Stdio::null(),
    };
    let arguments = match first {
        First::Launch(from) => from.arguments(),
        First::Adopt => vec!["--adopt".into()],
    };
    let mut child = tokio::process::Command::from(command(settings, settings.tether.is_some()))
        .args(arguments)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::from(log))
        .kill_on_drop(false)
        .spawn()
        .context(ErrorId::Machine, failed)?;
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| Error::new(ErrorId::Internal, failed()))?;
    let mut lines = tokio::io::BufReader::new(stdout).lines();
    let line = tokio::time::timeout(LAUNCH_LIMIT, lines.next_line())
        .await
        .map_err(|_| {
            Error::new(
                ErrorId::MachineTimeout,
                "the hypervisor did not start in time",
            )
            .because(failed())
        })?;
    let line = line.context(ErrorId::Machine, failed)?.ok_or_else(|| {
        Error::new(
            ErrorId::Machine,
            "the host agent ended before the machine ran",
        )
        .because(last_line(&log_path).unwrap_or_default())
    })?;
    match serde_json::from_str(&line).context(ErrorId::Internal, failed)? {
        Report::Running => Ok(()),
        Report::Failed(told) => Err(told.into()),
    }
}

/// This program as the current profile's host agent, or as the guard of that.
pub fn command(settings: &Settings, tethered: bool) -> Command {
    let mut command = Command::new(&settings.executable);
    command
        .args(["host-agent", "--profile", settings.profile.as_str()])
        .args(tethered.then_some("--tethered"))
        .env("CORACLE_HOME", &settings.home)
        .env(
            "KUBECONFIG",
            settings.kubeconfig.as_deref().unwrap_or_default(),
        )
        .env_remove("CORACLE_FAULT")
        .current_dir(&settings.home);
    detach::start_apart(&mut command);
    command
}

fn open_log(path: &Path) -> std::io::Result<std::fs::File> {
    let too_long = std::fs::metadata(path).is_ok_and(|meta| meta.len() > LONGEST_LOG);
    let mut options = OpenOptions::new();
    options
        .create(true)
        .write(true)
        .append(!too_long)
        .truncate(too_long);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn last_line(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .map(str::to_owned)
}
