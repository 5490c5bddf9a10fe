//! A machine with a Docker engine alone, as docker-machine made them.

use crate::client::Docker;
use crate::store::BASE;
use coracle_tests::{Coracle, Profile, until, write};
use std::time::Duration;

/// Every machine's file system has it, for those with Kubernetes.
const BASE_ARCHIVE: &str = "/usr/lib/coracle/images/busybox.tar";
const SOON: Duration = Duration::from_secs(60);

/// Starts one, as docker-machine's users do.
fn create<'a>(coracle: &'a Coracle, name: &'a str) -> Docker<'a> {
    let cluster = Profile { coracle, name };
    let created = cluster.command("create --no-kubernetes").ok();
    assert!(created.stderr.contains("a Docker engine at"), "{created}");
    Docker::of(cluster)
}

/// A start that is killed as its engine starts goes on with the same machine.
pub(super) fn a_killed_start_goes_on(coracle: &Coracle) {
    coracle
        .run("start -p killed --no-kubernetes")
        .killed_at("engine");
    let machine = coracle.hypervisor("killed").pid;
    let killed = create(coracle, "killed");
    assert_eq!(coracle.hypervisor("killed").pid, machine);
    killed.ok("ps");
    coracle.delete("killed");
}

pub(super) fn is_made_once_and_cloned(coracle: &Coracle) {
    let one = create(coracle, "one");
    assert_eq!(one.text("version --format {{.Server.Os}}"), "linux");
    // There is nothing for kubectl, and nothing was written for it.
    assert!(!coracle.kubeconfig().exists());
    one.cluster
        .kubectl_run("get nodes")
        .done()
        .fails(106, "CORACLE_NO_KUBERNETES");
    one.cluster
        .command("service list")
        .done()
        .fails(106, "CORACLE_NO_KUBERNETES");
    let status = one.cluster.command("status -o json").ok().json();
    assert_eq!(status["Docker"], "Running", "{status}");
    assert_eq!(status["Kubelet"], "None", "{status}");
    one.cluster.ssh("pgrep -x kube-apiserver").done().code_is(1);
    let archive = coracle.work().join("base.tar");
    let path = archive.display();
    coracle
        .run(&format!("cp -p one :{BASE_ARCHIVE} {path}"))
        .ok();
    let loaded = one.cluster.command(&format!("image load {path}")).ok();
    assert_eq!(loaded.text(), BASE);
    let again = one.cluster.command("start").ok();
    assert!(again.stderr.contains("is running already"), "{again}");
    let other = one.cluster.command("start --no-kubernetes=false").done();
    other
        .fails(31, "CORACLE_MACHINE_SETTINGS")
        .says("--no-kubernetes");
    let addon = coracle
        .run("start -p none --no-kubernetes --addons storage")
        .done();
    addon.fails(14, "CORACLE_USAGE");
}

pub(super) fn live_side_by_side(coracle: &Coracle) {
    let one = Docker::of(Profile {
        coracle,
        name: "one",
    });
    one.cluster.command(&format!("cache add {BASE}")).ok();
    // Killed while it gives the machine the images that are kept, a start goes on.
    coracle
        .run("start -p two --no-kubernetes")
        .killed_at("images");
    let two = create(coracle, "two");
    // It went on from the template that the first one made.
    let kernel = two.cluster.inside("sudo dmesg");
    let is_clone = kernel.contains("due to virtual machine fork");
    assert!(is_clone, "{kernel}");
    let listed = coracle.run("template list -o json").ok().json();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    // What is kept for new machines the new one has from its start.
    assert_eq!(two.text("images -q"), one.text("images -q"));
    // One that has lost it is given it again.
    two.ok(&format!("rmi -f {BASE}"));
    assert_eq!(two.text("images -q"), "");
    two.cluster.command("cache reload").ok();
    assert_eq!(two.text("images -q"), one.text("images -q"));
    coracle.run("cache rm coracle.internal/busybox:1.37").ok();
    assert_eq!(coracle.run("cache list -o json").ok().text(), "[]");
    one.ok("volume create only-here");
    assert_eq!(two.text("volume ls -q"), "");
    assert_eq!(one.text("volume ls -q"), "only-here");
    // Neither lets in who belongs to the other.
    let strange = two
        .command("ps")
        .env("DOCKER_CERT_PATH", one.variable("DOCKER_CERT_PATH"));
    assert_ne!(strange.done().code(), Some(0));
    let listed = coracle.run("ls -o json").ok().json();
    let rows = listed.as_array().unwrap();
    assert_eq!(rows.len(), 2, "{listed}");
    assert!(
        rows.iter()
            .all(|row| row["Version"] == "-" && row["Status"] == "Running"),
        "{listed}"
    );
    coracle.run("rm -p two").ok();
}

pub(super) fn goes_on_after_a_stop(coracle: &Coracle) {
    let one = Docker::of(Profile {
        coracle,
        name: "one",
    });
    let folder = coracle.user_home().join("site");
    write(folder.join("page"), "of this host");
    let folder = folder.display();
    one.ok(&format!(
        "run -d --restart always -v {folder}:/site --name web {BASE} httpd -f -p 8080"
    ));
    let id = one.text("ps -q");
    one.cluster.command("stop").ok();
    one.cluster.command("start").ok();
    assert_eq!(one.text("ps -q"), id);
    one.cluster.command("stop --shutdown").ok();
    one.cluster.command("start").ok();
    until("it runs again", SOON, || one.text("ps -q") == id);
    assert_eq!(one.inside("web", "cat /site/page"), "of this host");
    // Whoever takes the folder out means it.
    let home = coracle.user_home();
    let home = home.display();
    one.ok("rm -f web");
    one.cluster.command(&format!("mount --remove {home}")).ok();
    let run = format!("run --rm -v {folder}:/site {BASE} cat /site/page");
    let refused = one.refused(&run);
    assert!(
        refused.contains("was taken out of this cluster"),
        "{refused}"
    );
    one.cluster.command(&format!("mount {home}:{home}")).ok();
    assert_eq!(one.text(&run), "of this host");
    one.cluster.command("env --unset").ok();
    coracle.run("rm -p one").ok();
}

