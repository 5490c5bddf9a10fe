//! arm64 from a host with another processor: the image is built there, its machines reach a node that is
//! Ready and run pods, and so does the program itself as far as it goes without a machine. All of it is
//! emulated: QEMU stands in for the processor.
#![cfg(target_arch = "x86_64")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

use coracle_tests::{Coracle, Run, Sections, built_image, go_env, installed, repository};
use std::path::{Path, PathBuf};
use std::time::Duration;

const TARGET: &str = "aarch64-unknown-linux-gnu";
/// Where Debian has the C library for programs of that target.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";
/// Beyond any build from nothing.
const BUILD: Duration = Duration::from_secs(4 * 3600);
/// Beyond any start: the processor's instructions are translated one by one.
const START: Duration = Duration::from_secs(2 * 3600);
const START_OPTION: &str = "--wait-timeout 110m";
const POD: &str = include_str!("pod.yaml");

/// The image's digest, in the sandbox's own store.
fn build(coracle: &Coracle) -> String {
    let (native, cache) = built_image();
    // What the sandbox has is a link to the images of all sandboxes.
    std::fs::remove_file(coracle.home().join("images")).unwrap();
    let built = coracle
        .run("image-build --arch arm64 --source")
        .args([repository()])
        .args(["--cache".as_ref(), cache.as_os_str()])
        .env("GOMODCACHE", go_env("GOMODCACHE"))
        .env("GOCACHE", go_env("GOCACHE"))
        .limit(BUILD)
        .ok();
    let digest = built.text().to_owned();
    assert_ne!(digest, native);
    // It is there for who names it, and nobody else gets it.
    let current = coracle.home().join("images/current");
    assert!(!current.exists(), "{}", current.display());
    built.says(&format!("CORACLE_IMAGE_DIGEST={digest}"));
    coracle
        .run("start")
        .done()
        .fails(65, "CORACLE_IMAGE_NOT_FOUND");
    digest
}

/// A cold start to the end.
fn reaches_ready(coracle: &Coracle) {
    let start = format!("start --cold {START_OPTION}");
    coracle.run(&start).limit(START).ok();
    let said = coracle.kubectl("get nodes --no-headers");
    assert!(said.contains(" Ready "), "{said}");
    let of_node = "jsonpath={.items[0].status.nodeInfo.architecture}";
    let said = coracle.kubectl_run(["get", "nodes", "-o", of_node]).ok();
    assert_eq!(said.text(), "arm64");
    assert_eq!(coracle.inside("uname -m"), "aarch64");
    let hypervisor = coracle.hypervisor("coracle");
    assert!(
        hypervisor.command.contains("qemu-system-aarch64"),
        "{hypervisor:?}"
    );
    // All processors joined that had to wait for the first.
    assert_eq!(coracle.inside("nproc"), "2");
    let mounts = coracle.inside("cat /proc/mounts");
    let is_mounted = |what: &str| mounts.lines().any(|line| line.contains(what));
    assert!(is_mounted("/usr/lib/coracle/kubernetes erofs"), "{mounts}");
}

/// A pod of an image that every machine has.
fn runs_a_pod(coracle: &Coracle) {
    coracle.apply(POD);
    let wait = "wait pod/says --for=jsonpath={.status.phase}=Succeeded --timeout=1800s";
    coracle
        .kubectl_run(wait.split_whitespace())
        .limit(START)
        .ok();
    assert_eq!(coracle.kubectl("logs says"), "aarch64");
}

/// Stopped, which saves it, and started, which goes on from there.
fn stops_and_goes_on(coracle: &Coracle) {
    let before = coracle.boot_id();
    coracle.run("stop").limit(START).ok();
    coracle.run("status").done().code_is(3).says("Stopped");
    let start = format!("start {START_OPTION}");
    coracle.run(&start).limit(START).ok();
    assert_eq!(coracle.boot_id(), before);
    let said = coracle.kubectl("get nodes --no-headers");
    assert!(said.contains(" Ready "), "{said}");
}

/// The program, compiled for the other processor.
fn compile(coracle: &Coracle) -> PathBuf {
    let target = coracle_tests::target().join("cross");
    let script = format!(
        "set -e; environment=$(scripts/cross {TARGET}); eval \"$environment\"
        cargo build --locked --target {TARGET} -p coracle-cli"
    );
    let (_, cache) = built_image();
    coracle
        .program("bash")
        .args(["-c", &script])
        .env("CORACLE_CACHE", cache)
        .env("CARGO_TARGET_DIR", &target)
        .folder(repository())
        .limit(BUILD)
        .ok();
    target.join(TARGET).join("debug/coracle")
}

/// What the program does without a machine, by an emulator of its processor.
fn answers(coracle: &Coracle, program: &Path) {
    let emulator = installed("qemu-aarch64").expect("scripts/setup --full installs it");
    let run = |arguments: &str| -> Run {
        coracle
            .program(&emulator)
            .args(["-L".as_ref(), LIBRARIES.as_ref(), program.as_os_str()])
            .args(arguments.split_whitespace())
    };
    let own = coracle.run("version --client").ok();
    assert_eq!(run("version --client").ok().text(), own.text());
    let refused = run("start --cpus none").done();
    let own = coracle.run("start --cpus none").done();
    assert_ne!(own.code(), Some(0), "{own}");
    assert_eq!((refused.code(), &refused.stderr), (own.code(), &own.stderr));
    run("ssh -- true")
        .done()
        .fails(35, "CORACLE_MACHINE_NOT_FOUND");
    run("image-build --arch riscv")
        .done()
        .fails(14, "CORACLE_USAGE");
    run("list").ok();
}

#[test]
#[ignore = "builds an image from nothing and boots it twice, emulated: hours"]
fn a_host_with_another_processor_builds_and_runs_arm64() {
    let mut coracle = Coracle::with_machine();
    coracle.use_toolchains();
    let mut test = Sections::new("arm64");
    let program = test.run("the program is compiled", || compile(&coracle));
    if let Some(program) = program {
        test.run("the program answers", || answers(&coracle, &program));
    }
    let digest = test.must("the image is built", || build(&coracle));
    coracle.set("CORACLE_IMAGE_DIGEST", &digest);
    test.must("a node is Ready", || reaches_ready(&coracle));
    test.run("a pod runs", || runs_a_pod(&coracle));
    test.run("it is stopped and goes on", || stops_and_goes_on(&coracle));
    test.run("it is deleted", || coracle.delete_all());
    coracle.delete_all();
    test.finish();
}
