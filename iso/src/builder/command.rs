//! Running other programs: arguments without a shell, output to the observer, the last lines
//! into the error.

use super::BuildError;
use crate::{BuildObserver, Step};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::thread;

const TAIL_LINES: usize = 30;

/// The step at work and who hears of it.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) step: &'a Step,
    pub(crate) observer: &'a dyn BuildObserver,
}

impl Work<'_> {
    /// An error about what the step got or made.
    pub(crate) fn wrong(&self, reason: impl Into<String>) -> BuildError {
        BuildError::Content {
            step: self.step.name.clone(),
            reason: reason.into(),
        }
    }

    /// Runs a program; its standard output goes to the observer.
    pub(crate) fn run(&self, command: &mut Command) -> Result<(), BuildError> {
        self.run_with(command, |lines, stdout| {
            lines.forward(stdout);
            Ok(())
        })
    }

    /// Runs a program and returns its standard output.
    pub(crate) fn capture(&self, command: &mut Command) -> Result<Vec<u8>, BuildError> {
        let mut bytes = Vec::new();
        self.pipe(command, |mut stdout| {
            stdout
                .read_to_end(&mut bytes)
                .map(|_| ())
                .map_err(BuildError::io("a program's output"))
        })?;
        Ok(bytes)
    }

    /// Runs a program and returns its standard output, which must be UTF-8, without the last
    /// line's end.
    pub(crate) fn text(&self, command: &mut Command) -> Result<String, BuildError> {
        let text = String::from_utf8(self.capture(command)?)
            .map_err(|_| self.wrong(format!("{} did not print UTF-8", shown(command))))?;
        Ok(text.trim_end().to_owned())
    }

    /// Runs a program and hands its standard output to `reader`, which reads all of it.
    pub(crate) fn pipe(
        &self,
        command: &mut Command,
        reader: impl FnOnce(ChildStdout) -> Result<(), BuildError>,
    ) -> Result<(), BuildError> {
        self.run_with(command, |_, stdout| reader(stdout))
    }

    fn run_with(
        &self,
        command: &mut Command,
        reader: impl FnOnce(&Lines<'_>, ChildStdout) -> Result<(), BuildError>,
    ) -> Result<(), BuildError> {
        let line = shown(command);
        tracing::debug!(step = self.step.name, command = line, "run");
        let lines = Lines {
            work: *self,
            tail: Mutex::default(),
        };
        let failed = |status: String| BuildError::Command {
            step: self.step.name.clone(),
            command: line.clone(),
            status,
            tail: lines.tail(),
        };
        let not_started = |error: std::io::Error| failed(error.to_string());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(not_started)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let read = thread::scope(|scope| {
            if let Some(stderr) = stderr {
                let lines = &lines;
                scope.spawn(move || lines.forward(stderr));
            }
            let read = stdout.map_or(Ok(()), |stdout| reader(&lines, stdout));
            if read.is_err() {
                end(&mut child);
            }
            read
        });
        let status = child.wait().map_err(not_started)?;
        // A program that failed says why; that what it wrote could not be used follows from it.
        match read {
            Err(error) if status.success() || status.code().is_none() => Err(error),
            _ if status.success() => Ok(()),
            _ => Err(failed(status.to_string())),
        }
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
}

/// A command line for people.
fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|argument| {
        let text = argument.to_string_lossy();
        if text.contains('\n') {
            // A script of ours: its own lines say nothing to people.
            "SCRIPT".to_owned()
        } else if text.is_empty() || text.contains(char::is_whitespace) {
            format!("{text:?}")
        } else {
            text.into_owned()
        }
    }));
    words.join(" ")
}

struct Lines<'a> {
    work: Work<'a>,
    tail: Mutex<VecDeque<String>>,
}

impl Lines<'_> {
    fn forward(&self, source: impl Read) {
        let mut source = BufReader::new(source);
        let mut line = Vec::new();
        while matches!(source.read_until(b'\n', &mut line), Ok(n) if n > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            self.work.observer.output(self.work.step, &text);
            if let Ok(mut tail) = self.tail.lock() {
                tail.push_back(text);
                if tail.len() > TAIL_LINES {
                    tail.pop_front();
                }
            }
        }
    }

    fn tail(&self) -> String {
        self.tail
            .lock()
            .map(|tail| Vec::from(tail.clone()).join("\n"))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoObserver;

    fn step() -> Step {
        Step {
            name: "s".into(),
            what: "test".into(),
        }
    }

    #[test]
    fn a_failure_carries_command_status_and_last_lines() {
        let step = step();
        let work = Work {
            step: &step,
            observer: &NoObserver,
        };
        let error = work
            .run(Command::new("sh").args(["-c", "echo one; echo two >&2; exit 3"]))
            .unwrap_err();
        let text = error.to_string();
        for part in ["s: sh -c", "exit status: 3", "one", "two"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let error = work
            .run(&mut Command::new("/nonexistent/program"))
            .unwrap_err();
        assert!(error.to_string().contains("/nonexistent/program"));
    }

    #[test]
    fn output_is_captured() {
        let step = step();
        let work = Work {
            step: &step,
            observer: &NoObserver,
        };
        assert_eq!(work.text(Command::new("echo").arg("a b")).unwrap(), "a b");
    }

    #[test]
    fn a_reader_that_gives_up_ends_the_program() {
        let step = step();
        let work = Work {
            step: &step,
            observer: &NoObserver,
        };
        let error = work
            .pipe(Command::new("sleep").arg("600"), |_| {
                Err(work.wrong("enough"))
            })
            .unwrap_err();
        assert!(matches!(error, BuildError::Content { .. }), "{error}");
    }
}
