//! What processes of the host take: memory of their own, processor time.

use coracle_tests::{Coracle, cpu_seconds};
use std::path::Path;

/// Memory that a process has of its own, in MB: files that are only mapped are the page cache's, also where
/// nobody else maps them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Private {
    /// The guest's memory: pages of the file `ram` that it changed.
    pub(crate) guest: f64,
    /// All else: the hypervisor's own.
    pub(crate) rest: f64,
}

impl Private {
    /// Of a process now (proc(5), smaps).
    pub(crate) fn of(pid: u32) -> Self {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps")).expect("it runs");
        let mut found = Self::default();
        let mut is_guest = false;
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let first = words.next().unwrap_or_default();
            if !first.ends_with(':') {
                // A mapping begins: addresses, rights, offset, device, inode, path.
                let path = words.nth(4).map(Path::new);
                is_guest = path
                    .and_then(Path::file_name)
                    .is_some_and(|name| name == "ram");
            } else if ["Anonymous:", "Swap:"].contains(&first) {
                let kib: f64 = words
                    .next()
                    .and_then(|word| word.parse().ok())
                    .expect("KiB");
                let part = if is_guest {
                    &mut found.guest
                } else {
                    &mut found.rest
                };
                *part += kib * 1024.0 / 1e6;
            }
        }
        found
    }

    /// All of it.
    pub(crate) fn sum(self) -> f64 {
        self.guest + self.rest
    }
}

/// Seconds of processor time that all processes of the sandbox have used: the hypervisor, the host
/// agent.
pub(crate) fn cpu_of_all(coracle: &Coracle) -> f64 {
    let processes = coracle.processes();
    assert!(!processes.is_empty(), "a machine runs");
    processes
        .iter()
        .map(|process| cpu_seconds(process.pid))
        .sum()
}
