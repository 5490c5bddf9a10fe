//! `coracle list`.

use super::App;
use crate::cluster::{Cluster, status::ClusterStatus};
use crate::error::Result;
use crate::settings::Output;

/// List all clusters
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to print them
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    name: String,
    driver: String,
    #[serde(rename = "IP")]
    ip: String,
    version: String,
    status: String,
    active: bool,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        let clusters = Cluster::all(&app.settings)?;
        // One slow machine must not hold up the others.
        let rows =
            futures::future::join_all(clusters.iter().map(|cluster| row(app, cluster))).await;
        let rows = rows.into_iter().collect::<Result<Vec<_>>>()?;
        crate::print::value(self.output, &rows, |rows| text(rows))?;
        Ok(0)
    }
}

async fn row(app: &App, cluster: &crate::cluster::Found) -> Result<Row> {
    let status = ClusterStatus::of(&app.settings, cluster).await?;
    let known = cluster.whole();
    Ok(Row {
        active: status.name == app.settings.profile.as_str(),
        driver: known
            .map(|cluster| cluster.record().spec.driver.to_string())
            .unwrap_or_default(),
        ip: known
            .map(|cluster| cluster.endpoint().address.to_string())
            .unwrap_or_default(),
        version: known
            .map(|cluster| cluster.record().spec.kubernetes().unwrap_or("-").to_owned())
            .unwrap_or_default(),
        status: status.summary(),
        name: status.name,
    })
}

fn text(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "there is no cluster yet: `coracle start` makes one\n".into();
    }
    let cells = |row: &Row| {
        let active = if row.active { "*" } else { "" };
        vec![
            row.name.clone(),
            row.driver.clone(),
            row.ip.clone(),
            row.version.clone(),
            row.status.clone(),
            active.to_owned(),
        ]
    };
    crate::print::table(
        &["PROFILE", "DRIVER", "IP", "VERSION", "STATUS", "ACTIVE"],
        &rows.iter().map(cells).collect::<Vec<_>>(),
    )
}
