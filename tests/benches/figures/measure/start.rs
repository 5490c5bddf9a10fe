//! A start, from the beginning of its process to its return, and on to a write that is read back.

use super::api::Api;
use super::ended_well;
use crate::on;
use coracle_tests::Coracle;
use std::time::Instant;

/// How a start went.
pub(crate) struct Started {
    /// Seconds until the command returned.
    pub(crate) returned: f64,
    /// Seconds until what was written through the new kubeconfig was read back.
    pub(crate) written: f64,
    /// Requests that had to be repeated for that.
    pub(crate) repeated: f64,
    /// Seconds by step, in order.
    pub(crate) steps: Vec<(String, f64)>,
}

/// Starts a cluster, with more options.
#[track_caller]
pub(crate) fn start(coracle: &Coracle, profile: &str, options: &str) -> Started {
    let begun = Instant::now();
    let done = ended_well(on(coracle, profile, &format!("start -o json {options}")));
    let returned = begun.elapsed().as_secs_f64();
    let mut api = Api::of_kubeconfig(&coracle.kubeconfig(), profile);
    api.write_and_read_back();
    let written = begun.elapsed().as_secs_f64();
    let mut steps = Vec::new();
    let mut name = "begin".to_owned();
    let mut since = 0.0;
    for ((came, _), event) in done.stdout_lines.iter().zip(done.json_lines()) {
        if event["type"] == "dev.coracle.step" {
            steps.push((name, came.as_secs_f64() - since));
            since = came.as_secs_f64();
            name = event["data"]["name"]
                .as_str()
                .expect("a step has a name")
                .to_owned();
        }
    }
    assert!(!steps.is_empty(), "a start tells its steps: {done}");
    steps.push((name, returned - since));
    Started {
        returned,
        written,
        repeated: api.repeated.into(),
        steps,
    }
}
