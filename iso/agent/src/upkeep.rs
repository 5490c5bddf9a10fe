//! What a machine needs after its surroundings changed under it: it went on from where it was saved,
//! or as a copy of another.
//!
//! A disk that grew gets a file system as large; certificates that have aged are made anew, and what
//! had read them is restarted.

use crate::children::Children;
use crate::logs::Logs;
use crate::mounts;
use crate::pki;
use crate::supervise::Supervisor;
use crate::uplink::Keeper;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::Notify;

/// How often certificates are looked at where the clock was never stepped.
const LOOK: Duration = Duration::from_secs(6 * 3600);
/// A clock that was stepped less has not aged anything.
const LONG_STEP: Duration = Duration::from_secs(3600);
/// A machine whose clock was stepped further has stood still.
const STOOD_STILL: Duration = Duration::from_secs(10);
/// A machine that has just gone on has more urgent work.
const GROW_PAUSE: Duration = Duration::from_secs(5);
/// How long a file system may take to grow.
const GROW_LIMIT: Duration = Duration::from_secs(300);
/// What reads no certificate of the machine's own.
const WITHOUT_CERTIFICATES: [&str; 2] = ["containerd", "images"];

/// Whose certificates are kept young.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// Where they are.
    pub folder: PathBuf,
    /// The node's name.
    pub name: String,
    /// The node's address.
    pub address: Ipv4Addr,
    /// The group that reads the administrator's.
    pub administrators: Option<u32>,
}

/// Looks after the machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Upkeep {
    children: Children,
    logs: Arc<Logs>,
    long_step: Arc<Notify>,
    uplink: Option<Keeper>,
}

impl Upkeep {
    /// Begins to look after the machine; without Kubernetes it has no certificates.
    pub fn start(
        children: &Children,
        logs: &Arc<Logs>,
        supervisor: &Arc<Supervisor>,
        certificates: Option<Certificates>,
        uplink: Option<Keeper>,
    ) -> Self {
        let upkeep = Self {
            children: children.clone(),
            logs: Arc::clone(logs),
            long_step: Arc::new(Notify::new()),
            uplink,
        };
        if let Some(certificates) = certificates {
            let (upkeep, supervisor) = (upkeep.clone(), Arc::clone(supervisor));
            tokio::spawn(async move {
                loop {
                    let _ = tokio::time::timeout(LOOK, upkeep.long_step.notified()).await;
                    upkeep.renew(&certificates, &supervisor).await;
                }
            });
        }
        upkeep
    }

    /// Called when the clock was stepped by so much.
    pub fn clock_stepped(&self, by: Duration) {
        if by > LONG_STEP {
            self.long_step.notify_one();
        }
        if by > STOOD_STILL
            && let Some(uplink) = &self.uplink
        {
            uplink.renew();
        }
    }

    /// Called when the disk may have grown. Goes on in the background.
    pub fn disk_changed(&self) {
        let device = match mounts::grown("/var") {
            Ok(Some(device)) => device,
            Ok(None) => return,
            Err(error) => {
                self.logs
                    .note(&format!("cannot look at the data disk: {error}"));
                return;
            }
        };
        let upkeep = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(GROW_PAUSE).await;
            let mut grow = Command::new("resize2fs");
            grow.arg(&device);
            match upkeep.children.success(&mut grow, GROW_LIMIT).await {
                Ok(_) => upkeep.logs.note("the data disk's file system grew"),
                Err(error) => upkeep
                    .logs
                    .note(&format!("cannot grow the data disk's file system: {error}")),
            }
        });
    }

    async fn renew(&self, certificates: &Certificates, supervisor: &Supervisor) {
        let node = pki::Node {
            name: &certificates.name,
            address: certificates.address,
            administrators: certificates.administrators,
            now: OffsetDateTime::now_utc(),
        };
        let renewed = match pki::ensure(&certificates.folder, &node) {
            Ok(renewed) if renewed.is_empty() => return,
            Ok(renewed) => renewed,
            Err(error) => {
                self.logs
                    .note(&format!("cannot renew certificates: {error}"));
                return;
            }
        };
        self.logs
            .note(&format!("renewed certificates: {}", renewed.join(", ")));
        let names: Vec<String> = {
            let table = supervisor.watch();
            let table = table.borrow();
            table.iter().map(|row| row.name.clone()).collect()
        };
        for name in names {
            if WITHOUT_CERTIFICATES.contains(&name.as_str()) {
                continue;
            }
            if let Err(error) = supervisor.restart(&name).await {
                self.logs.note(&format!("cannot restart {name}: {error}"));
            }
        }
    }
}
