//! The way to the host: calls that wait for an answer, over one stream after another.

use coracle_protocol::folders::{Answer, Call, Entry, FromGuest, call, from_guest};
use nix::libc::EIO;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tonic::Status;

/// How long calls wait for a host that is not there: a host agent that was killed is back before that.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where messages to the host go.
pub(super) type Sender = mpsc::UnboundedSender<Result<FromGuest, Status>>;

/// What came of a call: what the host said, or an error number.
pub(super) type Outcome = Result<Answer, i32>;

/// All calls, of all folders. How many wait is bounded by what the kernel lets wait.
#[derive(Debug)]
pub(super) struct Link(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    last: u64,
    /// Which stream this is.
    stream: u64,
    host: Result<Sender, Instant>,
    waiting: BTreeMap<u64, Waiting>,
}

struct Waiting {
    call: Call,
    entries: Vec<Entry>,
    done: Box<dyn FnOnce(Outcome) + Send>,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "call {}", self.call.id)
    }
}

impl Link {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Inner {
            last: 0,
            stream: 0,
            host: Err(Instant::now()),
            waiting: BTreeMap::new(),
        }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that no call, handle or listing has had.
    pub(super) fn number(&self) -> u64 {
        let mut inner = self.inner();
        inner.last += 1;
        inner.last
    }

    /// Asks the host. `done` is called once, on another thread or before this returns.
    pub(super) fn call(
        &self,
        folder: &str,
        operation: call::Operation,
        done: impl FnOnce(Outcome) + Send + 'static,
    ) {
        let mut inner = self.inner();
        if matches!(inner.host, Err(lost) if lost.elapsed() > PATIENCE) {
            drop(inner);
            return done(Err(EIO));
        }
        inner.last += 1;
        let call = Call {
            id: inner.last,
            folder: folder.to_owned(),
            again: false,
            operation: Some(operation),
        };
        if let Ok(host) = &inner.host {
            // What a stream that has just ended does not take, the next one does.
            let _ = host.send(message(call.clone()));
        }
        let waiting = Waiting {
            call,
            entries: Vec::new(),
            done: Box::new(done),
        };
        let id = inner.last;
        inner.waiting.insert(id, waiting);
    }

    /// Takes a stream in place of an earlier one, and calls again what waits. Gives its number.
    pub(super) fn attach(&self, host: Sender) -> u64 {
        let mut inner = self.inner();
        inner.stream += 1;
        for waiting in inner.waiting.values_mut() {
            waiting.call.again = true;
            waiting.entries.clear();
            let _ = host.send(message(waiting.call.clone()));
        }
        inner.host = Ok(host);
        inner.stream
    }

    /// A stream has ended. What waits fails when no other one comes.
    pub(super) fn detach(self: &Arc<Self>, stream: u64) {
        let mut inner = self.inner();
        if inner.stream != stream {
            return;
        }
        inner.host = Err(Instant::now());
        drop(inner);
        self.lose_patience(stream);
    }

    /// A host is to come.
    pub(super) fn expect(self: &Arc<Self>) {
        let mut inner = self.inner();
        inner.host = Err(Instant::now());
        let stream = inner.stream;
        drop(inner);
        self.lose_patience(stream);
    }

    /// Fails what waits when no other stream than this one has come after a while.
    fn lose_patience(self: &Arc<Self>, stream: u64) {
        let link = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            let mut inner = link.inner();
            if inner.stream != stream {
                return;
            }
            let failed = std::mem::take(&mut inner.waiting);
            drop(inner);
            for waiting in failed.into_values() {
                (waiting.done)(Err(EIO));
            }
        });
    }

    /// The host has answered.
    pub(super) fn answered(&self, mut answer: Answer) {
        let mut inner = self.inner();
        if answer.more {
            if let Some(waiting) = inner.waiting.get_mut(&answer.id) {
                waiting.entries.append(&mut answer.entries);
            }
            return;
        }
        // One that is not known was answered in an earlier stream.
        let Some(mut waiting) = inner.waiting.remove(&answer.id) else {
            return;
        };
        drop(inner);
        waiting.entries.append(&mut answer.entries);
        answer.entries = waiting.entries;
        (waiting.done)(match i32::try_from(answer.error) {
            Ok(0) => Ok(answer),
            Ok(error) => Err(error),
            Err(_) => Err(EIO),
        });
    }
}

fn message(call: Call) -> Result<FromGuest, Status> {
    Ok(FromGuest {
        message: Some(from_guest::Message::Call(call)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_protocol::folders::{Space, Stat};

    fn asked(receiver: &mut mpsc::UnboundedReceiver<Result<FromGuest, Status>>) -> Option<Call> {
        match receiver.try_recv().ok()?.ok()?.message? {
            from_guest::Message::Call(call) => Some(call),
            from_guest::Message::Mounted(_) => None,
        }
    }

    fn outcome() -> (
        impl FnOnce(Outcome) + Send + 'static,
        std::sync::mpsc::Receiver<Outcome>,
    ) {
        let (sender, receiver) = std::sync::mpsc::channel();
        (move |outcome| sender.send(outcome).unwrap(), receiver)
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_called_again_and_fails_when_nobody_comes() {
        let link = Arc::new(Link::new());
        let (sender, mut first) = mpsc::unbounded_channel();
        let stream = link.attach(sender);
        let (done, answered) = outcome();
        link.call("a", call::Operation::Stat(Stat::default()), done);
        let call = asked(&mut first).unwrap();
        assert!(!call.again && answered.try_recv().is_err());

        link.detach(stream);
        let (sender, mut second) = mpsc::unbounded_channel();
        let stream = link.attach(sender);
        let again = asked(&mut second).unwrap();
        assert!(again.again && again.id == call.id);
        // The first stream's time is not this one's.
        tokio::time::sleep(PATIENCE * 2).await;
        assert!(answered.try_recv().is_err());
        link.answered(Answer {
            id: call.id,
            error: 2,
            ..Answer::default()
        });
        assert_eq!(answered.try_recv().unwrap().unwrap_err(), 2);

        let (done, answered) = outcome();
        link.call("a", call::Operation::Space(Space {}), done);
        link.detach(stream);
        tokio::time::sleep(PATIENCE * 2).await;
        assert_eq!(answered.try_recv().unwrap().unwrap_err(), EIO);
    }

    #[test]
    fn a_list_may_come_in_parts() {
        let link = Link::new();
        let (sender, mut host) = mpsc::unbounded_channel();
        link.attach(sender);
        let (done, answered) = outcome();
        link.call("a", call::Operation::List(Default::default()), done);
        let id = asked(&mut host).unwrap().id;
        for more in [true, true, false] {
            link.answered(Answer {
                id,
                more,
                entries: vec![Entry::default()],
                ..Answer::default()
            });
        }
        assert_eq!(answered.try_recv().unwrap().unwrap().entries.len(), 3);
    }
}
