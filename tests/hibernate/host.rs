//! What happens to the host while a cluster sleeps, or while it runs.

use super::cluster::Cluster;
use super::damage::another_boot;
use coracle_tests::{ANOTHER_QEMU, qemu_through, until, write};
use std::fs;
use std::os::unix::net::UnixListener;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nobody says which QEMU it is when it wakes by itself.
pub(super) fn has_another_qemu(cluster: Cluster<'_>) {
    let qemu = qemu_through(cluster.coracle, "another", ANOTHER_QEMU, &[]);
    let with_it = |command: &str| cluster.command(command).env("CORACLE_QEMU", &qemu);
    with_it("start --cold").ok();
    let boot = cluster.boot_id();
    with_it("stop --sleep").ok();
    cluster.kubectl("get nodes");
    cluster.still_runs(&boot);
    cluster.delete();
}

/// A host that slept finds its clock ahead, and nothing of its other time passed. Debian's libfaketime does that to
/// the host agent.
pub(super) fn sleeps_under_a_machine(cluster: Cluster<'_>) {
    const SLEPT: Duration = Duration::from_secs(3600);
    // Without any sleep the two are compared every ten minutes.
    const FOLLOWS: Duration = Duration::from_secs(200);
    let of_this_processor = fs::read_dir("/usr/lib").unwrap().flatten();
    let library = of_this_processor
        .map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.exists())
        .expect("Debian's faketime is installed: scripts/setup --full");
    let ahead = cluster.coracle.work().join("ahead");
    write(&ahead, "+0");
    let boot = cluster.boot_id();
    cluster.stop();
    cluster
        .command("start")
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &ahead)
        .env("FAKETIME_CACHE_DURATION", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .ok();
    cluster.clock_is(Duration::ZERO);
    write(&ahead, format!("+{}", SLEPT.as_secs()));
    let woken = SystemTime::now();
    let now = woken.duration_since(UNIX_EPOCH).unwrap();
    until("the machine's clock follows", FOLLOWS, || {
        let guest: u64 = cluster.inside("date +%s").parse().unwrap();
        guest > (now + SLEPT / 2).as_secs()
    });
    eprintln!(
        "the machine followed after {:.1?}",
        woken.elapsed().unwrap()
    );
    cluster.clock_is(SLEPT);
    cluster.still_runs(&boot);
    // And the way back, as when the network's time corrects it.
    cluster.stop();
    cluster.wake();
    cluster.clock_is(Duration::ZERO);
}

/// The host was booted: no process is left, sockets and files name what is gone, and the save has
/// the name of another boot. It was written whole, so it is good.
pub(super) fn reboots(cluster: Cluster<'_>) {
    let boot = cluster.boot_id();
    let run = cluster.coracle.home().join("run");
    let sockets = fs::read_dir(&run)
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let sockets: Vec<_> = sockets.collect();
    assert!(!sockets.is_empty(), "a running machine has sockets");
    cluster.stop();
    cluster.until_durable();
    cluster.until_gone();
    another_boot(&cluster.save());
    for socket in &sockets {
        if !socket.exists() {
            drop(UnixListener::bind(socket).unwrap());
        }
    }
    // The number is somebody else's by now.
    write(
        cluster.folder().join("qemu.pid"),
        format!("{}\n", std::process::id()),
    );
    cluster
        .command("status")
        .done()
        .code_is(3)
        .says("host: Stopped");
    cluster.wake();
    cluster.still_runs(&boot);
}

/// Templates are a cache, and what a save goes on from is not.
pub(super) fn loses_templates(cluster: Cluster<'_>) {
    let boot = cluster.boot_id();
    cluster.kubectl("create configmap kept --from-literal=a=b");
    let filled = cluster.fill();
    cluster.stop();
    fs::remove_dir_all(cluster.coracle.home().join("templates")).unwrap();
    cluster.wake();
    cluster.still_runs(&boot);
    cluster.kubectl("get configmap kept");
    assert_eq!(cluster.filled(), filled);
    cluster.stop();
    cluster.wake();
    cluster.still_runs(&boot);
}
