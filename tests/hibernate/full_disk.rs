//! The host's disk full when a cluster is to be saved.

use super::cluster::Cluster;
use coracle_tests::Coracle;

/// Megabytes that are free on the host, and not enough.
const FREE: u64 = 12;

/// It goes on, says what to do, and is saved when that was done.
pub(super) fn is_said(coracle: &Coracle) {
    let (cluster, disk) = (Cluster::new(coracle, "coracle"), coracle.disk());
    cluster.cloned();
    let boot = cluster.boot_id();
    // In memory only, and nothing that compression makes small.
    let filled = cluster.fill();
    disk.resize(disk.used_megabytes() + FREE);
    let stop = cluster
        .command("stop")
        .done()
        .fails(26, "CORACLE_HOST_STORAGE");
    stop.advises("space");
    cluster.has_no_save();
    cluster.still_runs(&boot);
    disk.resize(40_000);
    cluster.stop();
    cluster.wake();
    cluster.still_runs(&boot);
    assert_eq!(cluster.filled(), filled);
    cluster.delete();
}
