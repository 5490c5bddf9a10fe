//! `coracle start`.

use super::App;
use crate::cluster::spec::StartOptions;
use crate::cluster::start::{Outcome, download_only, start};
use crate::error::{ErrorId, Result};
use crate::options::ClusterOptions;
use crate::progress::{Style, seconds};
use crate::settings::Output;
use std::path::PathBuf;

/// Start a cluster: make it when it is not there, wake it when it is stopped
///
/// Ends when the cluster is ready and kubectl's current context is it. On a running cluster it
/// changes nothing but what may change while that runs. Flags win over CORACLE_* variables, those over a cluster file, that over
/// `coracle config`.
///
/// The machine fetches images by way of HTTP_PROXY, HTTPS_PROXY and NO_PROXY, trusts the certificates in
/// the state folder's certs/, and has the files of its files/. Each start takes what there is then.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    options: ClusterOptions,
    /// A cluster file: the names of these flags as YAML keys
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Leave the machine the proxy of the last start without this flag, whatever the environment says
    #[arg(long)]
    unattended: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Only fetch what a start needs and what is missing or damaged of it: the image, its layer of this
    /// Kubernetes version, kubectl
    #[arg(long, conflicts_with = "dry_run")]
    download_only: bool,
    /// Remove a cluster that could not be made
    #[arg(long)]
    delete_on_failure: bool,
    /// How to report: text or json (CloudEvents, one a line)
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Args {
    /// Whether nothing is to be started.
    pub fn only_downloads(&self) -> bool {
        self.download_only
    }

    /// Whether stdout carries CloudEvents.
    pub fn prints_events(&self) -> bool {
        self.output == Output::Json
    }

    pub async fn run(self, app: &App) -> Result<u8> {
        let file = match &self.file {
            Some(file) => ClusterOptions::read(file, true)?,
            None => ClusterOptions::default(),
        };
        let kept = ClusterOptions::read(&app.settings.config_file(), false)?;
        // What belongs to an existing cluster is compared with what was asked for this time;
        // settings kept by `config` are for new clusters only.
        let asked = self.options.or(file);
        let start_options = StartOptions {
            unattended: self.unattended,
            ..StartOptions::new(&asked.clone().or(kept.clone()))?
        };
        if self.download_only {
            let outcome = Box::pin(download_only(app, &asked, &kept, &start_options)).await?;
            said(app, &outcome);
            return Ok(0);
        }
        let outcome = Box::pin(start(app, &asked, &kept, &start_options, self.dry_run)).await;
        match outcome {
            Ok(outcome) => {
                said(app, &outcome);
                Ok(0)
            }
            Err(error) => {
                // Never a cluster that was there before, nor one that another command holds.
                let ours = self.delete_on_failure && error.id() != ErrorId::LockBusy;
                if ours && crate::cluster::start::made_by_this_start(&app.settings) {
                    app.progress.abandon_step();
                    app.progress
                        .info("removing the cluster that could not be made");
                    crate::cluster::delete::delete(app, &app.settings.profile).await?;
                }
                Err(error)
            }
        }
    }
}

/// Says how a start ended.
pub(super) fn said(app: &App, outcome: &Outcome) {
    let profile = &app.settings.profile;
    let took = seconds(app.progress.elapsed());
    match outcome {
        Outcome::WouldDo(text) => crate::print::stdout(text),
        Outcome::Downloaded { image, version } => {
            let what = match version {
                Some(version) => format!("with Kubernetes {version}"),
                None => "without Kubernetes".to_owned(),
            };
            app.progress
                .info(&format!("all that a start {what} needs is there"));
            if !matches!(app.progress.style(), Style::Json) {
                crate::print::line(image.clone());
            }
        }
        Outcome::WasRunning { changed } => {
            let said = match changed {
                true => "it has what was changed",
                false => "nothing was changed",
            };
            app.progress
                .info(&format!("{profile} is running already; {said}"));
        }
        Outcome::Ready {
            version,
            address,
            current,
        } => {
            let what = match version {
                Some(version) => format!("Kubernetes {version}"),
                None => "a Docker engine".to_owned(),
            };
            app.progress.info(&format!(
                "{profile} is ready after {took}: {what} at {address}"
            ));
            if matches!(app.progress.style(), Style::Json) {
                return;
            }
            let flag = if profile.as_str() == "coracle" {
                String::new()
            } else {
                format!(" -p {profile}")
            };
            if version.is_none() {
                app.progress.info(&format!("docker acts on it after: coracle docker-context{flag} (or in this shell: eval \"$(coracle docker-env{flag})\")"));
            } else if *current {
                app.progress.info(&format!("kubectl now acts on it: kubectl get nodes (or: coracle kubectl{flag} -- get nodes)"));
            } else {
                app.progress.info(&format!(
                    "kubectl reaches it with: kubectl --context {profile} get nodes"
                ));
            }
            app.progress.info(&format!("a shell inside: coracle ssh{flag}   stop: coracle stop{flag}   remove: coracle delete{flag}"));
        }
    }
}
