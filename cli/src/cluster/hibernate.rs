//! Hibernation: a running cluster becomes files, and goes on from them with all that ran in it.
//!
//! ```text
//! stop --sync--> host agent: save, end, keep --> Stopped, saved
//! start: find --> host agent: restore --> agent steps the clock --> Ready
//! ```
//!
//! What is saved is a cache. The disk was synced first, so where it cannot be used any more, the same
//! disk boots cold and only what ran is lost.

use super::Cluster;
use crate::error::{Error, ErrorId, Result};
use crate::settings::Settings;
use coracle_vm::{Driver as _, Saved, SavedError, Saves};
use std::time::Duration;

/// How long the hypervisor may take to end once all of it is saved.
const QUIT_LIMIT: Duration = Duration::from_secs(10);

/// The saved state of the current profile's cluster, which has to be there.
pub fn saved(settings: &Settings) -> Result<Saved> {
    let cluster = Cluster::find(settings)?;
    let found = Saves::new(cluster.dir()).present()?;
    found.ok_or_else(|| Error::new(ErrorId::Template, "nothing is saved"))
}

/// What a stopped cluster can go on from. The second is one line about a saved state that cannot be
/// used; it is removed.
pub async fn find(cluster: &Cluster) -> Result<(Option<Saved>, Option<String>)> {
    let saves = Saves::new(cluster.dir());
    if !saves.is_there() {
        return Ok((None, None));
    }
    let host = cluster
        .driver()?
        .fingerprint(cluster.machine_spec())
        .await?;
    match saves.find(&host) {
        Ok(found) => Ok((found, None)),
        Err(error @ SavedError::Unusable { .. }) => {
            saves.discard()?;
            Ok((None, Some(format!("booting cold: {error}"))))
        }
        Err(error) => Err(error.into()),
    }
}

/// Saves a running machine whose disk was synced, and ends it. After an error in the saving it goes on.
pub async fn hibernate(cluster: &Cluster) -> Result<Saved> {
    let driver = cluster.driver()?;
    let (dir, spec) = (cluster.dir(), cluster.machine_spec());
    let saves = Saves::new(dir);
    let host = driver.fingerprint(spec).await?;
    let saving = saves.begin()?;
    let saved = async {
        let kept = driver.save(dir, &saving.files()).await?;
        let record = saving.record(kept, host)?;
        // What is still to be written is known to have room, while the machine could go on.
        saving.reserve()?;
        Ok::<_, Error>(record)
    };
    let record = match saved.await {
        Ok(record) => record,
        Err(error) => {
            // First: a guest must not run on a disk that its own save has filled.
            drop(saving);
            driver.resume(dir).await?;
            return Err(error);
        }
    };
    driver.quit(dir, QUIT_LIMIT).await?;
    Ok(saves.publish(saving, record, spec)?)
}
