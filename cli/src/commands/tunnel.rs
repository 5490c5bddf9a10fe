//! `coracle tunnel`.

use super::App;
use crate::cluster::Cluster;
use crate::cluster::tunnel::{self, Change, Port};
use crate::error::Result;
use coracle_vm::spec::Protocol;

/// Lead this host to the ClusterIPs of all Services, until Ctrl-C
///
/// NodePorts and load balancers need no tunnel: they are reached as long as the cluster is not stopped
/// (`coracle service list`). Each Service gets a loopback address with its own TCP and UDP ports; one line
/// says where a port is, or that it is not any more. The first line names a proxy that finds Services by
/// name: `curl --proxy socks5h://127.89.1.254:1080 http://shop.default`.
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
        let protocol = match port.protocol {
            Protocol::Tcp => "",
            Protocol::Udp => "/udp",
        };
        format!(
            "{namespace}/{name} {}:{}{protocol}",
            port.inside, port.number
        )
    };
    match change {
        Change::Opened(port, address) => crate::print::line(format!("{} {address}", words(port))),
        Change::Refused(port, error) => app.progress.warning(&format!("{}: {error}", words(port))),
        Change::Names(address) => crate::print::line(format!("names socks5h://{address}")),
        Change::Closed(port) => crate::print::line(format!("{} closed", words(port))),
    }
}
