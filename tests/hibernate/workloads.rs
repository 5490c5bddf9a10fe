//! What runs in a cluster, and what a stop and a start must not do to it.

use super::cluster::{Cluster, LIMIT};
use coracle_tests::{kill_pid, until, until_some};
use std::time::Duration;

const MANIFESTS: &str = include_str!("workloads.yaml");
/// How often the cluster is stopped and started in a row.
const ROUNDS: u32 = 20;
/// How long it sleeps at first: the guest's clock has to have something to catch up with.
const SLEEP: Duration = Duration::from_secs(4);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Which containers run, and how often they were started again.
fn containers(cluster: Cluster<'_>) -> String {
    let each = "{range .items[*]}{.metadata.name} {.status.containerStatuses[*].containerID} {.status.containerStatuses[*].restartCount}{\"\\n\"}{end}";
    let pods = cluster.coracle.coracle([
        "kubectl",
        "-p",
        cluster.name,
        "--",
        "get",
        "pods",
        "memory",
        "disk-0",
        "-o",
        &format!("jsonpath={each}"),
    ]);
    let containers = pods.ok().text().to_owned();
    assert_eq!(
        containers.matches("containerd://").count(),
        2,
        "{containers}"
    );
    containers
}

/// The last number that a pod printed.
fn last_number(cluster: Cluster<'_>, pod: &str) -> u64 {
    until_some("the pod prints numbers", LIMIT, || {
        let logs = cluster.kubectl_run(&format!("logs {pod} --tail=1")).done();
        logs.text().parse().ok()
    })
}

/// Fails the test unless these are the numbers from 1 on, each once; gives the last one.
#[track_caller]
fn whole(numbers: &str) -> u64 {
    let mut last = 0;
    for line in numbers.lines() {
        assert_eq!(line.trim(), (last + 1).to_string(), "behind {last}");
        last += 1;
    }
    assert!(last > 0, "there are no numbers");
    last
}

/// All that the counter on the disk has written.
#[track_caller]
fn written(cluster: Cluster<'_>) -> u64 {
    let log = until_some("the pod of the volume can be asked", LIMIT, || {
        let read = cluster.kubectl_run("exec disk-0 -- cat /data/log").done();
        (read.code() == Some(0)).then(|| read.text().to_owned())
    });
    whole(&log)
}

pub(super) fn apply(cluster: Cluster<'_>) {
    cluster.apply(MANIFESTS);
    cluster.kubectl("rollout status statefulset/disk --timeout=600s");
    cluster.kubectl("wait pod/memory --for=condition=Ready --timeout=600s");
    last_number(cluster, "memory");
    last_number(cluster, "disk-0");
}

/// All goes on: the same boot, the same containers, what they have in memory, and time.
pub(super) fn go_on(cluster: Cluster<'_>) {
    let uptime = || -> f64 {
        let text = cluster.inside("cat /proc/uptime");
        text.split_whitespace().next().unwrap().parse().unwrap()
    };
    let (boot, before) = (cluster.boot_id(), containers(cluster));
    let (counted, up) = (last_number(cluster, "memory"), uptime());
    let stop = cluster.stop();
    cluster
        .command("status")
        .done()
        .code_is(3)
        .says("host: Stopped");
    cluster.until_gone();
    cluster.command("stop").ok().says("stopped already");
    std::thread::park_timeout(SLEEP);
    let start = cluster.wake();
    cluster.kubectl("get nodes");
    eprintln!("a stop took {:.2?}, a start {:.2?}", stop.took, start.took);
    cluster.still_runs(&boot);
    cluster.clock_is(Duration::ZERO);
    assert_eq!(containers(cluster), before);
    assert!(uptime() > up, "the machine's uptime begins anew");
    until("the counter in memory goes on", LIMIT, || {
        last_number(cluster, "memory") > counted
    });
    whole(&cluster.kubectl("logs memory"));
}

