//! Containers of the engine: what people do with them, and what they live through.

use crate::client::Docker;
use crate::reach::{free_port, page};
use coracle_tests::{until, write};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(120);

pub(super) fn live(docker: &Docker<'_>) {
    docker.ok("run -d --init --memory 64m --cpus 0.5 --pids-limit 50 --name web web:1");
    let page = docker.inside("web", "wget -qO- http://127.0.0.1:8080/");
    assert_eq!(page, "hello");
    assert_eq!(
        docker.inside("web", "cat /sys/fs/cgroup/memory.max").trim(),
        "67108864"
    );
    assert_eq!(
        docker.inside("web", "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/pids.max"),
        "50000 100000\n50"
    );
    assert!(
        docker
            .inside("web", "cat /proc/1/cmdline")
            .contains("docker-init")
    );
    docker
        .with(["exec", "web", "sh", "-c", "echo said > /proc/1/fd/1"])
        .ok();
    until("the log has it", SOON, || {
        docker.text("logs web").contains("said")
    });
    let work = docker.cluster.coracle.work();
    write(work.join("in"), "copied");
    docker.ok("cp in web:/www/in");
    docker.ok("cp web:/www/in out");
    assert_eq!(std::fs::read_to_string(work.join("out")).unwrap(), "copied");
    assert!(docker.text("diff web").contains("A /www/in"));
    assert!(docker.text("top web").contains("httpd"));
    assert!(
        docker
            .text("stats --no-stream --format {{.Name}}")
            .contains("web")
    );
    docker.ok("pause web");
    assert!(docker.text("ps --format {{.Status}}").contains("Paused"));
    docker.ok("unpause web");
    docker.ok("commit web kept:1");
    assert_eq!(docker.text("run --rm kept:1 cat /www/in"), "copied");
    assert!(docker.text("history kept:1").lines().count() > 3);
    let table = docker.text("system df");
    for row in ["Images", "Containers", "Local Volumes", "Build Cache"] {
        assert!(table.contains(row), "{table}");
    }
    let script = "read line; echo $line and back";
    docker
        .with([
            "run", "-d", "-i", "--name", "asks", "web:1", "sh", "-c", script,
        ])
        .ok();
    // With the end of its input attach ends, whatever the container still says.
    let attached = docker.shell("(echo there; sleep 10) | docker attach asks");
    assert_eq!(attached.ok().stdout, "there and back\n");
    // It has ended, and goes with what else has.
    docker.ok("container prune -f");
    assert_eq!(docker.text("ps -a --format {{.Names}}"), "web");
    // Standard input goes in, and its end is seen.
    let echoed = docker
        .command("run --rm -i web:1 cat")
        .stdin("through and back")
        .done()
        .ok();
    assert_eq!(echoed.stdout, "through and back");
    let ended = docker
        .with(["run", "--rm", "web:1", "sh", "-c", "exit 7"])
        .done();
    assert_eq!(ended.code(), Some(7), "{ended}");
    docker.ok("save -o kept.tar kept:1");
    docker.ok("rmi kept:1");
    docker.ok("load -i kept.tar");
    assert_eq!(docker.text("run --rm kept:1 cat /www/in"), "copied");
    docker.ok("rmi kept:1");
    let seen =
        docker.text("events --since 10m --until 0s --filter container=web --format {{.Action}}");
    assert!(seen.contains("pause") && seen.contains("start"), "{seen}");
    docker.ok("rm -f web");
}

