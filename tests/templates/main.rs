//! Templates: the first start makes one, later ones are clones of it, each a cluster of its own;
//! and nothing is lost when a template is.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

mod copies;
mod identity;
mod run;

use coracle_tests::{
    ANOTHER_QEMU, Coracle, Profile, Run, Sections, cpu_seconds, kill_pid, qemu_through, until,
    until_some, write,
};
use std::fs;
use std::time::Duration;

/// How long a cluster stays paused.
const PAUSE: Duration = Duration::from_secs(5);

/// Beyond any cold boot; it only catches what hangs.
const BOOTED: Duration = Duration::from_secs(900);

/// How long it may be until everything goes on in a clone.
const GONE_ON: Duration = Duration::from_secs(120);

/// How long it may be until digests are noted.
const NOTED: Duration = Duration::from_secs(600);

/// The cluster is whole: its node is Ready, and its own credentials lead to it.
fn is_whole(coracle: &Coracle, name: &str) {
    coracle.run(&format!("status -p {name}")).ok();
    let nodes = coracle
        .run(&format!("kubectl -p {name} -- get nodes --no-headers"))
        .ok();
    assert!(nodes.text().contains(" Ready "), "{nodes}");
    assert!(
        !coracle.machine(name).join("passing").exists(),
        "{name} still has an identity that it shares"
    );
}

/// Reads templates back, which no start does.
fn deep_check(coracle: &Coracle) {
    let folder = coracle.templates().remove(0);
    // A cluster that has run for a while has noted what they are.
    until("the digests are noted", NOTED, || {
        folder.join("digests.json").is_file()
    });
    let whole = "is whole";
    coracle.run("doctor --deep").ok().says(whole);
    // Not the memory: clusters run on it.
    let devices = folder.join("devices");
    let written = fs::read(&devices).unwrap();
    let mut damaged = written.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    write(&devices, damaged);
    let found = coracle.run("doctor --deep").ok();
    assert!(!found.stdout.contains(whole), "{found}");
    found.says("devices is not what was written");
    write(&devices, written);
    coracle.run("doctor --deep").ok().says(whole);
}

