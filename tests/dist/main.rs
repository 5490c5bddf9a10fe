//! A release: `scripts/dist`, what it makes, and its installer for Unix against a server of this host.
//!
//! The installer for Windows and the manifests of package managers are read here and never run: there is no
//! PowerShell, no Homebrew and no winget.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

mod release;

use coracle_tests::{Fault, Run, repository, write};
use release::{LINUX, Release, User, WINDOWS, dist, sum_of, sums};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

/// What a template has where something is filled in.
const MARKS: [&str; 7] = [
    "%if",
    "%end",
    "@URL",
    "@HOMEPAGE",
    "@VERSION",
    "@ARCHIVE",
    "@SHA256",
];

/// The programs that download, of which a user has at least one.
const DOWNLOADERS: [&str; 2] = ["curl", "wget"];

#[test]
#[ignore = "builds a release: `make test-full`"]
fn every_file_of_a_release_has_its_sum() {
    let release = Release::shared();
    let sums = release.sums();
    let named: Vec<&str> = sums.keys().map(String::as_str).collect();
    assert_eq!(
        named,
        [
            "Coracle.Coracle.installer.yaml",
            "Coracle.Coracle.locale.en-US.yaml",
            "Coracle.Coracle.yaml",
            &format!("coracle-{WINDOWS}.cdx.json"),
            &format!("coracle-{WINDOWS}.zip"),
            &format!("coracle-{LINUX}.cdx.json"),
            &format!("coracle-{LINUX}.tar.gz"),
            "coracle.rb",
            "install.ps1",
            "install.sh",
        ]
    );
    for (name, sum) in &sums {
        assert_eq!(&sum_of(&release.folder.join(name)), sum, "{name}");
    }
    let files = fs::read_dir(&release.folder).unwrap().count();
    assert_eq!(files, sums.len() + 1, "and SHA256SUMS");
}

#[test]
#[ignore = "builds a release: `make test-full`"]
fn whoever_installs_is_told_the_sums_of_the_archives() {
    let release = Release::shared();
    let sums = release.sums();
    let url = release.server.url();
    let linux = (release.archive(), vec!["install.sh", "coracle.rb"]);
    let windows = (
        format!("coracle-{WINDOWS}.zip"),
        vec!["install.ps1", "Coracle.Coracle.installer.yaml"],
    );
    for (archive, files) in [linux, windows] {
        for file in files {
            let text = release.text(file);
            assert!(text.contains(&sums[&archive]), "{file}: {text}");
            assert!(text.contains(&archive), "{file}: {text}");
            assert!(text.contains(url.trim_end_matches('/')), "{file}: {text}");
            let open = MARKS.iter().find(|mark| text.contains(**mark));
            assert_eq!(open, None, "{file}: {text}");
        }
    }
    for file in ["Coracle.Coracle.installer.yaml", "Coracle.Coracle.yaml"] {
        let manifest: Value = serde_yaml::from_str(&release.text(file)).unwrap();
        assert_eq!(manifest["PackageVersion"], env!("CARGO_PKG_VERSION"));
        let nested = manifest["NestedInstallerFiles"][0]["RelativeFilePath"].as_str();
        assert!(nested.is_none_or(|path| path == format!("coracle-{WINDOWS}\\coracle.exe")));
    }
    // Targets that were not built are in nobody's way.
    assert!(!release.text("coracle.rb").contains("on_macos"));
    assert!(!release.text("install.sh").contains("Darwin"));
}

#[test]
#[ignore = "builds a release: `make test-full`"]
fn an_archive_has_what_belongs_to_a_program() {
    let release = Release::shared();
    let list = |arguments: &[&str], archive: &str| {
        let run = Run::new(arguments[0]).args(&arguments[1..]);
        run.args([release.folder.join(archive)]).ok().stdout
    };
    let unix = list(&["tar", "-tvzf"], &release.archive());
    for (mode, path) in [
        ("-rwxr-xr-x 0/0", "coracle"),
        ("-rw-r--r-- 0/0", "LICENSE"),
        ("-rw-r--r-- 0/0", "README.md"),
        ("-rw-r--r-- 0/0", "coracle.cdx.json"),
        ("-rw-r--r-- 0/0", "completions/coracle.bash"),
        ("-rw-r--r-- 0/0", "man/coracle-start.1"),
    ] {
        let end = format!(" coracle-{LINUX}/{path}");
        let line = unix.lines().find(|line| line.ends_with(&end));
        assert!(
            line.is_some_and(|line| line.starts_with(mode)),
            "{path}: {unix}"
        );
    }
    let windows = list(&["unzip", "-l"], &format!("coracle-{WINDOWS}.zip"));
    for path in [
        "coracle.exe",
        "LICENSE",
        "README.md",
        "completions/_coracle.ps1",
    ] {
        let end = format!(" coracle-{WINDOWS}/{path}");
        assert!(
            windows.lines().any(|line| line.ends_with(&end)),
            "{path}: {windows}"
        );
    }
}

#[test]
#[ignore = "builds a release: `make test-full`"]
fn the_bill_of_materials_names_what_is_linked() {
    let release = Release::shared();
    for (target, has, has_not) in [
        (LINUX, vec!["tokio", "rustls", "rustix"], "sysinfo"),
        (WINDOWS, vec!["tokio", "rustls", "sysinfo"], "criterion"),
    ] {
        let text = release.text(&format!("coracle-{target}.cdx.json"));
        let bill: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(bill["bomFormat"], "CycloneDX");
        assert_eq!(bill["metadata"]["component"]["name"], "coracle-cli");
        let components = bill["components"].as_array().unwrap();
        let found = |name: &str| components.iter().find(|one| one["name"] == name);
        for name in has {
            let found = found(name).unwrap_or_else(|| panic!("{target}: {name}"));
            let purl = found["purl"].as_str().unwrap();
            assert!(purl.starts_with(&format!("pkg:cargo/{name}@")), "{purl}");
            assert!(found["licenses"].is_array(), "{found}");
        }
        assert!(found(has_not).is_none(), "{target}: {has_not}");
        let here = repository().display().to_string();
        assert!(!text.contains(&here), "{target}: names {here}");
    }
}

