//! Copies of a running cluster: a second one beside it, and snapshots to go back to.

use crate::is_whole;
use coracle_tests::{Coracle, kill_pid, until};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(600);

/// A pod that counts in its memory, once a second.
const COUNTS: &str = "apiVersion: v1
kind: Pod
metadata: {name: counts}
spec:
  containers:
  - name: counts
    image: coracle.internal/busybox:1.37
    command: [sh, -c, 'i=0; while true; do i=$((i+1)); echo $i > /dev/shm/n; mv /dev/shm/n /dev/shm/i; sleep 1; done']
";

fn kubectl(coracle: &Coracle, name: &str, command: &str) -> String {
    let done = coracle.run(&format!("kubectl -p {name} -- {command}")).ok();
    done.text().to_owned()
}

fn count(coracle: &Coracle, name: &str) -> u64 {
    let text = kubectl(coracle, name, "exec counts -- cat /dev/shm/i");
    text.parse()
        .unwrap_or_else(|_| panic!("{name} says {text:?}"))
}

fn goes_on(coracle: &Coracle, name: &str, beyond: u64) {
    until("the pod counts on", LIMIT, || count(coracle, name) > beyond);
}

/// Which container it is, and how often that was started.
fn container(coracle: &Coracle, name: &str) -> String {
    let path =
        "get pod counts -o jsonpath={.status.containerStatuses[0]['containerID','restartCount']}";
    kubectl(coracle, name, path)
}

/// Random bytes that a program inside gets.
fn random(coracle: &Coracle, name: &str) -> String {
    let command = "head -c 32 /dev/urandom | od -An -tx1";
    let asked = coracle.coracle(["ssh", "-p", name, "--", command]).ok();
    asked.text().to_owned()
}

pub(super) fn start_counting(coracle: &Coracle) {
    coracle
        .run("kubectl -p two -- apply -f -")
        .stdin(COUNTS)
        .ok();
    kubectl(
        coracle,
        "two",
        "wait pod/counts --for=condition=Ready --timeout=600s",
    );
    goes_on(coracle, "two", 1);
}

/// Both go on from the same moment, each as a cluster of its own.
pub(super) fn clone(coracle: &Coracle) {
    let before = (count(coracle, "two"), container(coracle, "two"));
    coracle
        .run("clone copy -p two")
        .ok()
        .says("copy is ready after");
    for name in ["two", "copy"] {
        assert_eq!(container(coracle, name), before.1, "{name}");
        goes_on(coracle, name, before.0 + 1);
        is_whole(coracle, name);
    }
    assert_ne!(random(coracle, "two"), random(coracle, "copy"));
    kubectl(coracle, "copy", "create configmap of-the-copy");
    let missing = coracle
        .run("kubectl -p two -- get configmap of-the-copy")
        .done();
    assert!(missing.stderr.contains("NotFound"), "{missing}");
    // What the copy writes is kept over a boot, and so is what it had from the other.
    coracle.run("stop -p copy --shutdown").ok();
    coracle.run("start -p copy").ok();
    kubectl(coracle, "copy", "get configmap of-the-copy");
    kubectl(coracle, "copy", "get pod counts");

    coracle
        .run("clone copy -p two")
        .done()
        .fails(31, "CORACLE_MACHINE_SETTINGS");
    coracle
        .run("clone -p two a/b")
        .done()
        .fails(14, "CORACLE_USAGE");
    coracle.delete("copy");
    coracle.run("stop -p two").ok();
    coracle
        .run("clone copy -p two")
        .done()
        .fails(33, "CORACLE_MACHINE_NOT_RUNNING");
    assert!(!coracle.machine("copy").exists());
    coracle.run("start -p two").ok();
    goes_on(coracle, "two", before.0 + 1);
}

/// Killed while it copies, the other goes on and a second try succeeds; killed later, a start of the copy
/// goes on from the moment of the copy.
pub(super) fn killed_clone(coracle: &Coracle) {
    let before = (count(coracle, "two"), container(coracle, "two"));
    let mut clone = coracle.run("clone copy -p two").start();
    clone.until_it_says("Capturing");
    kill_pid(clone.pid());
    clone.done().is_killed();
    goes_on(coracle, "two", before.0 + 1);
    is_whole(coracle, "two");
    if coracle.machine("copy").exists() {
        coracle.delete("copy");
    }
    for step in ["check", "rekey"] {
        let at = count(coracle, "two");
        coracle.run("clone copy -p two").killed_at(step);
        goes_on(coracle, "two", at + 1);
        coracle.run("start -p copy").ok();
        for name in ["two", "copy"] {
            assert_eq!(container(coracle, name), before.1, "{name}, {step}");
            goes_on(coracle, name, at + 1);
            is_whole(coracle, name);
        }
        assert_ne!(random(coracle, "two"), random(coracle, "copy"));
        coracle.delete("copy");
    }
    let left = coracle.machine("two").read_dir().unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = left.filter(|name| name.contains("saving")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The cluster can go back to where it was, as often as one likes.
pub(super) fn snapshot(coracle: &Coracle) {
    let container_then = container(coracle, "two");
    coracle.run("snapshot save -p two then").ok();
    let then = count(coracle, "two");
    coracle
        .run("snapshot save -p two then")
        .done()
        .fails(61, "CORACLE_SNAPSHOT_EXISTS");
    let listed = coracle.run("snapshot list -p two -o json").ok().json();
    assert_eq!(listed[0]["Name"], "then");
    assert_eq!(listed[0]["State"], "resumes");
    kubectl(coracle, "two", "create configmap later");
    goes_on(coracle, "two", then + 20);
    let mut seen = Vec::new();
    for _ in 0..2 {
        coracle.run("snapshot restore -p two then").ok();
        let now = count(coracle, "two");
        assert!(
            now < then + 20,
            "{now} is not what was counted then: {then}"
        );
        assert_eq!(container(coracle, "two"), container_then);
        let missing = coracle.run("kubectl -p two -- get configmap later").done();
        assert!(missing.stderr.contains("NotFound"), "{missing}");
        is_whole(coracle, "two");
        goes_on(coracle, "two", now);
        seen.push(random(coracle, "two"));
        // It can be stopped and started from there like any other.
        coracle.run("stop -p two").ok();
        coracle.run("start -p two").ok();
        goes_on(coracle, "two", now);
    }
    assert_ne!(seen[0], seen[1], "the same random numbers came twice");
    coracle.run("snapshot delete -p two then").ok();
    for command in ["restore", "delete"] {
        coracle
            .run(&format!("snapshot {command} -p two then"))
            .done()
            .fails(65, "CORACLE_SNAPSHOT_NOT_FOUND");
    }
    let listed = coracle.run("snapshot list -p two").ok();
    assert!(listed.text().contains("no snapshots"), "{listed}");
}
