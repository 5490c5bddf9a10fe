//! The files behind a machine's disks and DVDs.
//!
//! What the guest writes is a VHDX, made and grown by Hyper-V. What it only reads is an ISO: Hyper-V has
//! no other read-only medium. A DVD is put in under a name of its own in the machine's folder, a hard
//! link:
//!
//! ```text
//! machines/NAME/hyperv-root.iso  hyperv-seed.iso
//! ```
//!
//! Hyper-V lets the account of a machine read a file when it is put in. A seed that is written anew by a
//! rename is another file; a machine that goes on from what Hyper-V keeps still finds the one that it had.

use std::io;
use std::path::{Path, PathBuf};

use super::calls::{Hyperv, text};
use super::note::Note;
use super::unable;
use crate::driver::{DriverError, failed};
use crate::size::Size;
use crate::spec::{Disk, DiskFormat, DiskRole, MachineSpec};
use crate::store::{MachineDir, atomic};

/// Checks that the machine has only what Hyper-V can give it.
pub(super) fn check(spec: &MachineSpec) -> Result<(), DriverError> {
    for disk in &spec.disks {
        let role = disk.role.as_str();
        if disk.base.is_some() {
            return Err(unable(format!(
                "its disk {role} begins with a frozen one, which this driver cannot do"
            )));
        }
        match (disk.read_only, disk.format) {
            (true, DiskFormat::Raw) | (false, DiskFormat::Vhdx) => {}
            (true, format) => {
                return Err(unable(format!(
                    "its disk {role} is read-only and of the format {}; only an ISO can be",
                    format.as_str()
                )));
            }
            (false, format) => {
                return Err(unable(format!(
                    "its disk {role} has the format {}; what the guest writes has to be vhdx",
                    format.as_str()
                )));
            }
        }
    }
    Ok(())
}

/// Makes the disks that are to be created and are not there.
pub(super) async fn create(hyperv: &Hyperv, spec: &MachineSpec) -> Result<(), DriverError> {
    for disk in &spec.disks {
        if let Some(size) = disk.create.filter(|_| !disk.path.exists()) {
            create_one(hyperv, &disk.path, size).await?;
        }
    }
    Ok(())
}

/// Makes a disk beside its place and then moves it: a disk that is there is whole.
async fn create_one(hyperv: &Hyperv, path: &Path, size: Size) -> Result<(), DriverError> {
    let failed = |error| failed("create", path)(error);
    let name = path
        .file_name()
        .ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    // Hyper-V wants its own ending.
    let mut unfinished = std::ffi::OsString::from(".creating-");
    unfinished.push(name);
    let unfinished = path.with_file_name(unfinished);
    atomic::remove(&unfinished).map_err(failed)?;
    hyperv.new_disk(&unfinished, size).await?;
    std::fs::rename(&unfinished, path).map_err(failed)?;
    atomic::sync_dir(path.parent().unwrap_or(path)).map_err(failed)
}

/// Makes the disk that the guest writes as large as it is to be. A guest that runs is told.
pub(super) async fn grow(
    hyperv: &Hyperv,
    note: &Note,
    spec: &MachineSpec,
) -> Result<(), DriverError> {
    let data = spec.disk(DiskRole::Data);
    match data.and_then(|disk| Some((disk, disk.create?))) {
        Some((disk, wanted)) => hyperv.resize(note, &disk.path, wanted).await,
        None => Ok(()),
    }
}

/// What the guest writes, as Hyper-V takes it.
pub(super) fn written(spec: &MachineSpec) -> Result<Vec<String>, DriverError> {
    let written = spec.disks.iter().filter(|disk| !disk.read_only);
    written.map(|disk| text(&disk.path)).collect()
}

/// The DVDs, the one to boot from first.
pub(super) fn dvds(dir: &MachineDir, spec: &MachineSpec) -> Result<Vec<String>, DriverError> {
    let mut disks: Vec<&Disk> = spec.disks.iter().filter(|disk| disk.read_only).collect();
    disks.sort_by_key(|disk| disk.role != DiskRole::Root);
    disks
        .into_iter()
        .map(|disk| text(&medium(dir, disk)?))
        .collect()
}

/// A DVD under a name of the machine's own.
fn medium(dir: &MachineDir, disk: &Disk) -> Result<PathBuf, DriverError> {
    let role = disk.role.as_str();
    let link = dir.path().join(format!("hyperv-{role}.iso"));
    atomic::remove(&link).map_err(failed("remove", &link))?;
    if std::fs::hard_link(&disk.path, &link).is_ok() {
        return Ok(link);
    }
    // The file is on another volume, or its file system has no links.
    if disk.path.extension().is_some_and(|end| end == "iso") {
        return Ok(disk.path.clone());
    }
    std::fs::copy(&disk.path, &link).map_err(failed("copy", &disk.path))?;
    Ok(link)
}
