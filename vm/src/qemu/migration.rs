//! QEMU's migration, to files and from them.

use std::path::Path;
use std::time::{Duration, Instant};

use super::save::private_file;
use crate::driver::{DriverError, failed};
use crate::qmp::{
    Migrate, MigrateSetCapabilities, MigrateSetParameters, QmpClient, QueryMigrate,
    migration_capability,
};
use crate::store::MachineDir;
#[cfg(unix)]
use crate::store::atomic;

/// How long a state may take to be written: gigabytes of memory to a slow disk, at the worst.
const LIMIT: Duration = Duration::from_secs(300);
/// The pause between two looks at a migration.
const PAUSE: Duration = Duration::from_millis(5);
/// The first version of QEMU that puts each page at a place of its own.
const MAPPED: i64 = 9;

/// Whether this QEMU can put each page of a file at a place of its own.
pub(super) async fn can_map(monitor: &mut QmpClient) -> Result<bool, DriverError> {
    let version = monitor.execute(qapi::qmp::query_version {}).await?;
    Ok(version.qemu.major >= MAPPED)
}

/// The capabilities of a state with all memory. A machine that was restored has kept those of its
/// restore.
pub(super) const CAPABILITIES: [(&str, bool); 1] = [(migration_capability::IGNORE_SHARED, false)];
/// The same with each page at a place of its own.
pub(super) const MAPPED_CAPABILITIES: [(&str, bool); 3] = [
    (migration_capability::IGNORE_SHARED, false),
    (migration_capability::MAPPED_RAM, true),
    (migration_capability::MULTIFD, true),
];

/// Writes the state to a file, each page at a place of its own.
pub(super) async fn to_mapped_file(monitor: &mut QmpClient, to: &Path) -> Result<(), DriverError> {
    drop(private_file(to).map_err(failed("write", to))?);
    monitor
        .execute(MigrateSetCapabilities::of(&MAPPED_CAPABILITIES))
        .await?;
    monitor
        .execute(MigrateSetParameters::without_limit())
        .await?;
    let uri = format!("file:{}", to.display());
    monitor.execute(Migrate { uri }).await?;
    ended(monitor).await
}

/// Migrates to a socket of this process, and writes what comes to a file.
#[cfg(unix)]
pub(super) async fn to_file(
    monitor: &mut QmpClient,
    dir: &MachineDir,
    to: &Path,
    capabilities: &[(&'static str, bool)],
) -> Result<(), DriverError> {
    let socket = dir.socket("state")?;
    let wrote = |error| failed("write", to)(error);
    atomic::remove(&socket).map_err(wrote)?;
    let listener = tokio::net::UnixListener::bind(&socket).map_err(wrote)?;
    let written = async {
        monitor
            .execute(MigrateSetCapabilities::of(capabilities))
            .await?;
        monitor
            .execute(MigrateSetParameters::without_limit())
            .await?;
        let uri = format!("unix:{}", socket.display());
        monitor.execute(Migrate { uri }).await?;
        let (mut stream, _) = listener.accept().await.map_err(wrote)?;
        let mut file = tokio::fs::File::from_std(private_file(to).map_err(wrote)?);
        tokio::io::copy(&mut stream, &mut file)
            .await
            .map_err(wrote)?;
        tokio::io::AsyncWriteExt::flush(&mut file)
            .await
            .map_err(wrote)?;
        ended(monitor).await
    };
    let written = tokio::time::timeout(LIMIT, written)
        .await
        .unwrap_or_else(|_| Err(late()));
    if written.is_err() {
        // Else it would stop the guest again when it is done after all. One that ended is no error.
        let _ = monitor.execute(qapi::qmp::migrate_cancel {}).await;
    }
    atomic::remove(&socket).map_err(wrote)?;
    written
}

/// There is nothing on this system that QEMU could write to and this process read from.
#[cfg(not(unix))]
pub(super) async fn to_file(
    _monitor: &mut QmpClient,
    _dir: &MachineDir,
    _to: &Path,
    _capabilities: &[(&'static str, bool)],
) -> Result<(), DriverError> {
    Err(super::unable(
        "machines cannot be saved on this system".to_owned(),
    ))
}

/// Waits until QEMU has written everything.
async fn ended(monitor: &mut QmpClient) -> Result<(), DriverError> {
    let begun = Instant::now();
    loop {
        let answer = monitor.execute(QueryMigrate {}).await?;
        match answer.status.as_deref() {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => {
                let reason = answer.error.unwrap_or_default();
                if reason.contains("No space left") {
                    return Err(DriverError::NoSpace { detail: reason });
                }
                return Err(super::unable(format!(
                    "its state could not be saved: {reason}"
                )));
            }
            _ if begun.elapsed() > LIMIT => return Err(late()),
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn late() -> DriverError {
    DriverError::TimedOut {
        what: "write its state",
        limit: LIMIT,
    }
}
