//! A machine in which all but the API stands still: what a template is made of.
//!
//! Whoever begins with a copy waits for the API alone, and everything else would ask for the processors in
//! the same moment. So it is stopped before the copy is made, and goes on when the copy has its identity.
//!
//! ```text
//! all run --begin--> the API and the agent run --end; or LIMIT is over, where no copy was made--> all run
//! ```

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long it may last, by the machine's clock, which stands still while a copy is made.
const LIMIT: Duration = Duration::from_secs(20);
/// Looks for processes that came while others were stopped.
const MOST_LOOKS: usize = 5;
/// For how many times as long as a copy took for its identity the rest waits beyond that: the first
/// requests are answered meanwhile, on a slow machine as on a fast one.
const LEAD: u32 = 16;
/// The longest that it waits.
const LONGEST_LEAD: Duration = Duration::from_secs(1);

/// The processes that stand still.
#[derive(Debug, Clone, Default)]
pub struct Standstill(Arc<Mutex<BTreeSet<Pid>>>);

impl Standstill {
    /// Stops all processes of the machine but this one and the spared, which are the API's; how many stand
    /// still then. Outside of a machine of ours it would stop everybody else's.
    #[must_use]
    pub fn begin(&self, spared: &BTreeSet<Pid>) -> usize {
        let mut stopped = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..MOST_LOOKS {
            let before = stopped.len();
            for pid in processes().filter(|pid| !spared.contains(pid)) {
                if !stopped.contains(&pid) && kill(pid, Signal::SIGSTOP).is_ok() {
                    stopped.insert(pid);
                }
            }
            if stopped.len() == before {
                break;
            }
        }
        let ended = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LIMIT).await;
            ended.end(None);
        });
        stopped.len()
    }

    /// Lets them go on, in a copy that took so long for its identity; one of them never.
    pub fn end_soon(&self, took: Duration, but: Option<Pid>) {
        let ended = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep((took * LEAD).min(LONGEST_LEAD)).await;
            ended.end(but);
        });
    }

    fn end(&self, but: Option<Pid>) {
        let mut stopped = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for pid in std::mem::take(&mut *stopped) {
            if Some(pid) != but {
                // One that was killed meanwhile needs nothing.
                let _ = kill(pid, Signal::SIGCONT);
            }
        }
    }
}

/// All processes of the machine but this one, without the kernel's own threads, which have no program.
fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let with_program = entries.filter(|entry| fs::read_link(entry.path().join("exe")).is_ok());
    with_program
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .map(Pid::from_raw)
        .filter(|pid| *pid != Pid::this())
}
