//! `coracle autostart`.

use super::App;
use crate::autostart::Unit;
use crate::cluster::Cluster;
use crate::error::Result;

/// Start the cluster at each login, or not any more
///
/// By a unit of systemd's user manager on Linux, by an agent of launchd on macOS. What was saved goes on;
/// on Linux the cluster is stopped, and so saved, when the session ends.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, clap::Subcommand)]
enum Command {
    /// Start it at each login, from the next one on
    Enable,
    /// Leave that from now on; the cluster runs on
    Disable,
    /// Print what `enable` would write
    Print,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        let settings = &app.settings;
        let (unit, profile) = (Unit::of(settings, &settings.profile)?, &settings.profile);
        match self.command {
            Command::Enable => {
                // One that is not there would be made at a login, with nobody to see it.
                Cluster::find(settings)?;
                unit.enable(settings).await?;
                let file = unit.file().display();
                app.progress
                    .info(&format!("{profile} starts at each login: {file}"));
            }
            Command::Disable => {
                let said = match unit.disable(settings).await? {
                    true => "does not start at a login any more",
                    false => "does not start at a login anyway",
                };
                app.progress.info(&format!("{profile} {said}"));
            }
            Command::Print => crate::print::stdout(&unit.text(settings)?),
        }
        Ok(0)
    }
}
