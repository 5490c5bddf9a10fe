//! `coracle version`.

use super::App;
use crate::cluster::{Cluster, Found};
use crate::error::Result;
use crate::settings::Output;

/// Print versions
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this program's
    #[arg(long)]
    client: bool,
    /// Only this program's version number
    #[arg(long)]
    short: bool,
    /// How to print them
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// This program's versions and a cluster's.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Versions {
    coracle_version: &'static str,
    default_kubernetes_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterVersions>,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterVersions {
    kubernetes: String,
    kernel: String,
    agent: String,
    image: String,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        if self.short {
            crate::print::line(format!("v{}", env!("CARGO_PKG_VERSION")));
            return Ok(0);
        }
        let cluster = if self.client {
            None
        } else {
            of_cluster(app).await
        };
        let versions = Versions::new(cluster);
        crate::print::value(self.output, &versions, |versions| {
            let mut text = format!(
                "coracle v{}\ndefault Kubernetes {}\n",
                versions.coracle_version, versions.default_kubernetes_version
            );
            if let Some(cluster) = &versions.cluster {
                let kubernetes = match cluster.kubernetes.as_str() {
                    "" => "no Kubernetes".to_owned(),
                    version => format!("Kubernetes {version}"),
                };
                text.push_str(&format!(
                    "cluster {}: {kubernetes}, Linux {}, agent v{}, image {}\n",
                    app.settings.profile, cluster.kernel, cluster.agent, cluster.image
                ));
            }
            text
        })?;
        Ok(0)
    }
}

impl Versions {
    fn new(cluster: Option<ClusterVersions>) -> Self {
        Self {
            coracle_version: env!("CARGO_PKG_VERSION"),
            default_kubernetes_version: crate::cluster::spec::DEFAULT_KUBERNETES_VERSION,
            cluster,
        }
    }

    /// With those of the current cluster, if it runs.
    pub(super) async fn of(app: &App, found: &Found) -> Self {
        let runs = match found.whole() {
            Some(cluster) => cluster.require_running().await.is_ok(),
            None => false,
        };
        Self::new(if runs { of_cluster(app).await } else { None })
    }
}

/// A cluster that does not answer has no versions to tell; that is no error here.
async fn of_cluster(app: &App) -> Option<ClusterVersions> {
    let info = Cluster::find(&app.settings)
        .ok()?
        .agent()
        .await
        .ok()?
        .info()
        .await
        .ok()?;
    Some(ClusterVersions {
        kubernetes: info.kubernetes_version,
        kernel: info.kernel_release,
        agent: info.agent_version,
        image: info.image_digest,
    })
}
