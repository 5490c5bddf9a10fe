//! Hibernation: a stop saves all that runs, a start goes on with it; and whatever happens in between,
//! nothing is lost that was on the disk, one line says what is, and the cluster comes up.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

mod cluster;
mod damage;
mod full_disk;
mod host;
mod kills;
mod many;
mod workloads;

use cluster::Cluster;
use coracle_tests::{Coracle, Sections};

#[test]
fn workloads_live_through_stops() {
    let mut coracle = Coracle::with_template();
    let mut test = Sections::new("workloads");
    let cluster = Cluster::new(&coracle, "coracle");
    test.must("a cluster with workloads", || {
        cluster.cloned();
        workloads::apply(cluster);
    });
    test.must("a stop and a start keep what runs", || {
        workloads::go_on(cluster);
    });
    test.run_long("twenty stops keep a volume's sequence", || {
        workloads::keep_their_sequence(cluster);
    });
    test.run("a week's sleep is made up for", || {
        workloads::wake_after_a_week(cluster);
        cluster.delete();
        cluster.cloned();
        workloads::apply(cluster);
    });
    test.run_long(
        "a running machine's clock follows a host that slept",
        || {
            host::sleeps_under_a_machine(cluster);
        },
    );
    test.must("a kill after a start loses nothing that was synced", || {
        workloads::outlive_a_kill(cluster);
    });
    test.run("what booted cold is saved and goes on as well", || {
        workloads::go_on(cluster);
    });
    test.run("delete of a cluster that sleeps leaves nothing", || {
        cluster.stop();
        cluster.delete();
        coracle.nothing_is_left();
    });
    coracle.delete_all();
    test.finish();
}

#[test]
fn what_goes_wrong_with_a_save_is_told_and_overcome() {
    let mut coracle = Coracle::with_template();
    let mut test = Sections::new("saves");
    let mut on_a_cluster = |name: &str, section: fn(Cluster<'_>)| {
        test.run(name, || Cluster::new(&coracle, "coracle").used_for(section));
    };
    on_a_cluster(
        "what is wrong with a save is seen before it is used",
        damage::is_seen_at_once,
    );
    on_a_cluster(
        "a host agent killed under a running cluster",
        kills::of_the_host_agent,
    );
    on_a_cluster(
        "a host agent killed in the middle of a resume",
        kills::of_the_host_agent_in_a_resume,
    );
    on_a_cluster(
        "a start killed in the middle of a resume",
        kills::of_a_resume,
    );
    on_a_cluster("the host boots while a cluster sleeps", host::reboots);
    on_a_cluster("a stop killed in the middle", kills::of_a_stop);
    on_a_cluster(
        "a host agent killed in the middle of a save",
        kills::of_the_host_agent_in_a_save,
    );
    on_a_cluster("a paused hypervisor killed", kills::of_a_paused_hypervisor);
    test.run("damage that only shows in use", || {
        damage::is_seen_in_use(Cluster::new(&coracle, "damaged"));
    });
    test.run_long("five starts of five clusters at once", || {
        many::clusters(&coracle)
    });
    test.run("five starts of one cluster at once", || {
        Cluster::new(&coracle, "sleeper").used_for(many::starts);
    });
    test.run_long("a cluster of another QEMU wakes with it", || {
        host::has_another_qemu(Cluster::new(&coracle, "another"));
    });
    test.run("templates removed while a cluster sleeps", || {
        Cluster::new(&coracle, "last").used_for(host::loses_templates);
    });
    coracle.delete_all();
    test.finish();
}

#[test]
fn a_full_disk_of_the_host_keeps_the_cluster_running() {
    let Some(mut coracle) = Coracle::with_small_disk() else {
        return;
    };
    let mut test = Sections::new("full disk");
    test.run("a full disk is said, and the cluster goes on", || {
        full_disk::is_said(&coracle);
    });
    coracle.delete_all();
    test.finish();
}
