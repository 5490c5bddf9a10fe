//! What runs the pods: a Deployment, a DaemonSet or a Job.

use k8s_openapi::api::apps::v1::{
    DaemonSet, DaemonSetSpec, Deployment, DeploymentSpec, DeploymentStrategy,
};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::annotations;
use super::pod::Pod;
use crate::at::At;
use crate::convert::{Member, Project};
use crate::fault::Result;
use crate::keys;
use crate::object::Object;
use crate::report::Report;

/// What happens to a pod that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restart {
    /// It is started again, always.
    Always,
    /// It stays as it ended.
    Never,
    /// It is started again where it failed, so many times.
    OnFailure(Option<i32>),
}

/// Tries of a Job where the file has no number: Kubernetes' own.
const TRIES: i32 = 6;

/// Puts the workload into the project.
pub(super) fn put(member: &Member<'_>, mut pod: Pod, project: &mut Project<'_>) -> Result<()> {
    let at = &member.at;
    let deploy = at.get("deploy");
    if let Some(deploy) = &deploy {
        keys::check(deploy, keys::DEPLOY, &mut project.report)?;
    }
    for key in ["labels", "annotations"] {
        let more = annotations(at, key, &mut project.report)?;
        pod.annotations.extend(more.into_iter().flatten());
    }
    let mut metadata = project.metadata(&member.name, Some(&member.name));
    if let Some(deploy) = &deploy {
        metadata.annotations = annotations(deploy, "labels", &mut project.report)?;
    }
    let replicas = replicas(at, deploy.as_ref())?;
    let mode = deploy.as_ref().and_then(|deploy| deploy.get("mode"));
    let (daemon, job) = match &mode {
        None => (false, false),
        Some(mode) => match mode.text()? {
            "replicated" | "" => (false, false),
            "global" => (true, false),
            "replicated-job" | "global-job" => (false, true),
            _ => return Err(mode.expected("replicated, global, replicated-job or global-job")),
        },
    };
    let mut restart = restart(at, deploy.as_ref(), job, &mut project.report)?;
    // Compose would start it when others are up; here it finds them by trying again.
    if restart == Restart::Never
        && at
            .get("depends_on")
            .is_some_and(|depends| !depends.is_idle())
    {
        restart = Restart::OnFailure(None);
    }
    let alone = pod.alone;
    let labels = project.selector(&member.name);
    let selector = LabelSelector {
        match_labels: Some(labels.clone()),
        ..LabelSelector::default()
    };
    let mut template = pod.template(labels);
    let object = if restart != Restart::Always {
        let (policy, tries) = match restart {
            Restart::OnFailure(tries) => ("OnFailure", tries.unwrap_or(TRIES)),
            _ => ("Never", 0),
        };
        if let Some(spec) = &mut template.spec {
            spec.restart_policy = Some(policy.to_owned());
        }
        Object::Job(Box::new(Job {
            metadata,
            spec: Some(JobSpec {
                backoff_limit: Some(tries),
                completions: replicas,
                parallelism: replicas,
                template,
                ..JobSpec::default()
            }),
            ..Job::default()
        }))
    } else if daemon {
        Object::DaemonSet(Box::new(DaemonSet {
            metadata,
            spec: DaemonSetSpec {
                selector,
                template,
                ..DaemonSetSpec::default()
            },
            ..DaemonSet::default()
        }))
    } else {
        let recreate = || DeploymentStrategy {
            type_: Some("Recreate".to_owned()),
            ..DeploymentStrategy::default()
        };
        Object::Deployment(Box::new(Deployment {
            metadata,
            spec: DeploymentSpec {
                replicas,
                selector,
                strategy: alone.then(recreate),
                template,
                ..DeploymentSpec::default()
            },
            ..Deployment::default()
        }))
    };
    project.objects.push(object);
    Ok(())
}

/// How many pods, where the file says it.
fn replicas(at: &At<'_>, deploy: Option<&At<'_>>) -> Result<Option<i32>> {
    let written = deploy.and_then(|deploy| deploy.get("replicas"));
    let Some(written) = written.or_else(|| at.get("scale")) else {
        return Ok(None);
    };
    let number = i32::try_from(written.integer()?).ok();
    let number = number.filter(|number| *number >= 0);
    number
        .map(Some)
        .ok_or_else(|| written.expected("a number of replicas"))
}

fn restart(
    at: &At<'_>,
    deploy: Option<&At<'_>>,
    job: bool,
    report: &mut Report,
) -> Result<Restart> {
    let policy = deploy.and_then(|deploy| deploy.get("restart_policy"));
    if let Some(policy) = &policy {
        keys::check(policy, keys::RESTART_POLICY, report)?;
    }
    // What `deploy` says comes before what the service says.
    let condition = policy.as_ref().and_then(|policy| policy.get("condition"));
    let tries = policy
        .as_ref()
        .and_then(|policy| policy.get("max_attempts"));
    let tries = match &tries {
        Some(at) => i32::try_from(at.integer()?).ok(),
        None => None,
    };
    let Some(written) = condition.or_else(|| at.get("restart")) else {
        return Ok(match job {
            true => Restart::OnFailure(tries),
            false => Restart::Always,
        });
    };
    let text = written.text()?;
    let (word, number) = match text.split_once(':') {
        Some((word, number)) => (word, number.parse().ok()),
        None => (text, None),
    };
    match word {
        "no" | "none" | "false" => Ok(Restart::Never),
        "on-failure" if job => Ok(Restart::OnFailure(tries.or(number))),
        "on-failure" => {
            let message = "the pod is started again also where it ended well, as servers are to; \
                           with \"no\" it is a Job";
            report.warn(&written, message);
            Ok(Restart::Always)
        }
        "always" | "unless-stopped" | "any" | "" if job => Ok(Restart::OnFailure(tries)),
        "always" | "unless-stopped" | "any" | "" => Ok(Restart::Always),
        _ => Err(written.expected("no, always, on-failure or unless-stopped")),
    }
}
