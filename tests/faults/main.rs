//! Faults of a start and of a running cluster, on real machines: killed and interrupted at every
//! step, two at once, the hypervisor killed, the host's disk full.
//!
//! Two clusters serve all of it. While a start is dead its machine goes on booting, so that a
//! chain over all steps costs about one cold start.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

mod full_disk;

use coracle_tests::{
    Account, Coracle, Libvirtd, Sections, alive, kill_pid, replace_in, signal_pid, small_image,
    write,
};
use rustix::process::Signal;
use std::fs;
use std::time::Duration;

/// The steps of a start in their order that one machine goes through again and again.
const STEPS: [&str; 10] = [
    "check",
    "image",
    "machine",
    "boot",
    "agent",
    "api",
    "addons",
    "node",
    "ready",
    "kubeconfig",
];
/// The steps that only a new cluster goes through; `templates` breaks in at them. A step that is
/// missing here, above and below is found by `the_chain_knows_every_step`.
const STEPS_OF_NEW_CLUSTERS: [&str; 2] = ["template", "rekey"];
/// The steps of a machine that is an engine alone, and of a new one when images are kept; `docker`
/// breaks in at them.
const STEPS_OF_ENGINES: [&str; 2] = ["engine", "images"];
/// Somebody's kubeconfig, reached by a link.
const FOREIGN: &str = "# other people's\ncontexts: [{name: theirs, context: {cluster: c, user: u}}]\ncurrent-context: theirs\nx-unknown: [1,\n  2]\n";

#[test]
fn the_chain_knows_every_step() {
    // Events name each step with how many there are: an unknown one cannot hide.
    let coracle = Coracle::new();
    small_image(&coracle.home());
    let start = coracle
        .run("start -o json")
        .env("CORACLE_FAULT", "interrupt:boot")
        .done();
    let first = &start.json_lines()[0]["data"];
    let known = [&STEPS[..], &STEPS_OF_NEW_CLUSTERS, &STEPS_OF_ENGINES].concat();
    assert_eq!(first["totalsteps"], known.len().to_string(), "{start}");
    for step in known {
        let known = coracle
            .run("version --client")
            .env("CORACLE_FAULT", format!("kill:{step}"))
            .done();
        known.ok();
    }
}

/// A sandbox for real machines in the hands of an ordinary user, where this process can make one: to
/// root, nothing is forbidden that could fail.
fn sandbox() -> Coracle {
    Account::create().map_or_else(Coracle::with_machine, Coracle::with_machine_as)
}

/// While a start holds the machine's lock, commands that would change the machine say who has it.
fn others_have_to_wait(coracle: &Coracle) {
    let mut start = coracle.run("start").start();
    start.until_it_says("Starting the control plane");
    // However fast the host is, it does not give the lock back now.
    signal_pid(start.pid(), Signal::STOP);
    let holder = format!("process {}", start.pid());
    for command in ["stop", "delete", "update-context"] {
        let refused = coracle.run(command).done().fails(11, "CORACLE_LOCK_BUSY");
        refused.says("\"coracle start\"").says(&holder);
    }
    kill_pid(start.pid());
    start.done().is_killed();
}

#[test]
fn a_start_killed_at_every_step_goes_on_and_a_killed_hypervisor_comes_back() {
    kills("kill", sandbox());
}

#[test]
#[ignore = "all kills once more, through libvirt"]
fn a_start_and_a_hypervisor_of_libvirt_killed_go_on_as_well() {
    Libvirtd::with_sandbox(|coracle| kills("kill through libvirt", coracle));
}

