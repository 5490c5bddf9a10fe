//! What is measured, as one table: the order of the report, and the goals.

/// Which of the samples the figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statistic {
    /// The one in the middle.
    Median,
    /// The largest.
    Most,
}

/// One figure.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its name in `figures.json`.
    pub(crate) id: &'static str,
    /// The same for a person.
    pub(crate) what: &'static str,
    /// Its unit.
    pub(crate) unit: &'static str,
    /// What it should not be beyond.
    pub(crate) goal: Option<f64>,
    /// Whose samples it is made of: mostly its own.
    pub(crate) samples: &'static str,
    /// How.
    pub(crate) statistic: Statistic,
    /// Whether what others publish about themselves is the same kind of figure.
    pub(crate) published: bool,
}

const fn row(id: &'static str, what: &'static str, unit: &'static str, goal: Option<f64>) -> Row {
    Row {
        id,
        what,
        unit,
        goal,
        samples: id,
        statistic: Statistic::Median,
        published: false,
    }
}

impl Row {
    const fn published(self) -> Self {
        Self {
            published: true,
            ..self
        }
    }

    const fn slowest(id: &'static str, what: &'static str, samples: &'static str) -> Self {
        Self {
            samples,
            statistic: Statistic::Most,
            ..row(id, what, "s", None)
        }
    }
}

/// All figures, in the order of the report.
#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    row("image.again", "image, nothing to do", "s", Some(2.0)),
    row("image.download", "image, to download", "MiB", Some(200.0)),
    row("image.disk", "image, on disk", "MiB", None),
    row("image.from-nothing", "image, from nothing", "s", Some(1200.0)),

    row("version", "version --client", "ms", Some(20.0)),
    row("first.return", "first start: boots cold, makes a template", "s", Some(90.0)).published(),
    row("cold.return", "start --cold: makes no template", "s", Some(90.0)).published(),
    row("first.bake", "what making the template adds", "s", Some(2.0)),
    row("running.start", "start of a running cluster", "s", Some(2.0)),
    row("running.status", "status", "s", Some(0.3)),
    row("running.memory", "memory in use inside", "MB", Some(600.0)),

    row("floor", "the floor: bare QEMU until the API answers", "s", None),
    row("fresh.return", "fresh start", "s", Some(0.8)).published(),
    Row::slowest("fresh.return.slowest", "fresh start, slowest", "fresh.return"),
    row("fresh.write", "fresh start to a write read back", "s", Some(0.8)).published(),
    Row::slowest("fresh.write.slowest", "fresh start to a write read back, slowest", "fresh.write"),
    row("fresh.over-floor", "fresh start over the floor", "s", Some(0.3)),
    row("fresh.write.over-floor", "fresh start to a write over the floor", "s", Some(0.3)),
    row("fresh.refused", "requests that had to be repeated", "", Some(0.0)),
    row("fresh.ratio", "fresh starts in the time of a cold one", "x", None),
    row("fresh.uncached.return", "fresh start, page cache empty", "s", Some(1.5)),
    row("fresh.uncached.write", "the same to a write read back", "s", Some(1.5)),
    row("run", "run -- true", "s", Some(1.6)),
    row("pod", "a pod Ready after a fresh start", "s", Some(6.0)),

    row("stop", "stop", "s", None),
    row("stop.synced", "stop, until the guest's disk is synced", "s", None),
    row("stop.beyond-sync", "stop, after that", "s", Some(0.5)),
    row("stop.bytes", "stop, bytes on disk", "MB", None),
    row("resume.return", "start of a stopped cluster", "s", Some(1.2)),
    row("resume.write", "the same to a write read back", "s", Some(1.2)),
    row("resume.uncached.return", "start of a stopped cluster, page cache empty", "s", Some(2.5)),
    row("resume.uncached.write", "the same to a write read back", "s", Some(2.5)),
    row("wake", "a cluster that sleeps, until a connection has its answer", "s", None),
    row("wake.over-resume", "the same over the start of a stopped cluster", "s", Some(0.3)),
    row("shutdown.stop", "stop --shutdown", "s", None),
    row("shutdown.start", "start after stop --shutdown", "s", None),
    row("pause", "pause", "s", None),
    row("unpause", "unpause", "s", None),
    row("snapshot.save", "snapshot save", "s", None),
    row("snapshot.restore", "snapshot restore", "s", None),
    row("clone", "clone of a running cluster", "s", None),

    row("transfer.ratio", "32 MiB from a pod by a NodePort, to QEMU's own forward", "x", Some(1.25)),
    row("transfer", "the same by the host agent", "MB/s", None),
    row("transfer.bare", "the same by QEMU's own forward", "MB/s", None),
    row("first-byte.over", "first byte by the host agent, over QEMU's own forward", "ms", Some(1.0)),
    row("first-byte", "first byte by the host agent", "ms", None),
    row("burst.failed", "of 1,000 connections at once, failed", "", Some(0.0)),
    row("burst.p99", "their 99th percentile", "s", None),
    row("burst.to-one", "that to a single one", "x", Some(3.0)),
    row("burst.to-sequence", "that to as many one after the other", "x", None),

    row("mount.status", "git status of 20,000 files, on a mount", "s", None),
    row("9p.status", "the same by virtio-9p", "s", None),
    row("disk.status", "the same on the machine's disk", "s", None),
    row("mount.write", "written to a mount, in one go", "MB/s", None),
    row("9p.write", "the same by virtio-9p", "MB/s", None),
    row("disk.write", "the same to the machine's disk", "MB/s", None),
    row("mount.read", "read from a mount, in one go", "MB/s", None),
    row("9p.read", "the same by virtio-9p", "MB/s", None),
    row("disk.read", "the same from the machine's disk", "MB/s", None),

    row("engine.first", "the first answer of a fresh cluster's Docker engine", "s", None),
    row("engine.fresh.return", "fresh start of a machine with an engine alone", "s", Some(0.8)),
    row("engine.fresh.answer", "the same to its first answer", "s", None),

    row("loop.over", "a changed line, built, until a pod answers, over the same without the build", "s", Some(6.0)),
    row("loop.built", "a changed line, built, until a pod answers", "s", None),
    row("loop.without", "another image, until a pod answers", "s", None),
    row("loop.copied", "a changed line, built, saved and loaded, until a pod answers", "s", None),

    row("clone.memory", "a further clone's own memory, 30 s after its start", "MB", Some(350.0)),
    row("clone.memory.later", "a further clone's own memory, 10 min after its start", "MB", None),
    row("idle.running", "a running cluster, host CPU in an idle minute", "s", Some(12.0)),
    row("idle.host-agent", "its host agent, share of a core in an idle minute", "%", Some(0.1)),
    row("idle.host-agent.memory", "its host agent's own memory", "MB", Some(20.0)),
    row("idle.paused", "a paused cluster, host CPU in a minute", "s", None),
    row("idle.stopped", "a stopped cluster, processes", "", Some(0.0)),
    row("idle.guest", "a running cluster, CPU inside in an idle minute", "s", None),
    row("idle.interrupts", "a running cluster, interrupts inside", "/s", None),
];

/// The row of this id; a figure without a row is a mistake of the benchmark.
pub(crate) fn find(id: &str) -> &'static Row {
    let found = ROWS.iter().find(|row| row.id == id);
    found.unwrap_or_else(|| panic!("no figure is called {id}"))
}
