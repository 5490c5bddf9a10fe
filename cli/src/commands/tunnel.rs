//! `coracle tunnel`.

use super::App;
use crate::cluster::Cluster;
use crate::cluster::tunnel::{self, Change, Port};
use crate::error::Result;

/// Lead this host to the ClusterIPs of all Services, until Ctrl-C
///
/// NodePorts and load balancers need no tunnel: they are reached as long as the cluster is not stopped
/// (`coracle service list`). Each Service gets a loopback address with its own TCP ports; one line says
/// where a port is, or that it is not any more.
#[derive(Debug, clap::Args)]
pub struct Args {}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        let cluster = Cluster::find(&app.settings)?;
        cluster.require_running().await?;
        app.progress.info("Ctrl-C ends the tunnel");
        match tunnel::open(&cluster, |change| say(app, change)).await? {}
    }
}

fn say(app: &App, change: &Change) {
    let words = |port: &Port| {
        let (namespace, name) = &port.service;
        format!("{namespace}/{name} {}:{}", port.inside, port.number)
    };
    match change {
        Change::Opened(port, address) => crate::print::line(format!("{} {address}", words(port))),
        Change::Refused(port, error) => app.progress.warning(&format!("{}: {error}", words(port))),
        Change::Closed(port) => crate::print::line(format!("{} closed", words(port))),
    }
}
