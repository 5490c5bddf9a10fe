//! Why a call failed, as an error with a name where Hyper-V's answer tells.
//!
//! Messages are in the system's language. What is compared are the error's identifier, its category and
//! the HRESULT, which the message holds too where it comes from deeper down.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::framing::Refusal;
use super::session::SessionError;
use super::unable;
use crate::driver::DriverError;
use crate::program::{self, ProgramError};
use crate::size::Size;

/// E_OUTOFMEMORY, ERROR_NO_SYSTEM_RESOURCES and ERROR_COMMITMENT_LIMIT.
const NO_MEMORY: [&str; 3] = ["0x8007000E", "0x800705AA", "0x800705AF"];
/// ERROR_DISK_FULL and ERROR_HANDLE_DISK_FULL.
const NO_SPACE: [&str; 2] = ["0x80070070", "0x80070027"];
/// ERROR_SHARING_VIOLATION.
const IN_USE: [&str; 1] = ["0x80070020"];
/// HV_STATUS of a host whose hypervisor is not running.
const NO_HYPERVISOR: [&str; 1] = ["0xC0351000"];
/// RPC and service errors: nobody answers.
const NO_SERVICE: [&str; 3] = ["0x800706BA", "0x80070422", "0x80070426"];

/// How a user becomes one who may manage machines.
pub(super) const JOIN: &str = "in a PowerShell of an administrator: Add-LocalGroupMember -SID S-1-5-32-578 -Member \"$env:USERDOMAIN\\$env:USERNAME\"; then sign out and in again";
/// How Hyper-V's service is started.
pub(super) const START_SERVICE: &str = "in a PowerShell of an administrator: Start-Service vmms";
/// How Hyper-V is turned on.
pub(super) const ENABLE: &str = "in a PowerShell of an administrator: Enable-WindowsOptionalFeature -Online -FeatureName Microsoft-Hyper-V -All; then restart Windows";
/// How the hypervisor is made to run.
pub(super) const START_HYPERVISOR: &str = "turn virtualisation on in the firmware; in a PowerShell of an administrator: bcdedit /set hypervisorlaunchtype auto; then restart Windows";

/// Turns what happened to a call into an error. `what` was tried, as a part of a sentence; `memory` is
/// the guest's where the call takes it from the host.
pub(super) fn explain(
    program: &Path,
    what: &'static str,
    memory: Option<Size>,
    error: SessionError,
) -> DriverError {
    let command = || {
        let words = super::framing::ARGUMENTS.map(OsString::from);
        program::describe(program, &words)
    };
    match error {
        SessionError::Start(source) if source.kind() == std::io::ErrorKind::NotFound => {
            not_installed(&program.display().to_string())
        }
        SessionError::Start(source) => ProgramError::Start {
            command: command(),
            source,
        }
        .into(),
        SessionError::Ended { status, last_lines } => ended(command(), status, &last_lines),
        SessionError::TimedOut {
            call: "",
            limit,
            last_lines,
        } => begun_late(command(), limit, &last_lines),
        SessionError::TimedOut { limit, .. } => DriverError::TimedOut { what, limit },
        SessionError::Damaged { call } => DriverError::Hypervisor {
            what,
            detail: format!("PowerShell's answer to {call} cannot be read"),
        },
        SessionError::Refused(refusal) => refused(what, memory, &refusal),
    }
}

/// No PowerShell.
pub(super) fn not_installed(program: &str) -> DriverError {
    DriverError::NotInstalled {
        program: program.to_owned(),
        install: "Windows has it as powershell.exe: CORACLE_POWERSHELL names another".to_owned(),
    }
}

fn ended(command: String, status: String, last_lines: &[String]) -> DriverError {
    let stderr = last_lines.join("; ");
    // A policy of the computer that forbids scripts to call .NET.
    if stderr.contains("ConstrainedLanguage") {
        return unable(
            "a policy of this computer lets PowerShell run only a limited language".to_owned(),
        );
    }
    ProgramError::Failed {
        command,
        status,
        stderr,
    }
    .into()
}

fn begun_late(command: String, limit: Duration, last_lines: &[String]) -> DriverError {
    tracing::debug!(?last_lines, "PowerShell did not begin");
    ProgramError::TimedOut { command, limit }.into()
}

