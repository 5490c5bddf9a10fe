//! `coracle`: a real, single-node Kubernetes in a lightweight VM, from one command.
//!
//! The way of the data: argv and the environment become [`settings::Settings`] and
//! [`options::ClusterOptions`]; a command turns those into a [`cluster::spec::ClusterSpec`], and
//! [`cluster`] makes that a running machine and a kubeconfig context. Only this crate reads the
//! environment or argv, and only this crate prints.

// A program has no surface: `pub` says what a module offers to its siblings.
#![allow(unreachable_pub)]

mod autostart;
mod cluster;
mod commands;
mod docker;
mod error;
mod exec;
mod host_agent;
mod images;
mod logs;
mod options;
mod print;
mod progress;
mod settings;
mod written;

use clap::Parser as _;
use commands::{App, Cli};
use error::{Error, ErrorId};
use progress::Progress;
use settings::Settings;
use std::io::IsTerminal as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    host_agent::keep_streams();
    if let Some(code) = commands::kubectl::as_kubectl() {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let settings = match Settings::resolve(&cli.global, cli.command.prints_events()) {
        Ok(settings) => settings,
        Err(error) => {
            print::stderr(&error.render("coracle"));
            return ExitCode::from(error.exit_code());
        }
    };
    let app = App {
        progress: Progress::new(settings.style),
        settings,
    };
    start_tracing();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Error::caused_by(ErrorId::Internal, "cannot start the runtime", &error))
        .and_then(|runtime| {
            let outcome = runtime.block_on(run(&app, cli.command));
            // A thread that still reads standard input must not hold up the end.
            runtime.shutdown_background();
            outcome
        });
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            app.progress.error(&error, app.settings.profile.as_str());
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs the command, unless Ctrl-C comes first. Every change on disk is whole by itself, so a
/// command can be left at any point; what it leaves is said.
async fn run(app: &App, command: commands::Command) -> error::Result<u8> {
    if command.handles_interrupts() {
        return Box::pin(command.run(app)).await;
    }
    let left = command.what_is_left(app);
    // Listening begins before the command does anything that would be worth saying.
    let interrupted = interrupted()
        .map_err(|error| Error::caused_by(ErrorId::Internal, "cannot listen for Ctrl-C", &error))?;
    tokio::select! {
        outcome = Box::pin(command.run(app)) => outcome,
        () = interrupted => {
            let doing = app.progress.abandon_step();
            let message = match doing {
                Some(step) => format!("interrupted while: {step}"),
                None => "interrupted".to_owned(),
            };
            Err(Error::new(ErrorId::Interrupted, message).help(left))
        }
    }
}

/// Listens from this call on; the future ends with the first Ctrl-C or SIGTERM.
#[cfg(unix)]
pub(crate) fn interrupted() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(windows)]
pub(crate) fn interrupted() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
    })
}

/// Help and version go to stdout with exit code 0; anything else is a usage error.
fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let text = error.render();
            let styled = std::io::stdout().is_terminal() && !settings::no_color();
            print::stdout(&if styled {
                text.ansi().to_string()
            } else {
                text.to_string()
            });
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            print::stderr(&error.render().to_string());
            ExitCode::from(ErrorId::Usage.entry().exit_code)
        }
        _ => {
            let text = error.render().to_string();
            let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let first = lines
                .next()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .to_owned();
            let mut told = Error::new(ErrorId::Usage, first);
            for line in
                lines.filter(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
            {
                told = told.because(line);
            }
            print::stderr(&told.render("coracle"));
            ExitCode::from(told.exit_code())
        }
    }
}

/// `CORACLE_LOG=debug` shows what the leaves trace.
fn start_tracing() {
    use tracing_subscriber::EnvFilter;
    if let Ok(filter) = EnvFilter::try_from_env("CORACLE_LOG") {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .init();
    }
}
