//! `coracle stop`.

use super::App;
use crate::cluster::{Cluster, stop::stop};
use crate::error::Result;
use crate::progress::seconds;

/// Stop the cluster; its data stays
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
            let was_running = stop(app, cluster).await?;
            app.progress.finish_step();
            app.progress.info(&match was_running {
                true => format!("{name} stopped after {}", seconds(app.progress.elapsed())),
                false => format!("{name} was stopped already"),
            });
        }
        Ok(0)
    }
}
