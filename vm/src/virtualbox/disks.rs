//! The disk that the guest writes: made, grown while the machine is off, and known by its identifier.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::failure::Failure;
use super::manage::{CHANGE, Manage, words};
use super::unable;
use super::vdi::Head;
use crate::driver::{DriverError, failed};
use crate::size::Size;
use crate::spec::{Disk, DiskFormat, DiskRole, MachineSpec};
use crate::store::{MachineDir, atomic};

/// How long making or growing a disk may take. Both only write its head and its table of blocks.
const DISK_LIMIT: Duration = Duration::from_secs(120);

/// Makes the disks that are to be created and are not there.
pub(super) async fn create_disks(manage: &Manage, spec: &MachineSpec) -> Result<(), DriverError> {
    for disk in &spec.disks {
        let Some(size) = disk.create.filter(|_| !disk.path.exists()) else {
            continue;
        };
        if disk.format != DiskFormat::Vdi {
            let format = disk.format.as_str();
            return Err(unable(format!("it makes no disks of the format {format}")));
        }
        create(manage, disk, size).await?;
    }
    Ok(())
}

/// Makes a disk beside its place and then moves it: a disk that is there is whole. VirtualBox forgets it
/// in between, since it knows disks by their paths too.
async fn create(manage: &Manage, disk: &Disk, size: Size) -> Result<(), DriverError> {
    let failed = |error| failed("create", &disk.path)(error);
    let unfinished = unfinished(&disk.path);
    close(manage, unfinished.as_os_str().to_owned()).await;
    atomic::remove(&unfinished).map_err(failed)?;
    let mut all = words(["createmedium", "disk", "--format", "VDI", "--filename"]);
    all.push(unfinished.as_os_str().to_owned());
    all.extend(words(["--sizebyte", &size.bytes().to_string()]));
    all.extend(words(["--variant", "Standard"]));
    manage.run(&all, DISK_LIMIT).await?;
    close(manage, unfinished.as_os_str().to_owned()).await;
    Head::read(&unfinished).map_err(failed)?;
    make_private(&unfinished).map_err(failed)?;
    let file = File::open(&unfinished).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&unfinished, &disk.path).map_err(failed)?;
    let folder = disk.path.parent().unwrap_or(&unfinished);
    atomic::sync_dir(folder).map_err(failed)
}

/// `data.creating.vdi`: VirtualBox goes by the ending.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(".creating.");
    name.push(path.extension().unwrap_or_default());
    path.with_file_name(name)
}

#[cfg(unix)]
fn make_private(path: &Path) -> std::io::Result<()> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(path, mode)
}

#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps, reason = "the same shape as on Unix")]
fn make_private(_path: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Has VirtualBox forget a disk, by its path or identifier. Its file stays. One that it does not know or
/// that a machine has is left as it is.
pub(super) async fn close(manage: &Manage, disk: OsString) {
    close_medium(manage, "disk", disk).await;
}

/// The same of a disc.
pub(super) async fn close_disc(manage: &Manage, disc: OsString) {
    close_medium(manage, "dvd", disc).await;
}

async fn close_medium(manage: &Manage, kind: &str, medium: OsString) {
    let mut all = words(["closemedium", kind]);
    all.push(medium);
    if let Err(failure) = manage.run(&all, CHANGE).await {
        tracing::trace!(detail = failure.detail(), "VirtualBox has no such medium");
    }
}

/// The disk that is to be larger than it is, and how large.
pub(super) fn to_grow(spec: &MachineSpec) -> Result<Option<(&Path, Size)>, DriverError> {
    let Some(disk) = spec.disk(DiskRole::Data) else {
        return Ok(None);
    };
    let Some(wanted) = disk.create else {
        return Ok(None);
    };
    let head = Head::read(&disk.path).map_err(failed("read", &disk.path))?;
    Ok((head.size < wanted).then_some((disk.path.as_path(), wanted)))
}

/// Makes the disk of a machine that is off as large as the specification says.
pub(super) async fn grow(manage: &Manage, spec: &MachineSpec) -> Result<(), DriverError> {
    let Some((path, wanted)) = to_grow(spec)? else {
        return Ok(());
    };
    let mut all = words(["modifymedium", "disk"]);
    all.push(path.as_os_str().to_owned());
    all.extend(words(["--resizebyte", &wanted.bytes().to_string()]));
    let grown: Result<String, Failure> = manage.run(&all, DISK_LIMIT).await;
    grown.map(drop).map_err(DriverError::from)
}

/// Whether a file is in the machine's folder.
pub(super) fn is_own(path: &Path, dir: &MachineDir) -> bool {
    path.starts_with(dir.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfinished_disk_has_the_ending_of_a_disk() {
        assert_eq!(
            unfinished(Path::new("/m/a b/data.vdi")),
            Path::new("/m/a b/data.creating.vdi")
        );
    }
}
