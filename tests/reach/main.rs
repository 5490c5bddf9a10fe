//! The cluster is reached as if it were local: its Services answer at addresses of the host, also after
//! a stop, a kill of the host agent, and beside another cluster.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

mod rollout;
mod shop;
mod sleep;
mod traffic;

use coracle_tests::{Coracle, Sections};
use shop::Shop;

#[test]
fn services_are_reached_from_the_host() {
    let mut coracle = Coracle::with_template();
    let mut test = Sections::new("reach");
    let shop = test.must("a cluster with Services", || {
        Shop::open(&coracle, "coracle")
    });
    test.must("a NodePort answers at the cluster's address", || {
        shop.node_port_answers();
    });
    test.run("a load balancer has an address of its own", || {
        shop.load_balancer_answers();
    });
    test.run("a tunnel leads to ClusterIPs", || {
        shop.is_reached_by_a_tunnel()
    });
    test.run("datagrams go there and back", || {
        traffic::names_are_resolved(&shop)
    });
    test.run("each way of a connection ends by itself", || {
        traffic::half_closed_streams_go_on(&shop);
    });
    test.run("a thousand connections at once", || {
        traffic::a_crowd_is_served(&shop, 1_000);
    });
    test.run("what cannot be reached is explained", || {
        shop.what_cannot_be_reached_is_explained();
    });
    test.run("what changes behind a Service loses no request", || {
        rollout::changes_lose_no_request(&shop);
    });
    test.run("a port that is in use is had elsewhere", || {
        shop.goes_elsewhere_when_a_port_is_taken();
    });
    test.run_long("a hundred Services leave no listener behind", || {
        shop.a_hundred_come_and_go();
    });
    test.run("a host agent killed under traffic is back at once", || {
        traffic::outlives_its_host_agent(&shop);
    });
    test.run(
        "a stop closes the ports and a start opens them again",
        || {
            shop.stops_and_starts();
        },
    );
    test.run_long("a machine that is lost keeps its ports", || {
        shop.keeps_its_ports_over_a_loss();
    });
    test.run_long("a reboot from inside", || shop.is_rebooted_from_inside());
    let other = test.must("a second cluster beside it has the same ports", || {
        let other = Shop::open(&coracle, "other");
        other.node_port_answers();
        other.load_balancer_answers();
        shop.node_port_answers();
        assert_ne!(shop.address, other.address);
        other
    });
    test.run_long("what changes after all of this loses none, either", || {
        rollout::changes_lose_no_request(&shop);
        rollout::changes_lose_no_request(&other);
    });
    coracle.delete_all();
    test.finish();
}

#[test]
fn a_cluster_that_nobody_uses_sleeps() {
    let mut coracle = Coracle::with_template();
    let mut test = Sections::new("sleep");
    let shop = test.must("a cluster with Services", || {
        Shop::open(&coracle, "coracle")
    });
    test.must("the first who connects wakes it", || {
        sleep::the_first_who_connects_wakes_it(&shop);
    });
    test.run("many who connect wake it once", || {
        sleep::a_crowd_wakes_it_once(&shop);
    });
    test.run("its host agent is killed while it sleeps", || {
        sleep::its_host_agent_is_killed_while_it_sleeps(&shop);
    });
    test.run("a stop ends its sleep", || {
        sleep::a_stop_ends_its_sleep(&shop)
    });
    test.run_long("a stop at a later time", || {
        sleep::a_stop_is_scheduled(&shop)
    });
    test.run("it sleeps when nobody uses it", || {
        sleep::nobody_uses_it(&shop)
    });
    test.run_long("a CronJob keeps it awake or wakes it", || {
        sleep::a_cron_job_is_due(&shop);
    });
    test.run("one that sleeps is deleted", || {
        sleep::one_that_sleeps_is_deleted(&shop);
    });
    coracle.delete_all();
    test.finish();
}
