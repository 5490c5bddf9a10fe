//! `kill -9` of whoever takes part, in the middle.

use super::cluster::{Cluster, LIMIT};
use coracle_tests::{Started, alive, kill_pid, signal_pid, until, until_some};
use rustix::process::Signal;
use std::time::Duration;

/// How long a start gets to do the wrong thing while nobody keeps it from that.
const TIME_TO_FAIL: Duration = Duration::from_secs(5);
/// A stop that has come to the middle of saving, where its host agent is held.
#[track_caller]
fn held_in_the_middle(cluster: Cluster<'_>) -> (Started, u32) {
    let agent = cluster.host_agent().expect("it has a host agent");
    let mut stop = cluster.command("stop").start();
    // It takes a fraction of a second: no back-off.
    while !cluster.is_saving() {
        assert!(!stop.has_ended(), "too quick: {}", stop.stderr_so_far());
        std::thread::park_timeout(Duration::from_millis(1));
    }
    signal_pid(agent, Signal::STOP);
    assert!(cluster.is_saving(), "it was too quick to be held");
    (stop, agent)
}

/// The command is gone, but not the host agent that does what it asked for.
pub(super) fn of_a_stop(cluster: Cluster<'_>) {
    let (boot, filled) = (cluster.boot_id(), cluster.fill());
    let (stop, agent) = held_in_the_middle(cluster);
    kill_pid(stop.pid());
    stop.done().is_killed();
    let start = cluster.command("start").start();
    std::thread::park_timeout(TIME_TO_FAIL);
    signal_pid(agent, Signal::CONT);
    start.done().ok().says("is ready after");
    cluster.still_runs(&boot);
    std::thread::park_timeout(TIME_TO_FAIL);
    cluster.still_runs(&boot);
    cluster.has_no_save();
    assert_eq!(cluster.filled(), filled);
}

/// Nobody is there who could save it: the stop ends, and nothing that was on the disk is lost.
pub(super) fn of_the_host_agent_in_a_save(cluster: Cluster<'_>) {
    let (boot, filled) = (cluster.boot_id(), cluster.fill());
    cluster.inside("echo synced > before-the-kill");
    let (stop, agent) = held_in_the_middle(cluster);
    kill_pid(agent);
    let stop = stop.done().ok();
    assert!(stop.warnings().len() <= 1, "{stop}");
    cluster
        .command("status")
        .done()
        .code_is(3)
        .says("host: Stopped");
    cluster.until_gone();
    eprintln!("{}", stop.stderr.trim());
    cluster.command("start").ok().says("is ready after");
    assert_eq!(cluster.inside("cat before-the-kill"), "synced");
    cluster.still_runs(&boot);
    assert_eq!(cluster.filled(), filled);
}

/// The command is gone at a step of its start: the next one goes on with all that ran.
pub(super) fn of_a_resume(cluster: Cluster<'_>) {
    let boot = cluster.boot_id();
    for step in ["boot", "agent", "api"] {
        cluster.stop();
        cluster.until_gone();
        cluster.start_until(step);
        let start = cluster.command("start").ok();
        assert!(!start.stderr.contains("cold"), "{step}: {start}");
        cluster.still_runs(&boot);
        cluster.has_no_save();
    }
}

/// The save is still there, or the cluster goes on: whichever it was, it is the same boot.
pub(super) fn of_the_host_agent_in_a_resume(cluster: Cluster<'_>) {
    let boot = cluster.boot_id();
    let own = |pid: Option<u32>| pid.filter(|pid| alive(*pid));
    for way in ["before the hypervisor", "beside the hypervisor"] {
        cluster.stop();
        cluster.until_gone();
        let start = cluster.command("start").start();
        let agent = until_some("there is a new host agent", LIMIT, || {
            own(cluster.host_agent())
        });
        if way == "beside the hypervisor" {
            until("there is a hypervisor", LIMIT, || {
                cluster
                    .coracle
                    .processes()
                    .iter()
                    .any(|one| one.command.contains("-incoming"))
            });
        }
        signal_pid(agent, Signal::STOP);
        kill_pid(agent);
        let start = start.done();
        eprintln!("{way}: {}", start.stderr.trim());
        let again = cluster.command("start").ok();
        assert!(!again.stderr.contains("cold"), "{way}: {again}");
        cluster.still_runs(&boot);
        cluster.has_no_save();
    }
}

/// Another process of the same user does what it would have done.
pub(super) fn of_the_host_agent(cluster: Cluster<'_>) {
    let (boot, filled) = (cluster.boot_id(), cluster.fill());
    let agent = cluster.host_agent().expect("it has a host agent");
    kill_pid(agent);
    until("it is gone", LIMIT, || !alive(agent));
    cluster.still_runs(&boot);
    cluster.stop();
    cluster.until_gone();
    cluster.wake();
    cluster.still_runs(&boot);
    assert_eq!(cluster.filled(), filled);
}

/// What it had in memory is lost with it; it boots.
pub(super) fn of_a_paused_hypervisor(cluster: Cluster<'_>) {
    cluster.inside("echo fsynced > before-the-pause && sync before-the-pause");
    let boot = cluster.boot_id();
    cluster.command("pause").ok();
    kill_pid(cluster.hypervisor());
    cluster
        .command("status")
        .done()
        .code_is(3)
        .says("host: Stopped");
    cluster.start_until("api");
    assert_ne!(cluster.boot_id(), boot);
    assert_eq!(cluster.inside("cat before-the-pause"), "fsynced");
    cluster.has_no_save();
}
