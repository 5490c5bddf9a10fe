//! A program under a terminal: typed to, read from, as a person would.

use crate::{Run, process, until};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A program that believes it talks to a person. Dropped, it is killed by its number.
#[derive(Debug)]
pub struct Terminal {
    description: String,
    master: File,
    child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
    reader: Option<thread::JoinHandle<()>>,
    /// How much of `seen` was looked at by `expect`.
    read: usize,
}

impl Terminal {
    /// Starts the program with a terminal of 24 lines and 80 columns as all of its streams.
    #[track_caller]
    pub fn start(run: &Run) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a new terminal");
        grantpt(&master).expect("the terminal is ours");
        unlockpt(&master).expect("the terminal is ours");
        resize(&master, 24, 80);
        let name = ptsname(&master, Vec::new()).expect("the terminal has a name");
        let slave = || -> OwnedFd {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            rustix::fs::open(name.as_c_str(), flags, Mode::empty()).expect("the terminal opens")
        };
        let session = run.clone().in_session().env("TERM", "xterm");
        let mut command = session.command();
        command
            .stdin(Stdio::from(slave()))
            .stdout(Stdio::from(slave()))
            .stderr(Stdio::from(slave()));
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", run.describe()));
        // Else this process would keep the slave's side open for ever.
        drop(command);
        let master = File::from(master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut source, shared) = (
            master.try_clone().expect("a descriptor is free"),
            Arc::clone(&seen),
        );
        let reader = thread::spawn(move || {
            let mut chunk = [0; 4096];
            // The master gives an error when the last slave is closed.
            while let Ok(count @ 1..) = source.read(&mut chunk) {
                shared.lock().unwrap().extend_from_slice(&chunk[..count]);
            }
        });
        Self {
            reader: Some(reader),
            description: run.describe(),
            master,
            child,
            seen,
            read: 0,
        }
    }

    /// Types a text as it is; end a line with `\r`, as a keyboard does.
    #[track_caller]
    pub fn send(&mut self, text: &str) {
        self.master
            .write_all(text.as_bytes())
            .expect("the terminal takes what is typed");
    }

    /// Waits until a text appears behind what was expected before.
    #[track_caller]
    pub fn expect(&mut self, text: &str, limit: Duration) {
        let mut end = None;
        let what = format!("`{}` on a terminal should show {text:?}", self.description);
        let (seen, read) = (Arc::clone(&self.seen), self.read);
        let look = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(&what, limit, || {
                let seen = seen.lock().unwrap();
                end = seen[read..]
                    .windows(text.len())
                    .position(|window| window == text.as_bytes());
                end.is_some()
            });
        }));
        match (look, end) {
            (Ok(()), Some(at)) => self.read += at + text.len(),
            _ => panic!("{what}; it showed\n{}", self.shown()),
        }
    }

    /// Changes the terminal's size.
    pub fn resize(&self, rows: u16, columns: u16) {
        resize(&self.master, rows, columns);
    }

    /// All that was shown.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Waits for the program's end and gives its exit code; None, with the signal printed, when
    /// one ended it.
    #[track_caller]
    pub fn exit_code(&mut self, limit: Duration) -> Option<i32> {
        let mut status = None;
        until(
            &format!(
                "`{}` on a terminal ends; it showed\n{}",
                self.description,
                self.shown()
            ),
            limit,
            || {
                status = self.child.try_wait().expect("it is our child");
                status.is_some()
            },
        );
        // The reader ends when the last of the program's output is read.
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader does not panic");
        }
        let status = status.expect("it was waited for");
        if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
            eprintln!("`{}` was ended by signal {signal}", self.description);
        }
        status.code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            process::kill_pid(self.child.id());
            let _ = self.child.wait();
        }
    }
}

fn resize(master: &impl std::os::fd::AsFd, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(master, size).expect("the terminal takes a size");
}
