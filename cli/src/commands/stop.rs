//! `coracle stop`.

use super::App;
use crate::cluster::Cluster;
use crate::cluster::stop::{Stopped, stop};
use crate::error::Result;
use crate::progress::seconds;

/// Stop the cluster: it is saved with all that runs, and the next start goes on from there
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Shut the machine down cleanly instead of saving it
    #[arg(long)]
    shutdown: bool,
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
        for cluster in found {
            let name = cluster.dir().name().clone();
            app.progress.step("stop", &format!("Stopping {name}"), 1, 1);
            let stopped = stop(app, &cluster, self.shutdown).await?;
            app.progress.finish_step();
            let took = seconds(app.progress.elapsed());
            app.progress.info(&match stopped {
                Stopped::Saved => {
                    format!("{name} is saved after {took}: a start goes on with all that ran")
                }
                Stopped::ShutDown => format!("{name} stopped after {took}"),
                Stopped::Already => format!("{name} was stopped already"),
            });
        }
        Ok(0)
    }
}
