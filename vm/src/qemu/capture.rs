//! A running machine saved while it goes on: its memory as files, its disk so far as a frozen one.
//!
//! ```text
//! before   data.qcow2 (written) -> bases
//! linked   disks/ID/data.qcow2 = data.qcow2 (written), data.qcow2.next-ID (empty) -> disks/ID
//! switched data.qcow2.next-ID (written) -> disks/ID/data.qcow2 -> bases
//! after    data.qcow2 = data.qcow2.next-ID (written) -> disks/ID/data.qcow2 -> bases
//! ```
//!
//! From the switch to the last link the guest's processors are stopped, so each of these states has
//! all that the guest wrote. Who lets a machine go on links first what was switched: [`settle`]. The
//! name under which QEMU opened a disk stays while it runs, since it opens disks anew at times.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Uuid;

use super::{connect, disks, save};
use crate::driver::{Captured, DriverError, failed};
use crate::program::Programs;
use crate::qmp::{
    BlockStream, BlockdevAdd, BlockdevSnapshot, Medium, QmpClient, QueryBlock, QueryBlockJobs,
    QueryNodes,
};
use crate::saved::SavedFiles;
use crate::spec::{Disk, DiskRole, MachineSpec};
use crate::store::{Disks, MachineDir, StoreError, atomic, beginning_with};

/// What the names of disks that are about to be switched to end with, and an identifier, which is also
/// in the name of their node in QEMU. QEMU's own idea of a file's name is of no use: it is the one
/// under which the file was opened.
const NEXT: &str = ".next-";
/// How the nodes of the disk are called, and such an identifier.
const NODE: &str = "data-";
/// The node that the command line makes.
const FIRST_NODE: &str = "data";
/// From so many layers on, what is above the lowest is merged while the guest runs.
const MANY_LAYERS: usize = 8;
/// More layers than that make reads slow: a capture waits for the merge.
const MOST_LAYERS: usize = 16;
/// How long a merge may take.
const MERGE_LIMIT: Duration = Duration::from_secs(300);
const MERGE_PAUSE: Duration = Duration::from_millis(100);

/// Saves a running machine and lets it go on, also after an error.
pub(super) async fn capture(
    programs: &Programs,
    dir: &MachineDir,
    spec: &MachineSpec,
    files: &SavedFiles,
    frozen: &Disks,
) -> Result<Captured, DriverError> {
    let data = spec.disk(DiskRole::Data);
    let Some((disk, size)) = data.and_then(|disk| Some((disk, disk.create?))) else {
        return Err(super::unable("it has no disk that is written".to_owned()));
    };
    let mut monitor = connect(dir).await?;
    merged(&mut monitor, disk, frozen).await?;
    let base = frozen.link(&disk.path).map_err(store)?;
    let id = &Uuid::new_v4().simple().to_string()[..8];
    let (next, node) = (next(&disk.path, id), format!("{NODE}{id}"));
    let overlay = Disk {
        path: next.clone(),
        base: Some(base.clone()),
        ..disk.clone()
    };
    let captured = async {
        disks::create(programs, &overlay, size).await?;
        monitor.execute(overlay_node(&node, &next)).await?;
        // One client at a time: the save is another.
        drop(monitor);
        let kept = save::save(dir, files).await?;
        let mut monitor = connect(dir).await?;
        let written = active(&mut monitor).await?;
        monitor
            .execute(BlockdevSnapshot {
                node: written.node,
                overlay: node,
            })
            .await?;
        Ok::<_, DriverError>(Captured { kept, disk: base })
    };
    let captured = captured.await;
    // It goes on in any case; which disk it writes then is looked up.
    let resumed = async {
        let mut monitor = connect(dir).await?;
        settle(&mut monitor, &disk.path).await?;
        monitor.execute(qapi::qmp::cont {}).await?;
        Ok(monitor)
    };
    let resumed: Result<QmpClient, DriverError> = resumed.await;
    // What went wrong first is what to tell.
    let captured = captured?;
    let mut monitor = resumed?;
    frozen.seal(&captured.disk).map_err(store)?;
    merge(&mut monitor, disk, frozen).await;
    Ok(captured)
}

/// Gives the disk that the machine writes its name, if a capture was cut off before it did. The
/// processors are stopped.
pub(super) async fn settle(monitor: &mut QmpClient, disk: &Path) -> Result<(), DriverError> {
    let nexts = leftovers(disk)?;
    if nexts.is_empty() {
        return Ok(());
    }
    let active = active(monitor).await?.node;
    let Some(id) = active.strip_prefix(NODE) else {
        return Ok(());
    };
    let next = next(disk, id);
    if nexts.contains(&next) {
        let mut link = next.clone().into_os_string();
        link.push(".link");
        let link = PathBuf::from(link);
        atomic::remove(&link).map_err(failed("remove", &link))?;
        std::fs::hard_link(&next, &link)
            .and_then(|()| std::fs::rename(&link, disk))
            // Of two names of one file, a rename leaves both.
            .and_then(|()| atomic::remove(&link))
            .map_err(failed("link", &next))?;
        let folder = disk.parent().unwrap_or(disk);
        atomic::sync_dir(folder).map_err(failed("write", folder))?;
    }
    Ok(())
}

