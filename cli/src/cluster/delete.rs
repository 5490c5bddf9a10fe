//! `delete`: the processes, the kubeconfig entries, the files, in this order, so that a deletion
//! that is cut off can be run again.

use super::{LOCK_LIMIT, QUIT_LIMIT, docker, kubeconfig, lock, store};
use crate::commands::App;
use crate::error::{Context as _, ErrorId, Result};
use crate::settings::Settings;
use coracle_vm::{AnyDriver, Driver as _, DriverKind, Entry, MachineName, StoreError};

/// Deletes a cluster, whole or broken, running or not.
pub async fn delete(app: &App, name: &MachineName) -> Result<()> {
    let settings = &app.settings;
    let store = store(settings);
    if !store.exists(name) {
        return Err(StoreError::NotFound { name: name.clone() }.into());
    }
    let lock = lock(settings, name, "coracle delete", LOCK_LIMIT).await?;
    let entry = store
        .find(name)?
        .ok_or_else(|| StoreError::NotFound { name: name.clone() })?;
    let dir = store.machine_dir(name);
    if let Err(error) = crate::host_agent::retire(&dir).await {
        app.progress.warning(&format!(
            "its host agent does not end, and may hold its ports: {}",
            error.message()
        ));
    }
    for driver in drivers(settings, &entry)? {
        driver.quit(&dir, QUIT_LIMIT).await?;
        driver.forget(&dir).await?;
    }
    if let Err(error) = kubeconfig::remove(settings, name, &entry) {
        app.progress.warning(&format!(
            "its kubeconfig context is left behind: {}",
            error.message()
        ));
        for cause in error.causes() {
            app.progress.warning(cause);
        }
    }
    if let Err(error) = docker::forget(settings, &entry) {
        let said = error.message();
        app.progress
            .warning(&format!("its Docker context is left behind: {said}"));
    }
    store.delete(lock)?;
    forget_profile(settings, name)
}

/// The machine's driver; all that this build has where its record does not tell which.
fn drivers(settings: &Settings, entry: &Entry) -> Result<Vec<AnyDriver>> {
    let driver = |kind| AnyDriver::new(kind, settings.programs());
    Ok(match entry {
        Entry::Whole(record) => vec![driver(record.driver)?],
        Entry::Broken { .. } => {
            let all = DriverKind::ALL.iter().copied();
            all.filter_map(|kind| driver(kind).ok()).collect()
        }
    })
}

/// A deleted cluster is no longer the one that commands act on.
fn forget_profile(settings: &Settings, name: &MachineName) -> Result<()> {
    let file = settings.current_profile_file();
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    if text.trim() != name.as_str() {
        return Ok(());
    }
    coracle_vm::store::atomic::remove(&file).context(ErrorId::Write, || {
        format!("cannot remove {}", file.display())
    })
}
