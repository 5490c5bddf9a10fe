//! A driver that the test adds to a copy of the sources, and its cluster.

use coracle_tests::{Coracle, Run, Workspace, append, kept_folder, qemu_through};
use std::path::PathBuf;

/// What it is called.
pub(super) const NAME: &str = "pretend";
/// The one file beside its folder that knows of it.
const LIST: &str = "vm/src/driver/list.rs";
/// How what it cannot do is refused.
const UNSUPPORTED: (i32, &str) = (56, "CORACLE_DRIVER_UNSUPPORTED");

/// The sources with one driver more: its folder, and its module and its line in the list.
pub(super) fn workspace() -> Workspace {
    let mut workspace = Workspace::read();
    workspace.put("vm/src/pretend/mod.rs", include_str!("pretend/mod.rs"));
    workspace.replace(
        LIST,
        "    pub mod qemu;\n",
        "    pub mod pretend;\n    pub mod qemu;\n",
    );
    workspace.replace(
        LIST,
        "=> rooms::hyperv::HypervDriver;\n",
        "=> rooms::hyperv::HypervDriver;\n    /// What a test adds.\n    \
         Pretend(\"pretend\", \"make-believe\") => rooms::pretend::PretendDriver;\n",
    );
    workspace
}

/// Only its folder and the list do that.
pub(super) fn is_named_nowhere_else(workspace: &Workspace) {
    let copy = tempfile::tempdir().unwrap();
    workspace.write(copy.path());
    let git = |arguments: &[&str]| Run::new("git").args(arguments).folder(copy.path()).ok();
    git(&["init", "--quiet"]);
    git(&["add", "--all"]);
    let lint = || {
        let lint = Run::new(copy.path().join("scripts/lint")).args(["drivers"]);
        lint.env("HOME", copy.path()).folder(copy.path())
    };
    lint().ok();
    let elsewhere = "cli/src/cluster/stop.rs";
    append(
        copy.path().join(elsewhere),
        "\nconst IT: coracle_vm::DriverKind = coracle_vm::DriverKind::Pretend;\n",
    );
    lint()
        .done()
        .code_is(1)
        .says(elsewhere)
        .says("names a driver");
    // Where nothing can be looked at, nothing is well.
    std::fs::remove_dir_all(copy.path().join(".git")).unwrap();
    lint().done().code_is(1);
}

/// The program with that driver.
pub(super) fn build(workspace: &Workspace) -> PathBuf {
    let sources = kept_folder("with-one-more");
    workspace.write(&sources);
    coracle_tests::build(NAME, &sources, &["-p", "coracle-cli"], "coracle")
}

/// Its machines are on a network that gives them other addresses than QEMU does.
pub(super) fn use_its_network(coracle: &mut Coracle) {
    let qemu = qemu_through(coracle, "network", include_str!("network.sh"), &[]);
    coracle.set("CORACLE_QEMU", qemu);
}

pub(super) fn is_known(coracle: &Coracle) {
    let unknown = coracle.run("start --driver parallels").done();
    unknown.fails(54, "CORACLE_DRIVER_UNKNOWN").says(NAME);
    let other = "start -p other --driver make-believe";
    coracle.run(other).interrupted_at("boot");
    let rows = coracle.run("list -o json").ok().json();
    assert_eq!(rows[0]["Driver"], NAME, "{rows}");
    coracle.delete("other");
}

pub(super) fn is_listed(coracle: &Coracle) {
    let can = coracle.abilities();
    assert_eq!(can.driver, NAME);
    assert!(!can.can_pause && !can.can_save && !can.can_copy, "{can:?}");
    let doctor = coracle.run("doctor").ok();
    let mut lines = doctor.stdout.lines();
    let its = lines.find(|line| line.contains(" pretend 0.5 over "));
    let its = its.unwrap_or_else(|| panic!("it is not listed: {doctor}"));
    assert!(
        its.ends_with("; it cannot pause or save or copy a cluster"),
        "{its}"
    );
    assert!(its.contains("qemu-system-"), "where it is: {its}");
}

pub(super) fn start(coracle: &Coracle) {
    let start = coracle.run("start").ok();
    start.says("coracle is ready");
    let nodes = coracle.kubectl("get nodes --no-headers");
    assert!(nodes.contains(" Ready "), "{nodes}");
    let rows = coracle.run("list -o json").ok().json();
    assert_eq!(rows[0]["Driver"], NAME, "{rows}");
    assert!(
        !coracle.home().join("templates").exists(),
        "nothing begins with a copy"
    );
    coracle.kubectl("create configmap kept --from-literal=a=b");
    coracle.inside("echo kept > kept");
}

pub(super) fn refuses(coracle: &Coracle) {
    let boot = coracle.boot_id();
    for (command, what, advice) in [
        ("pause", "pause", "coracle stop"),
        ("clone other", "copy", "coracle doctor"),
        ("snapshot save first", "copy", "coracle doctor"),
        ("stop --sleep", "save", "coracle stop"),
    ] {
        let refused = coracle.run(command).done();
        refused
            .fails(UNSUPPORTED.0, UNSUPPORTED.1)
            .says(&format!("the driver {NAME} cannot {what}"))
            .advises(advice);
    }
    let refused = coracle.run("start --auto-stop 1h").done();
    refused
        .fails(UNSUPPORTED.0, UNSUPPORTED.1)
        .says(&format!("the driver {NAME} cannot save"))
        .advises("--auto-stop");
    assert_eq!(coracle.machines(), ["coracle"]);
    assert_eq!(
        coracle.run("snapshot list -o json").ok().json(),
        serde_json::json!([])
    );
    coracle.run("status").ok();
    assert_eq!(coracle.boot_id(), boot, "it runs on");
}

/// Gives which boot it was.
pub(super) fn stop(coracle: &Coracle) -> String {
    let boot = coracle.boot_id();
    let stop = coracle.run("stop").ok().says("coracle stopped after");
    assert!(stop.warnings().is_empty(), "{stop}");
    coracle
        .run("status")
        .done()
        .code_is(3)
        .says("host: Stopped");
    coracle.no_process_is_left();
    boot
}

pub(super) fn start_again(coracle: &Coracle, before: &str) {
    coracle.run("start").ok().says("coracle is ready");
    assert_ne!(coracle.boot_id(), before, "it booted");
    assert_eq!(coracle.inside("cat kept"), "kept");
    let kept = coracle.kubectl("get configmap kept -o jsonpath={.data.a}");
    assert_eq!(kept, "b");
}
