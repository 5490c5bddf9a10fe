//! What a machine says of itself: interrupts, processor time by component, memory.

use coracle_tests::{Coracle, Run};
use std::collections::BTreeMap;
use std::time::Duration;

/// Stands between the parts of a report.
const NEXT: &str = "--next--";
/// Said when the look inside begins.
pub(crate) const BEGUN: &str = "--begun--";
/// What figures of idle machines are for.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
/// Clock ticks of a second in /proc, on every architecture that Linux has (`USER_HZ`).
const TICKS: f64 = 100.0;
/// The parent of the kernel's own threads.
const KTHREADD: u32 = 2;

/// What a minute inside was like, on average.
pub(crate) struct Minute {
    /// Interrupts of all kinds, per second.
    pub(crate) interrupts: f64,
    /// Seconds of processor time by program, the largest first, as the guest counts them: on a busy
    /// host, time in which a processor of the guest waited for one of the host is among them.
    pub(crate) seconds: Vec<(String, f64)>,
}

/// A command that watches the guest for so long, beginning when it says [`BEGUN`].
pub(crate) fn watch(coracle: &Coracle, profile: &str, length: Duration) -> Run {
    let look = format!("cat /proc/interrupts; echo {NEXT}; cat /proc/[0-9]*/stat 2>/dev/null");
    let seconds = length.as_secs();
    let script = format!("{look}; echo {NEXT}; echo {BEGUN}; sleep {seconds}; {look}");
    coracle.coracle(["ssh", "-p", profile, "--", &script])
}

/// What such a command told.
pub(crate) fn minute(told: &str, length: Duration) -> Minute {
    let minutes = length.as_secs_f64() / MINUTE.as_secs_f64();
    let parts: Vec<&str> = told.split(NEXT).collect();
    let [interrupts, processes, interrupts_after, processes_after] = parts[..] else {
        panic!("two looks with two parts each: {told}");
    };
    let interrupts = count(interrupts_after) - count(interrupts);
    let before = processor_time(processes);
    let mut used = BTreeMap::<String, f64>::new();
    for (pid, (name, ticks)) in processor_time(processes_after) {
        let earlier = match before.get(&pid) {
            Some((known, ticks)) if *known == name => *ticks,
            _ => 0.0,
        };
        *used.entry(name).or_default() += (ticks - earlier) / TICKS / minutes;
    }
    let mut seconds: Vec<_> = used.into_iter().filter(|(_, used)| *used > 0.0).collect();
    seconds.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    Minute {
        interrupts: interrupts / length.as_secs_f64(),
        seconds,
    }
}

/// All interrupts since the boot (proc(5), interrupts): the numbers behind each colon.
fn count(text: &str) -> f64 {
    let numbers = text.lines().filter_map(|line| line.split_once(':'));
    numbers
        .flat_map(|(_, rest)| {
            rest.split_whitespace()
                .map_while(|word| word.parse::<f64>().ok())
        })
        .sum()
}

/// Name and clock ticks by process (proc(5), stat); the kernel's threads under one name.
fn processor_time(text: &str) -> BTreeMap<u32, (String, f64)> {
    let process = |line: &str| {
        let (pid, rest) = line.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<f64>().ok();
        let pid: u32 = pid.trim().parse().ok()?;
        let is_kernel = pid == KTHREADD || fields.get(1)?.parse() == Ok(KTHREADD);
        let name = if is_kernel { "kernel threads" } else { name };
        Some((pid, (name.to_owned(), number(11)? + number(12)?)))
    };
    text.lines().filter_map(process).collect()
}

/// Total less available memory inside, in MB.
pub(crate) fn memory_in_use(coracle: &Coracle) -> f64 {
    let report = coracle.inside("cat /proc/meminfo");
    let kib = |name: &str| -> f64 {
        let line = report.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in {report}"))
    };
    (kib("MemTotal:") - kib("MemAvailable:")) * 1024.0 / 1e6
}
