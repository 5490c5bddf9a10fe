//! Runs VBoxManage: where it is, and one call of it.
//!
//! ```text
//! words --> VBoxManage --> what it wrote
//!              |    ^
//!              v    | another session holds the machine for a moment
//!           Failure +
//! ```

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::failure::{Cause, Failure};
use crate::accelerator::HostSystem;
use crate::driver::DriverError;
use crate::program::{self, Output, Programs};

/// How long a question may take. The first one also starts VirtualBox's service.
pub(super) const QUESTION: Duration = Duration::from_secs(30);
/// How long a change of settings may take, or of a running machine.
pub(super) const CHANGE: Duration = Duration::from_secs(60);
/// How long a session may hold a machine that it has done with: one closes some time after its machine
/// is off.
const LOCK_LIMIT: Duration = Duration::from_secs(15);
/// The first pause between two attempts at a machine that is held; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The program's names; Debian has both.
const NAMES: [&str; 2] = ["VBoxManage", "vboxmanage"];
/// Where VirtualBox's own packages and installers put it, whether or not PATH says so.
const USUAL_FOLDERS: [&str; 6] = [
    "/usr/bin",
    "/usr/local/bin",
    "/opt/VirtualBox",
    "/usr/lib/virtualbox",
    "/Applications/VirtualBox.app/Contents/MacOS",
    r"C:\Program Files\Oracle\VirtualBox",
];
/// VBoxManage reads its arguments and writes names in the encoding of its locale: without one it refuses
/// every name that is not ASCII (VERR_NO_TRANSLATION). Every distribution of today has this one, which also
/// keeps messages English.
const ENVIRONMENT: &[(&str, &str)] = if cfg!(target_os = "linux") {
    &[("LC_ALL", "C.UTF-8")]
} else {
    &[]
};

/// VBoxManage on this host.
#[derive(Debug, Clone)]
pub(super) struct Manage {
    program: PathBuf,
}

impl Manage {
    /// The one of the installer's folder, of the search path, or of a usual folder, in this order.
    pub(super) fn find(programs: &Programs) -> Option<Self> {
        Self::find_in(programs, &USUAL_FOLDERS)
    }

    fn find_in(programs: &Programs, usual: &[&str]) -> Option<Self> {
        let given = programs.virtualbox.iter().cloned();
        let folders = given
            .chain(programs.search_path.iter().cloned())
            .chain(usual.iter().map(PathBuf::from));
        let all = Programs {
            search_path: folders.collect(),
            ..Programs::default()
        };
        let program = NAMES.iter().find_map(|name| all.find(name));
        program.map(|program| Self { program })
    }

    /// As [`find`](Self::find); one that is missing is an error that says how to get it.
    pub(super) fn require(programs: &Programs) -> Result<Self, DriverError> {
        Self::find(programs).ok_or_else(|| DriverError::NotInstalled {
            program: "VBoxManage".to_owned(),
            install: install().to_owned(),
        })
    }

    /// The program.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Runs it once.
    pub(super) async fn once(
        &self,
        words: &[OsString],
        limit: Duration,
    ) -> Result<Output, Failure> {
        tracing::trace!(command = %program::describe(&self.program, words), "calling VirtualBox");
        let output = program::run_in(&self.program, words, ENVIRONMENT, limit).await?;
        Failure::check(output, || program::describe(&self.program, words))
    }

    /// Runs it, again as long as another session holds the machine, but not for ever. Gives its standard
    /// output.
    pub(super) async fn run(&self, words: &[OsString], limit: Duration) -> Result<String, Failure> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.once(words, limit).await {
                Err(failure) if failure.cause == Cause::Locked && begun.elapsed() < LOCK_LIMIT => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                done => return done.map(|output| output.stdout),
            }
        }
    }
}

/// Arguments of a call.
pub(super) fn words<const N: usize>(words: [&str; N]) -> Vec<OsString> {
    words.map(OsString::from).to_vec()
}

/// How to get VirtualBox on this kind of host.
fn install() -> &'static str {
    match HostSystem::current() {
        HostSystem::Linux => {
            "Ubuntu: sudo apt-get install virtualbox; Debian: the same with the component contrib of sid, or the \
             package of virtualbox.org; Fedora: sudo dnf install VirtualBox (RPM Fusion); Arch: sudo pacman -S virtualbox"
        }
        HostSystem::MacOs => "brew install --cask virtualbox",
        HostSystem::Windows => "winget install Oracle.VirtualBox",
        HostSystem::Other => "install VirtualBox 6.1 or newer",
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::store::atomic;

    fn executable(path: &Path) {
        atomic::create_private_dirs(path.parent().unwrap()).unwrap();
        atomic::write(path, b"#!/bin/sh\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, mode).unwrap();
    }

    #[test]
    fn it_is_looked_for_in_the_installers_folder_then_in_path_then_in_usual_ones() {
        let home = tempfile::tempdir().unwrap();
        let place = |folder: &str| home.path().join(folder);
        let usual = place("usual").display().to_string();
        let mut programs = Programs {
            search_path: vec![place("path")],
            virtualbox: Some(place("installed")),
            ..Programs::default()
        };
        let found =
            |programs: &Programs| Manage::find_in(programs, &[&usual]).map(|manage| manage.program);
        assert_eq!(found(&programs), None);
        for folder in ["usual", "path", "installed"] {
            let program = place(folder).join("VBoxManage");
            executable(&program);
            assert_eq!(found(&programs), Some(program));
        }
        programs.virtualbox = None;
        executable(&place("path").join("vboxmanage"));
        assert_eq!(found(&programs), Some(place("path").join("VBoxManage")));
    }
}
