//! `coracle docker-env`.

use super::App;
use crate::cluster::Cluster;
use crate::docker::Access;
use crate::docker::shells::{self, Shell};
use crate::error::Result;
use clap::ValueEnum as _;

/// Print the variables by which a shell's docker command uses the cluster's engine
///
/// `eval "$(coracle docker-env)"` in bash, zsh and others like them; --unset takes it back. What that engine
/// builds, pods run at once.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell that reads them; without it, yours
    #[arg(long, value_enum)]
    shell: Option<Shell>,
    /// Take the variables away again
    #[arg(short, long)]
    unset: bool,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        let settings = &app.settings;
        let shell = self.shell.unwrap_or_else(|| {
            shells::of_environment(settings.shell.as_deref(), settings.is_powershell)
        });
        let mut command = format!("coracle docker-env -p {}", settings.profile);
        if let Some(shell) = self.shell.and_then(|shell| shell.to_possible_value()) {
            command += &format!(" --shell {}", shell.get_name());
        }
        if self.unset {
            crate::print::stdout(&shell.unset(&(command + " --unset")));
            return Ok(0);
        }
        let cluster = Cluster::find(settings)?;
        let access = Access::of(&cluster)?;
        // A connection wakes one that sleeps.
        if !crate::host_agent::is_asleep(cluster.dir()) {
            cluster.require_running().await?;
        }
        crate::print::stdout(&shell.set(&access, &command));
        Ok(0)
    }
}
