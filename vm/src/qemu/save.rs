//! From a running QEMU to files from which it, or a copy of it, goes on.
//!
//! How depends on what holds the guest's memory:
//!
//! ```text
//! a file of Linux without a name (it booted)     all of it is copied          Kept::Whole
//! a file that is mapped privately (it went on)   what differs is copied       Kept::Pages
//! anything else, or memory that may not be read  QEMU's own migration stream  Kept::Stream
//! ```
//!
//! The first two leave the memory out of what QEMU writes: a migration in which shared memory is
//! ignored (`x-ignore-shared`), or the devices alone (`xen-save-devices-state`, which is not about
//! Xen). The latter has no head that a restore wants; see [`super::devices`].

use std::fs::File;
use std::io;
use std::path::Path;

use super::{capture, connect, migration};
use crate::driver::DriverError;
use crate::qmp::QmpClient;
use crate::saved::{Kept, SavedFiles};
use crate::store::MachineDir;
#[cfg(target_os = "linux")]
use {
    super::devices,
    super::find,
    super::memory::{self, PrivateMemory},
    crate::driver::failed,
    crate::qmp::SaveDevices,
    crate::qmp::migration_capability::{IGNORE_SHARED, MAPPED_RAM, MULTIFD},
    crate::saved::{self, Saves},
    crate::template::{TemplateFiles, copy_sparsely},
    std::path::PathBuf,
};

/// Stops the guest's processors and writes what a clone is restored from. Afterwards the machine is
/// paused; after an error it is paused too, and may go on.
#[cfg(target_os = "linux")]
pub(super) async fn freeze(dir: &MachineDir, files: &TemplateFiles) -> Result<(), DriverError> {
    let process = find(dir).await?.ok_or(DriverError::NotRunning)?;
    let memory = memory::whole(process.pid).map_err(failed("read", &dir.qemu_pid()))?;
    let memory = memory.ok_or_else(|| {
        super::unable("its memory is not one that a template can be made of".to_owned())
    })?;
    let mut monitor = connect(dir).await?;
    monitor.execute(qapi::qmp::stop {}).await?;
    whole(&mut monitor, dir, memory, files).await
}

/// Stops the guest's processors and writes all that the guest goes on from later. Afterwards the
/// machine is paused; after an error it is paused too, and may go on: what was written until then is
/// removed, since a guest must not run on a disk that its own save has filled.
pub(super) async fn save(dir: &MachineDir, files: &SavedFiles) -> Result<Kept, DriverError> {
    let mut monitor = connect(dir).await?;
    capture::idle(&mut monitor).await?;
    monitor.execute(qapi::qmp::stop {}).await?;
    let saved = written(&mut monitor, dir, files).await;
    if saved.is_err()
        && let Err(error) = files.clear()
    {
        // What went wrong first is what to tell.
        tracing::warn!(%error, "what a save left cannot be removed");
    }
    saved
}

async fn written(
    monitor: &mut QmpClient,
    dir: &MachineDir,
    files: &SavedFiles,
) -> Result<Kept, DriverError> {
    #[cfg(target_os = "linux")]
    if let Some(kept) = apart(monitor, dir, files).await? {
        return Ok(kept);
    }
    stream(monitor, dir, files).await
}

/// Memory and devices each for itself; `None` where this process cannot read the memory.
#[cfg(target_os = "linux")]
async fn apart(
    monitor: &mut QmpClient,
    dir: &MachineDir,
    files: &SavedFiles,
) -> Result<Option<Kept>, DriverError> {
    let process = find(dir).await?.ok_or(DriverError::NotRunning)?;
    if let Ok(Some(memory)) = memory::whole(process.pid) {
        whole(monitor, dir, memory, &files.whole()).await?;
        return Ok(Some(Kept::Whole));
    }
    let Some(base) = Saves::new(dir).base() else {
        return Ok(None);
    };
    let memory = match PrivateMemory::open(process.pid, &base.ram, false) {
        Ok(memory) => memory,
        Err(error) => {
            tracing::debug!(%error, "the guest's memory cannot be read from outside");
            return Ok(None);
        }
    };
    changed(monitor, memory, &base, files).await?;
    Ok(Some(Kept::Pages))
}

#[cfg(target_os = "linux")]
async fn whole(
    monitor: &mut QmpClient,
    dir: &MachineDir,
    mut memory: File,
    files: &TemplateFiles,
) -> Result<(), DriverError> {
    // A machine that was restored has kept the capabilities of its restore.
    let mut capabilities = vec![(IGNORE_SHARED, true)];
    if migration::can_map(monitor).await? {
        capabilities.extend([(MAPPED_RAM, false), (MULTIFD, false)]);
    }
    migration::to_file(monitor, dir, &files.devices, &capabilities).await?;
    let ram = files.ram.clone();
    blocking(&files.ram, move || {
        private_file(&ram).and_then(|mut file| copy_sparsely(&mut memory, &mut file).map(drop))
    })
    .await
}

#[cfg(target_os = "linux")]
async fn changed(
    monitor: &mut QmpClient,
    memory: PrivateMemory,
    base: &TemplateFiles,
    files: &SavedFiles,
) -> Result<(), DriverError> {
    let devices = files.whole().devices;
    let mut bare = devices.clone().into_os_string();
    bare.push(".bare");
    let bare = PathBuf::from(bare);
    let save = SaveDevices {
        filename: bare.display().to_string(),
        live: false,
    };
    monitor.execute(save).await?;
    let folder = files
        .base()
        .ram
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default();
    let (base, pages) = (base.clone(), files.pages());
    blocking(&files.pages(), move || {
        devices::complete(&base.devices, &bare, &devices)?;
        saved::link_base(&base, &folder)?;
        let runs = memory.changed()?;
        let file = private_file(&pages)?;
        saved::save(&runs, &file, |offset, to| memory.read(offset, to))
    })
    .await
}

/// All in QEMU's own stream: at any place in a file where QEMU can do that, which several threads
/// read again at once.
async fn stream(
    monitor: &mut QmpClient,
    dir: &MachineDir,
    files: &SavedFiles,
) -> Result<Kept, DriverError> {
    if migration::can_map(monitor).await? {
        migration::to_mapped_file(monitor, &files.stream()).await?;
        return Ok(Kept::MappedStream);
    }
    migration::to_file(monitor, dir, &files.stream(), &migration::CAPABILITIES).await?;
    Ok(Kept::Stream)
}

/// Runs what blocks, away from everybody who waits for something.
#[cfg(target_os = "linux")]
async fn blocking(
    path: &Path,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<(), DriverError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(error.into()))
        .map_err(failed("write", path))
}

/// A file that must not be there yet, for its owner only.
pub(super) fn private_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
