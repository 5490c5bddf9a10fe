//! A Windows host that is none: Wine, with folders of the test's own.
//!
//! ```text
//! /tmp/coracle-windows-XXXXXX/    Z:\tmp\coracle-windows-XXXXXX
//!   home/                         CORACLE_HOME
//!   user/                         USERPROFILE; kubeconfig in it: KUBECONFIG
//!   bin/                          VBoxManage.exe and powershell.exe that are fakes, on the PATH
//! ```

use coracle_tests::{Run, repository};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const TARGET: &str = "x86_64-pc-windows-gnu";
/// Catches what hangs: each program also takes a moment for Wine itself.
const LIMIT: Duration = Duration::from_secs(300);

/// A program that was built for Windows, of the better build that there is.
fn built(name: &str) -> PathBuf {
    let target = coracle_tests::target().join(TARGET);
    let files = ["release", "debug"].map(|profile| target.join(profile).join(name));
    let found = files.iter().find(|file| file.is_file());
    let missing = "build the programs for Windows first, as `scripts/test --full` does";
    found
        .unwrap_or_else(|| panic!("{missing}: none of {files:?} is there"))
        .clone()
}

/// As programs for Windows see a path of this host.
pub(crate) fn seen(path: &Path) -> String {
    format!("Z:{}", path.display()).replace('/', "\\")
}

/// The host.
pub(crate) struct Windows {
    folder: TempDir,
}

impl Windows {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("coracle-windows-")
            .tempdir()
            .expect("a temporary folder");
        let windows = Self { folder };
        for folder in [windows.home(), windows.user(), windows.bin()] {
            std::fs::create_dir(folder).expect("the folder is ours");
        }
        windows
    }

    /// With a VirtualBox that is a fake.
    pub(crate) fn with_virtualbox() -> Self {
        let windows = Self::new();
        windows.install("fake-vboxmanage.exe", "VBoxManage.exe");
        windows
    }

    /// Puts a program on the PATH under another name.
    pub(crate) fn install(&self, program: &str, name: &str) -> PathBuf {
        let path = self.bin().join(name);
        std::fs::copy(built(program), &path).expect("it is built");
        path
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(crate) fn user(&self) -> PathBuf {
        self.folder.path().join("user")
    }

    pub(crate) fn bin(&self) -> PathBuf {
        self.folder.path().join("bin")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.user().join(".kube").join("config")
    }

    /// Any program for Windows.
    pub(crate) fn program(&self, program: &Path) -> Run {
        let user = self.user();
        Run::new(repository().join("scripts/wine"))
            .args([program])
            .env("HOME", &user)
            .env("WINEPATH", seen(&self.bin()))
            .env("USERPROFILE", seen(&user))
            .env("CORACLE_HOME", seen(&self.home()))
            .env("KUBECONFIG", seen(&self.kubeconfig()))
            .env("CORACLE_WAIT_TIMEOUT", "20s")
            .folder(&user)
            .limit(LIMIT)
    }

    /// `coracle ARGUMENTS`, as a shell would take them without quotes.
    pub(crate) fn run(&self, arguments: &str) -> Run {
        self.program(&built("coracle.exe"))
            .args(arguments.split_whitespace())
    }

    /// What the fake VirtualBox knows: state by name.
    pub(crate) fn machines(&self) -> Vec<(String, String)> {
        let bytes = std::fs::read(self.bin().join("vbox.json"));
        let books: Value = bytes.map_or(json!({}), |bytes| {
            serde_json::from_slice(&bytes).expect("the fake writes JSON")
        });
        let machines = books["machines"].as_object().cloned().unwrap_or_default();
        let text = |machine: &Value, field: &str| machine[field].as_str().unwrap().to_owned();
        machines
            .values()
            .map(|machine| (text(machine, "name"), text(machine, "state")))
            .collect()
    }
}

/// A failed test leaves no machine's host agent behind.
impl Drop for Windows {
    fn drop(&mut self) {
        let machines = self.home().join("machines");
        if std::fs::read_dir(machines).is_ok_and(|mut entries| entries.next().is_some()) {
            let deleted = self.run("delete --all").done();
            if !std::thread::panicking() {
                deleted.ok();
            }
        }
    }
}
