//! `stop`: the cluster is saved as it is and its machine ends; or, where that cannot be or was not
//! asked for, pods end first, then the control plane, then the machine. One that is only to sleep is saved
//! or goes on, and keeps its host agent.

use super::{Cluster, LOCK_LIMIT, SYNC_LIMIT, boot, docker, lock};
use crate::commands::App;
use crate::error::{Error, ErrorId, Result};
use crate::host_agent;
use coracle_protocol::api::PowerAction;
use coracle_vm::{Driver as _, MachineState, Saves};
use std::time::Duration;
use time::OffsetDateTime;

/// How long pods may take to end before they are killed.
const POD_GRACE: Duration = Duration::from_secs(15);
/// How long the guest may take in all; under software emulation everything takes its time.
const GUEST_LIMIT: Duration = Duration::from_secs(120);
/// How long to wait for an agent that may not be up yet.
const AGENT_LIMIT: Duration = Duration::from_secs(30);

/// How a cluster is to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Saved where that can be, else shut down.
    Save,
    /// Shut down.
    ShutDown,
    /// Saved, with its ports held, so that the first who connects wakes it.
    Sleep {
        /// When it wakes by itself.
        wake_at: Option<OffsetDateTime>,
    },
}

/// How a stop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Nothing of it ran.
    Already,
    /// It is saved: the next start goes on with all that ran.
    Saved,
    /// Its machine was shut down.
    ShutDown,
    /// It is saved, and the first who connects wakes it.
    Asleep,
}

/// Stops the cluster, and sends its host agent away unless it is to sleep.
pub async fn stop(app: &App, cluster: &Cluster, how: How) -> Result<Stopped> {
    let (settings, name) = (&app.settings, cluster.dir().name());
    if let How::Sleep { .. } = how {
        host_agent::ensure(settings, cluster).await?;
    }
    let lock = lock(settings, name, "coracle stop", LOCK_LIMIT).await?;
    boot::end_cut_off(cluster).await?;
    if let How::Sleep { wake_at } = how {
        return sleep(app, cluster, wake_at).await;
    }
    let was_asleep = host_agent::is_asleep(cluster.dir());
    let stopped = end_machine(app, cluster, how == How::ShutDown).await?;
    if cluster.record().rest.stop_at.is_some() {
        super::update(settings, &lock, name, |record| record.rest.stop_at = None)?;
    }
    if let Err(error) = docker::withdraw(settings, &lock, cluster) {
        let said = error.message();
        app.progress
            .warning(&format!("its Docker context stays: {said}"));
    }
    host_agent::retire(cluster.dir()).await?;
    Ok(match stopped {
        Stopped::Already if was_asleep => Stopped::Saved,
        stopped => stopped,
    })
}

/// Has a running cluster stopped at a later time, or not any more.
pub async fn schedule(app: &App, cluster: &Cluster, at: Option<OffsetDateTime>) -> Result<()> {
    let (settings, name) = (&app.settings, cluster.dir().name());
    if at.is_some() && !host_agent::is_asleep(cluster.dir()) {
        cluster.require_running().await?;
        host_agent::ensure(settings, cluster).await?;
    }
    let lock = lock(settings, name, "coracle stop", LOCK_LIMIT).await?;
    super::update(settings, &lock, name, |record| record.rest.stop_at = at)
}

async fn sleep(app: &App, cluster: &Cluster, wake_at: Option<OffsetDateTime>) -> Result<Stopped> {
    cluster.require_running().await?;
    if cluster.passing_identity().exists() {
        return Err(Error::new(
            ErrorId::MachineNotRunning,
            "the cluster has no identity of its own yet",
        ));
    }
    if !cluster.driver()?.capabilities().can_hibernate {
        let error = cluster.unable(super::SLEEP);
        let name = cluster.dir().name();
        return Err(error.help(format!("`coracle stop -p {name}` shuts it down")));
    }
    let saving = host_agent::sleep(cluster.dir(), wake_at);
    if synced(app, cluster, saving).await? {
        return Ok(Stopped::Asleep);
    }
    // It was lost: after all was saved, or before.
    match cluster.state().await? {
        MachineState::Off if Saves::new(cluster.dir()).is_there() => Ok(Stopped::Saved),
        state => Err(Error::new(
            ErrorId::Machine,
            format!("the host agent was lost before the cluster was saved; its machine is {state}"),
        )),
    }
}

async fn end_machine(app: &App, cluster: &Cluster, shut_down: bool) -> Result<Stopped> {
    let driver = cluster.driver()?;
    match boot::patient_state(cluster).await? {
        MachineState::Off => return Ok(Stopped::Already),
        // Its processors have to run for it to sync or to end cleanly.
        MachineState::Paused | MachineState::PausedDiskFull => driver.resume(cluster.dir()).await?,
        // Nobody is left inside to end it cleanly.
        MachineState::Panicked => {
            boot::switch_off(cluster).await?;
            return Ok(Stopped::ShutDown);
        }
        MachineState::Running | MachineState::Starting | MachineState::Broken { .. } => {}
    }
    // A cluster without an identity of its own was never ready: there is nothing to go on with.
    let is_whole = !cluster.passing_identity().exists();
    let can_hibernate = driver.capabilities().can_hibernate;
    if !shut_down && !can_hibernate {
        let unable = cluster.unable("save a machine: it is shut down");
        app.progress.info(unable.message());
    }
    if !shut_down && is_whole && can_hibernate {
        match synced(app, cluster, host_agent::hibernate(cluster)).await {
            Ok(()) => return Ok(Stopped::Saved),
            // Shutting down would lose what runs for want of space that can be made.
            Err(error) if error.id() == ErrorId::HostStorage => return Err(error),
            Err(error) if driver.observe(cluster.dir()).await == MachineState::PausedDiskFull => {
                return Err(Error::new(
                    ErrorId::HostStorage,
                    "the host's disk is full, and the cluster is paused until there is space",
                )
                .because(error.message()));
            }
            Err(error) => app.progress.warning(&format!(
                "the cluster could not be saved and is shut down ({})",
                error.message()
            )),
        }
    }
    if let Err(error) = power_off(cluster).await {
        app.progress.warning(&format!(
            "the machine did not shut down by itself and is switched off; synced data is safe ({})",
            error.message()
        ));
        boot::switch_off(cluster).await?;
    }
    Ok(Stopped::ShutDown)
}

/// Saves once the guest's disk is synced.
async fn synced<T>(
    app: &App,
    cluster: &Cluster,
    save: impl Future<Output = Result<T>>,
) -> Result<T> {
    let agent = cluster.agent_within(AGENT_LIMIT).await?;
    agent.sync(SYNC_LIMIT).await?;
    tracing::debug!("the guest's disk is synced");
    let saved = save.await;
    if saved.is_err() {
        // It stood still meanwhile. Whether it knows that matters less than why it runs on.
        let _ = agent.set_clock(app.settings.now()).await;
    }
    saved
}

async fn power_off(cluster: &Cluster) -> Result<()> {
    // Nobody but the agent could end the machine cleanly: without it there is nothing to wait for.
    let agent = cluster.agent_within(AGENT_LIMIT).await?;
    agent.power(PowerAction::PowerOff, POD_GRACE).await?;
    let driver = cluster.driver()?;
    Ok(driver.wait_off(cluster.dir(), GUEST_LIMIT).await?)
}
