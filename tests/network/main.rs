//! What the host gives its machines: its names, a proxy, certificates and files, from the next start of
//! any kind; and nothing of it where there is nothing to give.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

mod access;
mod files;
mod name_servers;
mod names;
mod proxy;
mod servers;
mod trust;

use coracle_tests::{Coracle, Profile, Sections};

/// What the agent notes when it was given something while it ran.
const GIVEN: &str = "took what the host gives";

/// Whether the agent of a cluster was given anything since its machine booted, or since the boot of what it
/// is a clone of.
fn was_given(cluster: Profile<'_>) -> bool {
    let log = cluster.command("logs --component agent").ok();
    log.stdout.contains(GIVEN)
}

/// A cluster goes on from where it is stopped.
fn stop_and_start(cluster: Profile<'_>) {
    cluster.command("stop").ok();
    cluster.command("start").ok();
}

#[test]
fn machines_have_what_the_host_gives() {
    let mut coracle = Coracle::with_template();
    let mut test = Sections::new("network");
    let cluster = |name| Profile {
        coracle: &coracle,
        name,
    };
    let one = cluster("one");
    test.must("a clone to which nothing is given is asked nothing", || {
        one.command("start").ok();
        assert!(!was_given(one));
        stop_and_start(one);
        assert!(!was_given(one));
    });
    test.run("pods and the machine know the host by its names", || {
        names::lead_to_the_host(one);
    });
    test.run("the name servers are those of the host", || {
        name_servers::are_those_of_the_host(cluster("five"));
    });
    test.run(
        "pods may connect to the host where that is asked for",
        || {
            access::is_asked_for(one);
        },
    );
    test.run(
        "a proxy is used from the next start on, and given up",
        || {
            proxy::comes_and_goes(one);
        },
    );
    test.run(
        "a proxy is followed while it runs, and kept by a wake",
        || {
            proxy::is_followed(one);
        },
    );
    test.run("a clone has a proxy from its start", || {
        proxy::is_used_by_a_clone(cluster("two"));
    });
    test.run_long(
        "a certificate is trusted from the next start on, and not any more",
        || {
            trust::comes_and_goes(one);
        },
    );
    test.run("files are in a clone, and are its own from then on", || {
        files::are_in_a_clone(cluster("three"));
    });
    test.run("files that change are placed again", || {
        files::are_placed_when_they_change(cluster("three"));
    });
    test.run_long("a cold boot has all of it before anything runs", || {
        files::all_is_there_before_anything_runs(cluster("four"));
    });
    coracle.delete_all();
    test.finish();
}
