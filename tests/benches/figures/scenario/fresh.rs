//! New clusters from the template, and the floor below them. No other machine runs.

use super::Extent;
use crate::measure::api::Api;
use crate::measure::bare::Bare;
use crate::measure::evict::evict;
use crate::measure::host::tell_hypervisor;
use crate::measure::start::{Started, start};
use crate::measure::time;
use crate::record::Record;
use coracle_tests::Coracle;
use serde_json::json;
use std::time::Instant;

/// New clusters that are started one after the other.
const STARTS: usize = 20;
/// Starts from an empty page cache; runs of the floor; commands in a cluster of their own.
const FEW: usize = 5;

pub(crate) fn measure(coracle: &Coracle, record: &mut Record, extent: Extent) {
    // Also brings everything into the page cache.
    coracle.run("start -p model").ok();
    let bare = Bare::like(coracle, "model");
    tell_hypervisor(record, bare.program(), bare.accelerator());
    coracle.run("delete -p model").ok();
    for _ in 0..extent.repeats(2 * FEW) {
        record.sample("floor", bare.restore());
    }
    let mut repeated = 0.0;
    for number in 0..extent.repeats(STARTS) {
        let fresh = fresh(coracle, &format!("fresh{number}"));
        record.sample("fresh.return", fresh.returned);
        record.sample("fresh.write", fresh.written);
        record.part(
            "fresh.write",
            "from return to write",
            fresh.written - fresh.returned,
        );
        for (step, seconds) in &fresh.steps {
            record.part("fresh.return", step, *seconds);
        }
        repeated += fresh.repeated;
    }
    record.sample("fresh.refused", repeated);
    record.derive(
        "fresh.over-floor",
        ["fresh.return", "floor"],
        |fresh, floor| fresh - floor,
    );
    record.derive(
        "fresh.write.over-floor",
        ["fresh.write", "floor"],
        |fresh, floor| fresh - floor,
    );
    // The time of a cold start is told by the first, whose template is a small part of it.
    record.derive(
        "fresh.ratio",
        ["first.return", "fresh.return"],
        |cold, fresh| cold / fresh,
    );
    for number in 0..extent.repeats(FEW) {
        evict(coracle, bare.program());
        let fresh = fresh(coracle, &format!("uncached{number}"));
        record.sample("fresh.uncached.return", fresh.returned);
        record.sample("fresh.uncached.write", fresh.written);
    }
}

fn fresh(coracle: &Coracle, profile: &str) -> Started {
    let started = start(coracle, profile, "");
    coracle.run(&format!("delete -p {profile}")).ok();
    started
}

pub(crate) fn measure_use(coracle: &Coracle, record: &mut Record, extent: Extent) {
    for _ in 0..extent.repeats(FEW) {
        record.sample("run", time(coracle.run("run -- true")));
    }
    for number in 0..3 {
        let profile = format!("pod{number}");
        coracle.run(&format!("start -p {profile}")).ok();
        record.sample("pod", pod(coracle, &profile));
        coracle.run(&format!("delete -p {profile}")).ok();
    }
}

/// From the request for a pod, right after a start, until it is Ready.
fn pod(coracle: &Coracle, profile: &str) -> f64 {
    let begun = Instant::now();
    let mut api = Api::of_kubeconfig(&coracle.kubeconfig(), profile);
    let container = json!({
        "name": "bench",
        "image": "coracle.internal/busybox:1.37",
        "command": ["sleep", "600"],
    });
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bench"},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    });
    let pods = "/api/v1/namespaces/default/pods";
    api.until_done("POST", pods, Some(&pod));
    api.watch_until(pods, |pod| {
        let conditions = pod["status"]["conditions"].as_array();
        conditions.is_some_and(|conditions| {
            let mut all = conditions.iter();
            all.any(|one| one["type"] == "Ready" && one["status"] == "True")
        })
    });
    begun.elapsed().as_secs_f64()
}
