//! Times of files, as the protocol and as programs have them.

use crate::folders::Time;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

impl From<SystemTime> for Time {
    fn from(at: SystemTime) -> Self {
        let whole = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        match at.duration_since(UNIX_EPOCH) {
            Ok(since) => Self {
                seconds: whole(since),
                nanos: since.subsec_nanos(),
            },
            Err(error) => {
                let before = error.duration();
                // Nanoseconds count forward, also before 1970.
                let part = before.subsec_nanos();
                Self {
                    seconds: -whole(before) - i64::from(part > 0),
                    nanos: if part > 0 { 1_000_000_000 - part } else { 0 },
                }
            }
        }
    }
}

impl From<Time> for SystemTime {
    fn from(time: Time) -> Self {
        let whole = Duration::from_secs(time.seconds.unsigned_abs());
        let nanos = Duration::from_nanos(time.nanos.into());
        if time.seconds < 0 {
            UNIX_EPOCH - whole + nanos
        } else {
            UNIX_EPOCH + whole + nanos
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_way_there_and_back() {
        for (seconds, nanos) in [
            (0, 0),
            (1_700_000_000, 123_456_789),
            (-5, 250_000_000),
            (-5, 0),
        ] {
            let back = Time::from(SystemTime::from(Time { seconds, nanos }));
            assert_eq!((back.seconds, back.nanos), (seconds, nanos));
        }
    }
}
