//! `healthcheck`: when the pod is ready.

use k8s_openapi::api::core::v1::{ExecAction, Probe};

use super::pod::{Pod, literal};
use crate::at::At;
use crate::fault::Result;
use crate::keys;
use crate::report::Report;
use crate::units;
use crate::yaml::Kind;

/// Compose's own values, in seconds; those of Kubernetes are shorter.
const INTERVAL: i32 = 30;
const TIMEOUT: i32 = 30;
const RETRIES: i32 = 3;

/// Puts the check into the container.
pub(super) fn put(at: &At<'_>, pod: &mut Pod, report: &mut Report) -> Result<()> {
    let Some(check) = at.get("healthcheck") else {
        return Ok(());
    };
    keys::check(&check, keys::HEALTHCHECK, report)?;
    if check.flag("disable")? {
        return Ok(());
    }
    let Some(test) = check.get("test") else {
        let message = "not mapped: the check is the image's own, which Kubernetes does not run; \
                       write its `test` here";
        report.warn(&check, message);
        return Ok(());
    };
    let Some(command) = command(&test)? else {
        return Ok(());
    };
    let seconds = |key, default| match check.get(key) {
        Some(time) => units::seconds(time.text()?)
            .map(|seconds| if seconds == 0 { default } else { seconds })
            .ok_or_else(|| time.expected("a time, such as 1m30s,")),
        None => Ok(default),
    };
    let retries = match check.get("retries") {
        Some(retries) => i32::try_from(retries.integer()?)
            .ok()
            .filter(|number| *number >= 0)
            .ok_or_else(|| retries.expected("a number of tries"))?,
        None => RETRIES,
    };
    pod.container.readiness_probe = Some(Probe {
        exec: Some(ExecAction {
            command: Some(command.iter().map(|word| literal(word)).collect()),
        }),
        period_seconds: Some(seconds("interval", INTERVAL)?),
        timeout_seconds: Some(seconds("timeout", TIMEOUT)?),
        failure_threshold: Some(if retries == 0 { RETRIES } else { retries }),
        ..Probe::default()
    });
    Ok(())
}

/// The command of a check; nothing where the check is none.
fn command(test: &At<'_>) -> Result<Option<Vec<String>>> {
    let shell = |line: &str| vec!["/bin/sh".to_owned(), "-c".to_owned(), line.to_owned()];
    if !matches!(test.node.kind, Kind::Sequence(_)) {
        let line = test.text()?;
        return Ok((!line.is_empty()).then(|| shell(line)));
    }
    let words = test.texts()?;
    match words.split_first() {
        None => Ok(None),
        Some((first, _)) if first == "NONE" => Ok(None),
        Some((first, rest)) if first == "CMD" && !rest.is_empty() => Ok(Some(rest.to_vec())),
        Some((first, rest)) if first == "CMD-SHELL" && rest.len() == 1 => Ok(Some(shell(&rest[0]))),
        _ => Err(test.fault(
            "a check is [CMD, word, word], [CMD-SHELL, line], [NONE], or a line for the shell",
        )),
    }
}
