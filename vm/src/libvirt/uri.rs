//! What libvirt is reached by (<https://libvirt.org/uri.html>).

use super::unable;
use crate::driver::DriverError;
use crate::program::Programs;

/// Machines of the whole host, which root and the members of libvirt's group use.
const SYSTEM: &str = "qemu:///system";
/// Machines of one user.
const SESSION: &str = "qemu:///session";

/// The URI for machines of this user: the one that was given, else the usual one.
pub(super) fn of_user(programs: &Programs) -> Result<String, DriverError> {
    let is_root = rustix::process::geteuid().is_root();
    choose(programs.libvirt_uri.as_deref(), is_root)
}

/// Whether its daemon belongs to the whole host.
pub(super) fn is_of_system(uri: &str) -> bool {
    parts(uri).is_some_and(|(_, _, path)| path == "system")
}

fn choose(given: Option<&str>, is_root: bool) -> Result<String, DriverError> {
    let Some(uri) = given else {
        return Ok(if is_root { SYSTEM } else { SESSION }.to_owned());
    };
    let refused = |reason: &str| {
        Err(unable(format!(
            "LIBVIRT_DEFAULT_URI is {uri}, and {reason}"
        )))
    };
    match parts(uri) {
        Some(("qemu" | "qemu+unix", "", "system" | "session")) => Ok(uri.to_owned()),
        Some((scheme, _, _)) if scheme.split('+').next() != Some("qemu") => {
            refused("only QEMU's machines are possible: leave it out, or use qemu:///system")
        }
        Some((_, _, "system" | "session")) => {
            refused("only machines of this host are possible: leave it out, or use qemu:///system")
        }
        _ => refused("only qemu:///system and qemu:///session are possible"),
    }
}

/// Scheme, host and path of a URI.
fn parts(uri: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = uri.split_once("://")?;
    let (place, _) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = place.split_once('/')?;
    Some((scheme, host, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_the_hosts_machines_and_others_their_own() {
        assert_eq!(choose(None, true).unwrap(), "qemu:///system");
        assert_eq!(choose(None, false).unwrap(), "qemu:///session");
    }

    #[test]
    fn a_given_place_counts_if_its_machines_can_be_run() {
        for uri in [
            "qemu:///session",
            "qemu:///system",
            "qemu+unix:///system?socket=/run/my%20libvirt/sock",
        ] {
            assert_eq!(choose(Some(uri), true).unwrap(), uri);
        }
        for (uri, why) in [
            ("qemu+ssh://host/system", "machines of this host"),
            ("xen:///system", "QEMU's machines"),
            ("qemu:///embed?root=/x", "qemu:///session are possible"),
            ("system", "qemu:///session are possible"),
        ] {
            let error = choose(Some(uri), true).unwrap_err().to_string();
            assert!(error.contains(uri) && error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_daemon_of_the_host_is_known() {
        assert!(is_of_system("qemu+unix:///system?socket=/s"));
        assert!(!is_of_system("qemu:///session"));
    }
}
