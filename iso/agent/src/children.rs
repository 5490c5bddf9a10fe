//! Starting and reaping processes.
//!
//! PID 1 inherits every orphan of the machine and has to reap it. Reaping "any child" would
//! take the exit status away from whoever waits for a child of its own, so that all waiting is
//! done here: a process is entered into a table under the same lock that the reaper holds, and
//! its exit status goes through a channel. Unknown processes are orphans, reaped and forgotten.

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::io;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::SignalKind;
use tokio::sync::oneshot;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The way shells count: the status, or 128 plus the signal's number.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Status(status) => status,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "ended with status {status}"),
            Self::Signal(signal) => match Signal::try_from(*signal) {
                Ok(name) => write!(f, "ended by {name}"),
                Err(_) => write!(f, "ended by signal {signal}"),
            },
        }
    }
}

/// A process that runs.
#[derive(Debug)]
pub struct Child {
    /// Its process id.
    pub pid: Pid,
    /// Its standard streams, where they were asked for as pipes.
    pub stdin: Option<ChildStdin>,
    /// See `stdin`.
    pub stdout: Option<ChildStdout>,
    /// See `stdin`.
    pub stderr: Option<ChildStderr>,
    exit: oneshot::Receiver<Exit>,
}

impl Child {
    /// Waits for its end; may be called again after cancellation, not after it returned.
    pub async fn exit(&mut self) -> Exit {
        // The reaper keeps the sender until it has sent.
        (&mut self.exit)
            .await
            .unwrap_or(Exit::Signal(Signal::SIGKILL as i32))
    }
}

/// What a short program printed.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// Why a short program did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started or read.
    #[error("cannot run {program}")]
    Io {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It took longer than the time limit and was killed.
    #[error("{program} did not end within {limit:?}")]
    TimedOut {
        /// The program.
        program: String,
        /// The limit.
        limit: Duration,
    },
    /// It ended otherwise than with status 0.
    #[error("{program} {exit}: {stderr}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        exit: Exit,
        /// What it printed to standard error, shortened.
        stderr: String,
    },
}

type Waiting = HashMap<i32, oneshot::Sender<Exit>>;

/// The table of processes that somebody waits for. Clones share it.
#[derive(Debug, Clone)]
pub struct Children(Arc<Mutex<Waiting>>);

impl Children {
    /// Starts the reaper; needs a tokio runtime. With `adopts_orphans` it reaps every child of
    /// this process: for PID 1, where nothing else may wait for children.
    pub fn start(adopts_orphans: bool) -> io::Result<Self> {
        let this = Self(Arc::default());
        let mut signals = tokio::signal::unix::signal(SignalKind::child())?;
        let children = this.clone();
        tokio::spawn(async move {
            loop {
                children.reap(adopts_orphans);
                if signals.recv().await.is_none() {
                    return;
                }
            }
        });
        Ok(this)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a process.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        // Held over the start: the reaper must not see the process before the table does, nor
        // take the half-started process of a failed start away from the standard library.
        let mut waiting = self.lock();
        let mut child = command.spawn()?;
        let pid = child.id().cast_signed();
        let (sender, exit) = oneshot::channel();
        waiting.insert(pid, sender);
        Ok(Child {
            pid: Pid::from_raw(pid),
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            exit,
        })
    }

    /// Runs a short program to its end, without input.
    pub async fn output(&self, command: &mut Command, limit: Duration) -> Result<Output, RunError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |source| RunError::Io {
            program: program.clone(),
            source,
        };
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.spawn(command).map_err(failed)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let pid = child.pid;
        let ended = async {
            let (stdout, stderr) = tokio::try_join!(read_to_end(stdout), read_to_end(stderr))?;
            Ok(Output {
                exit: child.exit().await,
                stdout,
                stderr,
            })
        };
        match tokio::time::timeout(limit, ended).await {
            Ok(ended) => ended.map_err(failed),
            Err(_) => {
                let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
                Err(RunError::TimedOut { program, limit })
            }
        }
    }

    /// Like [`Children::output`], but a status other than 0 is an error.
    pub async fn success(
        &self,
        command: &mut Command,
        limit: Duration,
    ) -> Result<Vec<u8>, RunError> {
        let output = self.output(command, limit).await?;
        if output.exit == Exit::Status(0) {
            return Ok(output.stdout);
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        Err(RunError::Failed {
            program: command.get_program().to_string_lossy().into_owned(),
            exit: output.exit,
            stderr: stderr.trim().chars().take(2000).collect(),
        })
    }

    fn reap(&self, adopts_orphans: bool) {
        let mut waiting = self.lock();
        if adopts_orphans {
            while let Some((pid, exit)) = next_exit(None) {
                if let Some(sender) = waiting.remove(&pid) {
                    let _ = sender.send(exit);
                }
            }
            return;
        }
        let known: Vec<i32> = waiting.keys().copied().collect();
        for pid in known {
            if let Some((_, exit)) = next_exit(Some(Pid::from_raw(pid)))
                && let Some(sender) = waiting.remove(&pid)
            {
                let _ = sender.send(exit);
            }
        }
    }
}

fn next_exit(of: Option<Pid>) -> Option<(i32, Exit)> {
    loop {
        match waitpid(of, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) => {
                return Some((pid.as_raw(), Exit::Status(status)));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                return Some((pid.as_raw(), Exit::Signal(signal as i32)));
            }
            Err(Errno::EINTR) => {}
            // Nothing has ended, or there is no child.
            Ok(_) | Err(_) => return None,
        }
    }
}

async fn read_to_end<T>(stream: Option<T>) -> io::Result<Vec<u8>>
where
    std::os::fd::OwnedFd: From<T>,
{
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        pipe::Receiver::from_owned_fd(stream.into())?
            .read_to_end(&mut bytes)
            .await?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn exits_and_output_reach_the_one_who_started_it() {
        let children = Children::start(false).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo out; echo err >&2; exit 7"]);
        let output = children
            .output(&mut shell, Duration::from_secs(10))
            .await
            .unwrap();
        assert_eq!(output.exit, Exit::Status(7));
        assert_eq!(
            (output.stdout.as_slice(), output.stderr.as_slice()),
            (&b"out\n"[..], &b"err\n"[..])
        );
    }

    #[tokio::test]
    async fn many_at_once_are_not_mixed_up() {
        let children = Children::start(false).unwrap();
        let mut all = Vec::new();
        for status in 0..40 {
            let child = children.spawn(Command::new("sh").args(["-c", &format!("exit {status}")]));
            all.push((status, child.unwrap()));
        }
        for (status, mut child) in all {
            assert_eq!(child.exit().await, Exit::Status(status));
        }
    }

    #[tokio::test]
    async fn a_signal_and_a_missing_program_are_told_apart() {
        let children = Children::start(false).unwrap();
        let mut child = children
            .spawn(Command::new("sh").args(["-c", "kill -9 $$"]))
            .unwrap();
        let exit = child.exit().await;
        assert_eq!((exit, exit.code()), (Exit::Signal(9), 137));
        let missing = children
            .spawn(&mut Command::new("/nonexistent"))
            .unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn what_takes_too_long_is_killed() {
        let children = Children::start(false).unwrap();
        let limit = Duration::from_millis(50);
        let result = children
            .success(Command::new("sleep").arg("100"), limit)
            .await;
        assert!(matches!(result, Err(RunError::TimedOut { .. })));
    }
}
