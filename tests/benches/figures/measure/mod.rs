//! How things are measured: one file for each kind of thing.

pub(crate) mod api;
pub(crate) mod bare;
pub(crate) mod evict;
pub(crate) mod guest;
pub(crate) mod host;
pub(crate) mod process;
pub(crate) mod start;

use coracle_tests::{Done, Run};
use std::time::{Duration, Instant};

/// Longer than anything that is run.
const LIMIT: Duration = Duration::from_secs(1800);
/// What takes longer than this is worth a look, such as a clone that became a cold boot.
const LONG: Duration = Duration::from_secs(10);

/// Runs a command to a good end; how long that took.
#[track_caller]
pub(crate) fn time(run: Run) -> f64 {
    ended_well(run).took.as_secs_f64()
}

/// Runs a command to a good end; shows what it said where it took long.
#[track_caller]
fn ended_well(run: Run) -> Done {
    let done = run.limit(LIMIT).ok();
    if done.took > LONG {
        eprintln!("{done}");
    }
    done
}

/// Waits until a point in time.
pub(crate) fn wait_until(then: Instant) {
    while let Some(left) = then.checked_duration_since(Instant::now()) {
        if left.is_zero() {
            return;
        }
        // It may return early.
        std::thread::park_timeout(left);
    }
}
