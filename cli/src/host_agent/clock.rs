//! Keeps the machine's clock with the host's: a guest counts time by itself between two looks, and
//! knows nothing of a host that slept.

use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::settings::Settings;
use coracle_vm::MachineState;
use std::convert::Infallible;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often the two are compared.
const PAUSE: Duration = Duration::from_secs(600);
/// How often is looked whether the host slept: its own clock went on then, and nothing else did.
const LOOK: Duration = Duration::from_secs(10);
/// What its clock may go ahead without that.
const JUMP: Duration = Duration::from_secs(2);
/// What they may differ without being told.
const TOLERANCE: Duration = Duration::from_millis(100);
/// How long the agent may take to answer.
const AGENT_LIMIT: Duration = Duration::from_secs(30);

/// Compares them for ever. A machine that does not answer is left to whoever asks next.
pub async fn keep(settings: &Settings) -> Infallible {
    loop {
        wait().await;
        match compare(settings).await {
            Ok(Some(off)) => super::log(&format!(
                "the machine's clock was {} ms off",
                off.as_millis()
            )),
            Ok(None) => {}
            Err(error) => tracing::debug!(error = error.message(), "the clock is not compared"),
        }
    }
}

/// Until it is time, or the host has slept.
async fn wait() {
    let begun = Instant::now();
    while begun.elapsed() < PAUSE {
        let (clock, looked) = (SystemTime::now(), Instant::now());
        tokio::time::sleep(LOOK).await;
        let shown = clock.elapsed().unwrap_or_default();
        if shown > looked.elapsed() + JUMP {
            return;
        }
    }
}

/// Has a machine that goes on after a long time know what time it is.
pub async fn step(settings: Settings) {
    let stepped = async {
        let agent = Cluster::find(&settings)?.agent_within(AGENT_LIMIT).await?;
        Ok::<_, Error>(agent.set_clock(settings.now()).await?)
    };
    if let Err(error) = stepped.await {
        let reason = error.message();
        super::log(&format!("the machine's clock is not stepped: {reason}"));
    }
}

async fn compare(settings: &Settings) -> Result<Option<Duration>> {
    let cluster = Cluster::find(settings)?;
    if cluster.state().await? != MachineState::Running {
        return Ok(None);
    }
    let agent = cluster.agent_within(AGENT_LIMIT).await?;
    let guest = UNIX_EPOCH + Duration::from_millis(agent.info().await?.clock_millis);
    let now = settings.now();
    let off = now
        .duration_since(guest)
        .unwrap_or_else(|error| error.duration());
    if off <= TOLERANCE {
        return Ok(None);
    }
    agent.set_clock(settings.now()).await?;
    Ok(Some(off))
}
