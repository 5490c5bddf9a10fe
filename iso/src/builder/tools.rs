//! The programs that a build needs on the host.

use super::{BuildError, MissingTool};
use crate::Arch;
use std::process::{Command, Stdio};

/// A program, an argument that makes it do nothing, and how to get it.
const TOOLS: [(&str, &str, &str); 6] = [
    (
        "go",
        "version",
        "install Go 1.26.6 or newer from https://go.dev/dl",
    ),
    (
        "cargo",
        "--version",
        "install Rust with rustup from https://rustup.rs",
    ),
    ("mmdebstrap", "--version", "apt-get install mmdebstrap"),
    ("dpkg-deb", "--version", "apt-get install dpkg"),
    ("unshare", "--version", "apt-get install util-linux"),
    ("chroot", "--version", "apt-get install coreutils"),
];

/// This host's architecture, if images can be built on it.
pub(crate) fn host() -> Result<Arch, BuildError> {
    Arch::host().ok_or_else(|| BuildError::Host {
        host: std::env::consts::ARCH.to_owned(),
    })
}

/// Fails with all that is missing, not only the first.
pub(crate) fn check() -> Result<(), BuildError> {
    if !cfg!(target_os = "linux") {
        return Err(BuildError::Platform);
    }
    host()?;
    let missing: Vec<_> = TOOLS
        .iter()
        .filter(|(tool, argument, _)| !runs(tool, argument))
        .map(|(tool, _, install)| MissingTool {
            tool: (*tool).into(),
            install: (*install).into(),
        })
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(BuildError::Tools(missing))
    }
}

fn runs(tool: &str, argument: &str) -> bool {
    let null = Stdio::null;
    let mut command = Command::new(tool);
    command
        .arg(argument)
        .stdin(null())
        .stdout(null())
        .stderr(null());
    // Only a program that cannot be started is missing.
    command.status().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_noticed() {
        assert!(runs("sh", "-c"));
        assert!(!runs("no-such-program-here", "--version"));
    }
}
