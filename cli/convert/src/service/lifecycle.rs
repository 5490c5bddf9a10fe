//! How a container starts and ends, and what its user sees of it.

use k8s_openapi::api::core::v1::{ExecAction, Lifecycle, LifecycleHandler};

use super::command::words;
use super::pod::Pod;
use crate::at::At;
use crate::convert::Project;
use crate::fault::Result;
use crate::keys;
use crate::report::Report;
use crate::units;

/// Where the container runs, and whether somebody may type there.
pub(super) fn terminal(at: &At<'_>, pod: &mut Pod) -> Result<()> {
    if let Some(folder) = at.get("working_dir") {
        pod.container.working_dir = Some(folder.text()?.to_owned());
    }
    pod.container.stdin = at.flag("stdin_open")?.then_some(true);
    pod.container.tty = at.flag("tty")?.then_some(true);
    Ok(())
}

/// Puts the rest into the pod.
pub(super) fn put(at: &At<'_>, pod: &mut Pod, project: &mut Project<'_>) -> Result<()> {
    if let Some(period) = at.get("stop_grace_period") {
        let seconds = units::seconds(period.text()?);
        let seconds = seconds.ok_or_else(|| period.expected("a time, such as 1m30s,"))?;
        pod.spec.termination_grace_period_seconds = Some(seconds.into());
    }
    if let Some(signal) = at.get("stop_signal")
        && !matches!(signal.text()?, "SIGTERM" | "TERM" | "15")
    {
        let message = "not mapped: a pod's containers end by the signal that their image names, \
                       SIGTERM where it names none";
        project.report.warn(&signal, message);
    }
    let lifecycle = Lifecycle {
        post_start: hook(at, "post_start", &mut project.report)?,
        pre_stop: hook(at, "pre_stop", &mut project.report)?,
        ..Lifecycle::default()
    };
    if lifecycle != Lifecycle::default() {
        pod.container.lifecycle = Some(lifecycle);
    }
    dependencies(at, project)
}

fn hook(at: &At<'_>, key: &str, report: &mut Report) -> Result<Option<LifecycleHandler>> {
    let Some(hooks) = at.get(key) else {
        return Ok(None);
    };
    let mut first = None;
    for hook in hooks.items()? {
        if first.is_some() {
            report.warn(&hook, "not mapped: Kubernetes runs one command there");
            continue;
        }
        keys::check(&hook, keys::HOOK, report)?;
        let Some(command) = hook.get("command") else {
            return Err(hook.expected("a mapping with `command`"));
        };
        // Unlike elsewhere, Kubernetes puts no variables into this one.
        first = Some(LifecycleHandler {
            exec: Some(ExecAction {
                command: Some(words(&command, report)?),
            }),
            ..LifecycleHandler::default()
        });
    }
    Ok(first)
}

/// `depends_on`: pods wait for nobody.
fn dependencies(at: &At<'_>, project: &mut Project<'_>) -> Result<()> {
    let Some(depends) = at.get("depends_on") else {
        return Ok(());
    };
    for (name, dependency) in depends.names()? {
        if project.inactive.contains(name) {
            let message = format!("{name} is not active, so that nothing runs by this name");
            project.report.warn(&dependency, message);
        } else if !project.members.iter().any(|member| member.key == name) {
            let required = match dependency.get("required") {
                Some(required) => required.boolean()?,
                None => true,
            };
            if required {
                return Err(dependency.fault(format!("there is no service {name}")));
            }
            continue;
        }
        if !matches!(dependency.node.kind, crate::yaml::Kind::Mapping(_)) {
            continue;
        }
        keys::check(&dependency, keys::DEPENDENCY, &mut project.report)?;
        let Some(condition) = dependency.get("condition") else {
            continue;
        };
        let until = match condition.text()? {
            "service_started" => continue,
            "service_healthy" => "is ready",
            "service_completed_successfully" => "has ended well",
            _ => {
                return Err(condition.expected(
                    "service_started, service_healthy or service_completed_successfully",
                ));
            }
        };
        let message = format!(
            "not mapped: Kubernetes starts all at once, and starts again what fails; this service \
             does not wait until {name} {until}"
        );
        project.report.warn(&condition, message);
    }
    Ok(())
}
