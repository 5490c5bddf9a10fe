//! The host agent: one background process per running cluster.
//!
//! It is the hypervisor's parent, so that the machine outlives the command that started it, and
//! so that somebody is there to say how it ended. The command that starts a cluster spawns this
//! program once more under a hidden name and reads one line from it: that the machine runs, or
//! why it does not.
//!
//! ```text
//! coracle start --spawn--> coracle host-agent --launch--> hypervisor
//!       ^                         |    ^                      |
//!       +--- one line: Report ----+    +---- how it ended ----+
//!                                 ^
//! coracle stop --------- control -+
//! ```
//!
//! As the parent it may also read and write the hypervisor's memory, which other processes of the
//! same user may not on every host: so it is the one that saves and restores.

mod asked;
mod clock;
#[cfg_attr(
    not(unix),
    allow(
        dead_code,
        unused_imports,
        reason = "no machine can be saved there, and nothing is asked"
    )
)]
mod control;

pub use asked::{capture, hibernate, settle};

use crate::cluster::{self, Cluster};
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::settings::Settings;
use coracle_vm::{
    AnyDriver, Driver as _, MachineDir, Origin, RunningProcess, Saves, TemplateError, TemplateKey,
    Templates, log_file,
};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::AsyncBufReadExt as _;

/// How long a hypervisor may take until the machine runs: longer than a restore may take.
const LAUNCH_LIMIT: Duration = Duration::from_secs(400);
/// A log is begun anew when it has grown beyond this many bytes.
const LONGEST_LOG: u64 = 1 << 20;
/// How long a request may go on after the machine ended.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// When a start has touched what it touches.
const START_UP: Duration = Duration::from_secs(2);
/// When the first things that are done with a new cluster are over.
const QUIET: Duration = Duration::from_secs(60);
/// How often the sizes of a running machine's logs are looked at.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// The one line that a host agent writes to its parent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Report {
    /// The machine runs.
    Running,
    /// The hypervisor could not be started.
    Failed(Told),
}

/// An [`Error`] on its way from a host agent to a command.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    name: String,
    message: String,
    causes: Vec<String>,
}

impl From<&Error> for Told {
    fn from(error: &Error) -> Self {
        Self {
            name: error.id().entry().name.to_owned(),
            message: error.message().to_owned(),
            causes: error.causes().to_vec(),
        }
    }
}

impl From<Told> for Error {
    fn from(told: Told) -> Self {
        let id = ErrorId::from_name(&told.name).unwrap_or(ErrorId::Machine);
        let error = Self::new(id, told.message);
        told.causes.into_iter().fold(error, Self::because)
    }
}

