//! Gives the machine the home folder of this host's user, when a container is to have a part of it: with
//! Docker a path means the same on both sides.

use super::follow::{self, Pauses};
use super::log;
use crate::cluster::{Cluster, mount};
use crate::error::Result;
use crate::settings::Settings;
use coracle_protocol::client::AgentError;
use std::convert::Infallible;
use std::time::Duration;

/// How long the agent may take until it answers.
const CONNECTS: Duration = Duration::from_secs(30);

/// Answers a machine that runs, for ever, beginning a while after it has its own identity.
pub async fn follow(settings: Settings, courtesy: Duration) -> Infallible {
    follow::settled(&settings, courtesy).await;
    let mut pauses = Pauses::new();
    loop {
        match answer(&settings, &mut pauses).await {
            // The machine's agent asks for nothing, and never will.
            Ok(()) => std::future::pending().await,
            Err(error) => {
                tracing::debug!(error = error.message(), "nobody asks for the home folder");
                pauses.pause().await;
            }
        }
    }
}

/// Until the machine is gone, which is an error.
async fn answer(settings: &Settings, pauses: &mut Pauses) -> Result<()> {
    let agent = Cluster::find(settings)?.agent_within(CONNECTS).await?;
    let mut questions = match agent.home_questions().await {
        Err(AgentError::Unknown) => return Ok(()),
        questions => questions?,
    };
    loop {
        let asked = questions.next().await?;
        pauses.reset();
        let refused = match mount::bring_home(settings, &asked.path).await {
            Ok(()) => String::new(),
            Err(error) => {
                let said = error.in_one_line();
                log(&format!("no home folder for a container: {said}"));
                said
            }
        };
        questions.answer(asked.number, refused).await?;
    }
}
