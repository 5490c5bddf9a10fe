//! Gives the machine the home folder of this host's user, when a container is to have a part of it: with
//! Docker a path means the same on both sides.

use super::log;
use crate::cluster::mount;
use crate::error::Result;
use crate::settings::Settings;
use coracle_protocol::api::HomeBrought;
use coracle_protocol::client::{AgentClient, AgentError};
use std::convert::Infallible;

/// Answers a machine's agent until that is gone, which is an error.
pub async fn answer(settings: &Settings, agent: &AgentClient) -> Result<Infallible> {
    let mut questions = match agent.home_questions().await {
        // It asks for nothing, and never will.
        Err(AgentError::Unknown) => std::future::pending().await,
        questions => questions?,
    };
    loop {
        let asked = questions.next().await?;
        let refused = match mount::bring_home(settings, &asked.path).await {
            Ok(()) => String::new(),
            Err(error) => {
                let said = error.joined("; ");
                log(&format!("no home folder for a container: {said}"));
                said
            }
        };
        let number = asked.number;
        questions.answer(HomeBrought { number, refused }).await?;
    }
}
