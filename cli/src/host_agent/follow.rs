//! What those who follow something inside the machine have in common: when they begin, how they go on after
//! an error, and how they have ports opened.

use super::ports::{Order, Published, Source, Wanted};
use crate::cluster::Cluster;
use crate::settings::Settings;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The pause before a machine is looked at that has no identity of its own yet.
const SETTLING: Duration = Duration::from_millis(250);
/// First and longest pause before the machine is asked again after an error.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// When ports are tried again that could not be opened.
pub const RETRY: Duration = Duration::from_secs(10);

/// Waits until the machine has its own identity, and a while longer.
pub async fn settled(settings: &Settings, courtesy: Duration) {
    while Cluster::find(settings).is_ok_and(|cluster| cluster.passing_identity().exists()) {
        tokio::time::sleep(SETTLING).await;
    }
    tokio::time::sleep(courtesy).await;
}

/// The pauses after errors: each is twice as long as the one before.
#[derive(Debug)]
pub struct Pauses(Duration);

impl Pauses {
    /// None was made yet.
    pub fn new() -> Self {
        Self(BACK_OFF.0)
    }

    /// All is well: the next one is the first again.
    pub fn reset(&mut self) {
        self.0 = BACK_OFF.0;
    }

    /// Makes one.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(BACK_OFF.1);
    }
}

/// Has all ports of a source opened, and tells what came of it; None where the machine is gone, and whoever
/// follows it with it.
pub async fn publish(
    orders: &mpsc::Sender<Order>,
    source: Source,
    wanted: Vec<Wanted>,
) -> Option<Vec<Published>> {
    let (answer_to, published) = oneshot::channel();
    let order = Order {
        source,
        wanted,
        answer_to,
    };
    orders.send(order).await.ok()?;
    Some(published.await.unwrap_or_default())
}
