//! What libvirt says that it could not do, as errors that callers can act on.

use std::path::PathBuf;

use virt::error::{Error, ErrorNumber};

use super::uri::is_of_system;
use crate::driver::DriverError;
use crate::program::Programs;
use crate::qemu::shared::recognise;
use crate::spec::MachineSpec;

/// Its daemons: the one for all hypervisors, and the newer one for QEMU alone.
const DAEMONS: [&str; 2] = ["virtqemud", "libvirtd"];
/// Where daemons are that are not on every user's search path.
const DAEMON_FOLDERS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];
/// Words of a file system without room.
const NO_SPACE: [&str; 2] = ["No space left on device", "Disk quota exceeded"];

/// Whether there is no such machine.
pub(super) fn is_absent(error: &Error) -> bool {
    error.code() == ErrorNumber::NoDomain
}

/// An error of a call that should do `what`.
pub(super) fn refused(what: &'static str) -> impl FnOnce(Error) -> DriverError {
    move |error| DriverError::Refused {
        what,
        detail: error.message().to_owned(),
    }
}

/// An error of a call that writes much.
pub(super) fn full(error: DriverError) -> DriverError {
    match error {
        DriverError::Refused { detail, .. }
            if NO_SPACE.iter().any(|word| detail.contains(word)) =>
        {
            DriverError::NoSpace { detail }
        }
        error => error,
    }
}

/// Why a machine was not started: QEMU's own last words are in what libvirt says.
pub(super) fn launch(error: DriverError, spec: &MachineSpec) -> DriverError {
    let DriverError::Refused { detail, .. } = &error else {
        return error;
    };
    let lines: Vec<String> = detail.lines().map(str::to_owned).collect();
    recognise(&lines, spec).unwrap_or(error)
}

/// Why the machine did not go on from what was saved.
pub(super) fn restore(error: DriverError) -> DriverError {
    match error {
        DriverError::Refused { detail, .. } => unrestored(detail),
        error => error,
    }
}

/// There is another way to begin.
pub(super) fn unrestored(status: impl Into<String>) -> DriverError {
    DriverError::RestoreFailed {
        status: status.into(),
        last_lines: Vec::new(),
    }
}

/// Why nobody answers at a URI, and what to do about it.
pub(super) fn unreachable(programs: &Programs, uri: &str, error: &Error) -> DriverError {
    explain(daemon(programs), uri, error.code(), error.message())
}

/// The daemon that is installed.
fn daemon(programs: &Programs) -> Option<&'static str> {
    let mut programs = programs.clone();
    programs
        .search_path
        .extend(DAEMON_FOLDERS.iter().map(PathBuf::from));
    DAEMONS
        .into_iter()
        .find(|daemon| programs.find(daemon).is_some())
}

fn explain(daemon: Option<&str>, uri: &str, code: ErrorNumber, message: &str) -> DriverError {
    let unreachable = |help: String| DriverError::Unreachable {
        service: format!("libvirt ({uri})"),
        detail: message.to_owned(),
        help,
    };
    let Some(daemon) = daemon else {
        return DriverError::NotInstalled {
            program: "libvirtd".to_owned(),
            install: install(),
        };
    };
    let is_denied = matches!(
        code,
        ErrorNumber::AuthFailed | ErrorNumber::AuthCancelled | ErrorNumber::AuthUnavailable
    );
    match code {
        _ if is_denied || message.contains("Permission denied") => unreachable(
            "sudo usermod -aG libvirt \"$USER\", then log in again; \
             or use your own: LIBVIRT_DEFAULT_URI=qemu:///session"
                .to_owned(),
        ),
        ErrorNumber::NoConnect => DriverError::NotInstalled {
            program: "libvirt's driver for QEMU".to_owned(),
            install: install(),
        },
        _ if is_of_system(uri) => {
            unreachable(format!("sudo systemctl enable --now {daemon}.socket"))
        }
        _ => unreachable(format!("`virsh --connect '{uri}' list` tells more")),
    }
}

/// How to get libvirt on this kind of host.
fn install() -> String {
    "Debian and Ubuntu: sudo apt-get install libvirt-daemon-system libvirt-clients; \
     Fedora: sudo dnf install libvirt-daemon-kvm libvirt-client; \
     Arch: sudo pacman -S libvirt"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEM: &str = "qemu:///system";

    fn told(error: &DriverError) -> String {
        match error {
            DriverError::Unreachable { help, .. } => format!("{error} | {help}"),
            DriverError::NotInstalled { install, .. } => format!("{error} | {install}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_missing_is_told_with_what_mends_it() {
        let no_socket = "Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory";
        let denied =
            "Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied";
        for (daemon, code, message, expected) in [
            (
                None,
                ErrorNumber::SystemError,
                no_socket,
                "libvirtd was not found | Debian",
            ),
            (
                Some("libvirtd"),
                ErrorNumber::SystemError,
                no_socket,
                "enable --now libvirtd.socket",
            ),
            (
                Some("virtqemud"),
                ErrorNumber::SystemError,
                no_socket,
                "enable --now virtqemud.socket",
            ),
            (
                Some("libvirtd"),
                ErrorNumber::SystemError,
                denied,
                "usermod -aG libvirt",
            ),
            (
                Some("libvirtd"),
                ErrorNumber::AuthUnavailable,
                "no polkit agent",
                "usermod -aG libvirt",
            ),
            (
                Some("libvirtd"),
                ErrorNumber::NoConnect,
                "no connection driver available for qemu:///system",
                "libvirt's driver for QEMU was not found",
            ),
        ] {
            let error = explain(daemon, SYSTEM, code, message);
            let told = told(&error);
            assert!(told.contains(expected), "{told}");
        }
        let own = explain(
            Some("libvirtd"),
            "qemu:///session",
            ErrorNumber::InternalError,
            "Cannot find daemon",
        );
        assert!(told(&own).contains("virsh --connect 'qemu:///session' list"));
    }

    #[test]
    fn a_full_disk_has_an_error_of_its_own() {
        let refused = |detail: &str| DriverError::Refused {
            what: "save the machine",
            detail: detail.to_owned(),
        };
        let error = full(refused("unable to write: No space left on device"));
        assert!(matches!(error, DriverError::NoSpace { .. }), "{error}");
        let error = full(refused("something else"));
        assert!(matches!(error, DriverError::Refused { .. }), "{error}");
    }
}
