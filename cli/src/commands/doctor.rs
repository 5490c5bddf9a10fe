//! `coracle doctor`.

use super::App;
use crate::cluster::choice::{self, Working};
use crate::cluster::{self, Cluster};
use crate::error::{Error, ErrorId, Result};
use crate::settings::Output;
use coracle_vm::template::Checked;
use coracle_vm::{Capabilities, DriverFacts, TemplateError, TemplateKey};
use serde::Serialize;
use time::OffsetDateTime;

/// Check this host, and say what to do
///
/// The exit code is 0 when a cluster can be started here, even if something could be better.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Read every file of the image, and memory, devices and disk of the templates, and compare them with
    /// their digests
    #[arg(long)]
    deep: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What one check found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Finding {
    check: &'static str,
    verdict: Verdict,
    finding: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    help: String,
    /// Of a driver that works.
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<DriverRow>,
}

/// A driver, and what its clusters can do.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DriverRow {
    name: &'static str,
    version: String,
    place: String,
    can_pause: bool,
    can_save: bool,
    can_copy: bool,
}

impl DriverRow {
    fn new(facts: &DriverFacts, capabilities: Capabilities) -> Self {
        Self {
            name: facts.kind.as_str(),
            version: facts.version.clone(),
            place: facts.place.clone(),
            can_pause: capabilities.can_pause,
            can_save: capabilities.can_hibernate,
            can_copy: capabilities.can_hibernate && capabilities.can_clone,
        }
    }

    /// The end of a sentence: nothing where it can do all.
    fn limits(&self) -> String {
        let all = [
            (self.can_pause, "pause"),
            (self.can_save, "save"),
            (self.can_copy, "copy"),
        ];
        let lacks: Vec<_> = all
            .into_iter()
            .filter_map(|(can, what)| (!can).then_some(what))
            .collect();
        if lacks.is_empty() {
            return String::new();
        }
        format!("; it cannot {} a cluster", lacks.join(" or "))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum Verdict {
    Ok,
    /// Not here, and not needed.
    Missing,
    Warning,
    Problem,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        let findings = findings(app, self.deep).await?;
        let failed = findings
            .iter()
            .find(|finding| finding.verdict == Verdict::Problem)
            .is_some();
        crate::print::value(self.output, &findings, |findings| {
            findings.iter().map(line).collect()
        })?;
        Ok(if failed {
            ErrorId::Driver.entry().exit_code
        } else {
            0
        })
    }
}

/// What all checks found.
pub(super) async fn findings(app: &App, deep: bool) -> Result<Vec<Finding>> {
    let mut findings = drivers(app).await;
    findings.extend([resources(app), image(app, deep).await, kubeconfig(app)]);
    findings.push(program(
        app,
        "ssh",
        "coracle ssh needs it",
        "install OpenSSH's client",
    ));
    findings.push(program(
        app,
        "kubectl",
        "coracle kubectl works without it",
        "install kubectl, or link coracle under that name",
    ));
    if deep {
        findings.extend(templates(app).await);
    }
    findings.extend(clusters(app)?);
    Ok(findings)
}

fn line(finding: &Finding) -> String {
    let word = match finding.verdict {
        Verdict::Ok => "ok",
        Verdict::Missing => "missing",
        Verdict::Warning => "warning",
        Verdict::Problem => "problem",
    };
    let help = if finding.help.is_empty() {
        String::new()
    } else {
        format!("{:20}help: {}\n", "", finding.help)
    };
    format!("{word:8} {:10} {}\n{help}", finding.check, finding.finding)
}

fn ok(check: &'static str, finding: impl Into<String>) -> Finding {
    Finding {
        check,
        verdict: Verdict::Ok,
        finding: finding.into(),
        help: String::new(),
        driver: None,
    }
}

fn problem(check: &'static str, error: &Error) -> Finding {
    let help = error.advice("coracle").unwrap_or_default();
    Finding {
        check,
        verdict: Verdict::Problem,
        finding: error.joined(": "),
        help,
        driver: None,
    }
}

/// Every driver: what works, and what the others lack. Only where none works is that a problem.
async fn drivers(app: &App) -> Vec<Finding> {
    let found = choice::all(&app.settings).await;
    let works = found.iter().any(|(_, found)| found.is_ok());
    let findings = found.into_iter().map(|(kind, found)| match found {
        Ok(working) => driver(&working),
        Err(error) => {
            let mut finding = problem("driver", &Error::from(error));
            finding.finding = format!("{kind}: {}", finding.finding);
            if works {
                finding.verdict = Verdict::Missing;
            }
            finding
        }
    });
    findings.collect()
}

fn driver(working: &Working) -> Finding {
    let facts = &working.facts;
    let (kind, version, place) = (facts.kind, &facts.version, &facts.place);
    let row = DriverRow::new(facts, working.capabilities);
    let text = format!("{kind} {version} ({place})");
    let (reason, limits) = (&facts.verdict.reason, row.limits());
    if facts.verdict.accelerator.is_hardware() {
        return Finding {
            driver: Some(row),
            ..ok("driver", format!("{text} with {reason}{limits}"))
        };
    }
    Finding {
        check: "driver",
        verdict: Verdict::Warning,
        finding: format!("{text}: {reason}{limits}"),
        help: "switch hardware virtualisation on in the firmware or the outer hypervisor".into(),
        driver: Some(row),
    }
}

fn resources(app: &App) -> Finding {
    match cluster::host_resources(&app.settings) {
        Err(error) => problem("host", &error),
        Ok(host) => ok(
            "host",
            format!(
                "{} CPUs, {} of memory ({} free), {} of disk free at {}",
                host.cpus,
                host.memory_total,
                host.memory_available,
                host.disk_free,
                host.disk_path.display()
            ),
        ),
    }
}

async fn image(app: &App, deep: bool) -> Finding {
    let settings = app.settings.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let image = cluster::image::current(&settings)?;
        if deep {
            cluster::image::verify(&settings, &image)?;
        } else {
            coracle_iso::images::Store::new(&settings.home).check_sizes(&image)?;
        }
        Ok::<_, Error>(image)
    });
    match looked.await {
        Ok(Ok(image)) => ok(
            "image",
            format!(
                "{} with Kubernetes {}",
                image.digest(),
                image.index().default_kubernetes
            ),
        ),
        Ok(Err(error))
            if error.id() == ErrorId::ImageNotFound
                && cluster::image::is_fetched(&app.settings) =>
        {
            ok("image", "not here yet: a start fetches it")
        }
        Ok(Err(error)) => problem("image", &error),
        Err(error) => problem("image", &ended_early(&error)),
    }
}

