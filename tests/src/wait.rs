//! Waiting for something that gives no event: looking again, with a back-off and a limit.

use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Looks until there is something; panics with `what` after `limit`.
#[track_caller]
pub fn until_some<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < limit, "gave up after {limit:?}: {what}");
        sleep(pause);
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// Looks until it is so; panics with `what` after `limit`.
#[track_caller]
pub fn until(what: &str, limit: Duration, mut look: impl FnMut() -> bool) {
    until_some(what, limit, || look().then_some(()));
}

#[expect(
    clippy::disallowed_methods,
    reason = "the back-off itself; every caller has a limit"
)]
pub(crate) fn sleep(pause: Duration) {
    std::thread::sleep(pause);
}
