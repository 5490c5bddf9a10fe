//! One PowerShell process and the requests that it answers, one after another.
//!
//! Whoever drops a session in the middle of a request, or whose request fails otherwise than by an
//! answer, ends the process: there is no session whose next line could belong to an earlier request.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::program::without_window;

use super::framing::{self, ARGUMENTS, BOOTSTRAP, Line, Refusal, Request};

/// How many lines that are no answer are kept for an error message.
const NOISE_LINES: usize = 12;
/// How much of one of those is kept.
const NOISE_CHARACTERS: usize = 400;
/// The longest line that is read: far more than an answer has.
const LONGEST_LINE: u64 = 8 << 20;
/// How long a process that closed its output may take to end.
const END_LIMIT: Duration = Duration::from_secs(2);

/// Why a request has no result.
#[derive(Debug)]
pub(super) enum SessionError {
    /// The process could not be started.
    Start(std::io::Error),
    /// The process ended first.
    Ended {
        /// How it ended.
        status: String,
        /// What it said before.
        last_lines: Vec<String>,
    },
    /// It did not answer in time and was ended.
    TimedOut {
        /// The function that was called; nothing where it did not even begin.
        call: &'static str,
        /// How long it had.
        limit: Duration,
        /// What it said before.
        last_lines: Vec<String>,
    },
    /// It answered with something else.
    Damaged {
        /// The function that was called.
        call: &'static str,
    },
    /// It answered that the call failed.
    Refused(Refusal),
}

/// The last lines that were not answers.
#[derive(Debug, Clone, Default)]
struct Noise(Arc<Mutex<VecDeque<String>>>);

impl Noise {
    fn add(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim();
        if line.is_empty() {
            return;
        }
        let line: String = line.chars().take(NOISE_CHARACTERS).collect();
        if let Ok(mut lines) = self.0.lock() {
            if lines.len() == NOISE_LINES {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    }

    fn lines(&self) -> Vec<String> {
        self.0
            .lock()
            .map(|lines| lines.iter().cloned().collect())
            .unwrap_or_default()
    }
}

/// A PowerShell that runs our scripts and waits for a request.
#[derive(Debug)]
pub(super) struct Session {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    noise: Noise,
    /// Ends when the process has closed its standard error.
    collector: JoinHandle<()>,
    number: u64,
}

impl Session {
    /// Starts a PowerShell and waits until the scripts run.
    pub(super) async fn start(program: &Path, limit: Duration) -> Result<Self, SessionError> {
        let mut session = Self::spawn(program).map_err(SessionError::Start)?;
        // The text of the scripts is sent while the process comes up, and it may end before it reads.
        let ready = async {
            session.send(&framing::scripts_line()).await?;
            session.answer(0, "the scripts").await
        };
        match tokio::time::timeout(limit, ready).await {
            Ok(Ok(_)) => Ok(session),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(SessionError::TimedOut {
                call: "",
                limit,
                last_lines: session.noise.lines(),
            }),
        }
    }

    fn spawn(program: &Path) -> std::io::Result<Self> {
        let mut command = Command::new(program);
        command
            .args(ARGUMENTS)
            .arg(BOOTSTRAP)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        without_window(&mut command);
        let mut child = command.spawn()?;
        let (Some(input), Some(output), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        };
        let noise = Noise::default();
        let collector = tokio::spawn(collect(errors, noise.clone()));
        Ok(Self {
            child,
            input,
            output: BufReader::new(output),
            noise,
            collector,
            number: 0,
        })
    }

    /// Whether the process has ended since its last answer.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Makes a call. After an error that is not [`SessionError::Refused`] the session is to be dropped.
    pub(super) async fn call(
        &mut self,
        request: &Request,
        limit: Duration,
    ) -> Result<Value, SessionError> {
        self.number += 1;
        let number = self.number;
        let line = request.line(number);
        let noise = self.noise.clone();
        let answered = async {
            self.send(&line).await?;
            self.answer(number, request.call).await
        };
        match tokio::time::timeout(limit, answered).await {
            Ok(answered) => answered,
            Err(_) => Err(SessionError::TimedOut {
                call: request.call,
                limit,
                last_lines: noise.lines(),
            }),
        }
    }

    async fn send(&mut self, line: &str) -> Result<(), SessionError> {
        let sent = async {
            self.input.write_all(line.as_bytes()).await?;
            self.input.flush().await
        };
        match sent.await {
            Ok(()) => Ok(()),
            // How it ended says more than that its pipe is closed.
            Err(_) => Err(self.ended().await),
        }
    }

    /// Reads lines until one is the answer.
    async fn answer(&mut self, number: u64, call: &'static str) -> Result<Value, SessionError> {
        loop {
            let mut line = Vec::new();
            let read = (&mut self.output)
                .take(LONGEST_LINE)
                .read_until(b'\n', &mut line)
                .await;
            if matches!(read, Ok(0) | Err(_)) {
                return Err(self.ended().await);
            }
            match framing::read(&line, number) {
                Line::Noise => self.noise.add(&line),
                Line::Done(value) => return Ok(value),
                Line::Refused(error) => return Err(SessionError::Refused(error)),
                Line::Damaged => return Err(SessionError::Damaged { call }),
            }
        }
    }

    async fn ended(&mut self) -> SessionError {
        let status = match tokio::time::timeout(END_LIMIT, self.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it closed its output and goes on".to_owned(),
        };
        // What it said last may still be on its way; a child of its own could hold the pipe for ever.
        let _ = tokio::time::timeout(END_LIMIT, &mut self.collector).await;
        SessionError::Ended {
            status,
            last_lines: self.noise.lines(),
        }
    }
}

/// Keeps the last lines of what the process says to its standard error.
async fn collect(errors: impl AsyncRead + Unpin, noise: Noise) {
    let mut errors = BufReader::new(errors);
    loop {
        let mut line = Vec::new();
        let read = (&mut errors)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)
            .await;
        if matches!(read, Ok(0) | Err(_)) {
            return;
        }
        noise.add(&line);
    }
}

/// A PowerShell and a session that waits for the next call.
///
/// The session is kept between calls, since a PowerShell with Hyper-V's commands takes a second or two to
/// come up. A call that finds the session in use by another one has one of its own, so that looking at a
/// machine need not wait until another is saved; one of them is kept.
#[derive(Debug)]
pub(super) struct Shell {
    program: PathBuf,
    idle: Mutex<Option<Session>>,
}

impl Shell {
    /// Nothing is run yet.
    pub(super) fn new(program: PathBuf) -> Self {
        Self {
            program,
            idle: Mutex::new(None),
        }
    }