/// Twenty rounds in a row: no number is written twice, and none is missing.
pub(super) fn keep_their_sequence(cluster: Cluster<'_>) {
    let (boot, before) = (cluster.boot_id(), containers(cluster));
    let mut least = written(cluster);
    let (mut stops, mut starts) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        stops.push(cluster.stop().took);
        starts.push(cluster.wake().took);
        let now = written(cluster);
        assert!(now >= least, "{now} behind {least}");
        least = now;
    }
    stops.sort_unstable();
    starts.sort_unstable();
    let middle = ROUNDS as usize / 2;
    eprintln!(
        "{ROUNDS} rounds: a stop took {:.2?}, a start {:.2?} (medians)",
        stops[middle], starts[middle]
    );
    cluster.still_runs(&boot);
    assert_eq!(containers(cluster), before);
    until("the counter on the disk goes on", LIMIT, || {
        written(cluster) > least
    });
    whole(&cluster.kubectl("logs memory"));
}

/// Saved, gone on, written, and then cut off: the memory that was saved is not put on the newer disk.
pub(super) fn outlive_a_kill(cluster: Cluster<'_>) {
    cluster.stop();
    cluster.wake();
    let boot = cluster.boot_id();
    let mut follower = cluster.kubectl_run("logs -f disk-0 --tail=1").start();
    cluster.inside("echo fsynced > after-the-save && sync after-the-save");
    let shown = |text: &str| {
        text.lines()
            .filter_map(|line| line.parse::<u64>().ok())
            .max()
    };
    until("some numbers are written after the save", LIMIT, || {
        assert!(!follower.has_ended(), "{}", follower.stderr_so_far());
        follower.stdout_so_far().lines().count() > 3
    });
    kill_pid(cluster.hypervisor());
    let shown = shown(&follower.done().stdout).unwrap();
    cluster
        .command("status")
        .done()
        .code_is(3)
        .says("host: Stopped");
    let start = cluster.command("start").ok().says("is ready after");
    eprintln!("a cold start took {:.1?}", start.took);
    assert_ne!(cluster.boot_id(), boot, "old memory on a newer disk");
    assert_eq!(cluster.inside("cat after-the-save"), "fsynced");
    cluster.kubectl("wait pod/disk-0 --for=condition=Ready --timeout=600s");
    let kept = written(cluster);
    assert!(kept >= shown, "{shown} was printed, {kept} is on the disk");
    until("the counter on the disk goes on", LIMIT, || {
        written(cluster) > kept
    });
}

/// As if the cluster had slept a week.
pub(super) fn wake_after_a_week(cluster: Cluster<'_>) {
    let ask = "wget -qO- --no-check-certificate --header \"Authorization: Bearer $(cat /var/run/secrets/kubernetes.io/serviceaccount/token)\" https://kubernetes.default/api/v1/namespaces/default/pods";
    let asks = || {
        let exec = [
            "kubectl",
            "-p",
            cluster.name,
            "--",
            "exec",
            "memory",
            "--",
            "sh",
            "-c",
            ask,
        ];
        cluster.coracle.coracle(exec).done()
    };
    assert!(asks().stdout.contains("PodList"), "{}", asks());
    let (boot, before) = (cluster.boot_id(), containers(cluster));
    let week = WEEK.as_secs().to_string();
    let start = || {
        cluster
            .command("start")
            .env("CORACLE_TEST_CLOCK_OFFSET", &week)
            .ok()
    };
    let jobs = || -> Vec<String> {
        let names = cluster.kubectl("get jobs -o name --sort-by=.metadata.creationTimestamp");
        names.lines().map(str::to_owned).collect()
    };
    cluster.stop();
    start().says("is ready after");
    let woken = std::time::Instant::now();
    let old = jobs();
    cluster.clock_is(WEEK);
    assert_eq!(cluster.boot_id(), boot);
    let nodes = cluster.kubectl("get nodes --no-headers");
    assert!(nodes.contains(" Ready "), "{nodes}");
    until(
        "a pod from before uses the API with its token",
        LIMIT,
        || asks().stdout.contains("PodList"),
    );
    eprintln!(
        "the token of a pod was good {:.1?} after the start",
        woken.elapsed()
    );
    cluster.kubectl("run new --image=coracle.internal/busybox:1.37 --restart=Never -- sleep 3600");
    cluster.kubectl("wait pod/new --for=condition=Ready --timeout=600s");
    eprintln!(
        "a new pod was ready {:.1?} after the start",
        woken.elapsed()
    );
    until("the cron job fires again", LIMIT, || {
        jobs().iter().any(|job| !old.contains(job))
    });
    eprintln!("a cron job fired {:.1?} after the start", woken.elapsed());
    assert_eq!(containers(cluster), before);
    start().says("running already");
    cluster.command("status").ok();
}
