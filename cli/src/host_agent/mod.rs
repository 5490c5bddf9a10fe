//! The host agent: one background process per cluster, for as long as that is not stopped, and for a
//! minute after its machine ended in another way. A second one only waits for its end: [`guard`].
//!
//! It owns the cluster's ports on the host and leads them into the machine. It is the hypervisor's
//! parent, so that the machine outlives the command that started it, and so that somebody is there to
//! say how it ended. The command that starts a cluster asks the one that there is to launch the machine;
//! where there is none it runs this program once more under a hidden name, and reads one line from it:
//! that the machine runs, or why it does not.
//!
//! ```text
//! coracle start --spawn--> coracle host-agent --launch--> hypervisor
//!       ^                     |  ^    ^  ^                    |
//!       +--- one line: Report +  |    |  +-- how it ended ----+
//!                                |    |
//! coracle stop ----- control ----+    +-- guard: brings it back when it is killed
//! ```
//!
//! As the parent it may also read and write the hypervisor's memory, which other processes of the
//! same user may not on every host: so it is the one that saves and restores. A successor of one that
//! was killed goes on with the machine that it finds.

mod activity;
mod asked;
mod asleep;
mod channel;
mod clock;
mod containers;
mod control;
mod datagrams;
mod detach;
mod errand;
mod folders;
mod follow;
mod forward;
mod guard;
mod home;
mod idle;
mod keep;
mod life;
mod ports;
mod rest;
mod services;
mod spawn;
mod uses;

pub use asked::{
    capture, ensure, hibernate, is_asleep, launch, mount, published, retire, settle, sleep, wake,
};
pub use control::{LaunchFrom, is_there};
pub use detach::keep_streams;
pub use guard::wait as guard;
pub use life::{First, serve};
pub use ports::{Owner, Published, Reach};

use crate::error::{Error, ErrorId};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

/// The one line that a host agent writes to its parent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Report {
    /// The machine runs; one that looks after a lost one's machine is there.
    Running,
    /// It could not begin.
    Failed(Told),
}

/// An [`Error`] on its way from a host agent to a command.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    name: String,
    message: String,
    causes: Vec<String>,
}

impl From<&Error> for Told {
    fn from(error: &Error) -> Self {
        Self {
            name: error.id().entry().name.to_owned(),
            message: error.message().to_owned(),
            causes: error.causes().to_vec(),
        }
    }
}

impl From<Told> for Error {
    fn from(told: Told) -> Self {
        let id = ErrorId::from_name(&told.name).unwrap_or(ErrorId::Machine);
        let error = Self::new(id, told.message);
        told.causes.into_iter().fold(error, Self::because)
    }
}

/// Writes a line to the log, which is standard error.
fn log(text: &str) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let time = time::OffsetDateTime::from_unix_timestamp(i64::try_from(now.as_secs()).unwrap_or(0))
        .ok()
        .and_then(|time| {
            time.format(&time::format_description::well_known::Rfc3339)
                .ok()
        })
        .unwrap_or_default();
    crate::print::stderr(&format!("{time} {}\n", text.trim_end()));
}
