//! A cluster that nobody uses sleeps; the first who connects wakes it, and is served.

use super::shop::{LIMIT, Shop, get};
use super::traffic;
use coracle_tests::{Started, alive, kill_pid, until, until_some};
use std::fs;
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The time without use after which the cluster sleeps.
const AFTER: &str = "8s";
/// Longer than that, and than what is asked before.
const LONG_AFTER: Duration = Duration::from_secs(25);

impl Shop<'_> {
    fn host(&self) -> String {
        let status = self.command("status -o json").done().json();
        status["Host"].as_str().expect("a word").to_owned()
    }

    fn falls_asleep(&self) {
        until("it sleeps", LIMIT, || self.host() == "Asleep");
        assert!(!self.has_hypervisor(), "it sleeps, and its hypervisor runs");
    }

    fn has_hypervisor(&self) -> bool {
        let folder = self.folder().display().to_string();
        let processes = self.coracle.processes();
        let mut all = processes.iter();
        all.any(|one| one.command.contains("qemu-system") && one.command.contains(&folder))
    }

    fn sleep(&self) {
        self.command("stop --sleep").ok().says("sleeps after");
        self.falls_asleep();
    }

    /// What keeps it awake for longer than it would be without use, and then no more.
    fn stays_awake_with(&self, what: &str, session: Started) {
        let until = Instant::now() + LONG_AFTER;
        let mut host = "Running".to_owned();
        while Instant::now() < until && host == "Running" {
            std::thread::park_timeout(Duration::from_secs(1));
            host = self.host();
        }
        kill_pid(session.pid());
        let session = session.done();
        let log = fs::read_to_string(self.folder().join("host-agent.log")).unwrap();
        assert_eq!(host, "Running", "in spite of {what}: {session}{log}");
        self.falls_asleep();
    }
}

/// The one who connects is served, by the same boot.
pub(crate) fn the_first_who_connects_wakes_it(shop: &Shop<'_>) {
    let boot = shop.boot_id();
    shop.sleep();
    let status = shop
        .command("status")
        .done()
        .code_is(3)
        .says("host: Asleep");
    assert!(status.text().contains("hostagent: Running"), "{status}");
    let begun = Instant::now();
    shop.kubectl("get pods");
    eprintln!(
        "kubectl had its answer {:?} after it slept",
        begun.elapsed()
    );
    assert_eq!(shop.boot_id(), boot);
    assert_eq!(shop.host(), "Running");
    shop.sleep();
    let begun = Instant::now();
    let answer = get(shop.web()).expect("the NodePort is served");
    assert!(answer.contains("hello from"), "{answer}");
    eprintln!("the NodePort answered {:?} after it slept", begun.elapsed());
    // A guest that slept knows the time when it first answers.
    let clock: u64 = shop.inside("date +%s").parse().expect("seconds");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(now.as_secs().abs_diff(clock) <= 2, "{clock} is not {now:?}");
    // What goes by the agent wakes it too.
    shop.sleep();
    shop.command("logs --component kubelet -n 1").ok();
    shop.sleep();
    assert_eq!(shop.inside("echo awake"), "awake");
    assert_eq!(shop.boot_id(), boot);
}

/// Many at once are one wake.
pub(crate) fn a_crowd_wakes_it_once(shop: &Shop<'_>) {
    shop.sleep();
    let woken = |shop: &Shop<'_>| {
        let log = fs::read_to_string(shop.folder().join("host-agent.log"));
        log.expect("it has a log").matches("is woken").count()
    };
    let before = woken(shop);
    traffic::a_crowd_is_served(shop, 100);
    assert_eq!(woken(shop), before + 1);
}

/// Its ports are held by the next host agent, those of its Services among them.
pub(crate) fn its_host_agent_is_killed_while_it_sleeps(shop: &Shop<'_>) {
    let boot = shop.boot_id();
    shop.sleep();
    let agent = shop.host_agent().expect("it has a host agent");
    kill_pid(agent);
    until("another one holds the ports", LIMIT, || {
        shop.host_agent().is_some_and(|other| other != agent) && shop.host() == "Asleep"
    });
    let answer = until_some("the NodePort is served", LIMIT, || get(shop.web()));
    assert!(answer.contains("hello from"), "{answer}");
    assert_eq!(shop.boot_id(), boot);
}

