//! Paths that are bound: which of the machine's they are.

use crate::convert::Source;

/// Paths that every Linux machine has of its own: what is bound there is the machine's, not this
/// computer's.
const OWN: &[&str] = &[
    "/boot",
    "/dev",
    "/etc/localtime",
    "/etc/machine-id",
    "/etc/os-release",
    "/etc/timezone",
    "/lib/modules",
    "/proc",
    "/run",
    "/sys",
    "/var/lib/docker",
    "/var/log",
    "/var/run",
];

/// Whether `path` is one that a machine has of its own.
pub(crate) fn is_own(path: &str) -> bool {
    path == "/"
        || OWN.iter().any(|own| {
            let below = path.strip_prefix(own);
            below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
}

/// Whether `written` is a path, and not the name of a volume.
pub(crate) fn is_path(written: &str) -> bool {
    written.starts_with(['.', '/', '~', '\\']) || has_drive(written)
}

/// Whether `written` begins with a drive of Windows.
pub(crate) fn has_drive(written: &str) -> bool {
    let bytes = written.as_bytes();
    bytes.len() > 2
        && bytes[0].is_ascii_alphabetic()
        && bytes[1] == b':'
        && matches!(bytes[2], b'\\' | b'/')
}

/// Where a path of the Compose file is in the machine, without `.` and `..`; nothing where that is
/// not known.
pub(crate) fn in_machine(source: &Source<'_>, written: &str) -> Option<String> {
    let written = written.replace('\\', "/");
    if has_drive(&written) {
        return None;
    }
    let path = match written.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            format!("{}{rest}", source.home?)
        }
        Some(_) => return None,
        None if written.starts_with('/') => written,
        None => format!("{}/{written}", source.folder),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::tests::{NoFiles, source};

    #[test]
    fn relative_paths_are_below_the_folder_of_the_file() {
        let source = source("", &NoFiles);
        for (written, expected) in [
            ("./data", Some("/work/shop/data")),
            ("../x/./y", Some("/work/x/y")),
            (".", Some("/work/shop")),
            ("/srv//x/", Some("/srv/x")),
            ("~/.aws", Some("/home/me/.aws")),
            ("~other/x", None),
            ("C:\\x", None),
        ] {
            assert_eq!(
                in_machine(&source, written).as_deref(),
                expected,
                "{written}"
            );
        }
    }

    #[test]
    fn a_volume_is_no_path() {
        for path in ["./a", "../a", "/a", "~/a", "C:\\a", "."] {
            assert!(is_path(path), "{path}");
        }
        assert!(!is_path("data"));
        assert!(!is_path("a:b"));
    }

    #[test]
    fn the_machines_own_paths_are_known() {
        assert!(is_own("/var/run/docker.sock"));
        assert!(is_own("/proc"));
        assert!(is_own("/"));
        assert!(!is_own("/devices"));
        assert!(!is_own("/home/me"));
    }
}
