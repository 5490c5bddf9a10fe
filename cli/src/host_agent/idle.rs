//! For how long nobody has used a cluster, from the counts of its ports.

use super::activity::Look;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes a second that an open connection may send without being used: what keeps a watch alive.
const ALLOWANCE: f64 = 8.0;
/// What may be saved up for the moment in which a watch is asked for again.
const SAVED_UP: Duration = Duration::from_secs(300);

/// Since when nobody has used a cluster.
#[derive(Debug)]
pub struct Idle {
    since: Instant,
    looked: Instant,
    last: Look,
    /// Bytes that may still come without being use.
    allowed: f64,
}

impl Idle {
    /// It is used now.
    pub fn new(look: Look, now: Instant) -> Self {
        Self {
            since: now,
            looked: now,
            last: look,
            allowed: 0.0,
        }
    }

    /// It is used now, as something else shows.
    pub fn used(&mut self, now: Instant) {
        self.since = now;
    }

    /// Looks at the counts; for how long it has not been used.
    pub fn look(&mut self, look: Look, now: Instant) -> Duration {
        #[allow(clippy::cast_precision_loss, reason = "a rough measure")]
        let (bytes, connections) = (
            look.bytes.saturating_sub(self.last.bytes) as f64,
            look.connections as f64,
        );
        let earned = ALLOWANCE * connections * (now - self.looked).as_secs_f64();
        let most = ALLOWANCE * connections * SAVED_UP.as_secs_f64();
        self.allowed = (self.allowed + earned).min(most) - bytes;
        if look.arrivals != self.last.arrivals || look.sessions > 0 || self.allowed < 0.0 {
            self.since = now;
            self.allowed = self.allowed.max(0.0);
        }
        self.last = look;
        self.looked = now;
        now - self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_keeps_a_watch_alive_is_no_use() {
        let mut now = Instant::now();
        let mut look = Look {
            connections: 2,
            ..Look::default()
        };
        let mut idle = Idle::new(look, now);
        for minute in 1..=10 {
            now += MINUTE;
            // Two pings a minute and what acknowledges them, on each connection.
            look.bytes += 2 * 2 * 80;
            assert_eq!(idle.look(look, now), minute * MINUTE);
        }
        now += MINUTE;
        look.bytes += 20_000;
        assert_eq!(
            idle.look(look, now),
            Duration::ZERO,
            "somebody asks for something"
        );
        now += MINUTE;
        assert_eq!(idle.look(look, now), MINUTE);
    }

    #[test]
    fn whoever_comes_or_has_a_session_uses_it() {
        let begun = Instant::now();
        let mut look = Look::default();
        let mut idle = Idle::new(look, begun);
        look.arrivals += 1;
        assert_eq!(idle.look(look, begun + MINUTE), Duration::ZERO);
        assert_eq!(idle.look(look, begun + 2 * MINUTE), MINUTE);
        look.sessions = 1;
        assert_eq!(idle.look(look, begun + 3 * MINUTE), Duration::ZERO);
        look.sessions = 0;
        assert_eq!(idle.look(look, begun + 4 * MINUTE), MINUTE);
        idle.used(begun + 4 * MINUTE);
        assert_eq!(idle.look(look, begun + 5 * MINUTE), MINUTE);
    }
}
