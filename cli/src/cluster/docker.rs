//! The context of the docker command that a cluster was given: it is there while the cluster's ports are.
//!
//! ```text
//!        give                  withdraw: stop
//! none ------> there, maybe used ---------> kept in the record
//!   ^           |      ^                            |
//!   +---take----+      +------bring_back: start-----+
//! ```

use super::{Cluster, LOCK_LIMIT, lock, store, update};
use crate::docker::Access;
use crate::docker::context::{Contexts, Kept, Presence};
use crate::error::Result;
use crate::settings::Settings;
use coracle_vm::{Entry, MachineLock};

/// Makes a context named after the cluster, and has the docker command use it if that is asked for.
pub async fn give(settings: &Settings, cluster: &Cluster, is_used: bool) -> Result<()> {
    let name = cluster.dir().name();
    let lock = lock(settings, name, "coracle docker-context", LOCK_LIMIT).await?;
    // A stop may have come first.
    let cluster = &Cluster::find(settings)?;
    if !crate::host_agent::is_asleep(cluster.dir()) {
        cluster.require_running().await?;
    }
    let access = Access::of(cluster)?;
    let contexts = contexts(settings);
    let current = contexts.current()?;
    let was_used = current.as_deref() == Some(name.as_str());
    let before = cluster.record().docker_context.clone();
    let former = match (&before, was_used) {
        (Some(kept), true) => kept.former.clone(),
        _ => current.filter(|_| !was_used),
    };
    let used = is_used || was_used;
    // First, so that a stop or a delete removes what was made before this was cut off.
    let record = |kept| update(settings, &lock, name, |record| record.docker_context = kept);
    record(Some(Kept { used, former }))?;
    if let Err(error) = contexts.create(name.as_str(), &access) {
        record(before)?;
        return Err(error);
    }
    if is_used && !was_used {
        contexts.choose(Some(name.as_str()))?;
    }
    Ok(())
}

/// Removes the context; whether there was one.
pub async fn take(settings: &Settings, cluster: &Cluster) -> Result<bool> {
    let name = cluster.dir().name();
    let lock = lock(settings, name, "coracle docker-context", LOCK_LIMIT).await?;
    let removed = remove(settings, &Cluster::find(settings)?)?;
    update(settings, &lock, name, |record| record.docker_context = None)?;
    Ok(removed)
}

/// Makes the context again that a stop removed. It is used again where nothing else was chosen meanwhile.
pub fn bring_back(settings: &Settings, cluster: &Cluster) -> Result<()> {
    let Some(kept) = &cluster.record().docker_context else {
        return Ok(());
    };
    let name = cluster.dir().name().as_str();
    let contexts = contexts(settings);
    let access = Access::of(cluster)?;
    // Only what a stop took: whoever chose another one while it was there meant that.
    let was_taken = contexts.find(name, &access)? == Presence::None;
    contexts.create(name, &access)?;
    if was_taken && kept.used && contexts.current()? == kept.former {
        contexts.choose(Some(name))?;
    }
    Ok(())
}

/// Removes the context of a cluster that is stopped, for as long as it is.
pub fn withdraw(settings: &Settings, lock: &MachineLock, cluster: &Cluster) -> Result<()> {
    // It may have been given one while its stop waited.
    let machine = store(settings).get(cluster.dir().name())?;
    let cluster = &Cluster::new(settings, machine)?;
    let Some(kept) = cluster.record().docker_context.clone() else {
        return Ok(());
    };
    let name = cluster.dir().name();
    let used = contexts(settings).current()?.as_deref() == Some(name.as_str());
    if remove(settings, cluster)? && used != kept.used {
        update(settings, lock, name, |record| {
            record.docker_context = Some(Kept { used, ..kept });
        })?;
    }
    Ok(())
}

/// Removes the context of a cluster that is deleted; one whose record is lost may leave it behind.
pub fn forget(settings: &Settings, entry: &Entry) -> Result<()> {
    let Entry::Whole(machine) = entry else {
        return Ok(());
    };
    match Cluster::new(settings, machine.as_ref().clone()) {
        Ok(cluster) if cluster.record().docker_context.is_some() => {
            remove(settings, &cluster).map(drop)
        }
        _ => Ok(()),
    }
}

fn remove(settings: &Settings, cluster: &Cluster) -> Result<bool> {
    let kept = cluster.record().docker_context.as_ref();
    let former = kept.and_then(|kept| kept.former.as_deref());
    let name = cluster.dir().name().as_str();
    contexts(settings).remove(name, &Access::of(cluster)?, former)
}

fn contexts(settings: &Settings) -> Contexts {
    Contexts::new(settings.docker_config.clone())
}
