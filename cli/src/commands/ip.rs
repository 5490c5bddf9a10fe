//! `coracle ip`.

use super::App;
use crate::cluster::Cluster;
use crate::error::Result;

/// Print the cluster's address
///
/// It is a loopback address of this host and stays the same for the life of the cluster.
#[derive(Debug, clap::Args)]
pub struct Args {}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        crate::print::line(Cluster::find(&app.settings)?.endpoint().address.to_string());
        Ok(0)
    }
}