pub(super) fn a_full_disk_is_named_and_grows(coracle: &Coracle) {
    let small = Profile {
        coracle,
        name: "small",
    };
    small.command("start --no-kubernetes --disk-size 2g").ok();
    let archive = coracle.work().join("base.tar");
    let load = format!("image load {}", archive.display());
    let fill = |name: &str| {
        let size = "$(($(df --output=avail -B1 /var | tail -n 1) - 262144))";
        small.inside(&format!("sudo fallocate -l {size} /var/{name}"));
    };
    fill("full");
    let refused = small.command(&load).done();
    refused
        .fails(80, "CORACLE_GUEST_STORAGE")
        .advises("--disk-size 40g");
    let docker = Docker::of(small);
    let is_refused = |command: &str| {
        let refused = docker.refused(command);
        assert!(
            refused.contains("`coracle start` with a larger --disk-size"),
            "{command}: {refused}"
        );
    };
    is_refused(&format!("load -i {}", archive.display()));
    // While it runs, with nothing lost.
    let boot = small.boot_id();
    let size = || -> u64 {
        small
            .inside("df --output=size -B1M /var | tail -n 1")
            .trim()
            .parse()
            .unwrap()
    };
    assert!(size() < 2048);
    let grown = small.command("start --disk-size 3g").ok();
    assert!(grown.stderr.contains("it has what was changed"), "{grown}");
    until("its file system has grown", SOON, || size() > 2500);
    small.command(&load).ok();
    docker.ok(&format!("create --name holds {BASE}"));
    fill("again");
    is_refused(&format!("cp {} holds:/", archive.display()));
    small.inside("sudo rm /var/again");
    let smaller = small.command("start --disk-size 2g").done();
    smaller
        .fails(31, "CORACLE_MACHINE_SETTINGS")
        .says("--disk-size");
    // And one that is stopped, when it goes on.
    small.command("stop").ok();
    small.command("start --disk-size 4g").ok();
    until("its file system has grown", SOON, || size() > 3500);
    assert_eq!(small.boot_id(), boot, "it never booted");
    coracle.run("rm -p small").ok();
}

pub(super) fn its_settings_are_kept(coracle: &Coracle) {
    let cluster = Profile {
        coracle,
        name: "one",
    };
    let one = Docker::of(cluster);
    let info = |what: &str| one.text(&format!("info --format {{{{.{what}}}}}"));
    let process = || cluster.inside("pgrep -xo dockerd");
    let before = process();
    let set = "start --docker-opt debug --insecure-registry registry.lan:5000";
    let changed = cluster.command(set).ok();
    assert!(
        changed.stderr.contains("it has what was changed"),
        "{changed}"
    );
    until("it is taken up", SOON, || info("Debug") == "true");
    assert!(info("RegistryConfig.IndexConfigs").contains("registry.lan:5000"));
    assert_eq!(process(), before, "it was told, and not restarted");
    let again = cluster.command(set).ok();
    assert!(again.stderr.contains("nothing was changed"), "{again}");
    // What it would not start with is not written.
    let file = "cat /etc/docker/daemon.json";
    let kept = cluster.inside(file);
    for wrong in [
        "--docker-opt bogus=1",
        "--docker-opt data-root=/tmp",
        "--insecure-registry a:5000/b",
    ] {
        cluster
            .command(&format!("start {wrong}"))
            .done()
            .fails(14, "CORACLE_USAGE");
    }
    assert_eq!(cluster.inside(file), kept);
    // Another that takes a new process, over which the settings stay.
    cluster
        .command("start --docker-opt log-opts.max-size=5m")
        .ok();
    until("another process answers", SOON, || {
        one.command("ps").done().code() == Some(0) && process() != before
    });
    assert_eq!(info("Debug"), "true");
    // The file is its user's too: dockerd reads it when it is told, the kubelet's containerd at each start.
    let registries = || cluster.inside("ls /etc/containerd/certs.d");
    assert_eq!(registries(), "registry.lan:5000");
    cluster.inside(
        "sudo sed -i 's/registry.lan:5000/other.lan:5000/' /etc/docker/daemon.json && \
         sudo pkill -HUP -x dockerd",
    );
    until("it is taken up", SOON, || {
        info("RegistryConfig.IndexConfigs").contains("other.lan:5000")
    });
    // Settings are kept over a start, and taken when the engine does not run.
    cluster.command("stop --shutdown").ok();
    cluster
        .command("start --registry-mirror https://mirror.lan")
        .ok();
    assert_eq!(info("Debug"), "true");
    let configured = info("RegistryConfig");
    assert!(configured.contains("https://mirror.lan/"), "{configured}");
    assert!(configured.contains("other.lan:5000"), "{configured}");
    assert_eq!(registries(), "docker.io\nother.lan:5000");
    cluster.inside("sudo sed -i /mirror.lan/d /etc/docker/daemon.json");
}
