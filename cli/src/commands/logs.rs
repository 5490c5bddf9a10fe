//! `coracle logs`.

use super::App;
use super::{doctor, template, version};
use crate::cluster::{Cluster, status::ClusterStatus};
use crate::error::{Context as _, ErrorId, Result};
use crate::logs::bundle::{self, Bundle};
use crate::logs::problems::Finder;
use crate::logs::sources::{self, HostLog, Wanted};
use crate::settings::Output;
use serde::Serialize;
use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Print what the machine and its components say
///
/// Without --component, every line is led by its source. --problems reads all that is kept instead
/// and tells the known problems in it; --bundle packs it for a bug report, without secrets.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Go on with what is written later
    #[arg(short, long)]
    follow: bool,
    /// One component, `agent` or `kernel`; on the host `console` (serial), `qemu` or `host-agent`
    #[arg(long, value_name = "NAME", default_value = "")]
    component: String,
    /// Only the last lines of each
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 60)]
    length: u32,
    /// Tell known problems: what each means, how often it was seen, and what to do
    #[arg(long, conflicts_with_all = ["follow", "length"])]
    problems: bool,
    /// How to print the problems
    #[arg(short, long, value_enum, default_value_t, requires = "problems")]
    output: Output,
    /// Write logs, settings and states to a new file, a gzip tar for a bug report
    #[arg(long, value_name = "FILE", conflicts_with_all = ["follow", "component", "length", "problems"])]
    bundle: Option<PathBuf>,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        if let Some(file) = &self.bundle {
            return write_bundle(app, file).await;
        }
        let cluster = Cluster::find(&app.settings)?;
        if self.problems {
            return self.problems(app, &cluster).await;
        }
        if let Some(log) = HostLog::from_name(&self.component) {
            return self.host(&cluster, log).await;
        }
        let agent = match cluster.agent().await {
            Ok(agent) => agent,
            // A machine that is off or stuck still has its console.
            Err(error) if self.component.is_empty() && cluster.serial_log().exists() => {
                app.progress.warning(&format!(
                    "{}: showing the last words of its console",
                    error.message()
                ));
                return self.last_lines(&cluster, HostLog::Console);
            }
            Err(error) => return Err(error),
        };
        let mut lines = agent
            .logs(&self.component, self.follow, self.length)
            .await?;
        let mut out = std::io::stdout();
        while let Some(chunk) = lines.next().await? {
            // Of all sources at once, the agent leads each line with its own.
            for line in String::from_utf8_lossy(&chunk.data).lines() {
                if writeln!(out, "{line}").is_err() {
                    return Ok(0);
                }
            }
        }
        Ok(0)
    }

    async fn host(&self, cluster: &Cluster, log: HostLog) -> Result<u8> {
        let code = self.last_lines(cluster, log)?;
        if self.follow {
            sources::follow(cluster.dir(), log, |bytes| {
                crate::print::stdout(&String::from_utf8_lossy(bytes));
            })
            .await?;
        }
        Ok(code)
    }

    fn last_lines(&self, cluster: &Cluster, log: HostLog) -> Result<u8> {
        for line in sources::last_lines(cluster.dir(), log, self.length as usize)? {
            crate::print::line(line);
        }
        Ok(0)
    }

    async fn problems(&self, app: &App, cluster: &Cluster) -> Result<u8> {
        let wanted = Wanted {
            dir: cluster.dir(),
            cluster: Some(cluster),
            only: Some(self.component.as_str()).filter(|name| !name.is_empty()),
            last: 0,
        };
        let mut finder = Finder::default();
        let missing = sources::read(&wanted, &mut |source, line| {
            finder.read(&source.name(), line);
        })
        .await?;
        say_missing(app, &missing);
        let findings = finder.findings(app.settings.profile.as_str());
        crate::print::value(self.output, &findings, |findings| findings.text())?;
        Ok(0)
    }
}

fn say_missing(app: &App, missing: &[String]) {
    for sentence in missing {
        app.progress.warning(&format!("not read: {sentence}"));
    }
}

async fn write_bundle(app: &App, file: &Path) -> Result<u8> {
    let path = bundle::target(file)?;
    let found = Cluster::find_even_if_broken(&app.settings)?;
    app.progress.step("bundle", "Reading what there is", 1, 1);
    let mut bundle = Bundle::default();
    bundle.tell(
        "version",
        value(Ok(version::Versions::of(app, &found).await)),
    );
    bundle.tell("doctor", value(doctor::findings(app, false).await));
    bundle.tell("templates", value(template::rows(app)));
    bundle.tell(
        "status",
        value(ClusterStatus::of(&app.settings, &found).await),
    );
    bundle.gather(&app.settings, &found).await;
    say_missing(app, bundle.missing());
    let root = format!("coracle-{}", found.name());
    let (home, now) = (app.settings.user_home.clone(), app.settings.now());
    let packed = tokio::task::spawn_blocking(move || bundle.pack(&root, &home, now)).await;
    let packed = packed.context(ErrorId::Internal, || "packing ended early".into())??;
    bundle::write(&path, &packed)?;
    app.progress.finish_step();
    crate::print::line(path.display().to_string());
    app.progress.info(&format!(
        "what looks like a secret is taken out; look through it before you send it: tar -xzf {}",
        file.display()
    ));
    Ok(0)
}

fn value<T: Serialize>(told: Result<T>) -> Result<Value> {
    serde_json::to_value(told?).context(ErrorId::Internal, || "cannot write it as JSON".into())
}
