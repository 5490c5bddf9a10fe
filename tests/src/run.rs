//! One run of a program: its environment is exactly what is given, its output is kept whole, and
//! a time limit catches it when it hangs.

use crate::stream::Stream;
use crate::{Account, process};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Beyond every start that was ever seen; it only catches what hangs.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// How long after a command its output may stay open: a background process must not hold it.
const OUTPUT_LIMIT: Duration = Duration::from_secs(10);

const SIGKILL: i32 = 9;

/// A program that is going to be run.
#[derive(Debug, Clone)]
pub struct Run {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: BTreeMap<OsString, OsString>,
    folder: Option<PathBuf>,
    stdin: Option<Vec<u8>>,
    limit: Duration,
    account: Option<(u32, u32)>,
}

impl Run {
    /// The program with nothing in its environment but `PATH`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let run = Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            folder: None,
            stdin: None,
            limit: LIMIT,
            account: None,
        };
        run.env("PATH", std::env::var_os("PATH").unwrap_or_default())
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<T: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(
            arguments
                .into_iter()
                .map(|argument| argument.as_ref().to_owned()),
        );
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Sets several.
    #[must_use]
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let variables = variables.into_iter();
        variables.fold(self, |run, (name, value)| run.env(name, value))
    }

    /// Takes a variable away.
    #[must_use]
    pub fn without_env(mut self, name: impl AsRef<OsStr>) -> Self {
        self.environment.remove(name.as_ref());
        self
    }

    /// Sets the working folder.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Gives it this as standard input; without it there is none.
    #[must_use]
    pub fn stdin(mut self, content: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(content.into());
        self
    }

    /// Sets another time limit.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it as that user.
    #[must_use]
    pub fn account(mut self, account: &Account) -> Self {
        self.account = Some((account.uid, account.gid));
        self
    }

    /// The command line, for a person.
    pub fn describe(&self) -> String {
        let name = self.program.file_name().unwrap_or(self.program.as_os_str());
        let words = std::iter::once(name).chain(self.arguments.iter().map(OsString::as_os_str));
        words
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The same as the standard library's type, without its streams.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(&self.environment);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        if let Some((uid, gid)) = self.account {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// The same program under a controlling terminal, which is its standard input.
    pub(crate) fn in_session(&self) -> Self {
        let mut inner = self.clone();
        inner.arguments = [
            "--ctty".into(),
            "--wait".into(),
            self.program.clone().into_os_string(),
        ]
        .into_iter()
        .chain(self.arguments.iter().cloned())
        .collect();
        inner.program = "setsid".into();
        inner
    }

    /// Starts it.
    #[track_caller]
    pub fn start(self) -> Started {
        let mut command = self.command();
        let input = if self.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.program.display()));
        if let (Some(content), Some(mut pipe)) = (self.stdin.clone(), child.stdin.take()) {
            thread::spawn(move || {
                // A program that does not read all of it says why by itself.
                let _ = pipe.write_all(&content);
            });
        }
        let stdout = Stream::of(child.stdout.take().expect("it is piped"));
        let stderr = Stream::of(child.stderr.take().expect("it is piped"));
        Started {
            description: self.describe(),
            limit: self.limit,
            begun,
            child,
            stdout,
            stderr,
        }
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn done(self) -> Done {
        self.start().done()
    }

    /// Runs it to a good end.
    #[track_caller]
    pub fn ok(self) -> Done {
        self.done().ok()
    }

    /// Coracle, until a step of a start, at which it is killed.
    #[track_caller]
    pub fn killed_at(self, step: &str) -> Done {
        self.broken_at("kill", step).is_killed()
    }

    /// Coracle, until a step of a start, at which it is interrupted and says what it leaves.
    #[track_caller]
    pub fn interrupted_at(self, step: &str) -> Done {
        self.broken_at("interrupt", step)
            .fails(130, "CORACLE_INTERRUPTED")
    }

    #[track_caller]
    fn broken_at(self, kind: &str, step: &str) -> Done {
        self.env("CORACLE_FAULT", format!("{kind}:{step}")).done()
    }
}

/// A program that runs. Dropped, it is killed by its number.
pub struct Started {
    description: String,
    limit: Duration,
    begun: Instant,
    child: Child,
    stdout: Stream,
    stderr: Stream,
}

impl Started {
    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to its standard output so far.
    pub fn stdout_so_far(&self) -> String {
        self.stdout.so_far().text()
    }

    /// What it has written to its standard error so far.
    pub fn stderr_so_far(&self) -> String {
        self.stderr.so_far().text()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }

    /// Waits until its standard output or error holds `text`.
    #[track_caller]
    pub fn until_it_says(&mut self, text: &str) {
        let limit = self.limit;
        let what = format!("`{}` should say {text:?}", self.description);
        crate::until(&what, limit, || {
            let said = self.stdout_so_far() + &self.stderr_so_far();
            assert!(
                said.contains(text) || !self.has_ended(),
                "{what}, and ended with\n{said}"
            );
            said.contains(text)
        });
    }

