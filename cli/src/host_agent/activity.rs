//! What clients of the host do with the cluster's ports: counted as it happens, looked at by whoever
//! decides that nobody uses the cluster.

use coracle_protocol::SSH_PORT;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use tokio::sync::watch;

/// Counts over all ports of a cluster.
#[derive(Debug)]
pub struct Activity {
    /// Bytes from clients.
    bytes: AtomicU64,
    /// Connections that were taken, and clients of UDP ports that were new.
    arrivals: AtomicU64,
    /// Connections that are open.
    connections: AtomicUsize,
    /// Those among them that are somebody's session, whether he says something or not.
    sessions: AtomicUsize,
    /// Clients that wait for a machine which is off.
    waiting: watch::Sender<usize>,
}

/// The counts at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// Bytes from clients, ever.
    pub bytes: u64,
    /// Clients that came, ever.
    pub arrivals: u64,
    /// Connections that are open.
    pub connections: usize,
    /// Those among them that are sessions.
    pub sessions: usize,
}

impl Activity {
    /// Nothing was done yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicU64::new(0),
            arrivals: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            sessions: AtomicUsize::new(0),
            waiting: watch::channel(0).0,
        })
    }

    /// The counts now.
    pub fn look(&self) -> Look {
        Look {
            bytes: self.bytes.load(Relaxed),
            arrivals: self.arrivals.load(Relaxed),
            connections: self.connections.load(Relaxed),
            sessions: self.sessions.load(Relaxed),
        }
    }

    /// A client came.
    pub fn arrived(&self) {
        self.arrivals.fetch_add(1, Relaxed);
    }

    /// Bytes came from a client.
    pub fn received(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// A connection to a port of the guest, open for as long as the value lives.
    pub fn connection(self: &Arc<Self>, guest_port: u16) -> Connection {
        let is_session = guest_port == SSH_PORT;
        self.connections.fetch_add(1, Relaxed);
        self.sessions.fetch_add(usize::from(is_session), Relaxed);
        Connection {
            activity: Arc::clone(self),
            is_session,
        }
    }

    /// A client that waits for the machine, for as long as the value lives.
    pub fn waiting(self: &Arc<Self>) -> Waiting {
        self.waiting.send_modify(|waiting| *waiting += 1);
        Waiting(Arc::clone(self))
    }

    /// Returns as soon as a client waits for the machine.
    pub async fn somebody_waits(&self) {
        // The sender lives as long as this value.
        let _ = self
            .waiting
            .subscribe()
            .wait_for(|waiting| *waiting > 0)
            .await;
    }
}

/// A connection that is open.
#[derive(Debug)]
pub struct Connection {
    activity: Arc<Activity>,
    is_session: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let activity = &self.activity;
        activity.connections.fetch_sub(1, Relaxed);
        activity
            .sessions
            .fetch_sub(usize::from(self.is_session), Relaxed);
    }
}

/// A client that waits.
#[derive(Debug)]
pub struct Waiting(Arc<Activity>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}
