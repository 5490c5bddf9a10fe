//! A release of this checkout, and a server that has it.

use coracle_tests::{Mirror, Run, repository};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

/// What a release for this host and for Windows is made for.
pub(crate) const LINUX: &str = concat!(env!("CARGO_PKG_VERSION"), "-x86_64-unknown-linux-gnu");
pub(crate) const WINDOWS: &str = concat!(env!("CARGO_PKG_VERSION"), "-x86_64-pc-windows-gnu");

/// What the installer for Unix calls.
const TOOLS: [&str; 13] = [
    "sh",
    "uname",
    "mktemp",
    "rm",
    "tar",
    "gzip",
    "cp",
    "chmod",
    "mv",
    "mkdir",
    "dirname",
    "cut",
    "sha256sum",
];

/// The files, and where they are served.
pub(crate) struct Release {
    pub(crate) folder: PathBuf,
    pub(crate) server: Mirror,
    _work: TempDir,
}

impl Release {
    /// The one that all tests share: making it builds the program for Windows too.
    pub(crate) fn shared() -> &'static Self {
        static RELEASE: OnceLock<Release> = OnceLock::new();
        RELEASE.get_or_init(|| {
            let work = tempfile::tempdir().expect("a temporary folder");
            let folder = work.path().join("release");
            fs::create_dir(&folder).expect("the folder is ours");
            let server = Mirror::of(&folder);
            dist(&folder, &server.url());
            Self {
                folder,
                server,
                _work: work,
            }
        })
    }

    /// One of its files.
    pub(crate) fn text(&self, name: &str) -> String {
        let file = self.folder.join(name);
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// The sum of each file, as SHA256SUMS has it.
    pub(crate) fn sums(&self) -> BTreeMap<String, String> {
        sums(&self.folder)
    }

    pub(crate) fn archive(&self) -> String {
        format!("coracle-{LINUX}.tar.gz")
    }
}

/// As SHA256SUMS of a folder has it.
pub(crate) fn sums(folder: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(folder.join("SHA256SUMS")).expect("there are sums");
    let lines = text.lines().map(|line| {
        let (sum, name) = line.split_once("  ").expect("sum and name");
        (name.to_owned(), sum.to_owned())
    });
    lines.collect()
}

pub(crate) fn sum_of(file: &Path) -> String {
    hex::encode(Sha256::digest(fs::read(file).expect("it is there")))
}

/// `scripts/dist`, with the surroundings of the build.
pub(crate) fn dist(folder: &Path, url: &str) {
    let status = Command::new(repository().join("scripts/dist"))
        .args(["--target", "x86_64-unknown-linux-gnu"])
        .args(["--target", "x86_64-pc-windows-gnu"])
        .args(["--url", url, "--homepage", "https://coracle.example"])
        .arg("--to")
        .arg(folder)
        .status()
        .expect("it is a script");
    assert!(status.success(), "scripts/dist ended with {status}");
}

/// A user whose system has nothing but what an installer may count on.
pub(crate) struct User {
    folder: TempDir,
}

impl User {
    /// With this program to download.
    pub(crate) fn with(downloader: &str) -> Self {
        let user = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        fs::create_dir(user.bin()).expect("the folder is ours");
        fs::create_dir(user.home()).expect("the folder is ours");
        for tool in TOOLS.iter().chain([&downloader]) {
            let path = coracle_tests::installed(tool);
            let path = path.unwrap_or_else(|| panic!("{tool} is not installed"));
            std::os::unix::fs::symlink(path, user.bin().join(tool)).expect("the folder is ours");
        }
        user
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(crate) fn bin(&self) -> PathBuf {
        self.folder.path().join("bin")
    }

    /// The installer of a release.
    pub(crate) fn install(&self, release: &Release) -> Run {
        Run::new(self.bin().join("sh"))
            .args([release.folder.join("install.sh")])
            .env("PATH", self.bin())
            .env("HOME", self.home())
            .env("SHELL", "/bin/bash")
            .folder(self.home())
    }

    /// The files below the home folder, by their paths in it.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.home()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("it is there").flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else {
                    let path = entry.path();
                    let path = path.strip_prefix(self.home()).expect("it is below");
                    found.push(path.display().to_string());
                }
            }
        }
        found.sort();
        found
    }
}