/// Stopped is not asleep: nothing wakes it.
pub(crate) fn a_stop_ends_its_sleep(shop: &Shop<'_>) {
    let boot = shop.boot_id();
    shop.sleep();
    let agent = shop.host_agent().expect("it has a host agent");
    shop.command("stop").ok().says("is saved");
    shop.command("status")
        .done()
        .code_is(3)
        .says("host: Stopped");
    until("its host agent is gone", LIMIT, || !alive(agent));
    TcpStream::connect(shop.web()).expect_err("the port is closed");
    shop.command("stop --sleep")
        .done()
        .fails(33, "CORACLE_MACHINE_NOT_RUNNING");
    shop.command("start").ok();
    until("the NodePort answers", LIMIT, || get(shop.web()).is_some());
    assert_eq!(shop.boot_id(), boot);
}

/// At its time, also while it sleeps; and not when that was called off.
pub(crate) fn a_stop_is_scheduled(shop: &Shop<'_>) {
    shop.command("stop --schedule 1h")
        .ok()
        .says("is stopped at");
    shop.command("status").ok().says("stopat: ");
    shop.command("stop --cancel-scheduled").ok();
    let status = shop.command("status").ok();
    assert!(!status.text().contains("stopat"), "{status}");
    shop.command("stop --schedule 5s").ok();
    until("it is stopped", LIMIT, || shop.host() == "Stopped");
    shop.command("start").ok();
    shop.command("stop --schedule 20s").ok();
    shop.sleep();
    until("it is stopped", LIMIT, || shop.host() == "Stopped");
    shop.command("start").ok();
    shop.command("stop --schedule soon")
        .done()
        .fails(14, "CORACLE_USAGE");
}

/// A watch that says nothing does not keep it awake; whoever works in it does.
pub(crate) fn nobody_uses_it(shop: &Shop<'_>) {
    shop.command("start --auto-stop 2s")
        .done()
        .fails(14, "CORACLE_USAGE");
    shop.command(&format!("start --auto-stop {AFTER}")).ok();
    let watch = shop.kubectl_run("get pods --watch").start();
    // Its connection is cut then, and it may make another one at once.
    until("it is put to sleep in spite of a watch", LIMIT, || {
        let log = fs::read_to_string(shop.folder().join("host-agent.log"));
        log.is_ok_and(|log| log.contains("nobody uses the cluster"))
    });
    kill_pid(watch.pid());
    watch.done();
    shop.falls_asleep();
    get(shop.web()).expect("a connection wakes it");
    shop.stays_awake_with("a shell", shop.ssh("sleep 600").start());
    shop.command("logs -n 1").ok();
    shop.stays_awake_with("who reads logs", shop.command("logs -f").start());
    let pod = shop.kubectl("get pods -l app=web -o name");
    shop.stays_awake_with(
        "a session in a pod",
        shop.kubectl_run(&format!("exec {pod} -- sleep 600"))
            .start(),
    );
    let variables = shop.docker_variables();
    let docker = |arguments: &str| {
        let docker = shop.coracle.program("docker");
        docker.args(arguments.split_whitespace()).envs(&variables)
    };
    docker("run -d --name quiet coracle.internal/busybox:1.37 sleep 100000").ok();
    shop.stays_awake_with(
        "who reads a container's log",
        docker("logs -f quiet").start(),
    );
    docker("rm -f quiet").ok();
    let events = docker("events").start();
    shop.falls_asleep();
    kill_pid(events.pid());
    events.done();
    shop.kubectl("get pods");
}

/// One that is due soon keeps it awake, and one that is due later wakes it.
pub(crate) fn a_cron_job_is_due(shop: &Shop<'_>) {
    let seconds = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_secs()
    };
    // A minute that is far enough for it to sleep before, and near enough to wait for.
    let due = (seconds() / 60 + 2) * 60;
    let minute = due / 60 % 60;
    let manifest = include_str!("cronjob.yaml").replace("MINUTE", &minute.to_string());
    shop.apply(&manifest);
    shop.falls_asleep();
    assert!(seconds() < due, "it was too late to be woken");
    until("it wakes by itself", LIMIT, || shop.host() == "Running");
    assert!(seconds() < due + 5, "{} s too late", seconds() - due);
    until("the job has run", LIMIT, || {
        let jobs = shop.kubectl("get jobs -o jsonpath={.items[*].status.succeeded}");
        jobs.contains('1')
    });
    shop.kubectl("delete cronjob tick");
    shop.command("start --auto-stop never").ok();
    let record = fs::read_to_string(shop.folder().join("machine.json")).unwrap();
    assert!(record.contains("\"auto-stop-seconds\": null"), "{record}");
}

/// Nothing is left of it.
pub(crate) fn one_that_sleeps_is_deleted(shop: &Shop<'_>) {
    shop.command("start --auto-stop never").ok();
    shop.sleep();
    let agent = shop.host_agent().expect("it has a host agent");
    shop.command("delete").ok();
    until("its host agent is gone", LIMIT, || !alive(agent));
    TcpStream::connect(shop.web()).expect_err("the port is closed");
}
