//! The first start, which boots cold and makes a template, and the cluster that it gives.

use super::Extent;
use crate::measure::guest::memory_in_use;
use crate::measure::start::start;
use crate::measure::{time, wait_until};
use crate::record::Record;
use coracle_tests::Coracle;
use std::time::{Duration, Instant};

/// Repeats of a quick command.
const QUICK: usize = 11;
/// What a start leaves to be done inside has settled by then.
const SETTLING: Duration = Duration::from_secs(20);

pub(crate) fn measure(coracle: &Coracle, record: &mut Record, extent: Extent) {
    for _ in 0..extent.repeats(QUICK) {
        record.sample("version", time(coracle.run("version --client")) * 1000.0);
    }
    if !extent.cold {
        record.skip("first.return", "left out by --no-cold");
        return;
    }
    if extent.long {
        let cold = start(coracle, "cold", "--cold");
        record.sample("cold.return", cold.returned);
        for (step, seconds) in &cold.steps {
            record.part("cold.return", step, *seconds);
        }
        coracle.run("delete -p cold").ok();
    } else {
        record.skip("cold.return", "asked for with --long");
        record.skip("first.bake", "asked for with --long");
    }
    let first = start(coracle, "coracle", "");
    let settled = Instant::now() + SETTLING;
    record.sample("first.return", first.returned);
    for (step, seconds) in &first.steps {
        record.part("first.return", step, *seconds);
    }
    record.derive(
        "first.bake",
        ["first.return", "cold.return"],
        |first, cold| first - cold,
    );
    wait_until(settled);
    record.sample("running.memory", memory_in_use(coracle));
    for _ in 0..extent.repeats(QUICK) {
        record.sample("running.start", time(coracle.run("start")));
        record.sample("running.status", time(coracle.run("status")));
    }
    record.sample("shutdown.stop", time(coracle.run("stop --shutdown")));
    record.sample("shutdown.start", start(coracle, "coracle", "").returned);
}
