//! The disks of a machine, made with QEMU's own tool.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use super::{capture, connect, probe};
use crate::driver::{DriverError, failed};
use crate::log_file;
use crate::program::{self, ProgramError, Programs};
use crate::qmp::BlockResize;
use crate::size::Size;
use crate::spec::{Disk, DiskFormat, DiskRole, MachineSpec};
use crate::store::qcow2::Header;
use crate::store::{MachineDir, atomic};

/// How long the disk tool may take.
const DISK_LIMIT: Duration = Duration::from_secs(60);

/// Makes the disks that are to be created and are not there.
pub(crate) async fn create_disks(
    programs: &Programs,
    spec: &MachineSpec,
) -> Result<(), DriverError> {
    spec.check()?;
    for disk in &spec.disks {
        if let Some(size) = disk.create.filter(|_| !disk.path.exists()) {
            create(programs, disk, size).await?;
        }
    }
    Ok(())
}

/// Makes a disk beside its place and then moves it: a disk that is there is whole.
pub(super) async fn create(
    programs: &Programs,
    disk: &Disk,
    size: Size,
) -> Result<(), DriverError> {
    let failed = |error| failed("create", &disk.path)(error);
    // What is above a frozen disk begins as large as that: its guest may know that size by heart. It
    // is grown when the machine runs.
    let base = disk.base.as_deref().map(Header::read).transpose();
    let base = base.map_err(failed)?.flatten();
    let size = base.map_or(size, |base| base.size);
    let mut unfinished = disk.path.clone().into_os_string();
    unfinished.push(".creating");
    let unfinished = Path::new(&unfinished);
    atomic::remove(unfinished).map_err(failed)?;
    create_disk(programs, disk, unfinished, size).await?;
    let file = File::open(unfinished).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(unfinished, &disk.path).map_err(failed)?;
    let folder = disk.path.parent().unwrap_or(unfinished);
    atomic::sync_dir(folder).map_err(failed)
}

/// Makes one disk, thin, for its owner only.
async fn create_disk(
    programs: &Programs,
    disk: &Disk,
    path: &Path,
    size: Size,
) -> Result<(), DriverError> {
    let failed = |error| failed("create", &disk.path)(error);
    let file = log_file::create(path).map_err(failed)?;
    if disk.format == DiskFormat::Raw {
        return file.set_len(size.bytes()).map_err(failed);
    }
    drop(file);
    let tool = probe::qemu_img(programs)?;
    let words = ["create", "-q", "-f", disk.format.as_str()].map(OsString::from);
    let mut words = words.to_vec();
    if let Some(base) = &disk.base {
        // A frozen disk was a machine's own, and those have this format.
        // It may still be written at this moment, so it is not opened.
        words.extend(["-u", "-F", DiskFormat::Qcow2.as_str(), "-b"].map(OsString::from));
        words.push(base.as_os_str().to_owned());
    }
    words.extend([
        path.as_os_str().to_owned(),
        OsString::from(size.bytes().to_string()),
    ]);
    match program::run(&tool, &words, DISK_LIMIT).await {
        Ok(_) => Ok(()),
        Err(ProgramError::Failed { stderr, .. }) if stderr.contains("No space left") => {
            Err(DriverError::NoSpace { detail: stderr })
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes the disk that the guest writes as large as it is to be. The guest is told.
pub(super) async fn grow(dir: &MachineDir, spec: &MachineSpec) -> Result<(), DriverError> {
    let wanted = spec.disk(DiskRole::Data).and_then(|disk| disk.create);
    let Some(wanted) = wanted else {
        return Ok(());
    };
    let mut monitor = connect(dir).await?;
    let medium = capture::active(&mut monitor).await?;
    if medium.image.size < wanted.bytes() {
        let resize = BlockResize {
            node_name: medium.node,
            size: wanted.bytes(),
        };
        monitor.execute(resize).await?;
    }
    Ok(())
}
