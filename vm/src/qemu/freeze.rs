//! From a running QEMU to the files of a template.
//!
//! The device state goes out as a migration in which shared memory is left out (`x-ignore-shared`):
//! half a megabyte. The memory itself is the file of Linux that QEMU was given when it was launched
//! ([`Origin::BootToFreeze`](crate::Origin::BootToFreeze)), and is copied by this process.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{connect, find};
use crate::driver::DriverError;
use crate::qmp::{Migrate, MigrateSetCapabilities, QmpClient, QueryMigrate, migration_capability};
use crate::store::{MachineDir, atomic};
use crate::template::{TemplateFiles, copy_sparsely};

/// What the memory's file of Linux is called.
pub(super) const MEMORY_NAME: &str = "coracle-memory";
/// How long the device state may take; it takes a tenth of a second.
const DEVICES_LIMIT: Duration = Duration::from_secs(30);
/// The pause between two looks at a migration.
const PAUSE: Duration = Duration::from_millis(5);

/// Stops the guest's processors and writes what a clone is restored from. Afterwards the machine is
/// paused; after an error it is paused too, and may go on.
pub(super) async fn freeze(dir: &MachineDir, files: &TemplateFiles) -> Result<(), DriverError> {
    let process = find(dir).await?.ok_or(DriverError::NotRunning)?;
    let memory = guest_memory(process.pid)?;
    let mut monitor = connect(dir).await?;
    monitor.execute(qapi::qmp::stop {}).await?;
    save_devices(&mut monitor, dir, &files.devices).await?;
    let ram = files.ram.clone();
    let copied = tokio::task::spawn_blocking(move || copy_memory(memory, &ram));
    copied.await.map_err(|error| DriverError::Io {
        what: "write",
        path: files.ram.clone(),
        source: error.into(),
    })?
}

fn copy_memory(mut memory: File, to: &Path) -> Result<(), DriverError> {
    let copied = private_file(to).and_then(|mut file| copy_sparsely(&mut memory, &mut file));
    match copied {
        Ok(_) => Ok(()),
        Err(source) if source.kind() == io::ErrorKind::StorageFull => Err(DriverError::NoSpace {
            detail: format!("{}: {source}", to.display()),
        }),
        Err(source) => Err(DriverError::Io {
            what: "write",
            path: to.to_owned(),
            source,
        }),
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// The memory's file, found among what the process has open.
fn guest_memory(pid: u32) -> Result<File, DriverError> {
    let folder = PathBuf::from(format!("/proc/{pid}/fd"));
    let failed = |source| DriverError::Io {
        what: "read",
        path: folder.clone(),
        source,
    };
    for entry in std::fs::read_dir(&folder).map_err(failed)?.flatten() {
        let is_memory = std::fs::read_link(entry.path())
            .is_ok_and(|target| target.to_string_lossy().contains(MEMORY_NAME));
        if is_memory {
            return File::open(entry.path()).map_err(failed);
        }
    }
    Err(failed(io::Error::new(
        io::ErrorKind::NotFound,
        "the machine was not launched to be frozen",
    )))
}

/// Migrates the device state to a socket of this process, and writes what comes to a file.
async fn save_devices(
    monitor: &mut QmpClient,
    dir: &MachineDir,
    to: &Path,
) -> Result<(), DriverError> {
    let socket = dir.socket("freeze")?;
    let failed = |source| DriverError::Io {
        what: "write",
        path: to.to_owned(),
        source,
    };
    atomic::remove(&socket).map_err(failed)?;
    let listener = tokio::net::UnixListener::bind(&socket).map_err(failed)?;
    let saved = async {
        monitor
            .execute(MigrateSetCapabilities::of(&[(
                migration_capability::IGNORE_SHARED,
                true,
            )]))
            .await?;
        let uri = format!("unix:{}", socket.display());
        monitor.execute(Migrate { uri }).await?;
        let (mut stream, _) = listener.accept().await.map_err(failed)?;
        let mut file = tokio::fs::File::from_std(private_file(to).map_err(failed)?);
        tokio::io::copy(&mut stream, &mut file)
            .await
            .map_err(failed)?;
        tokio::io::AsyncWriteExt::flush(&mut file)
            .await
            .map_err(failed)?;
        migrated(monitor).await
    };
    let saved = tokio::time::timeout(DEVICES_LIMIT, saved).await;
    atomic::remove(&socket).map_err(failed)?;
    saved.map_err(|_| DriverError::TimedOut {
        what: "save its devices",
        limit: DEVICES_LIMIT,
    })?
}

/// Waits until QEMU has written everything.
async fn migrated(monitor: &mut QmpClient) -> Result<(), DriverError> {
    let begun = Instant::now();
    loop {
        let answer = monitor.execute(QueryMigrate {}).await?;
        match answer.status.as_deref() {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => {
                return Err(super::unable(format!(
                    "its devices could not be saved: {}",
                    answer.error.unwrap_or_default()
                )));
            }
            _ if begun.elapsed() > DEVICES_LIMIT => {
                return Err(DriverError::TimedOut {
                    what: "save its devices",
                    limit: DEVICES_LIMIT,
                });
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}
