//! Requests that are wrong in themselves, or more than the host has.

use coracle_tests::{Coracle, write};
use std::time::Duration;

/// Nothing may be made for a request that is refused.
#[track_caller]
fn nothing_was_made(coracle: &Coracle) {
    let made: Vec<_> = std::fs::read_dir(coracle.home())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(made.is_empty(), "a refused request left {made:?}");
    assert!(
        !coracle.kubeconfig().exists(),
        "a refused request made a kubeconfig"
    );
}

#[test]
fn too_little_memory_is_refused_at_once_and_before_anything_is_made() {
    let coracle = Coracle::new();
    let refuse = || {
        let refused = coracle.run("start --memory 250mb").done();
        refused.fails(23, "CORACLE_HOST_MEMORY")
    };
    let refused = (0..3).map(|_| refuse()).min_by_key(|done| done.took);
    refused
        .unwrap()
        .within(Duration::from_secs(1))
        .says("250 MiB")
        .advises("--memory");
    nothing_was_made(&coracle);
}

#[test]
fn resources_that_the_host_cannot_give_are_refused() {
    let coracle = Coracle::new();
    for (flags, code, id, named) in [
        ("--cpus 0", 29, "CORACLE_HOST_CPUS", "at least one"),
        ("--cpus 4000", 29, "CORACLE_HOST_CPUS", "4000"),
        ("--memory 900t", 23, "CORACLE_HOST_MEMORY", "900 TiB"),
        ("--memory 0", 23, "CORACLE_HOST_MEMORY", "too little"),
        (
            "--disk-size 900t",
            26,
            "CORACLE_HOST_STORAGE",
            "does not fit",
        ),
        ("--disk-size 10mb", 26, "CORACLE_HOST_STORAGE", "too small"),
    ] {
        let refused = coracle.run(&format!("start {flags}")).done();
        refused.fails(code, id).says(named).advises("coracle start");
        nothing_was_made(&coracle);
    }
}

#[test]
fn a_driver_is_known_and_built_in_or_refused() {
    let coracle = Coracle::new();
    let unknown = coracle
        .run("start --driver parallels")
        .done()
        .fails(54, "CORACLE_DRIVER_UNKNOWN");
    unknown.says("parallels").says("qemu");
    nothing_was_made(&coracle);
    for driver in ["libvirt", "hyperv"] {
        let refused = coracle.run(&format!("start --driver {driver}")).done();
        refused.fails(56, "CORACLE_DRIVER_UNSUPPORTED").says(driver);
    }
    let start = coracle.run("start --driver virtualbox");
    let missing = start.env("PATH", coracle.work()).done();
    missing
        .fails(55, "CORACLE_DRIVER_NOT_INSTALLED")
        .says("VBoxManage")
        .advises("install");
    assert_eq!(coracle.machines().len(), 0);
}

#[test]
fn names_that_are_no_folder_everywhere_are_refused_in_every_command() {
    let coracle = Coracle::new();
    let long = "a".repeat(64);
    let names = [
        "", ".", "..", "../up", "a/b", "a b", "-a", "_a", "a.", "ä", "con", "nul.txt", "a\\b",
        &long,
    ];
    for name in names {
        let profile = format!("--profile={name}");
        for command in ["start", "status", "stop", "delete"] {
            coracle
                .coracle([command, &profile])
                .done()
                .fails(14, "CORACLE_USAGE");
        }
        coracle
            .coracle(["status"])
            .env("CORACLE_PROFILE", name)
            .done()
            .fails(14, "CORACLE_USAGE");
        coracle
            .coracle(["delete", "--", name])
            .done()
            .fails(14, "CORACLE_USAGE");
    }
    // Said so that a person can tell what would be right.
    coracle
        .coracle(["start", "-p", "a/b"])
        .done()
        .says("'/' at place 2")
        .says("letters");
    nothing_was_made(&coracle);
}

#[test]
fn malformed_flags_are_usage_errors() {
    let coracle = Coracle::new();
    for flags in [
        "--cpus many",
        "--cpus -1",
        "--cpus 1.5",
        "--memory lots",
        "--memory -4g",
        "--memory 4x",
        "--disk-size big",
        "--apiserver-port 0",
        "--apiserver-port 65536",
        "--apiserver-port http",
        "--apiserver-ips 1.2.3",
        "--apiserver-names -x",
        "--kubernetes-version 1.x",
        "--kubernetes-version newest",
        "--container-runtime cri-o",
        "--service-cluster-ip-range ten",
        "--service-cluster-ip-range 10.244.0.0/16",
        "--dns-domain -x",
        "--feature-gates A=perhaps",
        "--extra-config nonsense",
        "--extra-config kublet.v=4",
        "--cert-expiration soon",
        "--wait everything",
        "--wait-timeout soon",
        "--embed-certs=perhaps",
        "--output xml",
        "--no-such-flag",
        "--cpus",
        "stray",
    ] {
        coracle
            .run(&format!("start {flags}"))
            .done()
            .fails(14, "CORACLE_USAGE");
    }
    for command in [
        "nosuch",
        "config get",
        "image nosuch",
        "completion tcl",
        "cp one",
        "logs -n few",
        "logs --problems -f",
        "logs --problems -n 3",
        "logs -o json",
        "logs --bundle",
        "logs --bundle new.tar.gz --problems",
        "logs --bundle new.tar.gz --component etcd",
        "logs --bundle -",
        "logs --bundle .",
        "logs --bundle no/such/folder/new.tar.gz",
        "status -o xml",
    ] {
        let refused = coracle.run(command).done();
        assert_eq!(refused.code(), Some(14), "{command}: {refused}");
    }
    nothing_was_made(&coracle);
}

