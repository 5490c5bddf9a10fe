//! `coracle service` and `coracle service list`.

use super::App;
use crate::cluster::Cluster;
use crate::cluster::services;
use crate::error::{Error, ErrorId, Result};
use crate::host_agent::Reach;
use crate::settings::Output;
use std::io::IsTerminal as _;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Show where a Service is reached from this host, and open it in a browser
///
/// NodePorts are on the address that `coracle ip` prints, load balancers on addresses of their own. With
/// --url the addresses are printed, one a line, and nothing is opened.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Subcommand>,
    /// The Service; without it, all that are reached from this host
    name: Option<String>,
    /// Its namespace
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// Print the addresses and open nothing
    #[arg(long)]
    url: bool,
    /// How an address is written: a template of .IP, .Port and .Name
    #[arg(long, default_value = "http://{{.IP}}:{{.Port}}")]
    format: String,
    /// Write https:// instead of http://
    #[arg(long)]
    https: bool,
    /// How long to wait until the Service has an endpoint, in seconds
    #[arg(long, default_value_t = 2, value_name = "SECONDS")]
    wait: u64,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    /// List the Services and where they are reached
    List(ListArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only those of one namespace
    #[arg(short, long)]
    namespace: Option<String>,
    /// How to print them
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        let cluster = Cluster::find(&app.settings)?;
        cluster.require_running().await?;
        if let Some(Subcommand::List(asked)) = &self.command {
            return list(&cluster, asked.namespace.as_deref(), asked.output).await;
        }
        let Some(name) = &self.name else {
            return list(&cluster, None, Output::Text).await;
        };
        let limit = Duration::from_secs(self.wait);
        let reached = services::reach(&cluster, &self.namespace, name, limit).await?;
        for one in &reached {
            if let Some(problem) = &one.problem {
                app.progress.warning(problem);
            }
        }
        let urls = reached
            .iter()
            .filter(|one| one.address.is_some())
            .map(|one| self.address(one))
            .collect::<Result<Vec<_>>>()?;
        if urls.is_empty() {
            return Err(Error::new(
                ErrorId::PortTaken,
                format!("no port of the Service \"{name}\" could be opened on this host"),
            ));
        }
        for url in &urls {
            crate::print::line(url);
        }
        if !self.url && std::io::stdout().is_terminal() {
            for url in urls.iter().filter(|url| url.starts_with("http")) {
                browse(app, url);
            }
        }
        Ok(0)
    }

    fn address(&self, reach: &Reach) -> Result<String> {
        let fields = serde_json::json!({
            "Name": reach.port,
            "IP": reach.address.map(|address| address.ip().to_string()),
            "Port": reach.address.map(|address| address.port().to_string()),
        });
        let text = crate::print::fill_in(&self.format, &fields)?;
        let scheme = match scheme(reach) {
            "http" if self.https => "https",
            scheme => scheme,
        };
        Ok(match text.strip_prefix("http://") {
            Some(rest) => format!("{scheme}://{rest}"),
            None => text,
        })
    }
}

/// How an address begins, as far as can be known of a port.
fn scheme(reach: &Reach) -> &'static str {
    match reach.protocol.as_str() {
        "udp" => "udp",
        _ => "http",
    }
}

async fn list(cluster: &Cluster, namespace: Option<&str>, output: Output) -> Result<u8> {
    let rows = services::list(cluster, namespace).await?;
    crate::print::value(output, &rows, |rows| {
        let rows: Vec<_> = rows.iter().map(cells).collect();
        crate::print::table(&["NAMESPACE", "NAME", "TARGET PORT", "URL"], &rows)
    })?;
    Ok(0)
}

fn cells(row: &services::Listed) -> Vec<String> {
    let url = |one: &Reach| Some(format!("{}://{}", scheme(one), one.address?));
    let urls: Vec<String> = row.ports.iter().filter_map(url).collect();
    let urls = match urls.is_empty() {
        true => "-".to_owned(),
        false => urls.join(","),
    };
    let ports = row.target_ports.join(",");
    vec![row.namespace.clone(), row.name.clone(), ports, urls]
}

/// Opens an address in the desktop's browser, where there is a desktop.
fn browse(app: &App, url: &str) {
    let (program, arguments): (&str, &[&str]) = if cfg!(target_os = "macos") {
        ("open", &[])
    } else if cfg!(windows) {
        ("cmd", &["/C", "start", ""])
    } else {
        ("xdg-open", &[])
    };
    let opener = app.settings.find_program(program).ok_or_else(|| {
        Error::new(
            ErrorId::Unsupported,
            format!("{program} is not on this host"),
        )
    });
    let opened = opener.and_then(|opener| {
        Command::new(opener)
            .args(arguments)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Error::new(ErrorId::Unsupported, error.to_string()))
    });
    if let Err(error) = opened {
        app.progress
            .info(&format!("no browser was opened: {}", error.message()));
    }
}
