//! What `logs` makes of everything that is said: known problems, and an archive for a bug report.

use coracle_tests::{Coracle, unpacked, until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

/// Beyond what the agent needs to read a message of the kernel; it only catches what hangs.
const LIMIT: Duration = Duration::from_secs(300);
/// What a host that is busy, or has no way out, brings about in a cluster that is well.
const OF_THE_HOST: [&str; 6] = [
    "kernel-panic",
    "processor-stuck",
    "disk-stuck",
    "etcd-slow",
    "runtime-stuck",
    "dns-upstream",
];
/// Where the test's Secret is in the workloads.
const SECRET: &str = "hunter2";
/// Words of an identity that are as long as this are keys or certificates.
const LONG: usize = 40;

fn found(coracle: &Coracle, flags: &str) -> Value {
    coracle
        .run(&format!("logs --problems -o json {flags}"))
        .ok()
        .json()
}

fn names(found: &Value) -> BTreeSet<String> {
    let problems = found["Problems"].as_array().expect("a list of problems");
    problems
        .iter()
        .map(|one| one["Name"].as_str().unwrap().to_owned())
        .collect()
}

pub(super) fn problems(coracle: &Coracle) {
    let before = found(coracle, "");
    assert!(before["Lines"].as_u64().unwrap() > 100, "{before:#}");
    let of_the_cluster: Vec<_> = names(&before)
        .into_iter()
        .filter(|name| !OF_THE_HOST.contains(&name.as_str()))
        .collect();
    assert!(of_the_cluster.is_empty(), "{before:#}");

    coracle.inside(
        "echo 'Out of memory: Killed process 4242 (planted) total-vm:1kB' | sudo tee /dev/kmsg",
    );
    until("the kernel's line is found", LIMIT, || {
        names(&found(coracle, "--component kernel")).contains("memory-full")
    });
    let told = coracle.run("logs --problems").ok();
    let paragraphs = told.stdout.matches("memory-full: ").count();
    assert_eq!(paragraphs, 1, "a problem is told once: {told}");
    told.says("1 in kernel")
        .says("Killed process 4242 (planted)")
        .says("coracle start --memory");
    // A component's lines are its own, also those of the pods that belong to the cluster.
    for component in ["etcd", "coredns"] {
        let found = found(coracle, &format!("--component {component}"));
        assert!(
            found["Lines"].as_u64().unwrap() > 0,
            "{component}: {found:#}"
        );
        assert!(
            !names(&found).contains("memory-full"),
            "{component}: {found:#}"
        );
    }
    coracle
        .run("logs --component nosuch --problems")
        .done()
        .fails(85, "CORACLE_GUEST_NOT_FOUND")
        .says("nosuch");
}

/// Every long word below a folder: what its keys and certificates are written as.
fn long_words(folder: &Path) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            words.extend(long_words(&path));
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let long = text.split_whitespace().filter(|word| word.len() >= LONG);
        words.extend(long.map(str::to_owned));
    }
    words
}

pub(super) fn bundle(coracle: &Coracle) {
    let file = coracle.work().join("report.tar.gz");
    let done = coracle.run("logs --bundle report.tar.gz").ok();
    assert_eq!(done.text(), file.display().to_string());
    let done = done.says("look through it before you send it");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let files = unpacked(&file);
    let text = |name: &str| {
        let text = files.get(&format!("coracle-coracle/{name}"));
        text.unwrap_or_else(|| panic!("no {name} in {:?}: {done}", files.keys()))
    };
    let json = |name: &str| -> Value {
        serde_json::from_str(text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    assert!(
        !files.contains_key("coracle-coracle/missing.txt"),
        "{}",
        text("missing.txt")
    );
    for component in ["agent", "kernel", "etcd", "kubelet", "kube-apiserver"] {
        assert!(!text(&format!("components/{component}.log")).is_empty());
    }
    // Serial console and QEMU have nothing to say when all is well.
    for name in ["host/host-agent.log", "pods/coredns.log", "problems.txt"] {
        text(name);
    }
    assert_eq!(json("status.json")["Host"], "Running");
    assert_eq!(json("machine.json")["spec"]["name"], "coracle");
    assert!(json("version.json")["cluster"]["kernel"].is_string());
    assert!(json("doctor.json").is_array() && json("templates.json").is_array());
    for kind in ["nodes", "pods", "events", "services"] {
        let items = json(&format!("kubernetes/{kind}.json"));
        let items = items["items"]
            .as_array()
            .unwrap_or_else(|| panic!("{kind}: {items}"));
        assert!(!items.is_empty(), "{kind}");
    }
    // Pods are there, and nothing of what was put into them.
    let pods = text("kubernetes/pods.json");
    assert!(pods.contains("\"configured\"") && pods.contains("coracle.internal/busybox"));
    for field in [
        "last-applied-configuration",
        "\"command\"",
        "valueFrom",
        "managedFields",
    ] {
        assert!(!pods.contains(field), "{field} is in\n{pods}");
    }
    let secrets = long_words(&coracle.machine("coracle").join("identity"));
    assert!(
        secrets.len() > 20,
        "only {} secrets to look for",
        secrets.len()
    );
    for (name, text) in &files {
        assert!(!text.contains(SECRET), "{name} holds a Secret's value");
        assert!(!text.contains("PRIVATE KEY"), "{name} holds a key");
        let secret = secrets.iter().find(|secret| text.contains(secret.as_str()));
        assert_eq!(secret, None, "{name} holds something of the identity");
        let home = coracle.user_home().display().to_string();
        assert!(!text.contains(&home), "{name} names the home folder");
    }

    // What is there stays.
    let before = fs::read(&file).unwrap();
    coracle
        .run("logs --bundle report.tar.gz")
        .done()
        .fails(14, "CORACLE_USAGE")
        .says("exists already");
    assert_eq!(fs::read(&file).unwrap(), before);
}

pub(super) fn of_a_stopped_cluster(coracle: &Coracle) {
    let told = coracle.run("logs --problems").ok();
    assert!(
        told.stderr.contains("not read: ") && told.stderr.contains("not running"),
        "{told}"
    );
    assert!(!told.stdout.is_empty(), "{told}");
    let done = coracle
        .run("logs --bundle stopped.tar.gz")
        .ok()
        .says("not running");
    let files = unpacked(&coracle.work().join("stopped.tar.gz"));
    for name in [
        "host/host-agent.log",
        "machine.json",
        "status.json",
        "missing.txt",
    ] {
        assert!(
            files.contains_key(&format!("coracle-coracle/{name}")),
            "{name}: {done}"
        );
    }
    assert!(
        !files.keys().any(|name| name.contains("components/")),
        "{:?}",
        files.keys()
    );
}
