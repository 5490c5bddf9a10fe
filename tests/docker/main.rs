//! The host's docker command on a cluster's engine: what it builds pods run, what pods use it leaves, what
//! containers publish is on this host, and all of it over stops, kills and second clusters.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

mod alone;
mod client;
mod compose;
mod containers;
mod folders;
mod images;
mod reach;
mod registry;
mod store;

use client::Docker;
use coracle_tests::{Coracle, Profile, Sections};

/// A cluster of this name, running, and its engine.
fn engine<'a>(coracle: &'a Coracle, name: &'a str) -> Docker<'a> {
    let cluster = Profile { coracle, name };
    cluster.command("start").ok();
    Docker::of(cluster)
}

#[test]
fn what_is_built_runs_and_is_reached() {
    let mut coracle = Coracle::with_template();
    let mut test = Sections::new("docker");
    let docker = test.must("the engine starts with the first request", || {
        let docker = engine(&coracle, "one");
        reach::starts_when_it_is_asked(&docker);
        docker
    });
    test.must("what it builds a pod runs, with no copy between", || {
        store::a_pod_runs_what_was_built(&docker);
    });
    test.run("every shell is led there", || {
        reach::shells_are_led_there(&docker);
    });
    test.run("what pods use stays, whoever prunes", || {
        store::what_pods_use_stays(&docker);
    });
    test.run(
        "published ports are on this host until the container goes",
        || {
            reach::ports_are_on_this_host(&docker);
        },
    );
    test.run("folders of this host are the same on both sides", || {
        folders::are_the_same_on_both_sides(&docker, store::BASE);
    });
    test.run("images are built, named and removed without docker", || {
        images::are_built_and_named_and_go(&docker);
    });
    test.run("only this cluster's certificate lets in", || {
        let other = engine(&coracle, "two");
        reach::others_are_refused(&docker, &other);
        images::go_to_another_cluster(&docker, &other);
        coracle.delete("two");
    });
    test.run("by ssh it is the same", || reach::by_ssh(&docker));
    test.run(
        "a context goes with a stop, comes back, and goes with its cluster",
        || {
            reach::a_context_lives_with_its_cluster(&docker);
        },
    );
    coracle.delete_all();
    test.finish();
}

#[test]
fn a_machine_may_be_an_engine_alone() {
    let mut coracle = Coracle::with_machine();
    let mut test = Sections::new("alone");
    test.run_long("a start killed as the engine starts goes on", || {
        alone::a_killed_start_goes_on(&coracle);
    });
    test.must("it is made without Kubernetes", || {
        alone::is_made_once_and_cloned(&coracle);
    });
    test.run("several live side by side", || {
        alone::live_side_by_side(&coracle);
    });
    test.run_long("settings of the engine are kept", || {
        alone::its_settings_are_kept(&coracle);
    });
    test.run_long("a full disk is named, and grows", || {
        alone::a_full_disk_is_named_and_grows(&coracle);
    });
    test.run_long("its containers go on after a stop", || {
        alone::goes_on_after_a_stop(&coracle);
    });
    coracle.delete_all();
    test.finish();
}

#[test]
#[ignore = "many containers one after the other, emulated: ten minutes"]
fn containers_do_what_containers_do() {
    let mut coracle = Coracle::with_template();
    let mut test = Sections::new("containers");
    let docker = test.must("an image", || {
        let docker = engine(&coracle, "coracle");
        store::build(&docker, "web:1", "hello");
        docker
    });
    test.run("an image without users goes, with all of its names", || {
        store::what_nobody_uses_goes(&docker);
    });
    test.run("containers do what containers do", || {
        containers::live(&docker);
    });
    test.run("networks lead and separate", || {
        containers::networks_lead_and_separate(&docker);
    });
    test.run("volumes are shared and last", || {
        containers::volumes_are_shared(&docker);
    });
    test.run(
        "a killed dockerd comes back, its containers live on",
        || {
            containers::outlive_dockerd(&docker);
        },
    );
    test.run("containers that are to run start with the machine", || {
        containers::start_with_the_machine(&docker);
    });
    coracle.delete_all();
    test.finish();
}

#[test]
#[ignore = "docker's plugins are built, and a database from Debian's packages: ten minutes"]
fn projects_run_with_compose_and_as_pods() {
    let mut coracle = Coracle::with_template();
    let mut test = Sections::new("compose");
    let made = compose::plugins(&coracle);
    let docker = test.must("an engine", || engine(&coracle, "coracle"));
    test.run("buildx builds with stages, secrets and a cache", || {
        compose::buildx_builds(&docker);
    });
    test.run("a registry lets in who logged in", || {
        registry::runs(&docker, &made.join("registry"));
        registry::lets_in_who_logged_in(&docker);
    });
    let project = test.must("a project with a database lives with compose", || {
        compose::a_project_lives(&docker, &made)
    });
    test.run("the same runs as pods", || {
        compose::the_same_runs_as_pods(&docker, &project);
    });
    coracle.delete_all();
    test.finish();
}
