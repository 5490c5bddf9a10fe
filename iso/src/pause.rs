//! Waiting between two tries.

use std::sync::mpsc;
use std::time::Duration;

/// Waits so long. For a back-off whose number of tries is bounded.
pub(crate) fn pause(length: Duration) {
    // Nobody sends: receiving with a limit is a wait.
    let (_keep, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(length);
}
