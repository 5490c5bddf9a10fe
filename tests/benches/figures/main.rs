//! `make bench`: the figures that the documents promise, measured on this machine in one run, one
//! after the other, with nothing else running.
//!
//! ```text
//! scenario/ --samples--> record --+--> report/: table, figures.json, start.svg
//!    |                            |
//!    v                            +<-- catalogue: what each figure is, its goal
//! measure/: the program, bare QEMU, processes, the guest, the page cache
//! ```
//!
//! Times under software emulation depend on the machine; goals are those of two cores. A figure beyond
//! its goal is marked, and that is all: only what does not work at all fails the run.
//!
//! Options, behind `scripts/bench` or `cargo bench -p coracle-tests --`: `--quick` (3 repeats instead of
//! up to 20), `--long` (two cold boots compared, memory after 10 minutes), `--size` (what a user would
//! download: packs the whole image), `--from-nothing` (builds the image with an empty cache), `--no-cold`
//! (no first start: begins with the template that the tests share), `--only=NAME` (one scenario; may be
//! repeated).

#![allow(clippy::print_stderr, clippy::expect_used, clippy::panic)]

mod catalogue;
mod measure;
mod record;
mod report;
mod scenario;

use coracle_tests::{Coracle, Run, repository};
use measure::{evict, host};
use record::Record;
use scenario::Extent;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let asked = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let extent = Extent {
        quick: asked("--quick"),
        cold: !asked("--no-cold"),
        long: asked("--long"),
        size: asked("--size"),
        from_nothing: asked("--from-nothing"),
    };
    let mut record = Record::default();
    host::tell(&mut record);
    record.fact("quick", extent.quick);
    record.fact("page cache emptied by", evict::way());

    let mut coracle = match extent.cold {
        true => Coracle::with_machine(),
        false => Coracle::with_template(),
    };
    let only: Vec<&str> = arguments
        .iter()
        .filter_map(|argument| argument.strip_prefix("--only="))
        .collect();
    for name in &only {
        let mut all = scenario::ALL.iter();
        assert!(
            all.any(|(known, _)| known == name),
            "no scenario is called {name}"
        );
    }
    for (name, scenario) in scenario::ALL {
        if !only.is_empty() && !only.contains(name) {
            continue;
        }
        eprintln!("\n== {name}");
        let measured = catch_unwind(AssertUnwindSafe(|| {
            scenario(&coracle, &mut record, extent);
        }));
        if measured.is_err() {
            record.failed(name);
        }
        // The next one begins without a machine.
        coracle.run("delete --all").ok();
        coracle.no_process_is_left();
    }
    coracle.delete_all();

    record.fact("load average at the end", host::load());
    report::write(&record, &repository().join("target/bench"));
    if record.failures().is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A command of the program on one cluster.
fn on(coracle: &Coracle, profile: &str, arguments: &str) -> Run {
    coracle.run(arguments).env("CORACLE_PROFILE", profile)
}
