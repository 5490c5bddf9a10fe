//! Whether Hyper-V runs machines on this host, and what to do where it does not.

use super::answers::Host;
use super::calls::Hyperv;
use super::failure::{ENABLE, JOIN, START_HYPERVISOR, START_SERVICE, unready};
use super::unable;
use crate::accelerator::{Accelerator, AcceleratorChoice, AcceleratorError, Verdict};
use crate::driver::{DriverError, DriverFacts};
use crate::spec::Architecture;

/// The build of Windows 10 1607 and Windows Server 2016, the first whose Hyper-V has all that is used.
const OLDEST_BUILD: u32 = 14393;

/// Checks what was asked for, then the host.
pub(super) async fn probe(
    hyperv: &Hyperv,
    choice: AcceleratorChoice,
    guest: Architecture,
) -> Result<DriverFacts, DriverError> {
    check_choice(choice)?;
    check_guest(guest)?;
    let host = hyperv.host().await?;
    check(&host, hyperv.switch())?;
    Ok(DriverFacts {
        kind: super::KIND,
        place: hyperv.program().display().to_string(),
        version: host.version,
        verdict: Verdict {
            accelerator: Accelerator::Whpx,
            reason: "Hyper-V works".to_owned(),
        },
    })
}

/// Hyper-V runs a guest's instructions by Windows' hypervisor and by nothing else.
pub(super) fn check_choice(choice: AcceleratorChoice) -> Result<(), DriverError> {
    match choice {
        AcceleratorChoice::Auto | AcceleratorChoice::Only(Accelerator::Whpx) => Ok(()),
        AcceleratorChoice::Only(wanted) => Err(AcceleratorError {
            wanted,
            reason: "Hyper-V has only Windows' own hypervisor".to_owned(),
            permission: false,
        }
        .into()),
    }
}

/// It emulates no processor.
pub(super) fn check_guest(guest: Architecture) -> Result<(), DriverError> {
    let host = Architecture::of_host();
    if guest == host {
        return Ok(());
    }
    let (guest, host) = (guest.as_str(), host.as_str());
    Err(unable(format!(
        "the guest is {guest} and the host is {host}"
    )))
}

/// The first thing that is missing, with what mends it.
fn check(host: &Host, switch: &str) -> Result<(), DriverError> {
    if host.system != "Win32NT" {
        return Err(super::not_windows());
    }
    // Home's editions are Core, CoreN, CoreSingleLanguage and CoreCountrySpecific.
    let edition = host.edition.as_deref().unwrap_or_default();
    if edition.starts_with("Core") {
        return Err(unable(format!(
            "Windows Home ({edition}) has no Hyper-V; Pro, Enterprise, Education and Server have it"
        )));
    }
    let build = host.version.split('.').nth(2);
    let build = build.and_then(|build| build.parse::<u32>().ok());
    if build.is_some_and(|build| build < OLDEST_BUILD) {
        return Err(unable(format!(
            "Windows {} is too old: 10.0.{OLDEST_BUILD} is needed",
            host.version
        )));
    }
    check_installed(host)?;
    if host.service != "Running" {
        let state = host.service.to_lowercase();
        let reason = format!("its service vmms is {state}");
        return Err(unready(&reason, START_SERVICE));
    }
    if !host.hypervisor {
        return Err(unready("its hypervisor does not run", START_HYPERVISOR));
    }
    if !host.allowed {
        return Err(DriverError::Forbidden {
            detail: "this user is not a member of Hyper-V Administrators".to_owned(),
            mend: JOIN.to_owned(),
        });
    }
    if host.switch == Some(false) {
        return Err(missing_switch(switch));
    }
    Ok(())
}

fn check_installed(host: &Host) -> Result<(), DriverError> {
    let has_service = host.service != "Missing";
    if host.module && has_service {
        return Ok(());
    }
    let is = |feature: &Option<String>, state: &str| feature.as_deref() == Some(state);
    let enabled = is(&host.feature, "enabled");
    if enabled && !has_service {
        return Err(unready(
            "it was turned on and does not run yet",
            "restart Windows",
        ));
    }
    if enabled || has_service {
        return Err(DriverError::NotInstalled {
            program: "the Hyper-V module for PowerShell".to_owned(),
            install: "in a PowerShell of an administrator: Enable-WindowsOptionalFeature -Online -FeatureName Microsoft-Hyper-V-Management-PowerShell -All".to_owned(),
        });
    }
    Err(DriverError::NotInstalled {
        program: "Hyper-V".to_owned(),
        install: ENABLE.to_owned(),
    })
}

fn missing_switch(switch: &str) -> DriverError {
    unable(if switch.is_empty() {
        "this Windows has no Default Switch: CORACLE_HYPERV_SWITCH names another, which New-VMSwitch makes".to_owned()
    } else {
        format!(
            "there is no virtual switch \"{switch}\": `Get-VMSwitch` lists them, and CORACLE_HYPERV_SWITCH names one"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Host {
        Host {
            system: "Win32NT".to_owned(),
            version: "10.0.22631".to_owned(),
            edition: Some("Professional".to_owned()),
            allowed: true,
            service: "Running".to_owned(),
            module: true,
            hypervisor: true,
            feature: None,
            switch: Some(true),
        }
    }

    fn said(change: impl FnOnce(&mut Host)) -> String {
        let mut host = good();
        change(&mut host);
        match check(&host, "") {
            Ok(()) => "works".to_owned(),
            Err(DriverError::NotInstalled { program, install }) => format!("{program}: {install}"),
            Err(DriverError::Unready { reason, mend, .. }) => format!("{reason}: {mend}"),
            Err(DriverError::Forbidden { mend, .. }) => mend,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn whatever_is_missing_is_told_with_what_mends_it() {
        assert_eq!(said(|_| {}), "works");
        assert_eq!(said(|host| host.edition = None), "works");
        for (told, word) in [
            (
                said(|host| host.system = "Unix".to_owned()),
                "part of Windows",
            ),
            (
                said(|host| host.edition = Some("CoreSingleLanguage".to_owned())),
                "Windows Home",
            ),
            (
                said(|host| host.version = "10.0.10240".to_owned()),
                "too old",
            ),
            (
                said(|host| {
                    host.module = false;
                    host.service = "Missing".to_owned();
                    host.feature = Some("disabled".to_owned());
                }),
                "-FeatureName Microsoft-Hyper-V -All",
            ),
            (
                said(|host| host.module = false),
                "Microsoft-Hyper-V-Management-PowerShell",
            ),
            (
                said(|host| {
                    host.service = "Missing".to_owned();
                    host.feature = Some("enabled".to_owned());
                }),
                "restart Windows",
            ),
            (
                said(|host| host.service = "Stopped".to_owned()),
                "Start-Service vmms",
            ),
            (said(|host| host.hypervisor = false), "bcdedit"),
            (
                said(|host| host.allowed = false),
                "Add-LocalGroupMember -SID S-1-5-32-578",
            ),
            (
                said(|host| host.switch = Some(false)),
                "CORACLE_HYPERV_SWITCH",
            ),
        ] {
            assert!(told.contains(word), "{told}");
        }
    }
}
