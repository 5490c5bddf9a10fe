//! `coracle run`.

use super::App;
use crate::cluster::delete::delete;
use crate::cluster::spec::StartOptions;
use crate::cluster::start::start;
use crate::cluster::store;
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::options::ClusterOptions;
use crate::progress::Progress;
use crate::settings::Settings;
use coracle_vm::MachineName;
use std::ffi::OsString;
use std::process::ExitStatus;
use std::sync::Arc;

/// Run a command against a fresh cluster, which is deleted afterwards
///
/// KUBECONFIG is set to a file that knows this cluster alone; your own kubeconfig is not touched. The
/// command's exit status is passed on. The cluster goes with the command, also when either is killed.
/// Several runs at once are several clusters.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    options: ClusterOptions,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        let kept = ClusterOptions::read(&app.settings.config_file(), false)?;
        let start_options = StartOptions::new(&self.options.clone().or(kept.clone()))?;
        // From here on a signal ends the cluster too.
        let interrupted = crate::interrupted()
            .context(ErrorId::Internal, || "cannot listen for signals".into())?;
        let (tether, held) = std::io::pipe().context(ErrorId::Internal, || {
            "cannot tie the cluster to this command".into()
        })?;
        let app = own_app(&app.settings, tether)?;
        let started = async {
            Box::pin(start(&app, &self.options, &kept, &start_options, false)).await?;
            app.progress.info(&format!(
                "{} lives as long as the command",
                app.settings.profile
            ));
            Ok::<(), Error>(())
        };
        let outcome = tokio::select! {
            started = started => match started {
                Ok(()) => self.command(&app).await,
                Err(error) => Err(error),
            },
            () = interrupted => Err(Error::new(
                ErrorId::Interrupted,
                "interrupted before the command ran; the cluster is deleted",
            )),
        };
        let deleted = match store(&app.settings).exists(&app.settings.profile) {
            true => delete(&app, &app.settings.profile).await,
            false => Ok(()),
        };
        drop(held);
        // What went wrong first is what to tell.
        let code = outcome?;
        deleted?;
        Ok(code)
    }

    /// Runs the command to its end and gives its exit code, as shells count them.
    async fn command(&self, app: &App) -> Result<u8> {
        let [program, arguments @ ..] = self.command.as_slice() else {
            return Err(Error::new(ErrorId::Usage, "no command was given"));
        };
        let mut child = tokio::process::Command::new(program)
            .args(arguments)
            .env(
                "KUBECONFIG",
                app.settings.kubeconfig.as_deref().unwrap_or_default(),
            )
            .env("CORACLE_PROFILE", app.settings.profile.as_str())
            .kill_on_drop(true)
            .spawn()
            .context(ErrorId::Usage, || {
                format!("cannot run {}", program.display())
            })?;
        let ended = passing_signals_on(&mut child).await;
        Ok(code(ended.context(ErrorId::Internal, || {
            format!("cannot wait for {}", program.display())
        })?))
    }
}

/// The surroundings of a cluster of its own: its name, its kubeconfig, and what it is tied to.
fn own_app(settings: &Settings, tether: std::io::PipeReader) -> Result<App> {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    let name = format!("run-{}", &unique[..8]);
    let profile = MachineName::new(&name).context(ErrorId::Internal, || {
        format!("{name} cannot be a cluster's name")
    })?;
    // Where the machine's sockets are: what is there is removed with the machine.
    let kubeconfig = store(settings).machine_dir(&profile).socket("kubeconfig");
    let kubeconfig =
        kubeconfig.context(ErrorId::Internal, || "no place for a kubeconfig".into())?;
    let settings = Settings {
        profile,
        kubeconfig: Some(kubeconfig.into()),
        tether: Some(Arc::new(tether)),
        ..settings.clone()
    };
    Ok(App {
        progress: Progress::new(settings.style),
        settings,
    })
}

/// Waits for the child's end. Ctrl-C reaches it by itself on a terminal; what is sent to this process
/// alone is passed on.
#[cfg(unix)]
async fn passing_signals_on(child: &mut tokio::process::Child) -> std::io::Result<ExitStatus> {
    use rustix::process::{Pid, Signal, kill_process};
    use std::io::IsTerminal as _;
    use tokio::signal::unix::{SignalKind, signal};
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let pass_on = |signal| {
        if let Some(pid) = pid {
            // It may have ended just now.
            let _ = kill_process(pid, signal);
        }
    };
    let on_terminal = std::io::stdin().is_terminal();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            ended = child.wait() => return ended,
            _ = interrupt.recv() => if !on_terminal { pass_on(Signal::INT) },
            _ = terminate.recv() => pass_on(Signal::TERM),
            _ = hang_up.recv() => pass_on(Signal::HUP),
        }
    }
}

#[cfg(windows)]
async fn passing_signals_on(child: &mut tokio::process::Child) -> std::io::Result<ExitStatus> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    loop {
        // The console sends it to the child too.
        tokio::select! {
            ended = child.wait() => return ended,
            _ = interrupt.recv() => {}
        }
    }
}

/// The exit code; 128 and the signal's number for a command that a signal ended.
fn code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 + signal);
    #[cfg(not(unix))]
    let signal = None;
    let code = status.code().or(signal).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
