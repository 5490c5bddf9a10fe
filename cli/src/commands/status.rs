//! `coracle status`.

use super::App;
use crate::cluster::{Cluster, status::ClusterStatus};
use crate::error::{Error, ErrorId, Result};
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
            Some(template) => crate::print::stdout(&fill_in(template, &status)?),
            None => crate::print::value(self.output, &status, text)?,
        }
        Ok(status.exit_code())
    }
}

fn text(status: &ClusterStatus) -> String {
    let mut text = format!(
        "{}\ntype: Control Plane\nhost: {}\nkubelet: {}\napiserver: {}\nkubeconfig: {}\n",
        status.name, status.host, status.kubelet, status.api_server, status.kubeconfig
    );
    for problem in &status.problems {
        text.push_str(&format!("problem: {problem}\n"));
    }
    text
}

/// Fills in `{{.Field}}`; nothing else of Go's templates is needed for a status.
fn fill_in(template: &str, status: &ClusterStatus) -> Result<String> {
    let fields = serde_json::to_value(status)
        .map_err(|error| Error::caused_by(ErrorId::Internal, "cannot read the status", &error))?;
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after
            .split_once("}}")
            .ok_or_else(|| Error::new(ErrorId::Usage, "the template has a {{ without }}"))?;
        let field = name
            .trim()
            .strip_prefix('.')
            .and_then(|name| fields.get(name))
            .and_then(|value| value.as_str());
        text.push_str(before);
        text.push_str(field.ok_or_else(|| {
            Error::new(
                ErrorId::Usage,
                format!("the template names no field of a status: {{{{{name}}}}}"),
            )
            .help("the fields are .Name .Host .Kubelet .APIServer .Kubeconfig")
        })?);
        rest = after;
    }
    text.push_str(rest);
    Ok(text.replace("\\n", "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_fills_in_fields_and_refuses_others() {
        let status = ClusterStatus::example();
        assert_eq!(
            fill_in("{{.Name}}:{{ .Host }}\\n", &status).unwrap(),
            "dev:Running\n"
        );
        assert_eq!(fill_in("{{.Colour}}", &status).unwrap_err().exit_code(), 14);
        assert_eq!(fill_in("{{.Name", &status).unwrap_err().exit_code(), 14);
    }
}
