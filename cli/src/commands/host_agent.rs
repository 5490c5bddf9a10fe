//! The hidden `coracle host-agent`.

use super::App;
use crate::cluster;
use crate::error::Result;
use crate::host_agent::{self, First, LaunchFrom};
use std::path::PathBuf;

/// Hold a machine and its ports (started by `coracle start`)
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Go on from where the machine was saved
    #[arg(long, conflicts_with = "template")]
    saved: bool,
    /// Go on from the template in this folder
    #[arg(long, value_name = "DIR")]
    template: Option<PathBuf>,
    /// Take the place of one that was lost
    #[arg(long, conflicts_with_all = ["template", "saved"])]
    adopt: bool,
    /// Wait until the one that there is is lost, and take its place
    #[arg(long)]
    guard: bool,
    /// How many before it were lost soon
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    short_lives: u32,
    /// Delete the cluster when standard input ends
    #[arg(long)]
    tethered: bool,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        let settings = &app.settings;
        if self.guard {
            let dir = cluster::store(settings).machine_dir(&settings.profile);
            return host_agent::guard(settings, &dir, self.tethered, self.short_lives).await;
        }
        let first = match self.template {
            _ if self.adopt => First::Adopt,
            Some(folder) => First::Launch(LaunchFrom::Template(folder)),
            None if self.saved => First::Launch(LaunchFrom::Saved),
            None => First::Launch(LaunchFrom::Boot),
        };
        Box::pin(host_agent::serve(
            settings,
            &first,
            self.tethered,
            self.short_lives,
        ))
        .await
    }
}
