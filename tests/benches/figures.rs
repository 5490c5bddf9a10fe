//! `make bench`: the figures that the documents promise, measured on this machine, one after the
//! other, with nothing else running. A table on standard error, JSON in `target/bench/figures.json`.
//!
//! Times under software emulation depend on the machine; goals are those of two cores. Nothing here
//! fails because something was slow: a figure beyond its goal is marked, and that is all.
//!
//! `cargo bench -p coracle-tests -- --size` packs the whole image to count what a user would
//! download; `-- --from-nothing` builds the image with an empty cache. Both take minutes.

#![allow(clippy::print_stderr, clippy::expect_used, clippy::panic)]

use coracle_tests::{Coracle, binary, cpu_seconds, write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// New clusters that are started one after the other.
const FRESH_STARTS: usize = 20;
/// Runs of a quick command; the median is told.
const QUICK_RUNS: usize = 11;

/// One measured figure.
struct Figure {
    what: &'static str,
    value: f64,
    unit: &'static str,
    goal: Option<f64>,
}

fn main() {
    let asked: Vec<String> = std::env::args().collect();
    let asked = |flag: &str| asked.iter().any(|argument| argument == flag);
    let mut figures = Vec::new();
    image(&mut figures, asked("--size"), asked("--from-nothing"));
    cluster(&mut figures);
    show(&figures);
}

fn image(figures: &mut Vec<Figure>, size: bool, from_nothing: bool) {
    let again = median(3, || {
        let mut run = Coracle::new().program(binary()).args(["image-build"]);
        run = run.folder(coracle_tests::repository());
        run = run.env("CORACLE_HOME", shared_home());
        // The toolchains' own caches are there, as they are for whoever builds again.
        if let Some(home) = std::env::var_os("HOME") {
            run = run.env("HOME", home);
        }
        if let Some(cache) = std::env::var_os("CORACLE_CACHE") {
            run = run.env("CORACLE_CACHE", cache);
        }
        run.limit(Duration::from_secs(3600)).ok();
    });
    add(figures, "image, nothing to do", again, "s", Some(2.0));
    if size {
        let store = coracle_iso::images::Store::new(&shared_home());
        let digest = store.current().expect("a store").expect("an image");
        let image = store.open(&digest).expect("the current image");
        let size = coracle_iso::images::download_size(&image).expect("the image's files");
        add(
            figures,
            "image, to download",
            mib(size.compressed()),
            "MiB",
            Some(200.0),
        );
        add(figures, "image, on disk", mib(size.size()), "MiB", None);
    }
    if from_nothing {
        let coracle = Coracle::new();
        let begun = Instant::now();
        coracle
            .run("image-build")
            .folder(coracle_tests::repository())
            .limit(Duration::from_secs(3 * 3600))
            .ok();
        add(
            figures,
            "image, from nothing",
            begun.elapsed().as_secs_f64(),
            "s",
            Some(1200.0),
        );
    }
}

fn cluster(figures: &mut Vec<Figure>) {
    let mut coracle = Coracle::with_machine();
    let version = median(QUICK_RUNS, || {
        coracle.run("version --client").ok();
    });
    add(
        figures,
        "coracle version --client",
        version * 1000.0,
        "ms",
        Some(20.0),
    );

    let begun = Instant::now();
    let events = coracle
        .run("start -o json")
        .limit(Duration::from_secs(1800))
        .ok();
    add(
        figures,
        "cold start, all ready",
        begun.elapsed().as_secs_f64(),
        "s",
        Some(90.0),
    );
    let steps = events.json_lines();
    assert!(!steps.is_empty(), "a start tells its steps: {events}");

    let running = median(QUICK_RUNS, || {
        coracle.run("start").ok();
    });
    add(
        figures,
        "start of a running cluster",
        running,
        "s",
        Some(2.0),
    );
    let status = median(QUICK_RUNS, || {
        coracle.run("status").ok();
    });
    add(figures, "coracle status", status, "s", Some(0.3));
    add(
        figures,
        "guest memory in use",
        guest_memory(&coracle),
        "MB",
        Some(600.0),
    );

    let begun = Instant::now();
    coracle.run("stop").limit(Duration::from_secs(600)).ok();
    add(
        figures,
        "stop (power off)",
        begun.elapsed().as_secs_f64(),
        "s",
        None,
    );
    let begun = Instant::now();
    coracle.run("start").limit(Duration::from_secs(1800)).ok();
    add(
        figures,
        "start after power off",
        begun.elapsed().as_secs_f64(),
        "s",
        None,
    );
    coracle.run("delete").ok();
    clones(&coracle, figures);
    coracle.delete_all();
}

/// What new clusters take when a template is there and no other machine runs.
fn clones(coracle: &Coracle, figures: &mut Vec<Figure>) {
    let mut starts: Vec<f64> = (0..FRESH_STARTS)
        .map(|number| {
            let begun = Instant::now();
            coracle.run(&format!("start -p c{number}")).ok();
            let took = begun.elapsed().as_secs_f64();
            coracle.run(&format!("delete -p c{number}")).ok();
            took
        })
        .collect();
    starts.sort_by(f64::total_cmp);
    let fresh = starts[starts.len() / 2];
    add(
        figures,
        "fresh start (clone), median",
        fresh,
        "s",
        Some(0.8),
    );
    let slowest = starts[starts.len() - 1];
    add(figures, "fresh start (clone), slowest", slowest, "s", None);
    let run = median(5, || {
        coracle.run("run -- true").ok();
    });
    add(figures, "run -- true", run, "s", Some(1.6));
    coracle.run("start -p pod").ok();
    let begun = Instant::now();
    coracle
        .run("kubectl -p pod -- run p --image=coracle.internal/busybox:1.37 -- sleep 600")
        .ok();
    coracle
        .run("kubectl -p pod -- wait pod/p --for=condition=Ready --timeout=600s")
        .ok();
    let ready = begun.elapsed().as_secs_f64();
    add(
        figures,
        "a pod Ready after a fresh start",
        ready,
        "s",
        Some(6.0),
    );
    coracle.run("start -p further").ok();
    let pid = coracle.hypervisor("further").pid;
    add(
        figures,
        "private memory of a further clone",
        private(pid),
        "MB",
        Some(350.0),
    );
    coracle.run("delete -p pod").ok();
    let idle = Duration::from_secs(60);
    let before = cpu_seconds(pid);
    std::thread::park_timeout(idle);
    let used = (cpu_seconds(pid) - before) / idle.as_secs_f64() * 100.0;
    add(
        figures,
        "an idle cluster, of one CPU",
        used,
        "%",
        Some(20.0),
    );
}

/// What a process has for itself, 30 seconds from now, in MB.
fn private(pid: u32) -> f64 {
    std::thread::park_timeout(Duration::from_secs(30));
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it runs");
    let kib = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in {text}"))
    };
    (kib("Private_Clean:") + kib("Private_Dirty:")) * 1024.0 / 1e6
}

