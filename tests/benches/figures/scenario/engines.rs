//! The Docker engine: in a fresh cluster, where the first request starts it, and in machines that have it
//! alone.

use super::Extent;
use crate::measure::start::start;
use crate::measure::time;
use crate::on;
use crate::record::Record;
use coracle_tests::{Coracle, Profile, Run};

/// New clusters and machines of each kind.
const STARTS: usize = 5;

pub(crate) fn measure(coracle: &Coracle, record: &mut Record, extent: Extent) {
    for number in 0..extent.repeats(STARTS) {
        let name = format!("asks{number}");
        start(coracle, &name, "");
        record.sample("engine.first", time(version(coracle, &name)));
        coracle.run(&format!("delete -p {name}")).ok();
    }
    // The first of its kind boots, and makes the template.
    alone(coracle, "model");
    coracle.run("delete -p model").ok();
    for number in 0..extent.repeats(STARTS) {
        let name = format!("box{number}");
        let returned = alone(coracle, &name);
        record.sample("engine.fresh.return", returned);
        let answered = time(version(coracle, &name));
        record.sample("engine.fresh.answer", returned + answered);
        coracle.run(&format!("delete -p {name}")).ok();
    }
}

/// Starts a machine without Kubernetes; seconds.
fn alone(coracle: &Coracle, name: &str) -> f64 {
    time(on(coracle, name, "start --no-kubernetes"))
}

/// `docker version`, of a cluster's engine.
fn version(coracle: &Coracle, name: &str) -> Run {
    let variables = Profile { coracle, name }.docker_variables();
    coracle.program("docker").args(["version"]).envs(variables)
}
