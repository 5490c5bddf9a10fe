//! `coracle clone`.

use super::App;
use crate::cluster::{Cluster, capture};
use crate::error::Result;
use crate::progress::Progress;
use crate::settings::Settings;
use coracle_vm::MachineName;

/// Make a second cluster that goes on from this one's very moment
///
/// All that runs here runs there too, with other credentials and another address. This cluster runs
/// on.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the new cluster and its kubectl context
    name: MachineName,
    /// Leave kubectl's current context as it is
    #[arg(long)]
    keep_context: bool,
}

impl Args {
    /// The new cluster's name.
    pub fn name(&self) -> &MachineName {
        &self.name
    }

    pub async fn run(self, app: &App) -> Result<u8> {
        let source = Cluster::find(&app.settings)?;
        let app = App {
            progress: Progress::new(app.settings.style),
            settings: Settings {
                profile: self.name,
                ..app.settings.clone()
            },
        };
        let outcome = capture::clone(&app, &source, self.keep_context).await?;
        super::start::said(&app, &outcome);
        Ok(0)
    }
}
