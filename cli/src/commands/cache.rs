//! `coracle cache`.

use super::App;
use super::image::pull;
use crate::cluster::Cluster;
use crate::error::{ErrorId, Result};
use crate::images::cache;
use crate::progress::mebibytes;
use crate::settings::Output;

/// Keep images on this host for new clusters
///
/// Each new cluster is given them when it is ready; one that is there already has what it has.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Keep images; those that the cluster has not are pulled first
    Add {
        /// The images
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// List those that are kept
    #[command(visible_alias = "ls")]
    List {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Keep images no more
    #[command(visible_alias = "rm")]
    Delete {
        /// The images
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// Give them to a cluster that is there
    Reload,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    image: String,
    size: u64,
}

impl Args {
    /// Whether it asks something of a machine.
    pub fn needs_the_machine(&self) -> bool {
        matches!(self.command, Command::Add { .. } | Command::Reload)
    }

    pub async fn run(self, app: &App) -> Result<u8> {
        let settings = &app.settings;
        match self.command {
            Command::Add { images } => {
                let agent = Cluster::find(settings)?.agent().await?;
                for image in images {
                    let bytes = match cache::add(settings, &agent, &image).await {
                        Err(error) if error.id() == ErrorId::GuestNotFound => {
                            pull(app, &image).await?;
                            cache::add(settings, &agent, &image).await?
                        }
                        kept => kept?,
                    };
                    app.progress
                        .info(&format!("{image} is kept: {}", mebibytes(bytes)));
                }
            }
            Command::List { output } => {
                let rows: Vec<Row> = cache::list(settings)?
                    .into_iter()
                    .map(|kept| Row {
                        image: kept.image,
                        size: kept.size,
                    })
                    .collect();
                crate::print::value(output, &rows, |rows| text(rows))?;
            }
            Command::Delete { images } => {
                for image in images {
                    cache::remove(settings, &image)?;
                    app.progress.info(&format!("{image} is kept no more"));
                }
            }
            Command::Reload => {
                let agent = Cluster::find(settings)?.agent().await?;
                for kept in cache::list(settings)? {
                    cache::give(&agent, &kept).await?;
                    crate::print::line(kept.image);
                }
            }
        }
        Ok(0)
    }
}

fn text(rows: &[Row]) -> String {
    let cells: Vec<_> = rows
        .iter()
        .map(|row| vec![row.image.clone(), mebibytes(row.size)])
        .collect();
    crate::print::table(&["IMAGE", "SIZE"], &cells)
}