    /// Waits for its end.
    #[track_caller]
    pub fn done(mut self) -> Done {
        let deadline = self.limit;
        let begun = self.begun;
        let child = &mut self.child;
        let status = until_ended(child, deadline.saturating_sub(begun.elapsed()));
        let Some(status) = status else {
            let (out, err) = (self.stdout_so_far(), self.stderr_so_far());
            panic!(
                "`{}` hangs: killed after {deadline:?}\nstdout:\n{out}\nstderr:\n{err}",
                self.description
            );
        };
        let took = begun.elapsed();
        for (name, stream) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            assert!(
                stream.ends_within(OUTPUT_LIMIT),
                "`{}` ended and left its {name} open in another process",
                self.description
            );
        }
        let (stdout, stderr) = (self.stdout.so_far(), self.stderr.so_far());
        Done {
            command: self.description.clone(),
            status,
            took,
            stdout: stdout.text(),
            stderr: stderr.text(),
            stdout_lines: stdout.lines_since(begun),
            stderr_lines: stderr.lines_since(begun),
        }
    }
}

/// Waits for the end itself, so that the time that is told is not rounded up to a next look.
fn until_ended(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    // Somebody may have seen it already, and then there is nobody to wait for.
    if let Some(status) = child.try_wait().expect("it is our child") {
        return Some(status);
    }
    let pid = Pid::from_child(child);
    let ended = pidfd_open(pid, PidfdFlags::empty()).expect("a child that nobody has waited for");
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("a limit is less than centuries");
        match poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&left)) {
            Ok(_) => return child.try_wait().expect("it is our child"),
            Err(Errno::INTR) => {}
            Err(error) => panic!("cannot wait for a child: {error}"),
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            process::kill_pid(self.child.id());
            let _ = self.child.wait();
        }
    }
}

/// How a start tells of a kernel that panicked, before it boots anew.
const KERNEL_PANICKED: &str = "kernel panicked";

/// A program that has ended, and all that it wrote.
#[derive(Debug, Clone)]
pub struct Done {
    command: String,
    status: ExitStatus,
    /// How long it took.
    pub took: Duration,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// Each line of its standard output, and how long after its start that came.
    pub stdout_lines: Vec<(Duration, String)>,
    /// The same of its standard error.
    pub stderr_lines: Vec<(Duration, String)>,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` ended with {} after {:.2?}\n--- stdout\n{}--- stderr\n{}---",
            self.command, self.status, self.took, self.stdout, self.stderr
        )
    }
}

impl Done {
    /// Its exit code; None when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that ended it.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Fails the test unless it was killed.
    #[track_caller]
    pub fn is_killed(self) -> Self {
        assert_eq!(self.signal(), Some(SIGKILL), "should be killed: {self}");
        self
    }

    /// Fails the test unless it ended well.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "should end well: {self}");
        self
    }

    /// Fails the test unless it ended with this code, without any other claim.
    #[track_caller]
    pub fn code_is(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "exit code: {self}");
        self
    }

    /// Fails the test unless it ended with this error, told in the agreed form.
    #[track_caller]
    pub fn fails(self, code: i32, id: &str) -> Self {
        let first = format!("error[{id}]: ");
        let begun = self
            .stderr
            .lines()
            .position(|line| line.starts_with("error["));
        let Some(begun) = begun else {
            panic!("no error line of {id}: {self}")
        };
        let lines: Vec<&str> = self.stderr.lines().skip(begun).collect();
        assert!(
            lines[0].starts_with(&first) && lines[0].len() > first.len(),
            "should be {id}: {self}"
        );
        assert_eq!(self.code(), Some(code), "exit code of {id}: {self}");
        // Causes are indented; the advice, where there is any, is the last line.
        for (index, line) in lines.iter().enumerate().skip(1) {
            let last = index + 1 == lines.len();
            assert!(
                line.starts_with("  ") || (last && line.starts_with("help: ")),
                "form of {line:?}: {self}"
            );
        }
        assert!(
            !self
                .stderr
                .replace(KERNEL_PANICKED, "")
                .contains("panicked"),
            "a panic is no error message: {self}"
        );
        self
    }

    /// Fails the test unless its output or its error names this.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.stdout.contains(text) || self.stderr.contains(text),
            "should say {text:?}: {self}"
        );
        self
    }

    /// Fails the test unless its last error line is advice that names this.
    #[track_caller]
    pub fn advises(self, text: &str) -> Self {
        let help = self
            .stderr
            .lines()
            .last()
            .filter(|line| line.starts_with("help: "));
        assert!(
            help.is_some_and(|help| help.contains(text)),
            "the advice should name {text:?}: {self}"
        );
        self
    }

    /// Fails the test unless it took less than this: only for times that are promised.
    #[track_caller]
    pub fn within(self, limit: Duration) -> Self {
        assert!(self.took < limit, "promised within {limit:?}: {self}");
        self
    }

    /// Whether it had to boot the machine anew, because the kernel had panicked. An emulator may
    /// bring that about in any boot; what it comes to is tested in `faults`.
    pub fn booted_anew(&self) -> bool {
        self.stderr.contains(KERNEL_PANICKED)
    }

    /// The warnings that it gave, without those of [`Self::booted_anew`].
    pub fn warnings(&self) -> Vec<&str> {
        let lines = self.stderr.lines();
        lines
            .filter(|line| line.contains("warning") && !line.contains(KERNEL_PANICKED))
            .collect()
    }

    /// Its standard output without the blanks around.
    pub fn text(&self) -> &str {
        self.stdout.trim()
    }

    /// Its standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON: {error}: {self}"))
    }

    /// Its standard output as YAML.
    #[track_caller]
    pub fn yaml(&self) -> serde_json::Value {
        serde_yaml::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no YAML: {error}: {self}"))
    }

    /// Its standard output as one JSON value a line.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        let parse = |line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}: {self}"))
        };
        self.stdout.lines().map(parse).collect()
    }
}

/// Whether a program of this name is on the path.
pub fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| Path::is_file(file))
}
