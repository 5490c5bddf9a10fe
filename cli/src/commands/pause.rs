//! `coracle pause` and `coracle unpause`.

use super::App;
use crate::cluster::Cluster;
use crate::cluster::pause::{pause, unpause};
use crate::error::Result;

/// Stop the cluster's processors; it keeps its memory and uses no CPU until `unpause`
#[derive(Debug, clap::Args)]
pub struct PauseArgs {}

/// Let a paused cluster go on
#[derive(Debug, clap::Args)]
pub struct UnpauseArgs {}

impl PauseArgs {
    pub async fn run(self, app: &App) -> Result<u8> {
        let cluster = Cluster::find(&app.settings)?;
        let changed = pause(app, &cluster).await?;
        say(app, changed, "paused");
        Ok(0)
    }
}

impl UnpauseArgs {
    pub async fn run(self, app: &App) -> Result<u8> {
        let cluster = Cluster::find(&app.settings)?;
        let changed = unpause(app, &cluster).await?;
        say(app, changed, "running");
        Ok(0)
    }
}

fn say(app: &App, changed: bool, state: &str) {
    let profile = &app.settings.profile;
    app.progress.info(&match changed {
        true => format!("{profile} is {state}"),
        false => format!("{profile} was {state} already"),
    });
}