#[test]
fn more_than_one_node_is_refused_by_saying_so() {
    let coracle = Coracle::new();
    let refused = coracle
        .run("start --nodes 2")
        .done()
        .fails(14, "CORACLE_USAGE");
    refused.says("exactly one node").advises("--nodes");
    let accepted = coracle.run("start --nodes 1 --memory 250mb").done();
    accepted.fails(23, "CORACLE_HOST_MEMORY");
    nothing_was_made(&coracle);
}

#[test]
fn what_the_host_cannot_give_is_refused_and_named() {
    let coracle = Coracle::new();
    let secret = "http://me:hidden-word@proxy:port";
    let refused = coracle.run("start").env("https_proxy", secret).done();
    let refused = refused
        .fails(48, "CORACLE_PROXY_INVALID")
        .says("HTTPS_PROXY");
    assert!(!refused.stderr.contains("hidden-word"), "{refused}");
    nothing_was_made(&coracle);

    let certificate = coracle.home().join("certs/company.pem");
    write(
        &certificate,
        "-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n",
    );
    let start = || coracle.run("start").done();
    start()
        .fails(18, "CORACLE_CERTIFICATE_INVALID")
        .says("company.pem");
    std::fs::remove_dir_all(coracle.home().join("certs")).unwrap();

    for (file, reason) in [
        ("usr/bin/tool", "/etc, /home, /opt"),
        ("etc/kubernetes/pki/ca.crt", "certificates"),
    ] {
        write(coracle.home().join("files").join(file), "x");
        start()
            .fails(18, "CORACLE_FILES_INVALID")
            .says(file)
            .says(reason);
        std::fs::remove_dir_all(coracle.home().join("files")).unwrap();
    }
    nothing_was_made(&coracle);
}

#[test]
fn a_copy_to_a_pod_is_explained() {
    let coracle = Coracle::new();
    write(coracle.work().join("a.txt"), "x");
    for command in [
        "cp a.txt web-0:/tmp/a",
        "cp a.txt shop/web-0:/tmp/a",
        "cp web-0:/tmp/a .",
    ] {
        coracle
            .run(command)
            .done()
            .fails(14, "CORACLE_USAGE")
            .says("the pod")
            .advises("coracle kubectl -- cp");
    }
}

#[test]
fn an_unknown_addon_is_refused() {
    let coracle = Coracle::new();
    let refused = coracle.run("start --addons dns,nosuch").done();
    refused.fails(115, "CORACLE_ADDON_NOT_FOUND").says("nosuch");
    nothing_was_made(&coracle);
}

#[test]
fn a_cluster_file_is_checked_like_flags() {
    let coracle = Coracle::new();
    let file = coracle.work().join("cluster.yaml");
    let start = || coracle.run("start --dry-run -f cluster.yaml").done();
    start()
        .fails(18, "CORACLE_CONFIG_INVALID")
        .says("cluster.yaml");
    for (text, named) in [
        ("cpus: 1\ncolour: red\n", "colour"),
        ("cpus: many\n", "cpus"),
        ("- a list\n", "cluster.yaml"),
        ("cpus: [1\n", "cluster.yaml"),
    ] {
        write(&file, text);
        start().fails(18, "CORACLE_CONFIG_INVALID").says(named);
    }
    write(&file, "cpus: 0\n");
    start().fails(29, "CORACLE_HOST_CPUS");
    write(
        &file,
        "cpus: 1\nmemory: 2g\nextra-config: [kubelet.max-pods=50]\n",
    );
    start().ok().says("cpus: 1").says("max-pods");
    nothing_was_made(&coracle);
}

#[test]
fn a_fault_point_that_is_none_is_refused() {
    let coracle = Coracle::new();
    for fault in ["kill", "kill:nowhere", "nudge:boot"] {
        coracle
            .run("start")
            .env("CORACLE_FAULT", fault)
            .done()
            .fails(14, "CORACLE_USAGE")
            .says(fault);
    }
}
