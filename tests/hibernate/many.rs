//! Several at once.

use super::cluster::Cluster;
use coracle_tests::Coracle;

const NAMES: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];

/// Five clusters that sleep are woken at once.
pub(super) fn clusters(coracle: &Coracle) {
    let clusters = NAMES.map(|name| Cluster::new(coracle, name));
    // One after the other: so many at work would only make each other slow.
    let boots = clusters.map(|cluster| {
        cluster.cloned();
        let boot = cluster.boot_id();
        cluster.stop();
        cluster.until_gone();
        boot
    });
    let starts = clusters.map(|cluster| cluster.command("start").start());
    for start in starts {
        let start = start.done().ok().says("is ready after");
        assert!(!start.stderr.contains("cold"), "{start}");
    }
    for (cluster, boot) in clusters.iter().zip(&boots) {
        cluster.still_runs(boot);
        cluster.has_no_save();
        let nodes = cluster.kubectl("get nodes --no-headers");
        assert!(nodes.contains(" Ready "), "{nodes}");
    }
    for cluster in &clusters {
        cluster.delete();
    }
}

/// One cluster that sleeps is woken five times at once.
pub(super) fn starts(cluster: Cluster<'_>) {
    let boot = cluster.boot_id();
    cluster.stop();
    cluster.until_gone();
    let starts = NAMES.map(|_| cluster.command("start").start());
    for start in starts {
        let start = start.done().ok();
        assert!(!start.stderr.contains("cold"), "{start}");
    }
    cluster.hypervisor();
    cluster.still_runs(&boot);
    cluster.has_no_save();
}