fn kills(name: &'static str, mut coracle: Coracle) {
    let mut faults = Sections::new(name);
    let real = coracle.user_home().join("dotfiles/kubeconfig");
    write(&real, FOREIGN);
    fs::create_dir_all(coracle.kubeconfig().parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&real, coracle.kubeconfig()).unwrap();
    coracle.give_to_account(&coracle.user_home());

    faults.run(
        "delete after a kill right behind the boot leaves nothing",
        || {
            coracle.run("start").killed_at("agent");
            let hypervisor = coracle.hypervisor("coracle");
            coracle.delete("coracle");
            assert!(!alive(hypervisor.pid));
            coracle.nothing_is_left();
        },
    );
    faults.must("killed at every step", || {
        let mut hypervisor = None;
        for step in STEPS {
            let start = coracle.run("start").killed_at(step);
            if ["check", "image", "machine", "boot"].contains(&step) {
                assert!(
                    coracle.processes().is_empty(),
                    "{step}: {:#?}",
                    coracle.processes()
                );
                continue;
            }
            // The same machine all along: nothing is begun anew.
            let pid = coracle.hypervisor("coracle").pid;
            if start.booted_anew() {
                hypervisor = None;
            }
            assert_eq!(
                *hypervisor.get_or_insert(pid),
                pid,
                "{step}: another hypervisor"
            );
            if step == "agent" {
                others_have_to_wait(&coracle);
            }
            let status = coracle.run("status").done();
            assert!(
                status
                    .code()
                    .is_some_and(|code| code & 1 == 0 && code & 4 != 0),
                "{step}: {status}"
            );
        }
    });
    faults.must("two starts at once end with one ready cluster", || {
        let starts = [coracle.run("start").start(), coracle.run("start").start()];
        for start in starts {
            start.done().ok();
        }
        coracle.hypervisor("coracle");
        coracle.run("status").ok();
        assert_eq!(coracle.machines(), ["coracle"]);
    });
    faults.run(
        "the kubeconfig has the context beside the others, behind its link",
        || {
            let text = fs::read_to_string(&real).unwrap();
            assert!(
                text.starts_with("# other people's\n") && text.contains("x-unknown: [1,\n  2]\n"),
                "{text}"
            );
            assert_eq!(coracle.kubectl("config current-context"), "coracle");
            assert!(
                coracle
                    .kubectl("config get-contexts -o name")
                    .contains("theirs")
            );
        },
    );
    faults.run(
        "a hypervisor killed under a running cluster is said at once, and start brings it back",
        || {
            coracle.kubectl("create configmap before-the-kill --from-literal=a=b");
            coracle.inside("echo fsynced > before-the-kill && sync before-the-kill");
            let address = coracle.run("ip").ok().stdout;
            kill_pid(coracle.hypervisor("coracle").pid);
            let status = coracle.run("status").done().within(Duration::from_secs(5));
            let status = status
                .code_is(3)
                .says("host: Stopped")
                .says("kubeconfig: Configured");
            drop(status);
            coracle
                .run("ssh -- true")
                .done()
                .fails(33, "CORACLE_MACHINE_NOT_RUNNING");
            let list = coracle.run("list -o json").ok().json();
            assert_eq!(list[0]["Status"], "Stopped", "{list}");
            coracle.run("start").ok();
            assert_eq!(coracle.run("ip").ok().stdout, address);
            assert_eq!(coracle.inside("cat before-the-kill"), "fsynced");
            assert_eq!(
                coracle.kubectl("get configmap before-the-kill -o jsonpath={.data.a}"),
                "b"
            );
        },
    );
    faults.run(
        "a stopped hypervisor is said to be broken, and delete still works",
        || {
            // As a suspended process, or one stuck in the kernel, looks like.
            let pid = coracle.hypervisor("coracle").pid;
            signal_pid(pid, Signal::STOP);
            let status = coracle.run("status").done();
            signal_pid(pid, Signal::CONT);
            assert_eq!(status.code().map(|code| code & 1), Some(1), "{status}");
            status.says("does not answer");
        },
    );
    faults.run(
        "delete after a kill at the last step leaves nothing",
        || {
            // With another current context a start does not take the short way.
            replace_in(&real, "current-context: coracle", "current-context: theirs");
            coracle.run("start").killed_at("kubeconfig");
            coracle.delete("coracle");
            coracle.nothing_is_left();
            assert_eq!(fs::read_to_string(&real).unwrap(), FOREIGN);
            assert!(coracle.kubeconfig().is_symlink());
        },
    );
    coracle.delete_all();
    faults.finish();
}

#[test]
fn a_start_interrupted_at_every_step_says_so_and_a_full_disk_pauses() {
    let mut coracle = sandbox();
    let mut faults = Sections::new("interrupt");
    let disk = full_disk::StateOnItsOwnDisk::mount(&coracle);
    faults.must("interrupted at every step", || {
        for step in STEPS {
            let start = coracle.run("start").interrupted_at(step);
            start
                .says("interrupted while: ")
                .advises("coracle start -p coracle")
                .advises("coracle delete -p coracle");
        }
        coracle.run("start").ok();
        coracle.run("status").ok();
    });
    if let Some(disk) = &disk {
        faults.run(
            "a full disk of the host pauses the machine, and start goes on",
            || disk.fill_and_free(&coracle),
        );
    }
    faults.run(
        "a kernel that panics during a start is booted once more",
        || {
            kill_pid(coracle.hypervisor("coracle").pid);
            let mut start = coracle.run("start").start();
            start.until_it_says("Starting the control plane");
            // The connection ends with the kernel.
            let panic = "ssh -- echo c | sudo tee /proc/sysrq-trigger";
            let panicking = coracle.run(panic).start();
            start.until_it_says("booting it anew");
            drop(panicking);
            start.done().ok();
            coracle.run("status").ok();
        },
    );
    faults.run("an interrupted stop says what it leaves", || {
        let mut stop = coracle.run("stop").start();
        stop.until_it_says("Stopping");
        signal_pid(stop.pid(), Signal::INT);
        let stop = stop.done().fails(130, "CORACLE_INTERRUPTED");
        stop.advises("coracle status -p coracle");
        // Whether it is still stopping or not, it can be told, and deleted.
        let status = coracle.run("status").done();
        assert!(
            status.code().is_some_and(|code| code < 8) && status.stderr.is_empty(),
            "{status}"
        );
    });
    faults.run("delete leaves nothing", || {
        coracle.delete("coracle");
        coracle.nothing_is_left();
        assert!(
            !coracle.kubeconfig().exists(),
            "a kubeconfig that was made for the cluster is left"
        );
    });
    coracle.delete_all();
    drop(disk);
    faults.finish();
}
