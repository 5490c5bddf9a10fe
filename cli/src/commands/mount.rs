//! `coracle mount`.

use super::App;
use crate::cluster::mount::{self, Mount};
use crate::error::Result;
use crate::settings::Output;
use coracle_protocol::MOUNT_ROOTS;

/// Mount a folder of this host in the machine, for pods and containers
///
/// `coracle mount ./src:/mnt/src`, and a pod has it as the hostPath /mnt/src. What changes on either side
/// is there on the other at once, and programs that watch files are told. The mount stays over stop and
/// start until `--remove` takes it away. Without a folder, the mounts there are are printed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder of this host, and where the machine has it
    #[arg(value_name = "HOST:GUEST")]
    folder: Option<String>,
    /// Let the machine change nothing in it
    #[arg(long, requires = "folder")]
    read_only: bool,
    /// Unmount what is at this place in the machine
    #[arg(long, value_name = "GUEST", conflicts_with = "folder")]
    remove: Option<String>,
    /// How to print the mounts
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Args {
    /// Whether only a machine that runs can do it.
    pub fn needs_the_machine(&self) -> bool {
        self.folder.is_some()
    }

    pub async fn run(self, app: &App) -> Result<u8> {
        if let Some(place) = &self.remove {
            let removed = mount::remove(app, place).await?;
            app.progress
                .info(&format!("{removed} is not mounted any more"));
        } else if let Some(folder) = &self.folder {
            let mut wanted = Mount::parse(folder)?;
            wanted.read_only |= self.read_only;
            mount::add(&app.settings, &wanted).await?;
            app.progress.info(&format!("{wanted} is mounted"));
        } else {
            list(app, self.output)?;
        }
        Ok(0)
    }
}

fn list(app: &App, output: Output) -> Result<()> {
    let mounts = mount::all(app)?;
    if mounts.is_empty() && output == Output::Text {
        let root = MOUNT_ROOTS[0];
        app.progress.info(&format!(
            "nothing is mounted; `coracle mount FOLDER:/{root}/NAME` mounts a folder"
        ));
    }
    crate::print::value(output, &mounts, |mounts| {
        let lines = mounts.iter().map(|mount| format!("{mount}\n"));
        lines.collect()
    })
}
