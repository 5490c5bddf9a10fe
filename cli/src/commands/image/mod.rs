//! `coracle image`: one file for what goes in and out as archives, one for what the engine is asked to do.

mod archive;
mod engine;

pub(super) use engine::pull;

use super::App;
use crate::cluster::Cluster;
use crate::error::Result;
use crate::progress::mebibytes;
use crate::settings::Output;
use coracle_protocol::api::Image;
use std::path::PathBuf;

/// Build, load and look after the images that pods and containers run
///
/// Pods and docker containers share one store: what is built or loaded here, a pod runs at once.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Build an image from a folder with a Dockerfile; no docker is needed on this host
    Build(engine::BuildArgs),
    /// Load an archive or OCI layout: what `docker save` or `image save` wrote, also gzip or zstd
    ///
    /// Layers that the machine has are not sent.
    Load {
        /// An archive, or the folder of an OCI layout; - is standard input
        archive: PathBuf,
        /// A name for an archive that has none
        #[arg(long, default_value = "")]
        name: String,
    },
    /// Write images to an archive that docker, podman and containerd load
    Save {
        /// The images
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
        /// The archive; - is standard output
        #[arg(short, long, value_name = "FILE", default_value = "-")]
        output: PathBuf,
    },
    /// List the images
    #[command(visible_alias = "list")]
    Ls {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Remove images, or names of them
    #[command(visible_alias = "remove")]
    Rm {
        /// The images
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
        /// Also where a container that has ended uses it
        #[arg(short, long)]
        force: bool,
    },
    /// Fetch an image from its registry, as who the docker command is logged in as
    Pull {
        /// Its name
        image: String,
    },
    /// Send an image to its registry, as who the docker command is logged in as
    Push {
        /// Its name
        image: String,
    },
    /// Give an image another name
    Tag {
        /// The image
        image: String,
        /// Its new name
        name: String,
    },
    /// Remove the images without a name that nothing uses
    Prune {
        /// Also those with names
        #[arg(short, long)]
        all: bool,
    },
}

#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    names: Vec<String>,
    digest: String,
    size: u64,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        match self.command {
            Command::Build(args) => args.run(app).await?,
            Command::Load { archive, name } => archive::load(app, &archive, &name).await?,
            Command::Save { images, output } => archive::save(app, &images, &output).await?,
            Command::Ls { output } => {
                let agent = Cluster::find(&app.settings)?.agent().await?;
                let mut rows: Vec<Row> = agent.images().await?.into_iter().map(Row::from).collect();
                rows.sort_by(|a, b| a.names.cmp(&b.names));
                crate::print::value(output, &rows, |rows| text(rows))?;
            }
            Command::Rm { images, force } => engine::remove(app, &images, force).await?,
            Command::Pull { image } => pull(app, &image).await?,
            Command::Push { image } => engine::push(app, &image).await?,
            Command::Tag { image, name } => engine::tag(app, &image, &name).await?,
            Command::Prune { all } => engine::prune(app, all).await?,
        }
        Ok(0)
    }
}

impl From<Image> for Row {
    fn from(image: Image) -> Self {
        Self {
            names: image.names,
            digest: image.digest,
            size: image.size_bytes,
        }
    }
}

fn text(rows: &[Row]) -> String {
    let cells = |row: &Row| {
        row.names
            .iter()
            .map(|name| {
                vec![
                    name.clone(),
                    row.digest.chars().take(19).collect(),
                    mebibytes(row.size),
                ]
            })
            .collect::<Vec<_>>()
    };
    crate::print::table(
        &["IMAGE", "DIGEST", "SIZE"],
        &rows.iter().flat_map(cells).collect::<Vec<_>>(),
    )
}
