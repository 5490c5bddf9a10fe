//! A machine in which all but the API stands still: what a template is made of.
//!
//! Whoever begins with a copy waits for the API alone, and everything else would ask for the processors in
//! the same moment. So it is stopped before the copy is made, and goes on when the copy has its identity.
//!
//! ```text
//! all run --begin--> the API and the agent run --end, and a moment later--> all run
//!                                              --LIMIT is over: no copy was made--> all run
//! ```

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
pub struct Standstill(Arc<Mutex<Stopped>>);

#[derive(Debug, Default)]
struct Stopped {
    processes: BTreeSet<Pid>,
    /// Counts the times that it began: a limit holds for its own.
    time: u64,
}

impl Standstill {
    /// Stops all processes of the machine but this one and the spared, which are the API's; how many stand
    /// still then. Outside of a machine of ours it would stop everybody else's.
    #[must_use]
    pub fn begin(&self, spared: &BTreeSet<Pid>) -> usize {
        let mut stopped = self.lock();
        stopped.time += 1;
        let time = stopped.time;
        for _ in 0..MOST_LOOKS {
            let before = stopped.processes.len();
            for pid in processes().filter(|pid| !spared.contains(pid)) {
                if !stopped.processes.contains(&pid) && kill(pid, Signal::SIGSTOP).is_ok() {
                    stopped.processes.insert(pid);
                }
            }
            if stopped.processes.len() == before {
                break;
            }
        }
        let ended = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LIMIT).await;
            let mut stopped = ended.lock();
            if stopped.time == time {
                go_on(std::mem::take(&mut stopped.processes));
            }
        });
        stopped.processes.len()
    }

    /// Begins the end of it: from now on it has no limit, and is over a moment after [`End`] is dropped.
    pub fn end(&self) -> End {
        End {
            begun: Instant::now(),
            stopped: std::mem::take(&mut self.lock().processes),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stopped> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A standstill that ends: when this is dropped, once it has lasted for [`LEAD`] times as long again.
#[derive(Debug)]
pub struct End {
    begun: Instant,
    stopped: BTreeSet<Pid>,
}

impl End {
    /// Leaves one to somebody else, who has stopped it too.
    pub fn leave(&mut self, process: Pid) {
        self.stopped.remove(&process);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let stopped = std::mem::take(&mut self.stopped);
        let lead = (self.begun.elapsed() * LEAD).min(LONGEST_LEAD);
        tokio::spawn(async move {
            tokio::time::sleep(lead).await;
            go_on(stopped);
        });
    }
}

fn go_on(processes: BTreeSet<Pid>) {
    for pid in processes {
        // One that was killed meanwhile needs nothing.
        let _ = kill(pid, Signal::SIGCONT);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervise::has_stopped;
    use std::process::{Child, Command};

    /// A process of the test's own, stopped.
    fn stopped() -> (Child, Pid) {
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        kill(pid, Signal::SIGSTOP).unwrap();
        while !has_stopped(pid) {
            std::thread::yield_now();
        }
        (child, pid)
    }

    #[tokio::test]
    async fn what_ends_goes_on_but_for_what_is_left_to_somebody_else() {
        let (mut one, first) = stopped();
        let (mut other, second) = stopped();
        let standstill = Standstill::default();
        standstill.lock().processes.extend([first, second]);
        let mut end = standstill.end();
        assert!(standstill.lock().processes.is_empty());
        end.leave(second);
        drop(end);
        let deadline = Instant::now() + Duration::from_secs(60);
        while has_stopped(first) {
            assert!(Instant::now() < deadline, "it never goes on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(has_stopped(second));
        for child in [&mut one, &mut other] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
