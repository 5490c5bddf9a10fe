//! `stop`: pods first, then the control plane, then the machine.

use super::{Cluster, LOCK_LIMIT, boot, lock};
use crate::commands::App;
use crate::error::Result;
use coracle_protocol::api::PowerAction;
use coracle_vm::{Driver as _, MachineState};
use std::time::Duration;

/// How long pods may take to end before they are killed.
const POD_GRACE: Duration = Duration::from_secs(15);
/// How long the guest may take in all; under software emulation everything takes its time.
const GUEST_LIMIT: Duration = Duration::from_secs(120);
/// How long to wait for an agent that may not be up yet.
const AGENT_LIMIT: Duration = Duration::from_secs(30);

/// Stops the cluster; false when it was stopped already.
pub async fn stop(app: &App, cluster: Cluster) -> Result<bool> {
    let _lock = lock(
        &app.settings,
        cluster.dir().name(),
        "coracle stop",
        LOCK_LIMIT,
    )
    .await?;
    let driver = cluster.driver()?;
    match driver.observe(cluster.dir()).await {
        MachineState::Off => return Ok(false),
        // Its processors have to run for it to end cleanly.
        MachineState::Paused | MachineState::PausedDiskFull => driver.resume(cluster.dir()).await?,
        // Nobody is left inside to end it cleanly.
        MachineState::Panicked => {
            boot::switch_off(&cluster).await?;
            return Ok(true);
        }
        MachineState::Running | MachineState::Starting | MachineState::Broken { .. } => {}
    }
    if let Err(error) = shut_down(&cluster).await {
        app.progress.warning(&format!(
            "the machine did not shut down by itself and is switched off; synced data is safe ({})",
            error.message()
        ));
        boot::switch_off(&cluster).await?;
    }
    Ok(true)
}

async fn shut_down(cluster: &Cluster) -> Result<()> {
    // Nobody but the agent could end the machine cleanly: without it there is nothing to wait for.
    let agent = cluster.agent_within(AGENT_LIMIT).await?;
    agent.power(PowerAction::PowerOff, POD_GRACE).await?;
    let driver = cluster.driver()?;
    Ok(driver.wait_off(cluster.dir(), GUEST_LIMIT).await?)
}
