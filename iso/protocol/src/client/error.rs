//! What can go wrong in a call to the agent.

use crate::api::Readiness;
use std::time::Duration;
use tonic::{Code, Status};

/// Why a call to the agent failed.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The thing that was asked for is not in the machine.
    #[error("{0}")]
    NotFound(String),
    /// The agent does not take this request.
    #[error("{0}")]
    Invalid(String),
    /// The machine is not in a state in which it can do this.
    #[error("{0}")]
    NotPossibleNow(String),
    /// The connection broke; the machine may have stopped.
    #[error("the connection to the machine's agent broke: {0}")]
    Gone(String),
    /// No answer within the time limit.
    #[error("the machine's agent did not answer within {limit:?}")]
    TimedOut {
        /// How long was waited.
        limit: Duration,
    },
    /// Some components did not become ready in time.
    #[error("not ready within {limit:?}: {}", missing(last))]
    NotReady {
        /// How long was waited.
        limit: Duration,
        /// The last table that the agent sent; empty when it sent none.
        last: Box<Readiness>,
    },
    /// The agent is of another version and does not know this call.
    #[error("the machine's agent does not know this call; its image is of another version")]
    Unknown,
    /// It failed inside the machine.
    #[error("{0}")]
    Failed(String),
    /// A message came that does not belong where it came.
    #[error("the agent broke the protocol: {0}")]
    Protocol(&'static str),
    /// The caller's own reader or writer failed.
    #[error("cannot read what was to be sent")]
    Local(#[source] std::io::Error),
}

fn missing(table: &Readiness) -> String {
    use crate::api::ComponentState::{Done, Ready};
    let missing: Vec<String> = table
        .components
        .iter()
        .filter(|one| !matches!(one.state(), Ready | Done))
        .map(|one| match one.detail.as_str() {
            "" => one.name.clone(),
            detail => format!("{} ({detail})", one.name),
        })
        .collect();
    match missing.as_slice() {
        [] => "the agent said nothing".to_owned(),
        some => some.join(", "),
    }
}

impl From<Status> for AgentError {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::NotFound => Self::NotFound(message),
            Code::InvalidArgument | Code::OutOfRange => Self::Invalid(message),
            Code::FailedPrecondition | Code::ResourceExhausted => Self::NotPossibleNow(message),
            Code::Unimplemented => Self::Unknown,
            Code::Unavailable | Code::Cancelled => Self::Gone(deepest(&status, message)),
            // tonic reports a connection that breaks inside a stream as an unknown error.
            Code::Unknown if std::error::Error::source(&status).is_some() => {
                Self::Gone(deepest(&status, message))
            }
            _ => Self::Failed(message),
        }
    }
}

/// The innermost cause, which says more than "transport error".
fn deepest(status: &Status, message: String) -> String {
    let mut cause = std::error::Error::source(status);
    let mut text = message;
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

/// For readers and writers over a call: the error that [`std::io`] callers see.
pub(super) fn to_io(status: Status) -> std::io::Error {
    let kind = match status.code() {
        Code::NotFound => std::io::ErrorKind::NotFound,
        Code::Unavailable | Code::Cancelled => std::io::ErrorKind::ConnectionAborted,
        Code::InvalidArgument => std::io::ErrorKind::InvalidInput,
        _ => std::io::ErrorKind::Other,
    };
    std::io::Error::new(kind, AgentError::from(status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Component, ComponentState};

    #[test]
    fn what_was_not_ready_is_named_with_its_reason() {
        let row = |name: &str, state: ComponentState, detail: &str| Component {
            name: name.into(),
            state: state.into(),
            detail: detail.into(),
            ..Component::default()
        };
        let last = Readiness {
            components: vec![
                row("etcd", ComponentState::Ready, ""),
                row("kubelet", ComponentState::BackingOff, "ended with status 1"),
                row("scheduler", ComponentState::Waiting, ""),
            ],
        };
        let error = AgentError::NotReady {
            limit: Duration::from_secs(3),
            last: Box::new(last),
        };
        assert_eq!(
            error.to_string(),
            "not ready within 3s: kubelet (ended with status 1), scheduler"
        );
    }

    #[test]
    fn a_status_keeps_its_kind_and_its_text() {
        let error = AgentError::from(Status::not_found("no component foo"));
        assert!(matches!(&error, AgentError::NotFound(text) if text == "no component foo"));
        assert!(matches!(
            AgentError::from(Status::unavailable("x")),
            AgentError::Gone(_)
        ));
        assert!(matches!(
            AgentError::from(Status::internal("x")),
            AgentError::Failed(_)
        ));
    }
}
