//! The hidden `coracle host-agent`.

use super::App;
use crate::error::Result;

/// Hold a machine (started by `coracle start`)
#[derive(Debug, clap::Args)]
pub struct Args {}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        crate::host_agent::serve(&app.settings).await
    }
}
