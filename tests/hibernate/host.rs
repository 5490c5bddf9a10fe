//! What happens to the host while a cluster sleeps.

use super::cluster::Cluster;
use super::damage::another_boot;
use coracle_tests::{ANOTHER_QEMU, qemu_through, write};
use std::fs;
use std::os::unix::net::UnixListener;

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