#[test]
#[ignore = "builds a release: `make test-full`"]
fn the_same_sources_give_the_same_archives() {
    let release = Release::shared();
    let other = tempfile::tempdir().unwrap();
    let folder = other.path().join("again");
    dist(&folder, &release.server.url());
    assert_eq!(sums(&folder), release.sums());
}

#[test]
#[ignore = "builds a release: `make test-full`"]
fn the_installer_puts_the_program_where_its_user_has_programs() {
    let release = Release::shared();
    for downloader in DOWNLOADERS {
        let user = User::with(downloader);
        let installed = user.install(release).ok();
        installed
            .says(&format!(
                "{}/.local/bin is not on your PATH",
                user.home().display()
            ))
            .says("~/.bashrc");
        let files = user.files();
        for file in [
            ".local/bin/coracle",
            ".local/share/man/man1/coracle-start.1",
            ".local/share/bash-completion/completions/coracle",
            ".local/share/zsh/site-functions/_coracle",
            ".local/share/fish/vendor_completions.d/coracle.fish",
        ] {
            assert!(files.iter().any(|one| one == file), "{file}: {files:#?}");
        }
        assert!(
            !files.iter().any(|file| file.contains(".new.")),
            "{files:#?}"
        );
        let program = user.home().join(".local/bin/coracle");
        let version = Run::new(&program).args(["version", "--short"]);
        let version = version.env("HOME", user.home()).ok();
        assert_eq!(version.text(), concat!("v", env!("CARGO_PKG_VERSION")));
        // Once more, over one that is there, and with its folder on the PATH.
        let path = format!(
            "{}:{}",
            user.bin().display(),
            program.parent().unwrap().display()
        );
        let again = user.install(release).env("PATH", path).ok();
        assert!(!again.stderr.contains("not on your PATH"), "{again}");
        assert_eq!(user.files(), files);
        user.install(release).args(["--remove"]).ok();
        assert_eq!(user.files(), Vec::<String>::new());
    }
}

#[test]
#[ignore = "builds a release: `make test-full`"]
fn the_installer_takes_another_folder_and_another_server() {
    let release = Release::shared();
    let user = User::with("curl");
    let nowhere = user
        .install(release)
        .env("CORACLE_INSTALL_URL", "http://127.0.0.1:9");
    nowhere.done().code_is(1).says("CORACLE_INSTALL_URL");
    let place = user.home().join("my programs");
    let url = release.server.url();
    user.install(release)
        .args(["--to", "my programs"])
        .env("CORACLE_INSTALL_URL", url.trim_end_matches('/'))
        .ok()
        .says(&place.display().to_string());
    assert!(place.join("coracle").is_file());
    user.install(release)
        .args(["--two"])
        .done()
        .code_is(1)
        .says("--to FOLDER");
}

#[test]
#[ignore = "builds a release: `make test-full`"]
fn the_installer_refuses_what_is_not_the_release() {
    let release = Release::shared();
    let user = User::with("curl");
    let program = user.home().join(".local/bin/coracle");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    write(&program, "the one before");
    for (fault, says) in [
        (Fault::ChangeByte, "is not what this release has"),
        (
            Fault::Content(b"<html>sign in first</html>".to_vec()),
            "is not what this release has",
        ),
        (Fault::Status(404), "cannot download"),
    ] {
        release.server.fault(".tar.gz", fault.clone(), 9);
        let refused = user.install(release).done();
        release.server.heal();
        refused.code_is(1).says(says);
        assert_eq!(user.files(), [".local/bin/coracle"], "{fault:?}");
        assert_eq!(fs::read_to_string(&program).unwrap(), "the one before");
    }
}

#[test]
#[ignore = "builds a release: `make test-full`"]
fn the_installer_says_for_whom_there_is_no_program() {
    let release = Release::shared();
    let user = User::with("curl");
    let uname = user.bin().join("uname");
    fs::remove_file(&uname).unwrap();
    write(
        &uname,
        "#!/bin/sh\n[ \"$1\" = -s ] && echo Plan9 || echo mips\n",
    );
    fs::set_permissions(&uname, fs::Permissions::from_mode(0o755)).unwrap();
    let refused = user.install(release).done();
    refused.code_is(1).says("Plan9 on mips");
    assert_eq!(user.files(), Vec::<String>::new());
}

#[test]
fn a_release_for_nobody_is_refused() {
    let dist = |arguments: &[&str]| {
        let mut run = Run::new(repository().join("scripts/dist")).args(arguments);
        for name in ["HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
            if let Some(value) = std::env::var_os(name) {
                run = run.env(name, value);
            }
        }
        run.done().code_is(1)
    };
    dist(&["--target", "mips-plan9"]).says("x86_64-pc-windows-gnu");
    dist(&["--image", "sha256:abc"]).says("64 lower-case hexadecimal digits");
    dist(&["--url", "ftp://a.example"]).says("https://");
    dist(&["--url"]).says("takes a value");
    dist(&["--verbose"]).says("unknown argument --verbose");
}