/// Total less available memory inside, in MB, once the work of starting has settled.
fn guest_memory(coracle: &Coracle) -> f64 {
    let report = coracle.inside("sleep 20; cat /proc/meminfo");
    let kib = |name: &str| -> f64 {
        let line = report.lines().find_map(|line| line.strip_prefix(name));
        let number =
            line.and_then(|line| line.split_whitespace().find_map(|word| word.parse().ok()));
        number.unwrap_or_else(|| panic!("no {name} in {report}"))
    };
    (kib("MemTotal:") - kib("MemAvailable:")) * 1024.0 / 1e6
}

fn median(runs: usize, mut run: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..runs)
        .map(|_| {
            let begun = Instant::now();
            run();
            begun.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[runs / 2]
}

fn add(
    figures: &mut Vec<Figure>,
    what: &'static str,
    value: f64,
    unit: &'static str,
    goal: Option<f64>,
) {
    eprintln!("{what}: {value:.2} {unit}");
    figures.push(Figure {
        what,
        value,
        unit,
        goal,
    });
}

fn show(figures: &[Figure]) {
    eprintln!(
        "\n{:28} {:>10} {:>5} {:>8}",
        "figure", "measured", "", "goal"
    );
    for Figure {
        what,
        value,
        unit,
        goal,
    } in figures
    {
        let goal_text = goal.map(|goal| format!("{goal}")).unwrap_or_default();
        let verdict = match goal {
            Some(goal) if value > goal => "  beyond its goal",
            _ => "",
        };
        eprintln!("{what:28} {value:>10.2} {unit:>5} {goal_text:>8}{verdict}");
    }
    let rows: Vec<_> = figures
        .iter()
        .map(|one| serde_json::json!({"figure": one.what, "value": one.value, "unit": one.unit, "goal": one.goal}))
        .collect();
    let file = coracle_tests::repository().join("target/bench/figures.json");
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("target/ is ours");
    write(
        &file,
        serde_json::to_string_pretty(&rows).expect("rows are JSON"),
    );
    eprintln!("\n{}", file.display());
}

fn shared_home() -> PathBuf {
    std::env::var_os("CORACLE_TEST_HOME").map_or_else(
        || coracle_tests::repository().join("target/test-home"),
        PathBuf::from,
    )
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