fn refused(what: &'static str, memory: Option<Size>, refusal: &Refusal) -> DriverError {
    let name = refusal.id.split(',').next().unwrap_or_default();
    let detail = refusal.message.trim().to_owned();
    let message = detail.to_ascii_uppercase();
    let has = |codes: &[&str]| {
        codes.iter().any(|code| {
            refusal.code.eq_ignore_ascii_case(code) || message.contains(&code.to_ascii_uppercase())
        })
    };
    match name {
        "CoracleGone" => return DriverError::NotRunning,
        "CoracleNotAllowed" | "AccessDenied" => return forbidden(detail),
        "CoracleNoSwitch" => {
            return unable(
                "the virtual switch is not there: CORACLE_HYPERV_SWITCH names one of `Get-VMSwitch`"
                    .to_owned(),
            );
        }
        "CoracleCheckpoints" => {
            return unable(
                "it has checkpoints, which its disk depends on: delete them in Hyper-V Manager"
                    .to_owned(),
            );
        }
        "CommandNotFoundException" | "CouldNotAutoLoadModule" => {
            return DriverError::NotInstalled {
                program: "the Hyper-V module for PowerShell".to_owned(),
                install: ENABLE.to_owned(),
            };
        }
        _ => {}
    }
    if refusal.category == "PermissionDenied" {
        return forbidden(detail);
    }
    if has(&NO_SPACE) {
        return DriverError::NoSpace { detail };
    }
    if has(&IN_USE) {
        return DriverError::DiskInUse { detail };
    }
    if has(&NO_HYPERVISOR) {
        return unready("its hypervisor does not run", START_HYPERVISOR);
    }
    if has(&NO_SERVICE) || refusal.id == "ObjectNotFound,Microsoft.HyperV.PowerShell.Commands.GetVM"
    {
        return unready("its service does not answer", START_SERVICE);
    }
    match memory {
        Some(asked) if name == "OutOfMemory" || has(&NO_MEMORY) => {
            DriverError::NoMemory { asked, detail }
        }
        _ => DriverError::Hypervisor { what, detail },
    }
}

fn forbidden(detail: String) -> DriverError {
    DriverError::Forbidden {
        detail,
        mend: JOIN.to_owned(),
    }
}

/// Hyper-V is there, and has to be put in order first.
pub(super) fn unready(reason: &str, mend: &str) -> DriverError {
    DriverError::Unready {
        kind: super::KIND,
        reason: reason.to_owned(),
        mend: mend.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(category: &str, id: &str, message: &str, code: &str) -> DriverError {
        let refusal = Refusal {
            category: category.to_owned(),
            id: id.to_owned(),
            message: message.to_owned(),
            code: code.to_owned(),
        };
        refused("start the machine", Some(Size::from_gib(3)), &refusal)
    }

    #[test]
    fn known_causes_have_names_in_every_language() {
        let start = "OutOfMemory,Microsoft.HyperV.PowerShell.Commands.StartVM";
        let german = "Nicht genügend Arbeitsspeicher im System";
        assert!(matches!(
            named("NotSpecified", start, german, "0x80131500"),
            DriverError::NoMemory { asked, .. } if asked == Size::from_gib(3)
        ));
        let failed = "OperationFailed,Microsoft.HyperV.PowerShell.Commands.StartVM";
        let named_by_code = |code: &str| {
            let message = format!("Die Maschine wurde nicht gestartet. ({code})");
            named("NotSpecified", failed, &message, "0x80131500")
        };
        assert!(matches!(
            named_by_code("0x800705aa"),
            DriverError::NoMemory { .. }
        ));
        assert!(matches!(
            named_by_code("0x80070070"),
            DriverError::NoSpace { .. }
        ));
        assert!(matches!(
            named_by_code("0x80070020"),
            DriverError::DiskInUse { .. }
        ));
        assert!(matches!(
            named_by_code("0xC0351000"),
            DriverError::Unready { .. }
        ));
        // The account of the machine may not read a file: that is not about this user.
        assert!(matches!(
            named_by_code("0x80070005"),
            DriverError::Hypervisor { detail, .. } if detail.contains("0x80070005")
        ));
        let list = "AccessDenied,Microsoft.HyperV.PowerShell.Commands.GetVM";
        assert!(matches!(
            named("PermissionDenied", list, "Zugriff verweigert", ""),
            DriverError::Forbidden { .. }
        ));
        let gone = "ObjectNotFound,Microsoft.HyperV.PowerShell.Commands.GetVM";
        assert!(matches!(
            named("ObjectNotFound", gone, "", ""),
            DriverError::Unready { mend, .. } if mend == START_SERVICE
        ));
        assert!(matches!(
            named(
                "ObjectNotFound",
                "CommandNotFoundException",
                "Hyper-V\\Get-VM",
                ""
            ),
            DriverError::NotInstalled { .. }
        ));
    }

    #[test]
    fn a_policy_is_named() {
        let lines = [
            "Cannot invoke method.".to_owned(),
            "ConstrainedLanguage".to_owned(),
        ];
        let error = ended(
            "powershell.exe".to_owned(),
            "exit code: 1".to_owned(),
            &lines,
        );
        assert!(matches!(error, DriverError::Unable { .. }));
    }
}
