//! The home folder of the host's user: asked of the host when a container is to have a part of it.
//!
//! ```text
//! engine: a bind mount --ask--> asked --> the host mounts its user's home folder here
//!                       <------ brought <-- and tells, or why it does not
//! ```

use coracle_protocol::api::HomeBrought;
use std::time::Duration;
use tokio::sync::watch;

/// How long the host may take, which may have to wait for another command, and mounts then.
const LIMIT: Duration = Duration::from_secs(90);
/// How long nobody of the host may be there to be asked.
const ABSENCE: Duration = Duration::from_secs(20);

/// What is asked of the host, and what it answered.
#[derive(Debug, Default)]
pub struct Home {
    asked: watch::Sender<Asked>,
    /// The host's last answer.
    brought: watch::Sender<HomeBrought>,
    turn: tokio::sync::Mutex<()>,
}

/// The last question.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// How often was asked; 0 before the first.
    pub number: u64,
    /// A path that a container is to have, as the host's user calls it.
    pub path: String,
}

impl Home {
    /// Asks for it where the path is within, and returns when it is mounted, or the path is elsewhere. One asks
    /// at a time.
    ///
    /// # Errors
    /// The path is in the host's home folder, as far as is known, and why that is not mounted.
    pub(super) async fn ask(&self, path: &str) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        let mut number = 0;
        self.asked.send_modify(|asked| {
            asked.number += 1;
            path.clone_into(&mut asked.path);
            number = asked.number;
        });
        let mut brought = self.brought.subscribe();
        let answered = brought.wait_for(|answer| answer.number >= number);
        let limit = match self.asked.receiver_count() {
            0 => ABSENCE,
            _ => LIMIT,
        };
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(answer)) if answer.refused.is_empty() => Ok(()),
            Ok(Ok(answer)) => Err(answer.refused.clone()),
            Ok(Err(_)) | Err(_) => Err("nobody on this host answers".to_owned()),
        }
    }

    /// The last question, as it is and becomes.
    #[must_use]
    pub fn asked(&self) -> watch::Receiver<Asked> {
        self.asked.subscribe()
    }

    /// Takes the host's answer to a question and all before it.
    pub fn answer(&self, answer: HomeBrought) {
        self.brought.send_replace(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn each_question_waits_for_its_own_answer() {
        let home = Arc::new(Home::default());
        for (refused, outcome) in [("", Ok(())), ("no", Err("no".to_owned()))] {
            let mut asked = home.asked();
            let before = asked.borrow_and_update().number;
            let asking = Arc::clone(&home);
            let asking = tokio::spawn(async move { asking.ask("/home/me/src").await });
            let question = asked.wait_for(|asked| asked.number > before).await;
            let Asked { number, path } = question.unwrap().clone();
            assert_eq!(path, "/home/me/src");
            // What came too late for an earlier one is no answer.
            for (number, refused) in [(before, "late"), (number, refused)] {
                home.answer(HomeBrought {
                    number,
                    refused: refused.to_owned(),
                });
            }
            assert_eq!(asking.await.unwrap(), outcome);
        }
    }
}