/// Every template, with all of its files read.
async fn templates(app: &App) -> Vec<Finding> {
    let templates = cluster::template::templates(&app.settings);
    let looked = tokio::task::spawn_blocking(move || {
        let found = templates.list(OffsetDateTime::now_utc())?;
        let checked = found.into_iter().filter_map(|(key, found)| {
            let checked = match found {
                Ok(Some(template)) => template.check_digests(),
                // Too old: no start uses it, and the next one removes it.
                Ok(None) => return None,
                Err(error) => Err(error),
            };
            Some((key, checked))
        });
        Ok::<_, TemplateError>(checked.collect::<Vec<_>>())
    });
    match looked.await {
        Ok(Ok(checked)) => checked
            .into_iter()
            .map(|(key, checked)| template(&key, checked))
            .collect(),
        Ok(Err(error)) => vec![problem("template", &error.into())],
        Err(error) => vec![problem("template", &ended_early(&error))],
    }
}

fn template(key: &TemplateKey, checked: std::result::Result<Checked, TemplateError>) -> Finding {
    let key = key.short();
    match checked {
        Ok(Checked::Whole) => ok("template", format!("{key} is whole")),
        Ok(Checked::NotNoted) => ok(
            "template",
            format!("{key} cannot be compared: no cluster ran for a minute after it was made"),
        ),
        Err(error) => Finding {
            verdict: Verdict::Warning,
            help:
                "`coracle template prune` removes all templates, and the next start makes another"
                    .into(),
            ..problem("template", &error.into())
        },
    }
}

fn ended_early(error: &tokio::task::JoinError) -> Error {
    Error::caused_by(ErrorId::Internal, "the check ended early", &error)
}

fn kubeconfig(app: &App) -> Finding {
    match cluster::check_kubeconfig(&app.settings) {
        Ok(()) => ok("kubeconfig", "can be read"),
        Err(error) => problem("kubeconfig", &error),
    }
}

fn program(app: &App, name: &'static str, why: &str, help: &str) -> Finding {
    match app.settings.find_program(name) {
        Some(path) => ok(name, path.display().to_string()),
        None => Finding {
            check: name,
            verdict: Verdict::Warning,
            finding: format!("is not installed; {why}"),
            help: help.into(),
            driver: None,
        },
    }
}

fn clusters(app: &App) -> Result<Vec<Finding>> {
    let broken = |found: cluster::Found| match found {
        cluster::Found::Whole(_) => None,
        cluster::Found::Broken { name, reason } => Some(Finding {
            check: "cluster",
            verdict: Verdict::Warning,
            finding: format!("{name} is broken: {reason}"),
            help: format!("`coracle delete -p {name}` removes it"),
            driver: None,
        }),
    };
    Ok(Cluster::all(&app.settings)?
        .into_iter()
        .filter_map(broken)
        .collect())
}