    /// The program.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Makes a call. The limit is for the answer; a PowerShell that is not up yet has `start` for that.
    pub(super) async fn call(
        &self,
        request: &Request,
        start: Duration,
        limit: Duration,
    ) -> Result<Value, SessionError> {
        let mut session = match self.take() {
            Some(session) => session,
            None => Session::start(&self.program, start).await?,
        };
        let answered = session.call(request, limit).await;
        if matches!(answered, Ok(_) | Err(SessionError::Refused(_)))
            && let Ok(mut idle) = self.idle.lock()
        {
            *idle = Some(session);
        }
        answered
    }

    /// The session that waits, unless it has ended meanwhile.
    fn take(&self) -> Option<Session> {
        let mut session = self.idle.lock().ok()?.take()?;
        (!session.has_ended()).then_some(session)
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Instant;

    use super::*;

    /// A program of this shell script, whose folder is to be kept.
    fn program(script: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pwsh");
        let mut file = std::fs::File::create(&path).unwrap();
        std::io::Write::write_all(&mut file, format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
        drop(file);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        (folder, path)
    }

    fn has_ended(shell: &Shell) -> bool {
        shell.idle.lock().unwrap().as_mut().unwrap().has_ended()
    }

    const SECOND: Duration = Duration::from_secs(1);
    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn one_that_says_nothing_is_given_up() {
        let (_folder, path) = program("echo hello; exec sleep 60");
        let begun = Instant::now();
        let error = Session::start(&path, SECOND).await.unwrap_err();
        assert!(
            matches!(&error, SessionError::TimedOut { last_lines, .. } if last_lines == &["hello"]),
            "{error:?}"
        );
        assert!(begun.elapsed() < LONG);
    }

    #[tokio::test]
    async fn one_that_ends_is_quoted() {
        let (_folder, path) = program("echo 'not with this policy' >&2; exit 5");
        let error = Session::start(&path, LONG).await.unwrap_err();
        let SessionError::Ended { status, last_lines } = &error else {
            panic!("{error:?}");
        };
        assert!(status.contains('5'), "{status}");
        assert_eq!(last_lines, &["not with this policy"]);
        let none = Session::start(Path::new("/nowhere/pwsh"), LONG).await;
        assert!(matches!(none, Err(SessionError::Start(_))));
    }

    #[tokio::test]
    async fn a_session_that_ended_is_replaced() {
        // Answers the scripts and one request.
        let answer = "eyJvayI6dHJ1ZX0=";
        let (_folder, path) = program(&format!(
            "read a; echo banner; echo coracle-answer 0 {answer}; read b; echo coracle-answer 1 {answer}"
        ));
        let shell = Shell::new(path);
        let request = Request::new("Get-CoraclePlatform");
        for _ in 0..3 {
            let answered = shell.call(&request, LONG, LONG).await;
            assert!(answered.is_ok(), "{answered:?}");
            // It ends by itself; until that is seen the next call could still reach it.
            let begun = Instant::now();
            while !has_ended(&shell) && begun.elapsed() < LONG {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_ends_the_session() {
        let (_folder, path) = program(
            "read a; echo coracle-answer 0 eyJvayI6dHJ1ZX0=; read b; echo coracle-answer 1 %%; exec sleep 60",
        );
        let shell = Shell::new(path);
        let request = Request::new("Get-CoraclePlatform");
        let answered = shell.call(&request, LONG, LONG).await;
        assert!(
            matches!(answered, Err(SessionError::Damaged { .. })),
            "{answered:?}"
        );
        assert!(shell.idle.lock().unwrap().is_none());
    }
}
