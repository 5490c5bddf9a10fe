//! When a cluster rests and when it wakes.
//!
//! ```text
//!            nobody uses it for as long as --auto-stop says
//!  Running ---------------- stop --sleep ----------------> Asleep
//!     ^                                                      |
//!     +---- start: somebody connects, a CronJob is due ------+       stop: at the time of --schedule
//! ```
//!
//! All of it is done by this program's own commands.

use super::activity::Activity;
use super::forward::Way;
use super::idle::Idle;
use super::uses::{self, Next};
use super::{errand, log};
use crate::cluster::{Cluster, Rest};
use crate::error::Result;
use crate::settings::Settings;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;

/// The longest pause between two looks at the clock and at what the cluster's record says.
const LOOK: Duration = Duration::from_secs(10);
/// The shortest.
const SHORTEST_LOOK: Duration = Duration::from_millis(500);
/// A time of idleness is measured in so many looks at least.
const LOOKS: u32 = 10;
/// First and longest pause after an errand that failed.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// So much earlier than a CronJob is due its cluster is woken.
const AHEAD: Duration = Duration::from_secs(10);

/// What the machine does, as its host agent knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It runs.
    Running,
    /// It is off, and the first who connects wakes it.
    Asleep {
        /// When it has to be awake by itself.
        wake_at: Option<OffsetDateTime>,
    },
    /// It is off.
    Absent,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    Sleep { wake_at: Option<OffsetDateTime> },
    Wake,
    Stop,
}

/// Has the cluster rest and wake, for ever. `api` is where its API answers.
pub async fn keep(
    settings: &Settings,
    activity: &Arc<Activity>,
    mut presence: watch::Receiver<Presence>,
    api: Way,
) -> Infallible {
    let mut idle = Idle::new(activity.look(), Instant::now());
    let mut pause = BACK_OFF.0;
    loop {
        let now = *presence.borrow_and_update();
        let errand = tokio::select! {
            changed = presence.changed() => {
                if changed.is_err() {
                    // The host agent is about to end.
                    std::future::pending::<()>().await;
                }
                idle.used(Instant::now());
                continue;
            }
            errand = due(settings, activity, now, &mut idle, &api) => errand,
        };
        match run(settings, errand).await {
            Ok(()) => pause = BACK_OFF.0,
            Err(error) => {
                log(&error.render(settings.profile.as_str()));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BACK_OFF.1);
            }
        }
        idle.used(Instant::now());
    }
}

async fn run(settings: &Settings, errand: Errand) -> Result<()> {
    match errand {
        Errand::Sleep { wake_at } => {
            log("nobody uses the cluster: it is put to sleep");
            let at = wake_at.map(|at| at.unix_timestamp().to_string());
            let mut arguments = vec!["stop", "--sleep"];
            if let Some(at) = &at {
                arguments.extend(["--wake-at", at]);
            }
            errand::run(settings, &arguments).await
        }
        Errand::Wake => {
            log("the cluster is woken");
            errand::run(settings, &["start", "--keep-context=true", "--unattended"]).await
        }
        Errand::Stop => {
            log("the cluster is stopped, as it was scheduled");
            errand::run(settings, &["stop"]).await
        }
    }
}

/// Waits until there is something to do. May be cancelled.
async fn due(
    settings: &Settings,
    activity: &Activity,
    presence: Presence,
    idle: &mut Idle,
    api: &Way,
) -> Errand {
    loop {
        let rest = Cluster::find(settings).map(|cluster| cluster.record().rest);
        let Ok(rest) = rest else {
            // It is being deleted.
            std::future::pending::<()>().await;
            continue;
        };
        let now = OffsetDateTime::now_utc();
        if rest.stop_at.is_some_and(|at| at <= now) && presence != Presence::Absent {
            return Errand::Stop;
        }
        match presence {
            Presence::Absent => {}
            Presence::Asleep { wake_at: Some(at) } if at <= now => return Errand::Wake,
            Presence::Asleep { .. } => {
                tokio::select! {
                    () = activity.somebody_waits() => return Errand::Wake,
                    () = tokio::time::sleep(until_next_look(&rest)) => continue,
                }
            }
            Presence::Running => {
                let unused = idle.look(activity.look(), Instant::now());
                if let Some(after) = rest.auto_stop.filter(|after| unused >= *after) {
                    match sleep(settings, api, after).await {
                        Some(errand) => return errand,
                        None => idle.used(Instant::now()),
                    }
                }
            }
        }
        tokio::time::sleep(until_next_look(&rest)).await;
    }
}

/// To sleep, unless something uses the cluster that its ports do not tell of, or will within that time.
async fn sleep(settings: &Settings, api: &Way, after: Duration) -> Option<Errand> {
    match uses::next(settings, api).await {
        Ok(Next::Never) => Some(Errand::Sleep { wake_at: None }),
        Ok(Next::At(due)) if due >= OffsetDateTime::now_utc() + after => Some(Errand::Sleep {
            wake_at: Some(due - AHEAD),
        }),
        Ok(Next::At(due)) => {
            tracing::debug!(%due, "the cluster is used soon");
            None
        }
        Ok(Next::Now(what)) => {
            tracing::debug!(what, "the cluster is used");
            None
        }
        Err(error) => {
            let reason = error.message();
            log(&format!(
                "it is not known whether the cluster is used: {reason}"
            ));
            None
        }
    }
}

/// Short where a short time is to be measured.
fn until_next_look(rest: &Rest) -> Duration {
    let measured = rest.auto_stop.map_or(LOOK, |after| after / LOOKS);
    measured.clamp(SHORTEST_LOOK, LOOK)
}
