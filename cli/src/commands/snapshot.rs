//! `coracle snapshot`.

use super::App;
use crate::cluster::Cluster;
use crate::cluster::capture;
use crate::error::{Error, ErrorId, Result};
use crate::progress::seconds;
use crate::settings::Output;
use coracle_vm::{MachineName, Size, Snapshot, Snapshots};
use serde::Serialize;
use time::format_description::well_known::Rfc3339;

/// Keep the running cluster as it is, and go back to it later
///
/// A snapshot holds memory and disk: after a restore all that ran then runs on. It belongs to its
/// cluster and is deleted with it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Keep the running cluster as it is now; it runs on
    Save {
        /// A name for the snapshot
        name: MachineName,
    },
    /// Go back to a snapshot; what the cluster did since is lost
    Restore {
        /// The snapshot's name
        name: MachineName,
        /// Leave kubectl's current context as it is
        #[arg(long)]
        keep_context: bool,
    },
    /// List the cluster's snapshots
    #[command(alias = "ls")]
    List {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Delete a snapshot
    #[command(alias = "rm")]
    Delete {
        /// The snapshot's name
        name: MachineName,
    },
}

/// One snapshot, as a list shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    name: String,
    created: Option<String>,
    /// Bytes that it takes on the disk for itself.
    bytes: u64,
    /// What a restore does: `resumes`, `boots` when its memory cannot be used, or why it cannot be
    /// gone back to.
    state: String,
}

impl Args {
    /// Only what runs is kept.
    pub fn needs_the_machine(&self) -> bool {
        matches!(self.command, Command::Save { .. })
    }

    pub async fn run(self, app: &App) -> Result<u8> {
        let cluster = Cluster::find(&app.settings)?;
        let profile = &app.settings.profile;
        match self.command {
            Command::Save { name } => {
                app.progress.step(
                    "capture",
                    &format!("Capturing {profile} while it runs"),
                    1,
                    1,
                );
                let snapshot = capture::save_snapshot(app, &cluster, &name).await?;
                app.progress.finish_step();
                app.progress.info(&format!(
                    "{profile} is kept as {name} ({}) after {}",
                    Size::from_mib(snapshot.disk_usage().div_ceil(1 << 20)),
                    seconds(app.progress.elapsed())
                ));
            }
            Command::Restore { name, keep_context } => {
                capture::snapshot(&cluster, &name)?;
                app.progress.info(&format!(
                    "going back to {name}: what {profile} did since is lost"
                ));
                let outcome = capture::restore_snapshot(app, &name, keep_context).await?;
                super::start::said(app, &outcome);
            }
            Command::List { output } => {
                let snapshots = Snapshots::new(cluster.dir());
                let rows = snapshots
                    .names()?
                    .into_iter()
                    .map(|name| row(&snapshots, &name));
                let rows: Vec<Row> = rows.collect();
                crate::print::value(output, &rows, |rows| text(profile, rows))?;
            }
            Command::Delete { name } => {
                capture::delete_snapshot(app, &cluster, &name).await?;
                app.progress
                    .info(&format!("the snapshot {name} of {profile} is deleted"));
            }
        }
        Ok(0)
    }
}

fn row(snapshots: &Snapshots, name: &MachineName) -> Row {
    let found = snapshots.get(name).map_err(Error::from).and_then(|found| {
        found.ok_or_else(|| Error::new(ErrorId::SnapshotNotFound, "it was just deleted"))
    });
    let snapshot: Snapshot = match found {
        Ok(snapshot) => snapshot,
        Err(error) => {
            return Row {
                name: name.to_string(),
                created: None,
                bytes: 0,
                state: error.message().to_owned(),
            };
        }
    };
    Row {
        name: name.to_string(),
        created: snapshot.record.created.format(&Rfc3339).ok(),
        bytes: snapshot.disk_usage(),
        state: if snapshot.saved.is_ok() {
            "resumes"
        } else {
            "boots"
        }
        .to_owned(),
    }
}

fn text(profile: &MachineName, rows: &[Row]) -> String {
    if rows.is_empty() {
        return format!(
            "{profile} has no snapshots: `coracle snapshot save NAME -p {profile}` makes one\n"
        );
    }
    let cells = rows.iter().map(|row| {
        vec![
            row.name.clone(),
            row.created.clone().unwrap_or_default(),
            Size::from_mib(row.bytes.div_ceil(1 << 20)).to_string(),
            row.state.clone(),
        ]
    });
    let cells: Vec<Vec<String>> = cells.collect();
    crate::print::table(&["NAME", "CREATED", "SIZE", "A RESTORE"], &cells)
}
