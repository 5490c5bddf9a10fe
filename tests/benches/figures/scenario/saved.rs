//! A cluster is saved and goes on; it is paused and goes on.

use super::Extent;
use crate::measure::api::Api;
use crate::measure::evict::evict;
use crate::measure::start::start;
use crate::measure::time;
use crate::on;
use crate::record::Record;
use coracle_tests::Coracle;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Instant;

const NAME: &str = "saved";
/// Saves with the page cache as it is, and with an empty one.
const SAVES: usize = 5;
/// What `stop` traces when the guest's disk is synced.
const SYNCED: &str = "the guest's disk is synced";

pub(crate) fn measure(coracle: &Coracle, record: &mut Record, extent: Extent) {
    start(coracle, NAME, "");
    let qemu = coracle.hypervisor(NAME).command;
    let qemu = qemu.split(' ').next().expect("a program");
    for _ in 0..extent.repeats(SAVES) {
        stop(coracle, record);
        let resumed = start(coracle, NAME, "");
        record.sample("resume.return", resumed.returned);
        record.sample("resume.write", resumed.written);
        for (step, seconds) in &resumed.steps {
            record.part("resume.return", step, *seconds);
        }
    }
    for _ in 0..extent.repeats(SAVES) {
        on(coracle, NAME, "stop --sleep").ok();
        let begun = Instant::now();
        let mut api = Api::of_kubeconfig(&coracle.kubeconfig(), NAME);
        api.until_done("GET", "/api/v1/namespaces/default/pods", None);
        record.sample("wake", begun.elapsed().as_secs_f64());
    }
    record.derive(
        "wake.over-resume",
        ["wake", "resume.return"],
        |wake, resume| wake - resume,
    );
    for _ in 0..extent.repeats(SAVES) {
        stop(coracle, record);
        evict(coracle, qemu);
        let resumed = start(coracle, NAME, "");
        record.sample("resume.uncached.return", resumed.returned);
        record.sample("resume.uncached.write", resumed.written);
    }
    for _ in 0..extent.repeats(SAVES) {
        record.sample("pause", time(on(coracle, NAME, "pause")));
        record.sample("unpause", time(on(coracle, NAME, "unpause")));
    }
}

fn stop(coracle: &Coracle, record: &mut Record) {
    let done = on(coracle, NAME, "stop")
        .env("CORACLE_LOG", "coracle=debug")
        .ok();
    let total = done.took.as_secs_f64();
    record.sample("stop", total);
    match done
        .stderr_lines
        .iter()
        .find(|(_, line)| line.contains(SYNCED))
    {
        Some((came, _)) => {
            record.sample("stop.synced", came.as_secs_f64());
            record.sample("stop.beyond-sync", total - came.as_secs_f64());
        }
        None => {
            for id in ["stop.synced", "stop.beyond-sync"] {
                record.skip(id, "stop did not tell when the disk was synced");
            }
        }
    }
    let save = coracle.machine(NAME).join("save");
    assert!(save.is_dir(), "a stop saves the cluster: {done}");
    record.sample("stop.bytes", bytes_on_disk(&save) as f64 / 1e6);
}

/// What the files of a folder take on the disk; those that are links to a template's take nothing.
fn bytes_on_disk(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("it is there");
    let size = |path: &Path| {
        let meta = std::fs::symlink_metadata(path).expect("nobody else changes it");
        match meta.is_dir() {
            true => bytes_on_disk(path),
            false if meta.nlink() > 1 => 0,
            false => meta.blocks() * 512,
        }
    };
    entries.flatten().map(|entry| size(&entry.path())).sum()
}