/// Removes the names under which captures opened disks. The machine is off.
pub(super) fn sweep(disk: &Path) -> Result<(), DriverError> {
    for next in leftovers(disk)? {
        atomic::remove(&next).map_err(failed("remove", &next))?;
    }
    Ok(())
}

fn next(disk: &Path, id: &str) -> PathBuf {
    let mut name = disk.as_os_str().to_owned();
    name.push(format!("{NEXT}{id}"));
    PathBuf::from(name)
}

fn leftovers(disk: &Path) -> Result<Vec<PathBuf>, DriverError> {
    beginning_with(&next(disk, "")).map_err(failed("read", disk))
}

/// The options of the disk's first node, for a file without what is below it.
fn overlay_node(node: &str, path: &Path) -> BlockdevAdd {
    BlockdevAdd(json!({
        "driver": "qcow2",
        "node-name": node,
        "read-only": false,
        "discard": "unmap",
        "detect-zeroes": "unmap",
        "backing": null,
        "file": {
            "driver": "file",
            "filename": path,
            "discard": "unmap",
        },
    }))
}

/// What the guest writes.
pub(super) async fn active(monitor: &mut QmpClient) -> Result<Medium, DriverError> {
    let disks = monitor.execute(QueryBlock {}).await?;
    // A device without a path of its own in QEMU's tree is told with that of its bus.
    let found = disks
        .into_iter()
        .find(|disk| disk.qdev.contains("disk-data"));
    let medium = found.and_then(|disk| disk.inserted);
    medium.ok_or_else(|| super::unable("it has no disk that is written".to_owned()))
}

/// The node of the lowest layer: one that was opened from below another, under its own name; or the
/// first one.
async fn lowest_node(monitor: &mut QmpClient, lowest: &Path) -> Result<String, DriverError> {
    let nodes = monitor.execute(QueryNodes { flat: true }).await?;
    let found = nodes
        .into_iter()
        .find(|node| node.driver == "qcow2" && node.file == lowest);
    Ok(found.map_or_else(|| FIRST_NODE.to_owned(), |node| node.name))
}

/// Waits until QEMU does nothing with the disks by itself.
pub(super) async fn idle(monitor: &mut QmpClient) -> Result<(), DriverError> {
    let begun = Instant::now();
    while !monitor.execute(QueryBlockJobs {}).await?.is_empty() {
        if begun.elapsed() > MERGE_LIMIT {
            return Err(too_long());
        }
        tokio::time::sleep(MERGE_PAUSE).await;
    }
    Ok(())
}

fn too_long() -> DriverError {
    DriverError::TimedOut {
        what: "merge the layers of its disk",
        limit: MERGE_LIMIT,
    }
}

/// Waits for a merge where there are too many layers already.
async fn merged(monitor: &mut QmpClient, disk: &Disk, frozen: &Disks) -> Result<(), DriverError> {
    let begun = Instant::now();
    loop {
        // No snapshot can be taken of a disk that is being merged.
        let is_busy = !monitor.execute(QueryBlockJobs {}).await?.is_empty();
        let layers = frozen.chain(&disk.path).map_err(store)?.len();
        if !is_busy && layers < MOST_LAYERS {
            return Ok(());
        }
        if !is_busy {
            merge(monitor, disk, frozen).await;
        }
        if begun.elapsed() > MERGE_LIMIT {
            return Err(too_long());
        }
        tokio::time::sleep(MERGE_PAUSE).await;
    }
}

/// Where there are many layers, has QEMU copy what is in all of them but the lowest into the disk that
/// is written. That goes on by itself, and the disk is whole at every moment of it.
async fn merge(monitor: &mut QmpClient, disk: &Disk, frozen: &Disks) {
    let merged = async {
        let chain = frozen.chain(&disk.path).map_err(store)?;
        let lowest = match chain.last() {
            Some(lowest) if chain.len() >= MANY_LAYERS => lowest.clone(),
            _ => return Ok(()),
        };
        let job = BlockStream {
            job_id: "merge".to_owned(),
            device: active(monitor).await?.node,
            base_node: lowest_node(monitor, &lowest).await?,
            backing_file: lowest,
        };
        monitor.execute(job).await?;
        Ok::<(), DriverError>(())
    };
    if let Err(error) = merged.await {
        tracing::warn!(%error, "the layers of a disk are not merged");
    }
}

fn store(error: StoreError) -> DriverError {
    match error {
        StoreError::Io { what, path, source } => failed(what, &path)(source),
        other => super::unable(other.to_string()),
    }
}
