//! `logs` of a machine that does not run: known problems, and the archive for a bug report.

use coracle_tests::{Coracle, small_image, unpacked, write};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

const PANIC: &str = "[   12.345678] Kernel panic - not syncing: Attempted to kill init!\n";

/// A cluster that was made and never booted.
fn sandbox() -> Coracle {
    let coracle = Coracle::new();
    small_image(&coracle.home());
    coracle
        .run("start")
        .env("CORACLE_FAULT", "interrupt:boot")
        .done()
        .fails(130, "CORACLE_INTERRUPTED");
    coracle
}

#[test]
fn problems_are_told_of_what_the_host_keeps() {
    let coracle = sandbox();
    let machine = coracle.machine("coracle");
    let told = coracle.run("logs --problems").ok();
    assert_eq!(told.text(), "no known problem in 0 lines");
    assert!(told.stderr.starts_with("warning: not read: "), "{told}");

    write(machine.join("serial.log.old"), PANIC);
    write(machine.join("serial.log"), "[    0.000000] Linux version\n");
    write(
        machine.join("host-agent.log"),
        "cannot write: No space left on device (os error 28)\n",
    );
    let told = coracle.run("logs --problems").ok().says("not running");
    assert_eq!(told.stdout.matches("help:").count(), 2, "{told}");
    told.says("1 in console.old")
        .says("host-disk-full: ")
        .says("coracle start -p coracle");
    let json = coracle.run("logs --problems -o json").ok().json();
    assert_eq!(json["Problems"][0]["Name"], "kernel-panic", "{json}");
    assert_eq!(json["Problems"][0]["Times"]["console.old"], 1, "{json}");
    assert_eq!(coracle.run("logs --problems -o yaml").ok().yaml(), json);

    // One source alone.
    let told = coracle.run("logs --problems --component host-agent").ok();
    assert!(
        told.stdout.starts_with("host-disk-full: ") && told.stderr.is_empty(),
        "{told}"
    );
    coracle
        .run("logs --component host-agent -n 1")
        .ok()
        .says("os error 28");
}

#[test]
fn a_bundle_holds_what_there_is_without_secrets() {
    let coracle = sandbox();
    let machine = coracle.machine("coracle");
    let home = coracle.user_home().display().to_string();
    let key = fs::read_to_string(machine.join("identity/admin.key")).unwrap();
    write(
        machine.join("serial.log"),
        format!("{PANIC}kernel says token=planted\n"),
    );
    write(
        machine.join("qemu.log"),
        format!("{key}proxy http://me:planted@proxy:3128\nopened {home}/disk\n"),
    );
    coracle.run("config set memory 3g").ok();
    let done = coracle.run("logs --bundle new.tar.gz").ok();
    let file = coracle.work().join("new.tar.gz");
    assert_eq!(done.text(), file.display().to_string());
    let done = done
        .says("look through it before you send it")
        .says("not running");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let files = unpacked(&file);
    let names: Vec<_> = files
        .keys()
        .map(|name| name.strip_prefix("coracle-coracle/").expect("one folder"))
        .collect();
    for name in [
        "config.yaml",
        "doctor.json",
        "host/qemu.log",
        "host/serial.log",
        "machine.json",
        "missing.txt",
        "problems.txt",
        "status.json",
        "templates.json",
        "version.json",
    ] {
        assert!(names.contains(&name), "{name} is not in {names:?}: {done}");
    }
    let body = key.lines().nth(1).expect("a key has lines");
    for (name, text) in &files {
        for secret in ["planted", body, "PRIVATE KEY", &home] {
            assert!(!text.contains(secret), "{name} holds {secret:?}");
        }
        if name.ends_with(".json") {
            serde_json::from_str::<serde_json::Value>(text).unwrap();
        }
    }
    assert!(files["coracle-coracle/host/qemu.log"].contains("opened ~/disk"));
    assert!(files["coracle-coracle/config.yaml"].contains("memory"));
    assert!(files["coracle-coracle/problems.txt"].starts_with("kernel-panic: "));
    let left: Vec<_> = fs::read_dir(coracle.work()).unwrap().collect();
    assert_eq!(left.len(), 1, "only the bundle is left: {left:?}");
}

#[test]
fn a_bundle_takes_nobodys_place() {
    let coracle = sandbox();
    let file = coracle.work().join("there.tar.gz");
    write(&file, "mine");
    std::os::unix::fs::symlink("nowhere", coracle.work().join("link")).unwrap();
    for path in ["there.tar.gz", "link", "."] {
        let refused = coracle.coracle(["logs", "--bundle", path]).done();
        refused.fails(14, "CORACLE_USAGE").advises("--bundle");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    assert!(!coracle.work().join("nowhere").exists());
}

#[test]
fn a_broken_record_has_a_bundle_too() {
    let mut coracle = sandbox();
    let record = coracle.machine("coracle").join("machine.json");
    let mut value: serde_json::Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    value["cluster"]["former-kubeconfig"] = "user: {token: planted}".into();
    write(&record, value.to_string());
    write(coracle.machine("coracle").join("serial.log"), PANIC);
    coracle
        .run("logs --bundle broken.tar.gz")
        .ok()
        .says("damaged");
    let files = unpacked(&coracle.work().join("broken.tar.gz"));
    assert!(files["coracle-coracle/status.json"].contains("Broken"));
    assert!(files["coracle-coracle/host/serial.log"].contains("panic"));
    assert!(!files["coracle-coracle/machine.json"].contains("planted"));

    write(&record, "not json, with password=planted");
    coracle
        .run("logs --bundle worse.tar.gz")
        .ok()
        .says("machine.json");
    let files = unpacked(&coracle.work().join("worse.tar.gz"));
    assert!(!files.contains_key("coracle-coracle/machine.json"));
    assert!(files.values().all(|text| !text.contains("planted")));
    coracle.delete_all();
}
