//! `pause` and `unpause`: the machine keeps its memory and uses no processor meanwhile.

use super::{Cluster, LOCK_LIMIT, boot, lock};
use crate::commands::App;
use crate::error::Result;
use coracle_vm::{Driver as _, MachineState, Saves};
use std::time::Duration;

/// How long the agent may take to answer once the machine goes on.
const AGENT_LIMIT: Duration = Duration::from_secs(60);

/// Stops the machine's processors; false when they were stopped already.
pub async fn pause(app: &App, cluster: &Cluster) -> Result<bool> {
    let name = cluster.dir().name();
    let _lock = lock(&app.settings, name, "coracle pause", LOCK_LIMIT).await?;
    crate::host_agent::settle(cluster.dir()).await?;
    let driver = cluster.driver()?;
    match cluster.state().await? {
        MachineState::Paused => Ok(false),
        MachineState::Running if !driver.capabilities().can_pause => {
            let error = cluster.unable("pause a machine");
            Err(error.help(format!(
                "`coracle stop -p {name}` ends it, and a start brings it back"
            )))
        }
        MachineState::Running => {
            driver.pause(cluster.dir()).await?;
            Ok(true)
        }
        state => Err(cluster.not_running(&state)),
    }
}

/// Lets them go on, and steps the machine's clock to now; false when they were not stopped.
pub async fn unpause(app: &App, cluster: &Cluster) -> Result<bool> {
    let name = cluster.dir().name();
    let _lock = lock(&app.settings, name, "coracle unpause", LOCK_LIMIT).await?;
    crate::host_agent::settle(cluster.dir()).await?;
    match cluster.state().await? {
        MachineState::Running => Ok(false),
        // A restore that was cut off looks the same; only a start finishes it.
        MachineState::Paused if !Saves::new(cluster.dir()).is_there() => {
            cluster.driver()?.resume(cluster.dir()).await?;
            boot::agent(
                &app.settings,
                cluster,
                &cluster.present_identity(),
                AGENT_LIMIT,
            )
            .await?;
            Ok(true)
        }
        state => Err(cluster.not_running(&state)),
    }
}
