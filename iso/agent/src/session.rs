//! A program run for somebody: as a user of the machine, with or without a terminal.

use crate::accounts::Account;
use crate::children::{Child, Children};
use crate::supervise::in_own_session;
use nix::libc;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Gid, Pid, Uid};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

/// How long a program may take to end after its caller has gone.
const GONE: Duration = Duration::from_secs(2);

/// What to run.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program and its arguments; empty for the account's login shell.
    pub argv: Vec<String>,
    /// As whom.
    pub account: Account,
    /// Set besides, and over, what every session gets.
    pub environment: BTreeMap<String, String>,
    /// None for the account's home.
    pub folder: Option<PathBuf>,
    /// Rows and columns, when it gets a terminal.
    pub terminal: Option<(u16, u16)>,
}

/// A program that runs, and its streams.
#[derive(Debug)]
pub struct Session {
    /// The process.
    pub child: Child,
    /// Where its input goes.
    pub input: Input,
    /// Its standard output, or its terminal's.
    pub stdout: Source,
    /// Its standard error, when it has no terminal.
    pub stderr: Option<Source>,
    /// Its process group, for signals.
    pub group: Group,
}

/// Where a program reads from.
#[derive(Debug)]
pub enum Input {
    /// A pipe; None once it is closed.
    Pipe(Option<pipe::Sender>),
    /// Its terminal.
    Terminal(Terminal),
}

/// Where a program writes to.
#[derive(Debug)]
pub enum Source {
    /// A pipe.
    Pipe(pipe::Receiver),
    /// Its terminal.
    Terminal(Terminal),
}

/// The controlling end of a pseudo-terminal. Clones share it.
#[derive(Debug, Clone)]
pub struct Terminal(Arc<AsyncFd<File>>);

/// The processes that a signal reaches.
#[derive(Debug, Clone)]
pub struct Group {
    leader: Pid,
    terminal: Option<Terminal>,
}

impl Program {
    /// Starts it.
    pub fn start(&self, children: &Children) -> io::Result<Session> {
        let mut command = self.command()?;
        if let Some((rows, columns)) = self.terminal {
            return self.start_in_terminal(children, &mut command, rows, columns);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = children.spawn(&mut command)?;
        let group = Group {
            leader: child.pid,
            terminal: None,
        };
        let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;
        let source = |fd: OwnedFd| pipe::Receiver::from_owned_fd(fd).map(Source::Pipe);
        Ok(Session {
            child,
            input: Input::Pipe(Some(pipe::Sender::from_owned_fd(stdin.into())?)),
            stdout: source(stdout.into())?,
            stderr: Some(source(stderr.into())?),
            group,
        })
    }

    fn start_in_terminal(
        &self,
        children: &Children,
        command: &mut Command,
        rows: u16,
        columns: u16,
    ) -> io::Result<Session> {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None)?;
        for end in [&pty.master, &pty.slave] {
            let flags = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
            nix::fcntl::fcntl(end, flags)?;
        }
        std::os::unix::fs::fchown(&pty.slave, Some(self.account.uid), None)?;
        command
            .stdin(pty.slave.try_clone()?)
            .stdout(pty.slave.try_clone()?)
            .stderr(pty.slave);
        let nonblocking = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
        nix::fcntl::fcntl(&pty.master, nonblocking)?;
        // SAFETY: the file owns its descriptor and is never replaced.
        let master = unsafe { AsyncFd::register(File::from(pty.master)) }?;
        let terminal = Terminal(Arc::new(master));
        let child = children.spawn(command)?;
        // The command holds the other end, and with it the terminal would never end.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Session {
            input: Input::Terminal(terminal.clone()),
            stdout: Source::Terminal(terminal.clone()),
            stderr: None,
            group: Group {
                leader: child.pid,
                terminal: Some(terminal),
            },
            child,
        })
    }

    fn command(&self) -> io::Result<Command> {
        let account = &self.account;
        let mut command = match self.argv.as_slice() {
            [] => {
                let name = account
                    .shell
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy();
                let mut shell = Command::new(&account.shell);
                shell.arg0(format!("-{name}"));
                shell
            }
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments);
                command
            }
        };
        command
            .env_clear()
            .env("PATH", crate::boot::PATH)
            .env("HOME", &account.home)
            .env("USER", &account.name)
            .env("LOGNAME", &account.name)
            .env("SHELL", &account.shell)
            .env("LANG", "C.UTF-8");
        if Path::new(KUBECONFIG).exists() {
            command.env("KUBECONFIG", KUBECONFIG);
        }
        if self.terminal.is_some() {
            command.env("TERM", "xterm-256color");
        }
        command.envs(&self.environment);
        let folder = match &self.folder {
            Some(folder) if !folder.is_dir() => {
                let text = format!("there is no folder {}", folder.display());
                return Err(io::Error::new(io::ErrorKind::NotFound, text));
            }
            Some(folder) => folder.clone(),
            None if account.home.is_dir() => account.home.clone(),
            None => "/".into(),
        };
        in_own_session(&mut command);
        become_user(&mut command, account, folder, self.terminal.is_some())?;
        Ok(command)
    }
}

