//! The host that everything is measured on.

use crate::record::Record;
use coracle_tests::{Run, binary};
use std::fs;

/// Notes what there is to know before anything is measured.
pub(crate) fn tell(record: &mut Record) {
    record.fact("load average at the beginning", load());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    record.fact("cores", cores);
    record.fact("processor", field("/proc/cpuinfo", "model name"));
    record.fact("memory", field("/proc/meminfo", "MemTotal"));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    record.fact("kernel", release.trim());
    let version = Run::new(binary()).args(["--version"]).ok();
    record.fact("coracle", version.text());
}

/// Notes which hypervisor is measured.
pub(crate) fn tell_hypervisor(record: &mut Record, program: &str, accelerator: &str) {
    let told = Run::new(program).args(["--version"]).ok();
    record.fact("qemu", told.text().lines().next().unwrap_or_default());
    record.fact("accelerator", accelerator);
}

/// Processes that wanted to run: over 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

fn field(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.split_once(':'));
    value.map_or_else(|| "unknown".into(), |(_, value)| value.trim().to_owned())
}
