//! `coracle template`.

use super::App;
use crate::cluster::template::templates;
use crate::error::Result;
use crate::settings::Output;
use coracle_vm::{Size, Template};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// List and remove templates: frozen clusters that new ones begin as copies of
///
/// The first start with given settings makes one. It is a cache: removing it costs the next such start
/// a cold boot, and no cluster loses anything.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List all templates
    #[command(alias = "ls")]
    List {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Remove all templates, and try again where clones had failed
    Prune,
}

/// One template, as a list shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Row {
    key: String,
    /// `usable`, or why it is not.
    state: String,
    created: Option<String>,
    /// Bytes that its files take on the disk, but for the disk that clones share.
    bytes: u64,
    kubernetes: Option<String>,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        match self.command {
            Command::List { output } => {
                crate::print::value(output, &rows(app)?, |rows| text(rows))?;
            }
            Command::Prune => {
                let templates = templates(&app.settings);
                for (key, _) in &templates.list(OffsetDateTime::now_utc())? {
                    templates.remove(key)?;
                    app.progress
                        .info(&format!("template {} is removed", key.short()));
                }
                templates.forgive()?;
            }
        }
        Ok(0)
    }
}

/// All templates.
pub(super) fn rows(app: &App) -> Result<Vec<Row>> {
    let found = templates(&app.settings).list(OffsetDateTime::now_utc())?;
    Ok(found
        .into_iter()
        .map(|(key, found)| match found {
            Ok(Some(template)) => row(&template),
            Ok(None) => Row::unusable(key.short(), "too old"),
            Err(error) => Row::unusable(key.short(), &error.to_string()),
        })
        .collect())
}

impl Row {
    fn unusable(key: &str, state: &str) -> Self {
        Self {
            key: key.to_owned(),
            state: state.to_owned(),
            created: None,
            bytes: 0,
            kubernetes: None,
        }
    }
}

fn row(template: &Template) -> Row {
    Row {
        key: template.key.short().to_owned(),
        state: "usable".into(),
        created: template.record.created.format(&Rfc3339).ok(),
        bytes: template.disk_usage(),
        kubernetes: template.record.facts.get("kubernetes").cloned(),
    }
}

fn text(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no templates: `coracle start` makes the first one\n".into();
    }
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.key.clone(),
                row.kubernetes.clone().unwrap_or_default(),
                Size::from_mib(row.bytes >> 20).to_string(),
                row.created.clone().unwrap_or_default(),
                row.state.clone(),
            ]
        })
        .collect();
    crate::print::table(&["KEY", "KUBERNETES", "SIZE", "CREATED", "STATE"], &cells)
}
