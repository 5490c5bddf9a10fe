//! `coracle docker-context`.

use super::App;
use crate::cluster::{Cluster, docker};
use crate::error::Result;

/// Make a context of the docker command that leads to the cluster's engine, and use it
///
/// It has the cluster's name. A stop removes it and the next start brings it back; with the cluster it is
/// deleted. The docker command uses what it used before then.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Subcommand>,
}

#[derive(Debug, Clone, Copy, clap::Subcommand)]
enum Subcommand {
    /// Make it and use it, as without a subcommand
    Use,
    /// Make it, and leave the one in use
    Create,
    /// Remove it
    #[command(visible_alias = "remove")]
    Rm,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        let cluster = Cluster::find(&app.settings)?;
        let name = cluster.dir().name();
        let command = self.command.unwrap_or(Subcommand::Use);
        if let Subcommand::Rm = command {
            let said = match docker::take(&app.settings, &cluster).await? {
                true => format!("Docker's context {name} is removed"),
                false => format!("Docker has no context {name} of Coracle's"),
            };
            app.progress.info(&said);
            return Ok(0);
        }
        let is_used = matches!(command, Subcommand::Use);
        docker::give(&app.settings, &cluster, is_used).await?;
        app.progress.info(&match is_used {
            true => format!("docker now acts on {name}: docker ps"),
            false => format!("docker reaches it with: docker --context {name} ps"),
        });
        Ok(0)
    }
}
