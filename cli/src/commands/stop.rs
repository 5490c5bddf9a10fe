//! `coracle stop`.

use super::App;
use crate::cluster::Cluster;
use crate::cluster::spec::duration;
use crate::cluster::stop::{How, Stopped, schedule, stop};
use crate::error::{Error, ErrorId, Result};
use crate::progress::seconds;
use time::OffsetDateTime;

/// Stop the cluster: it is saved with all that runs, and the next start goes on from there
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Shut the machine down cleanly instead of saving it
    #[arg(long)]
    shutdown: bool,
    /// Save it and keep its ports: the first who connects wakes it
    #[arg(long, conflicts_with = "shutdown")]
    sleep: bool,
    /// Wake it then, in seconds since the Unix epoch
    #[arg(long, requires = "sleep", value_name = "SECONDS", hide = true)]
    wake_at: Option<i64>,
    /// Stop it after so long, such as 30m
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["shutdown", "sleep"])]
    schedule: Option<String>,
    /// Do not stop it at the time that was scheduled
    #[arg(long, conflicts_with_all = ["shutdown", "sleep", "schedule"])]
    cancel_scheduled: bool,
    /// Stop all clusters
    #[arg(long, conflicts_with = "profile")]
    all: bool,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        let found = if self.all {
            Cluster::all(&app.settings)?
                .into_iter()
                .filter_map(crate::cluster::Found::into_whole)
                .collect()
        } else {
            vec![Cluster::find(&app.settings)?]
        };
        let scheduled = self.scheduled(app)?;
        let how = self.how()?;
        for cluster in found {
            let name = cluster.dir().name().clone();
            if let Some(at) = scheduled {
                schedule(app, &cluster, at).await?;
                app.progress.info(&match at {
                    Some(at) => format!("{name} is stopped at {at}"),
                    None => format!("{name} is not stopped by itself"),
                });
                continue;
            }
            app.progress.step("stop", &format!("Stopping {name}"), 1, 1);
            let stopped = stop(app, &cluster, how).await?;
            app.progress.finish_step();
            let took = seconds(app.progress.elapsed());
            app.progress.info(&match stopped {
                Stopped::Saved => {
                    format!("{name} is saved after {took}: a start goes on with all that ran")
                }
                Stopped::Asleep => {
                    format!("{name} sleeps after {took}: the first who connects wakes it")
                }
                Stopped::ShutDown => format!("{name} stopped after {took}"),
                Stopped::Already => format!("{name} was stopped already"),
            });
        }
        Ok(0)
    }

    fn how(&self) -> Result<How> {
        if self.shutdown {
            return Ok(How::ShutDown);
        }
        if !self.sleep {
            return Ok(How::Save);
        }
        let wake_at = self.wake_at.map(OffsetDateTime::from_unix_timestamp);
        let wake_at = wake_at
            .transpose()
            .map_err(|error| Error::caused_by(ErrorId::Usage, "--wake-at is not a time", &error))?;
        Ok(How::Sleep { wake_at })
    }

    /// When to stop, or never, where a stop at a later time is asked for.
    #[allow(clippy::option_option, reason = "not asked, never, or then")]
    fn scheduled(&self, app: &App) -> Result<Option<Option<OffsetDateTime>>> {
        if self.cancel_scheduled {
            return Ok(Some(None));
        }
        let Some(text) = &self.schedule else {
            return Ok(None);
        };
        let at = app.settings.now() + duration("schedule", text)?;
        Ok(Some(Some(OffsetDateTime::from(at).truncate_to_second())))
    }
}
