//! Snapshots, and clones of a cluster that runs.

use super::Extent;
use crate::measure::start::start;
use crate::measure::time;
use crate::on;
use crate::record::Record;
use coracle_tests::Coracle;

const NAME: &str = "original";
const FEW: usize = 5;

pub(crate) fn measure(coracle: &Coracle, record: &mut Record, extent: Extent) {
    let help = coracle.run("help").ok();
    let knows = |command: &str| {
        let mut lines = help.stdout.lines();
        lines.any(|line| line.split_whitespace().next() == Some(command))
    };
    let (snapshot, clone) = (knows("snapshot"), knows("clone"));
    if snapshot || clone {
        start(coracle, NAME, "");
    }
    if snapshot {
        for number in 0..extent.repeats(FEW) {
            let save = on(coracle, NAME, &format!("snapshot save s{number}"));
            record.sample("snapshot.save", time(save));
            let restore = on(coracle, NAME, &format!("snapshot restore s{number}"));
            record.sample("snapshot.restore", time(restore));
        }
    } else {
        for id in ["snapshot.save", "snapshot.restore"] {
            record.skip(id, "this program has no such command");
        }
    }
    if clone {
        for number in 0..extent.repeats(FEW) {
            record.sample(
                "clone",
                time(on(coracle, NAME, &format!("clone copy{number}"))),
            );
            coracle.run(&format!("delete -p copy{number}")).ok();
        }
    } else {
        record.skip("clone", "this program has no such command");
    }
}