/// kubectl's settings for people inside the machine.
const KUBECONFIG: &str = "/etc/kubernetes/admin.conf";

/// After the session was made: takes the terminal, gives up root's rights, enters the folder.
fn become_user(
    command: &mut Command,
    account: &Account,
    folder: PathBuf,
    terminal: bool,
) -> io::Result<()> {
    let groups: Vec<Gid> = account.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    let switch = !nix::unistd::geteuid().as_raw().eq(&account.uid) || account.uid == 0;
    let root = nix::unistd::geteuid().is_root();
    let folder = std::ffi::CString::new(folder.into_os_string().into_encoded_bytes())?;
    // SAFETY: only system calls that may be made between fork and exec; everything that they
    // need was allocated before.
    unsafe {
        command.pre_exec(move || {
            if terminal && libc::ioctl(0, libc::TIOCSCTTY, 0) != 0 {
                return Err(io::Error::last_os_error());
            }
            if switch && root {
                nix::unistd::setgroups(&groups)?;
                nix::unistd::setgid(gid)?;
                nix::unistd::setuid(uid)?;
            }
            nix::unistd::chdir(folder.as_c_str())?;
            Ok(())
        });
    }
    Ok(())
}

impl Input {
    /// Writes all; what a program does not want to read any more is dropped.
    pub async fn write(&mut self, bytes: &[u8]) {
        match self {
            Self::Pipe(pipe) => {
                if let Some(sender) = pipe
                    && sender.write_all(bytes).await.is_err()
                {
                    *pipe = None;
                }
            }
            Self::Terminal(terminal) => {
                let _ = terminal.write(bytes).await;
            }
        }
    }

    /// Ends the input; on a terminal the way a person does, with Ctrl-D.
    pub async fn end(&mut self) {
        match self {
            Self::Pipe(pipe) => *pipe = None,
            Self::Terminal(terminal) => {
                let _ = terminal.write(&[4]).await;
            }
        }
    }

    /// Changes the terminal's size, if there is one.
    pub fn resize(&self, rows: u16, columns: u16) {
        if let Self::Terminal(terminal) = self {
            let size = Winsize {
                ws_row: rows,
                ws_col: columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            // SAFETY: TIOCSWINSZ reads one winsize.
            unsafe { libc::ioctl(terminal.0.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        }
    }
}

impl Source {
    /// Reads some bytes; 0 when there will be no more.
    pub async fn read(&mut self, buffer: &mut [u8]) -> usize {
        match self {
            Self::Pipe(pipe) => pipe.read(buffer).await.unwrap_or(0),
            // A terminal that nobody has open any more is an I/O error, not an end.
            Self::Terminal(terminal) => terminal.read(buffer).await.unwrap_or(0),
        }
    }
}

impl Terminal {
    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(done) = ready.try_io(|file| file.get_ref().read(buffer)) {
                return done;
            }
        }
    }

    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            if let Ok(done) = ready.try_io(|file| file.get_ref().write(bytes)) {
                bytes = &bytes[done?..];
            }
        }
        Ok(())
    }
}

impl Group {
    /// Sends a signal: with a terminal to the group in the foreground.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        let signal = Signal::try_from(number)?;
        let foreground = self
            .terminal
            .as_ref()
            .and_then(|terminal| nix::unistd::tcgetpgrp(terminal.0.get_ref()).ok())
            .filter(|group| group.as_raw() > 0);
        Ok(killpg(foreground.unwrap_or(self.leader), signal)?)
    }
}

/// Ends a program whose caller has gone: a hang-up, then force.
pub async fn hang_up(child: &mut Child) {
    let _ = killpg(child.pid, Signal::SIGHUP);
    let _ = killpg(child.pid, Signal::SIGTERM);
    let _ = tokio::time::timeout(GONE, child.exit()).await;
    let _ = killpg(child.pid, Signal::SIGKILL);
}
