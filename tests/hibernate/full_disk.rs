//! The host's disk full when a cluster is to be saved.

use super::cluster::Cluster;
use coracle_tests::Coracle;

/// Megabytes that are free on the host, and not enough. The disk is in memory, where a hole of a file that
/// is read takes space too: a guest that touches memory of its template for the first time must not be
/// what fills it.
const FREE: u64 = 300;
/// Megabytes of the guest's memory that are to be saved at least.
const FILLED: u64 = 450;

/// It goes on, says what to do, and is saved when that was done.
pub(super) fn is_said(coracle: &Coracle) {
    let (cluster, disk) = (Cluster::new(coracle, "coracle"), coracle.disk());
    cluster.cloned();
    let boot = cluster.boot_id();
    // In memory only, and nothing that compression makes small.
    let filled = cluster.fill_with(FILLED);
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
