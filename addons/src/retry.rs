//! Requests that are made again: an API server that just came up refuses, stalls and forgets for a
//! few seconds, and none of that is an error of the add-on.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// First pause between two attempts; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// One attempt takes at most this long, so that a lost connection does not eat the whole limit.
const ATTEMPT: Duration = Duration::from_secs(15);

/// Why a request failed for good.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{}", text(.0))]
    Kube(#[from] kube::Error),
    #[error("the API server did not answer within {} s", .0.as_secs_f32().ceil())]
    NoAnswer(Duration),
}

impl Failure {
    /// Whether the same request can succeed a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::NoAnswer(_) => true,
            Self::Kube(kube::Error::Api(status)) => is_transient_status(status),
            Self::Kube(error) => matches!(
                error,
                kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_)
            ),
        }
    }

    /// Whether the API server does not serve a kind, or not yet.
    pub(crate) fn is_unknown_kind(&self) -> bool {
        self.is_not_found() || matches!(self, Self::Kube(kube::Error::Discovery(_)))
    }

    /// Whether the API server answered that there is no such object.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Kube(kube::Error::Api(status)) if status.code == 404)
    }
}

/// An answer that another attempt can change. 404 is one when the namespace is what is missing (the
/// API server makes `kube-system` shortly after it answers), 403 while admission reads its caches.
fn is_transient_status(status: &kube::core::Status) -> bool {
    match status.code {
        404 => status
            .details
            .as_ref()
            .is_some_and(|details| details.kind == "namespaces"),
        403 => status.message.contains("not yet ready to handle request"),
        409 | 429 | 500 | 502 | 503 | 504 => true,
        _ => false,
    }
}

/// The words for a person: the API server's own message, or the chain of causes.
fn text(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({} {})", status.message, status.code, status.reason);
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Makes a request until it succeeds, fails in a way that does not pass, or `deadline` is reached;
/// then the last failure is the answer. `told` hears of each failure that passes, and of the pause.
pub(crate) async fn until<T, F>(
    deadline: Instant,
    passes: impl Fn(&Failure) -> bool,
    told: impl Fn(&Failure, Duration),
    mut request: impl FnMut() -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    let mut pause = FIRST_PAUSE;
    loop {
        let failure = match once(deadline, request()).await {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };
        if !passes(&failure) || Instant::now() + pause >= deadline {
            return Err(failure);
        }
        told(&failure, pause);
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Makes a request once, bounded by `deadline` and the limit of one attempt.
pub(crate) async fn once<T>(
    deadline: Instant,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    let limit = deadline
        .saturating_duration_since(Instant::now())
        .min(ATTEMPT);
    match timeout(limit, request).await {
        Ok(answer) => answer.map_err(Failure::Kube),
        Err(_) => Err(Failure::NoAnswer(limit)),
    }
}
