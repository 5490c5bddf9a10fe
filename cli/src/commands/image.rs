//! `coracle image`.

use super::App;
use crate::cluster::Cluster;
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::settings::Output;
use coracle_protocol::api::Image;
use coracle_protocol::client::AgentError;
use std::path::PathBuf;

/// Look into and fill the cluster's image store
///
/// Pods and docker containers share it: what is loaded here, a pod runs at once.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Load an archive: OCI layout or `docker save`, also gzip or zstd; - is standard input
    Load {
        /// The archive
        archive: PathBuf,
        /// A name for an archive that has none
        #[arg(long, default_value = "")]
        name: String,
    },
    /// List the images
    #[command(visible_alias = "list")]
    Ls {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
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
            Command::Load { archive, name } => load(app, archive, &name).await?,
            Command::Ls { output } => {
                let agent = Cluster::find(&app.settings)?.agent().await?;
                let mut rows: Vec<Row> = agent.images().await?.into_iter().map(Row::from).collect();
                rows.sort_by(|a, b| a.names.cmp(&b.names));
                crate::print::value(output, &rows, |rows| text(rows))?;
            }
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
                let mib = row.size as f64 / f64::from(1 << 20);
                vec![
                    name.clone(),
                    row.digest.chars().take(19).collect(),
                    format!("{mib:.1} MiB"),
                ]
            })
            .collect::<Vec<_>>()
    };
    crate::print::table(
        &["IMAGE", "DIGEST", "SIZE"],
        &rows.iter().flat_map(cells).collect::<Vec<_>>(),
    )
}

async fn load(app: &App, archive: PathBuf, name: &str) -> Result<()> {
    let stdin = archive.as_os_str() == "-";
    // A wrong path is said before anything is asked of the machine.
    let file = if stdin {
        None
    } else {
        let file = tokio::fs::File::open(&archive).await;
        Some(file.context(ErrorId::Usage, || {
            format!("cannot read {}", archive.display())
        })?)
    };
    let agent = Cluster::find(&app.settings)?.agent().await?;
    let reply = match file {
        Some(file) => agent.import_images(name, file).await,
        None => agent.import_images(name, tokio::io::stdin()).await,
    };
    let reply = reply.map_err(|error| match error {
        AgentError::Invalid(reason) => Error::new(ErrorId::Runtime, "the archive cannot be loaded")
            .because(reason)
            .help("it has to be an OCI layout or what `docker save` writes, as a tar file"),
        other => other.into(),
    })?;
    // containerd keeps each image under its digest too, which is no name.
    for name in reply
        .names
        .iter()
        .filter(|name| !name.starts_with("sha256:"))
    {
        crate::print::line(name);
    }
    Ok(())
}
