//! `coracle ssh`, `ssh-key` and `ssh-host`.

use super::App;
use crate::cluster::Cluster;
use crate::error::{Error, ErrorId, Result};
use coracle_protocol::GUEST_USER;
use std::ffi::OsString;
use std::process::Command;

/// How long the machine may take until it has said who it is, in seconds: its SSH server starts for
/// each connection, on processors that may be emulated and busy.
const CONNECT_LIMIT: &str = "ConnectTimeout=60";

/// Open a shell in the machine, or run a command there
///
/// `coracle ssh -- uname -a` runs one command and ends with its exit status. Inside, sudo and
/// kubectl work.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The command; without one, a login shell
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Print the path of the private key for a plain SSH client
#[derive(Debug, clap::Args)]
pub struct KeyArgs {}

/// Print the machine's host key as a line for known_hosts
///
/// `coracle ssh-host >> ~/.ssh/known_hosts` lets a plain SSH client check it.
#[derive(Debug, clap::Args)]
pub struct HostArgs {}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        let cluster = Cluster::find(&app.settings)?;
        // A connection wakes one that sleeps.
        if !crate::host_agent::is_asleep(cluster.dir()) {
            cluster.require_running().await?;
        }
        let ssh = app.settings.find_program("ssh").ok_or_else(|| {
            Error::new(ErrorId::Unsupported, "there is no SSH client on this host")
                .help("install OpenSSH's client (Debian and Ubuntu: openssh-client)")
        })?;
        let identity = cluster.ssh_identity();
        let endpoint = cluster.endpoint();
        let mut command = Command::new(ssh);
        command
            .args([
                "-F",
                "none",
                "-o",
                "IdentitiesOnly=yes",
                "-o",
                "StrictHostKeyChecking=yes",
            ])
            .args(["-o", "LogLevel=ERROR", "-o", "GlobalKnownHostsFile=none"])
            .args(["-o", CONNECT_LIMIT])
            .arg("-o")
            .arg(option("UserKnownHostsFile", &identity.known_hosts()))
            .arg("-i")
            .arg(identity.ssh_key())
            .args(["-p", &endpoint.ssh_port.to_string()])
            .arg(format!("{GUEST_USER}@{}", endpoint.address))
            .args(&self.command);
        crate::exec::become_program(command)
    }
}

/// `NAME="PATH"`: ssh splits an option's value at blanks unless it is quoted.
fn option(name: &str, path: &std::path::Path) -> OsString {
    let mut text = OsString::from(format!("{name}=\""));
    text.push(path);
    text.push("\"");
    text
}

impl KeyArgs {
    pub async fn run(self, app: &App) -> Result<u8> {
        let cluster = Cluster::find(&app.settings)?;
        crate::print::line(cluster.identity_files().ssh_key().display().to_string());
        Ok(0)
    }
}

impl HostArgs {
    pub async fn run(self, app: &App) -> Result<u8> {
        let cluster = Cluster::find(&app.settings)?;
        let file = cluster.identity_files().known_hosts();
        let text = std::fs::read_to_string(&file).map_err(|error| {
            Error::caused_by(
                ErrorId::MachineBroken,
                format!("cannot read {}", file.display()),
                &error,
            )
        })?;
        crate::print::stdout(&text);
        Ok(0)
    }
}
