//! From a specification to a QEMU that answers.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::process::Command;

use super::command_line::{self, Invocation, arguments};
use super::inherited::detach;
use super::plan::LaunchPlan;
use super::{GREETING_LIMIT, claim, clear, disks, failure, probe, restore};
use crate::driver::{DriverError, Origin, RunningProcess, failed};
use crate::log_file;
use crate::program::{self, ProgramError, Programs};
use crate::qmp::{QmpClient, QmpEndpoint};
use crate::spec::{Boot, MachineSpec};
use crate::store::{MachineDir, atomic};

/// How long QEMU may take from its start to its monitor's greeting, on a busy host.
const START_LIMIT: Duration = Duration::from_secs(30);
/// The first pause between two attempts to connect; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// How many lines of QEMU's log an error carries.
const LOG_LINES: usize = 12;

/// Starts QEMU for a machine that is off, and waits for its monitor; where it goes on from a saved
/// state, until the guest runs.
pub(super) async fn launch(
    programs: &Programs,
    dir: &MachineDir,
    spec: &MachineSpec,
    origin: &Origin,
) -> Result<RunningProcess, DriverError> {
    check(spec)?;
    let endpoint = dir.qmp()?;
    let qemu = probe::Emulator::examine(programs, spec.architecture).await?;
    let verdict = qemu.verdict(spec.accelerator).await?;
    atomic::create_private_dirs(dir.runtime_dir()).map_err(failed("create", dir.runtime_dir()))?;
    let claim = claim::take(dir).await?;
    clear(dir)?;
    let plan = LaunchPlan::prepare(origin, dir, spec)?;
    let arguments = arguments(&Invocation {
        spec,
        accelerator: verdict.accelerator,
        memory: plan.memory.as_invoked(),
        monitor: &endpoint,
        pid_file: &dir.qemu_pid(),
        sandbox: qemu.sandbox,
        incoming: plan.restore.is_some(),
    });
    tracing::debug!(command = %program::describe(&qemu.program, &arguments), "starting QEMU");
    let mut command = command(&qemu.program, &arguments, dir, spec)?;
    detach(&mut command, &plan.inherited, claim.as_ref());
    let mut child = command.spawn().map_err(|source| {
        DriverError::Program(ProgramError::Start {
            command: program::describe(&qemu.program, &arguments),
            source,
        })
    })?;
    // From here on it is the process's alone.
    drop(claim);
    let pid = child.id().ok_or(DriverError::NotRunning)?;
    let started = async {
        greeted(&endpoint).await?;
        if let Some(way) = &plan.restore {
            restore::restore(pid, dir, way).await?;
        }
        if let Err(error) = disks::grow(dir, spec).await {
            tracing::warn!(%error, "the disk does not grow before the next launch");
        }
        Ok(())
    };
    let started = tokio::select! {
        status = child.wait() => {
            let error = explain(&qemu.program, &arguments, dir, spec, &status);
            return Err(match (error, &plan.restore) {
                // One that was killed says nothing about what it was restoring.
                (error, _) if was_killed(&status) => error,
                (DriverError::LaunchFailed { status, last_lines, .. }, Some(_)) => {
                    DriverError::RestoreFailed { status, last_lines }
                }
                (error, _) => error,
            });
        }
        started = started => started,
    };
    if let Err(error) = started {
        child
            .kill()
            .await
            .map_err(failed("end the process of", &dir.qemu_pid()))?;
        clear(dir)?;
        return Err(error);
    }
    Ok(RunningProcess {
        pid,
        verdict,
        child,
    })
}

/// Checks what only this driver cannot do, and that every file is there.
fn check(spec: &MachineSpec) -> Result<(), DriverError> {
    spec.check()?;
    if let Some(forward) = spec
        .network
        .forwards
        .iter()
        .find(|forward| forward.host.is_ipv6())
    {
        return Err(super::unable(format!(
            "its network forwards only IPv4 addresses, not {}",
            forward.host
        )));
    }
    if spec.disks.len() > command_line::MOST_DISKS {
        return Err(super::unable(format!(
            "it has {} disks, and {} are possible",
            spec.disks.len(),
            command_line::MOST_DISKS
        )));
    }
    check_files(spec)
}

/// Checks that every file is there that a launch reads.
pub(crate) fn check_files(spec: &MachineSpec) -> Result<(), DriverError> {
    let mut files: Vec<&Path> = spec.disks.iter().map(|disk| disk.path.as_path()).collect();
    files.extend(spec.disks.iter().filter_map(|disk| disk.base.as_deref()));
    if let Boot::DirectKernel { kernel, initrd, .. } = &spec.boot {
        files.extend([kernel.as_path(), initrd.as_path()]);
    }
    match files.into_iter().find(|path| !path.is_file()) {
        Some(path) => Err(DriverError::MissingFile {
            path: path.to_owned(),
        }),
        None => Ok(()),
    }
}

/// The program with its arguments, and new logs.
fn command(
    program: &Path,
    arguments: &[OsString],
    dir: &MachineDir,
    spec: &MachineSpec,
) -> Result<Command, DriverError> {
    let log = dir.qemu_log();
    let failed = |error| failed("write", &log)(error);
    for path in [&log, &spec.console] {
        log_file::rotate(path).map_err(failed)?;
    }
    // QEMU would make the console's file readable for others.
    log_file::create(&spec.console).map_err(failed)?;
    let output = log_file::create(&log).map_err(failed)?;
    let errors = output.try_clone().map_err(failed)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    Ok(command)
}

/// Waits for the monitor's greeting.
async fn greeted(endpoint: &QmpEndpoint) -> Result<(), DriverError> {
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    while begun.elapsed() < START_LIMIT {
        if QmpClient::connect(endpoint, GREETING_LIMIT).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Err(DriverError::TimedOut {
        what: "answer",
        limit: START_LIMIT,
    })
}

/// Turns an early end into an error with a cause.
fn explain(
    program: &Path,
    arguments: &[OsString],
    dir: &MachineDir,
    spec: &MachineSpec,
    status: &io::Result<ExitStatus>,
) -> DriverError {
    let log = dir.qemu_log();
    let last_lines = log_file::last_lines(&log, LOG_LINES);
    if let Some(error) = failure::recognise(&last_lines, spec) {
        return error;
    }
    let status = match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    DriverError::LaunchFailed {
        status,
        command: program::describe(program, arguments),
        last_lines,
        log,
    }
}

#[cfg(unix)]
fn was_killed(status: &io::Result<ExitStatus>) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    const SIGKILL: i32 = 9;
    status
        .as_ref()
        .is_ok_and(|status| status.signal() == Some(SIGKILL))
}

#[cfg(not(unix))]
fn was_killed(_status: &io::Result<ExitStatus>) -> bool {
    false
}
