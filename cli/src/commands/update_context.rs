//! `coracle update-context`.

use super::App;
use crate::cluster::update_context;
use crate::error::Result;

/// Write the cluster's kubeconfig context anew
///
/// For a kubeconfig that was edited or replaced, or another one named by KUBECONFIG.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave the current context as it is
    #[arg(long)]
    keep_context: bool,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        let profile = &app.settings.profile;
        let current = update_context(&app.settings, self.keep_context).await?;
        let suffix = if current {
            " and is the current context"
        } else {
            ""
        };
        app.progress.info(&format!(
            "the context {profile} leads to the cluster{suffix}"
        ));
        Ok(0)
    }
}
