//! A connection to libvirt on a thread of its own.
//!
//! libvirt's calls block for as long as its daemon does not answer. So a connection begins and ends on one
//! thread, which is given work through a channel; whoever waits for the work does so within a limit. A
//! thread that hangs is left behind, and ends with the process: one of the runtime's would keep the
//! process from ending.

use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::oneshot;
use virt::connect::Connect;
use virt::error::{Error, clear_error_callback};

use super::{failure, unable};
use crate::driver::DriverError;
use crate::program::Programs;

/// One thing to do with the connection.
type Work = Box<dyn FnOnce(&Connect) + Send>;

/// A connection to libvirt. Dropping it ends the connection, without waiting for that.
#[derive(Debug)]
pub(super) struct Session {
    work: mpsc::Sender<Work>,
}

impl Session {
    /// Connects.
    pub(super) async fn open(
        programs: &Programs,
        uri: &str,
        limit: Duration,
    ) -> Result<Self, DriverError> {
        let (work, orders) = mpsc::channel();
        let (opened, answer) = oneshot::channel();
        let place = uri.to_owned();
        std::thread::Builder::new()
            .name("libvirt".to_owned())
            .spawn(move || serve(&place, opened, &orders))
            .map_err(|source| DriverError::Io {
                what: "begin a thread for",
                path: uri.into(),
                source,
            })?;
        match within("answer", limit, answer).await? {
            Ok(()) => Ok(Self { work }),
            Err(error) => Err(failure::unreachable(programs, uri, &error)),
        }
    }

    /// Has something done with the connection, and waits for it. What `what` says is not done in time.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        what: &'static str,
        limit: Duration,
        work: impl FnOnce(&Connect) -> Result<T, DriverError> + Send + 'static,
    ) -> Result<T, DriverError> {
        let (done, answer) = oneshot::channel();
        let work: Work = Box::new(move |connect| {
            // Nobody may be waiting any more.
            let _ = done.send(work(connect));
        });
        self.work.send(work).map_err(|_| broken())?;
        within(what, limit, answer).await?
    }
}

/// The life of the thread.
fn serve(uri: &str, opened: oneshot::Sender<Result<(), Error>>, orders: &mpsc::Receiver<Work>) {
    // Errors are told by who asked, and not by the library on standard error.
    clear_error_callback();
    let mut connect = match Connect::open(Some(uri)) {
        Ok(connect) => connect,
        Err(error) => {
            let _ = opened.send(Err(error));
            return;
        }
    };
    if opened.send(Ok(())).is_ok() {
        for work in orders {
            work(&connect);
        }
    }
    if let Err(error) = connect.close() {
        tracing::debug!(%error, "a connection to libvirt is left");
    }
}

/// Waits for an answer of the thread.
async fn within<T>(
    what: &'static str,
    limit: Duration,
    answer: oneshot::Receiver<T>,
) -> Result<T, DriverError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|_| broken()),
        Err(_) => Err(DriverError::TimedOut { what, limit }),
    }
}

fn broken() -> DriverError {
    unable("a call of libvirt's library broke off")
}