pub(super) fn networks_lead_and_separate(docker: &Docker<'_>) {
    docker.ok("network create front");
    docker.ok("run -d --network front --name server web:1");
    let ask = |network: &str, address: &str| {
        let page = format!("http://{address}:8080/");
        let script = ["wget", "-T", "10", "-qO-", &page];
        let run = ["run", "--rm", "--network", network, "web:1"];
        docker.with(run.into_iter().chain(script)).done()
    };
    assert_eq!(ask("front", "server").ok().stdout, "hello");
    assert_eq!(ask("container:server", "127.0.0.1").ok().stdout, "hello");
    let address = docker.text("inspect -f {{.NetworkSettings.Networks.front.IPAddress}} server");
    docker.ok("network create back");
    for network in ["bridge", "back"] {
        for name in ["server", address.trim()] {
            let outside = ask(network, name);
            assert_ne!(outside.code(), Some(0), "{network}: {outside}");
        }
    }
    // Who is on both is reached from both.
    docker.ok("network connect back server");
    assert_eq!(ask("back", "server").ok().stdout, "hello");
    docker.ok("rm -f server");
    docker.ok("network rm back");
    docker.ok("network rm front");
}

pub(super) fn volumes_are_shared(docker: &Docker<'_>) {
    docker.ok("volume create data");
    let with = |mount: &str, script: &str| {
        let run = ["run", "--rm", "-v", mount, "web:1", "sh", "-c", script];
        docker.with(run).done()
    };
    with("data:/data", "echo kept > /data/file").ok();
    assert_eq!(
        with("data:/there:ro", "cat /there/file").ok().text().trim(),
        "kept"
    );
    let refused = with("data:/there:ro", "echo no > /there/file");
    assert_ne!(refused.code(), Some(0), "{refused}");
    // Two at once: what the one writes the other reads.
    docker.ok("run -d -v data:/data --name reader web:1 sleep 100000");
    with("data:/data", "echo shared > /data/both").ok();
    assert_eq!(docker.inside("reader", "cat /data/both").trim(), "shared");
    docker.ok("rm -f reader");
    let inside = "sudo cat /var/lib/docker/volumes/data/_data/file";
    assert_eq!(docker.cluster.inside(inside).trim(), "kept");
}

pub(super) fn outlive_dockerd(docker: &Docker<'_>) {
    let port = free_port();
    docker.ok(&format!("run -d -p {port}:8080 --name lives web:1"));
    let cluster = docker.cluster;
    let started = docker.text("inspect -f {{.State.Pid}} lives");
    let engine = cluster.inside("pgrep -xo dockerd");
    cluster.inside(&format!("sudo kill -9 {engine}"));
    until("another one answers", SOON, || {
        docker.command("ps -q").done().code() == Some(0)
    });
    assert_ne!(cluster.inside("pgrep -xo dockerd"), engine);
    assert_eq!(docker.text("inspect -f {{.State.Pid}} lives"), started);
    assert_eq!(docker.inside("lives", "cat /www/index.html"), "hello");
    let url = format!("http://127.0.0.1:{port}/");
    until("its port leads there again", SOON, || {
        page(docker, &url).as_deref() == Some("hello")
    });
    docker.ok("rm -f lives");
}

/// The cluster is booted anew.
pub(super) fn start_with_the_machine(docker: &Docker<'_>) {
    docker.ok("run -d --restart unless-stopped --name always web:1");
    // It says goodbye where it is asked to end.
    let script = "trap 'echo ended > /data/once; exit 0' TERM; while true; do sleep 0.2; done";
    let once = [
        "run",
        "-d",
        "--name",
        "once",
        "-v",
        "data:/data",
        "web:1",
        "sh",
        "-c",
        script,
    ];
    docker.with(once).ok();
    let cluster = docker.cluster;
    cluster.command("stop --shutdown").ok();
    cluster.command("start").ok();
    // Nobody has asked for the engine yet.
    until("it runs again by itself", SOON, || {
        cluster.inside("pgrep -x httpd | wc -l").trim() == "1"
    });
    assert_eq!(docker.text("ps --format {{.Names}}").trim(), "always");
    let kept = |file: &str| docker.text(&format!("run --rm -v data:/data web:1 cat /data/{file}"));
    assert_eq!(kept("once").trim(), "ended");
    assert_eq!(kept("file").trim(), "kept");
}