#[test]
fn clusters_begin_as_clones_and_are_their_own() {
    let mut coracle = Coracle::with_machine();
    let mut test = Sections::new("templates");
    test.run_long("a start killed before the template is made goes on", || {
        coracle.run("start -p first").killed_at("template");
        coracle.hypervisor("first");
        coracle.run("start -p first").ok();
        is_whole(&coracle, "first");
        assert!(coracle.templates().is_empty(), "{:?}", coracle.templates());
        coracle.delete("first");
    });
    let half = test.run_long("a start killed as the template is frozen goes on", || {
        let start = coracle.run("start -p first").start();
        let folder = coracle.home().join("templates");
        let begun = || {
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
            let mut paths = entries.map(|entry| entry.path());
            paths.find(|path| path.to_string_lossy().contains("/.baking-"))
        };
        let begun = until_some("a template is begun", BOOTED, begun);
        kill_pid(start.pid());
        start.done().is_killed();
        coracle.run("start -p first").ok();
        is_whole(&coracle, "first");
        coracle.delete("first");
        // What it has left is nobody's after an hour.
        let age = Run::new("touch").args(["-d", "2 days ago"]);
        age.args([&begun]).ok();
        begun
    });
    test.must(
        "the first whole start makes a template and is its first clone",
        || {
            let mut start = coracle.run("start -p one").start();
            // Late, so that a boot that had to be repeated does not lose it.
            start.until_it_says("Waiting for DNS and storage");
            identity::leave_a_reader(&coracle, "one");
            let start = start
                .done()
                .ok()
                .says("Starting the control plane")
                .says("Waiting for the node")
                .says("Freezing it as a template");
            eprintln!("a first start took {:.1?}", start.took);
            let is_left = half.as_ref().is_some_and(|half| half.exists());
            assert!(!is_left, "half a template is left");
            is_whole(&coracle, "one");
            let made = coracle.templates();
            assert_eq!(made.len(), 1, "{made:?}");
            coracle.run("template list").ok().says("usable");
            let disk = fs::read_dir(coracle.home().join("disks")).unwrap().count();
            assert_eq!(disk, 1);
        },
    );
    test.must("a second cluster is a clone", || {
        let start = coracle.run("start -p two").ok();
        eprintln!("a clone took {:.2?}", start.took);
        assert!(
            !start.stderr.contains("Starting the control plane"),
            "it booted: {start}"
        );
        is_whole(&coracle, "two");
        is_whole(&coracle, "one");
    });
    test.run(
        "what stood still in the template goes on in a clone",
        || {
            let log = coracle.run("logs -p two --component agent").ok();
            let stopped = log.stdout.lines().find_map(|line| {
                let (before, _) = line.split_once(" processes stand still for a copy")?;
                before.rsplit(' ').next()?.parse::<u32>().ok()
            });
            // Four components at the least, and what runs in pods; the API's are spared.
            assert!(stopped.is_some_and(|stopped| stopped > 6), "{log}");
            // The controller that signs is the last: another takes its place.
            let two = Profile {
                coracle: &coracle,
                name: "two",
            };
            until("all processes go on", GONE_ON, || {
                let standing = "grep -l '^State:.T' /proc/[0-9]*/status; true";
                two.inside(standing).is_empty()
            });
        },
    );
    test.must(
        "a clone that is killed before it has its own identity goes on",
        || {
            coracle.run("start -p three").killed_at("rekey");
            assert!(coracle.machine("three").join("passing").exists());
            coracle.run("start -p three").ok();
            is_whole(&coracle, "three");
            coracle.delete("three");
        },
    );
    test.run(
        "a paused cluster uses no processor, and goes on in time",
        || {
            let pid = coracle.hypervisor("two").pid;
            coracle.run("pause -p two").ok().says("two is paused");
            coracle.run("pause -p two").ok().says("already");
            coracle.run("status -p two").done().says("host: Paused");
            let before = cpu_seconds(pid);
            std::thread::park_timeout(PAUSE);
            let during = cpu_seconds(pid) - before;
            assert!(during < 0.2, "{during} s of processor time in {PAUSE:?}");
            coracle.run("unpause -p two").ok().says("two is running");
            is_whole(&coracle, "two");
            coracle.run("unpause -p two").ok().says("already");
            coracle
                .run("pause -p nobody")
                .done()
                .fails(35, "CORACLE_MACHINE_NOT_FOUND");
        },
    );
    test.run("one's credentials are refused by the other", || {
        identity::credentials(&coracle);
    });
    test.run("keys, certificates and random numbers differ", || {
        identity::secrets(&coracle);
    });
    test.run(
        "one who waited for random numbers when they were one gets different ones",
        || identity::left_readers_differ(&coracle),
    );
    test.run("a token in a Secret is the cluster's own", || {
        identity::token_in_a_secret(&coracle);
    });
    test.run(
        "a pod runs on a clone and uses the API with its own token",
        || {
            identity::pod(&coracle);
        },
    );
    test.must("a pod counts", || copies::start_counting(&coracle));
    test.run("a clone goes on from the very moment of another", || {
        copies::clone(&coracle);
    });
    test.run("a clone that is killed leaves both whole", || {
        copies::killed_clone(&coracle);
    });
    test.run("a cluster goes back to a snapshot", || {
        copies::snapshot(&coracle);
    });
    test.run(
        "run gives a cluster to a command and passes its status on",
        || run::passes_on(&coracle),
    );
    test.run("two runs at once are two clusters", || {
        run::side_by_side(&coracle)
    });
    test.run(
        "a run that is ended or killed takes its cluster along",
        || run::ended(&coracle),
    );
    test.run("a deep check finds what a disk does not give back", || {
        deep_check(&coracle);
    });
    test.run("a template of another QEMU is told, and not used", || {
        let qemu = qemu_through(&coracle, "another", ANOTHER_QEMU, &[]);
        let start = coracle.run("start -p another").env("CORACLE_QEMU", qemu);
        let start = start.killed_at("boot");
        let line = start
            .stderr
            .lines()
            .find(|line| line.starts_with("booting cold: "));
        // It brings no firmware of its own along either, and may be said with that.
        let is_told =
            line.is_some_and(|line| line.contains("made with another") && line.ends_with("qemu"));
        assert!(is_told, "{start}");
        coracle.delete("another");
    });
    test.run(
        "a damaged template is told, and the cluster boots cold",
        || {
            let devices = coracle.templates()[0].join("devices");
            // Its first bytes say what it is: no hypervisor overlooks that.
            let mut bytes = fs::read(&devices).unwrap();
            bytes[0] ^= 0xff;
            write(&devices, bytes);
            let start = coracle.run("start -p damaged").killed_at("agent");
            start.says("booting cold, now and from now on");
            coracle.hypervisor("damaged");
            coracle.delete("damaged");
        },
    );
    test.run_long("the templates' loss under clones loses nothing", || {
        coracle
            .run("kubectl -p two -- create configmap kept --from-literal=a=b")
            .ok();
        // By the command that does so, and by force.
        coracle.run("template prune").ok();
        assert!(coracle.templates().is_empty(), "{:?}", coracle.templates());
        is_whole(&coracle, "two");
        fs::remove_dir_all(coracle.home().join("templates")).unwrap();
        is_whole(&coracle, "two");
        // Shut down, not saved: it is the disk that has to be whole without the template.
        let stop = coracle.run("stop -p two --shutdown").ok();
        assert!(
            !stop.stderr.contains("warning"),
            "it should shut down by itself: {stop}"
        );
        coracle.run("start -p two").ok();
        is_whole(&coracle, "two");
        coracle.run("kubectl -p two -- get configmap kept").ok();
    });
    coracle.delete_all();
    test.finish();
}
