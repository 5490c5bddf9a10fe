//! `coracle status`.

use super::App;
use crate::cluster::{Cluster, status::ClusterStatus};
use crate::error::{Context as _, ErrorId, Result};
use crate::settings::Output;

/// Say what the cluster is doing
///
/// The exit code adds up what is not well: 1 the machine, 2 the cluster, 4 the kubeconfig.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// A template instead, such as '{{.Host}} {{.APIServer}}'
    #[arg(short, long, conflicts_with = "output")]
    format: Option<String>,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        let cluster = Cluster::find_even_if_broken(&app.settings)?;
        let status = ClusterStatus::of(&app.settings, &cluster).await?;
        match &self.format {
            Some(template) => {
                crate::print::stdout(&crate::print::fill_in(template, &fields(&status)?)?)
            }
            None => crate::print::value(self.output, &status, text)?,
        }
        Ok(status.exit_code())
    }
}

fn fields(status: &ClusterStatus) -> Result<serde_json::Value> {
    serde_json::to_value(status).context(ErrorId::Internal, || "cannot read the status".into())
}

fn text(status: &ClusterStatus) -> String {
    let mut text = format!(
        "{}\ntype: Control Plane\nhost: {}\nkubelet: {}\napiserver: {}\nkubeconfig: {}\ndocker: {}\nhostagent: {}\n",
        status.name,
        status.host,
        status.kubelet,
        status.api_server,
        status.kubeconfig,
        status.docker,
        status.host_agent
    );
    if let Some(at) = &status.stop_at {
        text.push_str(&format!("stopat: {at}\n"));
    }
    for problem in &status.problems {
        text.push_str(&format!("problem: {problem}\n"));
    }
    text
}
