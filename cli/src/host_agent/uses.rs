//! What uses a cluster that its ports do not tell of: a shell in a pod where nothing is typed, a command
//! of this program that talks to the machine's agent, a CronJob that is due.

use super::forward::Way;
use crate::cluster::Cluster;
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::settings::Settings;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::CronJob;
use kube::api::{Api, ListParams};
use std::str::FromStr as _;
use std::time::Duration;
use time::OffsetDateTime;

/// How long all that is asked may take.
const LIMIT: Duration = Duration::from_secs(30);
/// How long the agent may take to answer.
const AGENT_LIMIT: Duration = Duration::from_secs(5);
/// What the API server counts of requests that have no end of their own.
const LONG_RUNNING: &str = "apiserver_longrunning_requests{";
/// Those among them that are sessions in a pod: exec, attach, port-forward.
const SESSION: &str = "verb=\"CONNECT\"";

/// When a cluster is used next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Now, by this.
    Now(String),
    /// Then.
    At(OffsetDateTime),
    /// Nothing is known of.
    Never,
}

/// Asks the agent and the API. Whoever gets no answer had better take the cluster for used.
pub async fn next(settings: &Settings, api: &Way) -> Result<Next> {
    let asked = async {
        let cluster = Cluster::find(settings)?;
        let agent = cluster.agent_within(AGENT_LIMIT).await?;
        // This one is a caller too.
        if agent.info().await?.callers > 1 {
            return Ok(Next::Now("a command talks to the machine".to_owned()));
        }
        drop(agent);
        if !cluster.record().spec.has_kubernetes() {
            return Ok(Next::Never);
        }
        let client = super::forward::api(&cluster, &mut api.clone()).await?;
        if let Some(session) = session(&client).await? {
            return Ok(Next::Now(session));
        }
        cron_jobs(client).await
    };
    tokio::time::timeout(LIMIT, asked)
        .await
        .unwrap_or_else(|_| {
            Err(Error::new(
                ErrorId::ControlPlaneTimeout,
                "the cluster does not answer",
            ))
        })
}

async fn session(client: &kube::Client) -> Result<Option<String>> {
    let failed = || "cannot read the API server's counts".to_owned();
    let request = http::Request::get("/metrics").body(Vec::new());
    let request = request.context(ErrorId::Internal, failed)?;
    let text = client.request_text(request).await;
    Ok(open_session(
        &text.context(ErrorId::ControlPlaneTimeout, failed)?,
    ))
}

/// The kind of a session that is open, from the API server's metrics (Prometheus' text format).
fn open_session(metrics: &str) -> Option<String> {
    let open = metrics.lines().find(|line| {
        let count = line.rsplit(' ').next().and_then(|count| count.parse().ok());
        line.starts_with(LONG_RUNNING)
            && line.contains(SESSION)
            && count.is_some_and(|count: f64| count > 0.0)
    })?;
    let kind = open.split("subresource=\"").nth(1)?.split('"').next()?;
    Some(format!("somebody has a session in a pod ({kind})"))
}

async fn cron_jobs(client: kube::Client) -> Result<Next> {
    let api: Api<CronJob> = Api::all(client);
    let jobs = api
        .list(&ListParams::default())
        .await
        .context(ErrorId::ControlPlaneTimeout, || {
            "cannot list CronJobs".into()
        })?;
    let now = Timestamp::now();
    let mut next = None;
    for job in &jobs.items {
        let (name, due) = due(job, now);
        match due {
            Ok(None) => {}
            Ok(Some(at)) => next = Some(next.map_or(at, |next: Timestamp| next.min(at))),
            Err(reason) => {
                return Ok(Next::Now(format!(
                    "the CronJob {name} may be due: {reason}"
                )));
            }
        }
    }
    let at = next.and_then(|at| OffsetDateTime::from_unix_timestamp(at.as_second()).ok());
    Ok(at.map_or(Next::Never, Next::At))
}

/// A CronJob's name and when it is due after `now`; never while it is suspended.
fn due(job: &CronJob, now: Timestamp) -> (&str, std::result::Result<Option<Timestamp>, String>) {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let due = || {
        let spec = &job.spec;
        if spec.suspend == Some(true) {
            return Ok(None);
        }
        // Without a zone it is the controller manager's, which is UTC.
        let zone = TimeZone::get(spec.time_zone.as_deref().unwrap_or("UTC"));
        let zone = zone.map_err(|error| error.to_string())?;
        let schedule = croner::Cron::from_str(&spec.schedule);
        let schedule = schedule.map_err(|error| error.to_string())?;
        let next = schedule.find_next_occurrence(&now.to_zoned(zone), false);
        next.map(|next| Some(next.timestamp()))
            .map_err(|error| error.to_string())
    };
    (name, due())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(spec: &serde_json::Value) -> Option<std::result::Result<String, String>> {
        let job = json!({"metadata": {"name": "job"}, "spec": spec});
        let job: CronJob = serde_json::from_value(job).unwrap();
        let now: Timestamp = "2026-03-01T12:34:56Z".parse().unwrap();
        due(&job, now)
            .1
            .transpose()
            .map(|due| due.map(|at| at.to_string()))
    }

    fn spec(schedule: &str) -> serde_json::Value {
        json!({"schedule": schedule, "jobTemplate": {}})
    }

    #[test]
    fn a_cron_job_is_due_by_its_own_clock() {
        let due = |spec: serde_json::Value| at(&spec).unwrap().unwrap();
        assert_eq!(due(spec("*/5 * * * *")), "2026-03-01T12:35:00Z");
        assert_eq!(due(spec("@daily")), "2026-03-02T00:00:00Z");
        let mut tokyo = spec("0 9 * * 1-5");
        tokyo["timeZone"] = json!("Asia/Tokyo");
        assert_eq!(due(tokyo), "2026-03-02T00:00:00Z");
        let mut suspended = spec("* * * * *");
        suspended["suspend"] = json!(true);
        assert_eq!(at(&suspended), None);
    }

    #[test]
    fn a_schedule_that_is_not_understood_is_an_error() {
        assert!(at(&spec("@every 5m")).unwrap().is_err());
        let mut nowhere = spec("* * * * *");
        nowhere["timeZone"] = json!("Mars/Olympus");
        assert!(at(&nowhere).unwrap().is_err());
    }

    #[test]
    fn sessions_are_told_from_watches() {
        let line = |verb: &str, subresource: &str, count: u32| {
            format!(
                "apiserver_longrunning_requests{{component=\"apiserver\",group=\"\",resource=\"pods\",\
                 scope=\"resource\",subresource=\"{subresource}\",verb=\"{verb}\",version=\"v1\"}} {count}\n"
            )
        };
        let quiet = line("WATCH", "", 9) + &line("CONNECT", "exec", 0);
        assert_eq!(open_session(&quiet), None);
        assert_eq!(
            open_session(&(quiet + &line("CONNECT", "attach", 1))).as_deref(),
            Some("somebody has a session in a pod (attach)")
        );
    }
}
