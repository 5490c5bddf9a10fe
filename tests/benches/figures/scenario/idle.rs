//! What a cluster takes while nobody uses it: memory of its own, processor time.

use super::Extent;
use crate::measure::guest::{self, MINUTE};
use crate::measure::process::{Private, cpu_of_all};
use crate::measure::start::start;
use crate::measure::wait_until;
use crate::on;
use crate::record::Record;
use coracle_tests::{Coracle, Profile, cpu_seconds};
use std::time::{Duration, Instant};

const NAME: &str = "further";
/// After its start a further clone is looked at then, and idles from a later time on.
const YOUNG: Duration = Duration::from_secs(30);
const SETTLED: Duration = Duration::from_secs(120);
/// And again, when asked for.
const OLD: Duration = Duration::from_secs(600);
/// How long the running one is watched: some work comes every other minute only (collections of garbage).
const WATCHED: Duration = Duration::from_secs(240);
/// What begins or ends the look inside is not a part of it.
const MARGIN: Duration = Duration::from_secs(1);
/// The host agent ends a moment after its machine.
const ENDING: Duration = Duration::from_secs(5);

pub(crate) fn measure(coracle: &Coracle, record: &mut Record, extent: Extent) {
    coracle.run("start -p another").ok();
    start(coracle, NAME, "");
    let begun = Instant::now();
    let pid = coracle.hypervisor(NAME).pid;
    wait_until(begun + YOUNG);
    memory(record, "clone.memory", pid);
    coracle.run("delete -p another").ok();

    if !extent.quick {
        wait_until(begun + SETTLED);
    }
    let watched = if extent.quick { MINUTE } else { WATCHED };
    let mut inside = guest::watch(coracle, NAME, watched).start();
    inside.until_it_says(guest::BEGUN);
    let cluster = Profile {
        coracle,
        name: NAME,
    };
    let host_agent = cluster.host_agent().expect("it has a host agent");
    let (looked, before) = (Instant::now(), cpu_seconds(host_agent));
    record.sample("idle.running", cpu_of_a_minute(coracle, watched));
    let used = cpu_seconds(host_agent) - before;
    let share = used / looked.elapsed().as_secs_f64();
    record.sample("idle.host-agent", share * 100.0);
    record.sample("idle.host-agent.memory", Private::of(host_agent).sum());
    let told = inside.done().ok().stdout.replace(guest::BEGUN, "");
    let minute = guest::minute(&told, watched);
    record.sample("idle.interrupts", minute.interrupts);
    let all = minute.seconds.iter().map(|(_, seconds)| seconds).sum();
    record.sample("idle.guest", all);
    for (name, seconds) in &minute.seconds {
        record.part("idle.guest", name, *seconds);
    }

    if extent.long {
        wait_until(begun + OLD);
        memory(record, "clone.memory.later", pid);
    } else {
        record.skip("clone.memory.later", "asked for with --long");
    }

    on(coracle, NAME, "pause").ok();
    record.sample("idle.paused", cpu_of_a_minute(coracle, MINUTE));
    on(coracle, NAME, "unpause").ok();
    on(coracle, NAME, "stop").ok();
    wait_until(Instant::now() + ENDING);
    record.sample("idle.stopped", coracle.processes().len() as f64);
}

fn memory(record: &mut Record, id: &'static str, pid: u32) {
    let private = Private::of(pid);
    record.sample(id, private.sum());
    record.part(id, "of it the guest's memory", private.guest);
    record.part(id, "of it the hypervisor's own", private.rest);
}

/// Seconds of processor time on the host in a minute, on average of so long.
fn cpu_of_a_minute(coracle: &Coracle, watched: Duration) -> f64 {
    let length = watched - 2 * MARGIN;
    wait_until(Instant::now() + MARGIN);
    let (begun, before) = (Instant::now(), cpu_of_all(coracle));
    wait_until(begun + length);
    let (length, used) = (begun.elapsed(), cpu_of_all(coracle) - before);
    used / length.as_secs_f64() * MINUTE.as_secs_f64()
}