/// Starts a host agent for the machine and returns when the machine runs. The caller holds the
/// machine's lock.
pub async fn spawn(settings: &Settings, dir: &MachineDir, origin: &Origin) -> Result<()> {
    let log_path = cluster::host_agent_log(dir);
    let failed = || format!("cannot start the host agent ({})", log_path.display());
    let log = open_log(&log_path).context(ErrorId::Write, failed)?;
    let (input, tethered) = match &settings.tether {
        Some(tether) => (
            Stdio::from(tether.try_clone().context(ErrorId::Internal, failed)?),
            Some("--tethered"),
        ),
        None => (Stdio::null(), None),
    };
    let mut child = tokio::process::Command::new(&settings.executable)
        .arg("host-agent")
        .arg("--profile")
        .arg(dir.name().as_str())
        .args(arguments(origin))
        .args(tethered)
        .env("CORACLE_HOME", &settings.home)
        .env(
            "KUBECONFIG",
            settings.kubeconfig.as_deref().unwrap_or_default(),
        )
        .env_remove("CORACLE_FAULT")
        .current_dir(&settings.home)
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

/// How a machine's beginning is told to its host agent.
fn arguments(origin: &Origin) -> Vec<OsString> {
    match origin {
        Origin::Boot => Vec::new(),
        Origin::Saved(_) => vec!["--saved".into()],
        Origin::Template(files) => {
            let folder = files.ram.parent().unwrap_or(&files.ram);
            vec!["--template".into(), folder.as_os_str().to_owned()]
        }
    }
}

/// What the hidden command does: launches the machine, reports, and waits for its end.
pub async fn serve(settings: &Settings, origin: &Origin, tethered: bool) -> Result<u8> {
    leave_terminal();
    let dir = cluster::store(settings).machine_dir(&settings.profile);
    // Before the machine runs, so that whoever sees it run finds somebody to ask.
    let listener = control::listen(&dir);
    let launched = launch(settings, origin).await;
    let report = match &launched {
        Ok(_) => Report::Running,
        Err(error) => Report::Failed(Told::from(error)),
    };
    let line =
        serde_json::to_string(&report).context(ErrorId::Internal, || "cannot report".into())?;
    // The parent may be gone: the machine goes on without it.
    let _ = writeln!(std::io::stdout(), "{line}").and_then(|()| std::io::stdout().flush());
    let (driver, mut process) = match launched {
        Ok(launched) => launched,
        Err(error) => {
            log(&error.render(settings.profile.as_str()));
            return Ok(error.exit_code());
        }
    };
    log(&format!("the machine runs as process {}", process.pid));
    tokio::spawn({
        let (settings, origin) = (settings.clone(), origin.clone());
        async move {
            if let Err(error) = keep_template(&settings, &origin).await {
                log(&format!(
                    "the template may not outlive a loss of power, or cannot be checked: {}",
                    error.render(settings.profile.as_str())
                ));
            }
        }
    });
    let busy = Arc::new(tokio::sync::Mutex::new(()));
    tokio::spawn(control(settings.clone(), listener, Arc::clone(&busy)));
    tokio::select! {
        // It is awaited below.
        _ = process.wait() => {}
        () = tokio::time::sleep(START_UP) => {
            if let Origin::Template(files) = origin {
                driver.learn(&dir, &process, files);
            }
        }
    }
    let status = tokio::select! {
        status = process.wait() => status,
        never = bound_logs(&dir) => match never {},
        never = clock::keep(settings) => match never {},
        never = end_with_tether(settings), if tethered => match never {},
    };
    match status {
        Ok(status) => log(&format!("the machine ended: {status}")),
        Err(error) => log(&format!("lost the machine's process: {error}")),
    }
    // It may have ended because somebody asked for it, who is still to be answered.
    drop(tokio::time::timeout(REQUEST_LIMIT, busy.lock()).await);
    make_save_durable(&dir).await;
    Ok(0)
}

/// Answers commands. The machine does not depend on it.
async fn control(
    settings: Settings,
    listener: Result<control::Listener>,
    busy: Arc<tokio::sync::Mutex<()>>,
) {
    let served = match listener {
        Ok(listener) => control::serve(&settings, listener, &busy).await,
        Err(error) => Err(error),
    };
    match served {
        Ok(never) => match never {},
        Err(error) => log(&error.render(settings.profile.as_str())),
    }
}

/// Writes a state that was just saved to the disk: nobody has to wait for that. A start that comes
/// meanwhile takes it away, and that is as good.
async fn make_save_durable(dir: &MachineDir) {
    let Ok(Some(saved)) = Saves::new(dir).present() else {
        return;
    };
    let written = tokio::task::spawn_blocking(move || saved.make_durable()).await;
    if let Ok(Err(error)) = written {
        log(&format!(
            "the saved state will not outlive a loss of power: {error}"
        ));
    }
}

async fn launch(settings: &Settings, origin: &Origin) -> Result<(AnyDriver, RunningProcess)> {
    let cluster = Cluster::find(settings)?;
    let driver = cluster.driver()?;
    let launched = driver.launch(cluster.dir(), cluster.machine_spec(), origin);
    let process = launched.await?;
    Ok((driver, process))
}

/// Writes a template that was just made to the disk, beside the machine that began with it, and notes
/// later what its files hash to.
async fn keep_template(settings: &Settings, origin: &Origin) -> Result<()> {
    let Origin::Template(files) = origin else {
        return Ok(());
    };
    let folder = files.ram.parent().and_then(Path::file_name);
    let key = folder.and_then(|name| TemplateKey::from_name(name.to_str()?));
    let templates = cluster::template::templates(settings);
    let now = time::OffsetDateTime::now_utc();
    let Some(template) = key.and_then(|key| templates.find(&key, now).ok().flatten()) else {
        return Ok(());
    };
    let made = template.clone();
    blocking(move || Templates::make_durable(&made)).await?;
    tokio::time::sleep(QUIET).await;
    blocking(move || template.note_digests()).await
}

async fn blocking(work: impl FnOnce() -> Result<(), TemplateError> + Send + 'static) -> Result<()> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.context(ErrorId::Internal, || "a task ended early".into())??)
}

/// Deletes the cluster when nobody holds the other end of standard input any more. The deletion ends
/// the machine, and with it this process.
async fn end_with_tether(settings: &Settings) -> Infallible {
    let mut input = tokio::io::stdin();
    // Nothing is ever written there; an error is an end too.
    let _ = tokio::io::copy(&mut input, &mut tokio::io::sink()).await;
    log("the command that this cluster was made for has ended; deleting it");
    let deleted = tokio::process::Command::new(&settings.executable)
        .args(["delete", "--quiet", "--profile", settings.profile.as_str()])
        .env("CORACLE_HOME", &settings.home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .await;
    match deleted {
        Ok(status) => log(&format!("the deletion ended: {status}")),
        Err(error) => log(&format!("cannot delete it: {error}")),
    }
    std::future::pending().await
}

/// Keeps what a machine says in months of running from filling the disk.
async fn bound_logs(dir: &MachineDir) -> Infallible {
    loop {
        tokio::time::sleep(LOG_PAUSE).await;
        for path in [
            dir.serial_log(),
            dir.qemu_log(),
            cluster::host_agent_log(dir),
        ] {
            if let Err(error) = log_file::bound(&path, LONGEST_LOG) {
                log(&format!("cannot shorten {}: {error}", path.display()));
            }
        }
    }
}

/// A session of its own: neither Ctrl-C nor the end of the terminal reaches it.
#[cfg(unix)]
fn leave_terminal() {
    // Fails only where it leads a group already, and then it has left.
    let _ = rustix::process::setsid();
}

#[cfg(not(unix))]
fn leave_terminal() {}

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

/// Writes a line to the log, which is standard error.
fn log(text: &str) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let time = time::OffsetDateTime::from_unix_timestamp(i64::try_from(now.as_secs()).unwrap_or(0))
        .ok()
        .and_then(|time| {
            time.format(&time::format_description::well_known::Rfc3339)
                .ok()
        })
        .unwrap_or_default();
    crate::print::stderr(&format!("{time} {}\n", text.trim_end()));
}
