//! A cluster that sleeps: it is saved, its machine is gone, and its host agent holds its ports, so that
//! the first who connects wakes it. What its next host agent has to know is kept in its folder meanwhile:
//! the guest cannot be asked.

use super::ports::Wanted;
use crate::error::{Context as _, ErrorId, Result};
use coracle_vm::{MachineDir, Saves, store::atomic};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use time::OffsetDateTime;

/// What is kept about a cluster that sleeps: `asleep.json` in its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Asleep {
    /// When it has to be awake again by itself.
    #[serde(with = "time::serde::rfc3339::option")]
    pub wake_at: Option<OffsetDateTime>,
    /// The ports that its Services and containers had.
    pub ports: Vec<Wanted>,
}

impl Asleep {
    /// What is kept about the cluster in this folder; nothing unless it sleeps. What cannot be read counts
    /// as nothing: the cluster is stopped then.
    pub fn read(dir: &MachineDir) -> Option<Self> {
        let text = std::fs::read(file(dir)).ok()?;
        let kept = serde_json::from_slice(&text).ok()?;
        Saves::new(dir).is_there().then_some(kept)
    }

    /// From now on it sleeps.
    pub fn write(&self, dir: &MachineDir) -> Result<()> {
        let failed = || format!("cannot write {}", file(dir).display());
        let text = serde_json::to_vec(self).context(ErrorId::Internal, failed)?;
        atomic::write(&file(dir), &text).context(ErrorId::Write, failed)
    }
}

/// It is awake or stopped.
pub fn forget(dir: &MachineDir) -> Result<()> {
    atomic::remove(&file(dir)).context(ErrorId::Write, || {
        format!("cannot remove {}", file(dir).display())
    })
}

fn file(dir: &MachineDir) -> PathBuf {
    dir.path().join("asleep.json")
}
