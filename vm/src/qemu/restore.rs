//! From a QEMU that waits for a state to a guest that runs.
//!
//! Memory first: devices read the guest's rings when they are loaded. A saved state is made invalid
//! when all of it is in the process, and before the guest changes a disk.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::connect;
use super::inherited::INHERITED;
use crate::driver::DriverError;
use crate::qmp::{MigrateIncoming, MigrateSetCapabilities, QueryStatus};
use crate::saved::{Saved, Saves};
use crate::store::MachineDir;

/// How long a state may take to be read: gigabytes of memory from a slow disk, at the worst.
const LIMIT: Duration = Duration::from_secs(300);
/// The pause between two looks at a restore.
const PAUSE: Duration = Duration::from_millis(2);

/// Where the state is.
#[derive(Debug)]
pub(super) enum State {
    /// In the file that QEMU inherited.
    Inherited,
    /// In a file that QEMU opens.
    File(PathBuf),
}

/// What is restored, and how.
#[derive(Debug)]
pub(super) struct Restore {
    pub(super) state: State,
    /// The same as when the state was written.
    pub(super) capabilities: &'static [(&'static str, bool)],
    /// The file that the memory is a copy of, and the pages that differ from it.
    pub(super) changed: Option<(PathBuf, PathBuf)>,
    /// What must not be used again.
    pub(super) spent: Option<Saved>,
}

/// Restores, and lets the guest run. When QEMU ends meanwhile this never returns: how it ended is the
/// better answer.
pub(super) async fn restore(pid: u32, dir: &MachineDir, way: &Restore) -> Result<(), DriverError> {
    let restored = async {
        if let Some((ram, pages)) = way.changed.clone() {
            let loaded = tokio::task::spawn_blocking(move || load(pid, &ram, &pages)).await;
            loaded
                .unwrap_or_else(|error| Err(error.into()))
                .map_err(|error| damaged(&error))?;
        }
        let mut monitor = connect(dir).await?;
        let capabilities = MigrateSetCapabilities::of(way.capabilities);
        monitor.execute(capabilities).await?;
        let uri = match &way.state {
            State::Inherited => format!("fd:{INHERITED}"),
            State::File(path) => format!("file:{}", path.display()),
        };
        monitor.execute(MigrateIncoming { uri }).await?;
        let begun = Instant::now();
        while monitor.execute(QueryStatus {}).await?.status == "inmigrate" {
            if begun.elapsed() > LIMIT {
                return Err(late());
            }
            tokio::time::sleep(PAUSE).await;
        }
        if let Some(saved) = &way.spent {
            Saves::new(dir).spend(saved)?;
        }
        monitor.execute(qapi::qmp::cont {}).await?;
        Ok(())
    };
    match tokio::time::timeout(LIMIT, restored).await {
        Ok(Err(DriverError::NotRunning)) => std::future::pending().await,
        Ok(Err(DriverError::Qmp(error))) if error.is_absence() => std::future::pending().await,
        Ok(Err(DriverError::Qmp(error))) => Err(unrestored(error.to_string())),
        Ok(done) => done,
        Err(_) => Err(late()),
    }
}

#[cfg(target_os = "linux")]
fn load(pid: u32, ram: &std::path::Path, pages: &std::path::Path) -> io::Result<()> {
    let memory = super::memory::PrivateMemory::open(pid, ram, true)?;
    crate::saved::load(&std::fs::File::open(pages)?, |offset, bytes| {
        memory.write(offset, bytes)
    })
}

#[cfg(not(target_os = "linux"))]
fn load(_pid: u32, _ram: &std::path::Path, _pages: &std::path::Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn damaged(error: &io::Error) -> DriverError {
    unrestored(format!("its memory cannot be loaded: {error}"))
}

fn late() -> DriverError {
    unrestored(format!("it took longer than {} s", LIMIT.as_secs()))
}

/// Whatever is wrong with what was saved, there is another way to begin.
fn unrestored(status: String) -> DriverError {
    DriverError::RestoreFailed {
        status,
        last_lines: Vec::new(),
    }
}
