//! The hidden `coracle host-agent`.

use super::App;
use crate::cluster::hibernate;
use crate::error::Result;
use coracle_vm::{Origin, TemplateFiles};
use std::path::PathBuf;

/// Hold a machine (started by `coracle start`)
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Go on from where the machine was saved
    #[arg(long, conflicts_with = "template")]
    saved: bool,
    /// Delete the cluster when standard input ends
    #[arg(long)]
    tethered: bool,
    /// Go on from the template in this folder
    #[arg(long, value_name = "DIR")]
    template: Option<PathBuf>,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        let origin = match self.template {
            Some(folder) => Origin::Template(TemplateFiles::in_folder(&folder)),
            None if self.saved => Origin::Saved(Box::new(hibernate::saved(&app.settings)?)),
            None => Origin::Boot,
        };
        crate::host_agent::serve(&app.settings, &origin, self.tethered).await
    }
}
