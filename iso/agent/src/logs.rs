//! Logs in bounded files.
//!
//! Each source has `NAME.log` and, once that is full, the one before it as `NAME.log.1`. A
//! position in a log is the number of bytes written before it, counted over both files, so
//! that a reader that was overtaken knows where to go on.

pub mod kernel;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Bytes of one file; two are kept.
pub const LIMIT: u64 = 4 << 20;
/// Most bytes that one read returns.
const READ: usize = 64 << 10;

/// All logs of the machine.
#[derive(Debug)]
pub struct Logs {
    folder: PathBuf,
    limit: u64,
    open: Mutex<BTreeMap<String, Arc<Log>>>,
}

/// One source's log.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    limit: u64,
    state: Mutex<State>,
    end: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    file: File,
    size: u64,
    previous: u64,
    end: u64,
    whole_line: bool,
    last_line: Vec<u8>,
}

impl Logs {
    /// Logs in a folder, each file of at most about `limit` bytes.
    #[must_use]
    pub fn new(folder: PathBuf, limit: u64) -> Self {
        Self {
            folder,
            limit,
            open: Mutex::default(),
        }
    }

    /// The log of a source, made when it is not there.
    pub fn log(&self, name: &str) -> io::Result<Arc<Log>> {
        let mut open = lock(&self.open);
        if let Some(log) = open.get(name) {
            return Ok(Arc::clone(log));
        }
        fs::create_dir_all(&self.folder)?;
        let log = Arc::new(Log::open(
            self.folder.join(format!("{name}.log")),
            self.limit,
        )?);
        open.insert(name.to_owned(), Arc::clone(&log));
        Ok(log)
    }

    /// The log of a source that has one.
    #[must_use]
    pub fn existing(&self, name: &str) -> Option<Arc<Log>> {
        lock(&self.open).get(name).cloned()
    }

    /// All sources that have a log, by name.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        lock(&self.open).keys().cloned().collect()
    }

    /// Lets go of all files; what is appended later is lost.
    pub fn close(&self) {
        for log in lock(&self.open).values() {
            if let Ok(nowhere) = OpenOptions::new().write(true).open("/dev/null") {
                lock(&log.state).file = nowhere;
            }
        }
    }

    /// A line of the agent's own log, with the time.
    pub fn note(&self, text: &str) {
        let now = time::OffsetDateTime::now_utc();
        let format = time::macros::format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
        );
        let stamp = now.format(&format).unwrap_or_default();
        if let Ok(log) = self.log("agent") {
            log.append(format!("{stamp} {text}\n").as_bytes());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn previous(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

impl Log {
    fn open(path: PathBuf, limit: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(&path)?;
        let size = file.metadata()?.len();
        let before = fs::metadata(previous(&path)).map_or(0, |data| data.len());
        let end = size + before;
        let state = State {
            file,
            size,
            previous: before,
            end,
            whole_line: true,
            last_line: Vec::new(),
        };
        Ok(Self {
            path,
            limit,
            state: Mutex::new(state),
            end: watch::Sender::new(end),
        })
    }

    /// Appends what a source wrote. A full disk loses lines, it does not stop the source.
    pub fn append(&self, bytes: &[u8]) {
        let mut state = lock(&self.state);
        // Files end with a whole line, unless a line is longer than a file.
        let full = state.size >= self.limit;
        if full && (state.whole_line || state.size >= 2 * self.limit) {
            let _ = self.rotate(&mut state);
        }
        if state.file.write_all(bytes).is_err() {
            // How much arrived is not known: count what is there.
            let size = state.file.metadata().map_or(state.size, |data| data.len());
            state.end += size - state.size.min(size);
            state.size = size;
            return;
        }
        state.size += bytes.len() as u64;
        state.end += bytes.len() as u64;
        state.whole_line = bytes.ends_with(b"\n");
        if let Some(line) = bytes
            .split(|byte| *byte == b'\n')
            .rfind(|line| !line.is_empty())
        {
            state.last_line = line[..line.len().min(300)].to_vec();
        }
        self.end.send_replace(state.end);
    }

    fn rotate(&self, state: &mut State) -> io::Result<()> {
        fs::rename(&self.path, previous(&self.path))?;
        state.file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(&self.path)?;
        state.previous = state.size;
        state.size = 0;
        Ok(())
    }

    /// Changes whenever something is appended.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    /// The last line that has any text.
    #[must_use]
    pub fn last_line(&self) -> String {
        String::from_utf8_lossy(&lock(&self.state).last_line)
            .trim()
            .to_owned()
    }

    /// The positions between which the last `lines` lines are, as of now; 0 means everything kept.
    pub fn tail(&self, lines: u32) -> io::Result<Range<u64>> {
        let state = lock(&self.state);
        let start = state.end - state.size - state.previous;
        if lines == 0 {
            return Ok(start..state.end);
        }
        let mut bytes = Vec::new();
        if state.previous > 0 {
            File::open(previous(&self.path))?.read_to_end(&mut bytes)?;
        }
        File::open(&self.path)?
            .take(state.size)
            .read_to_end(&mut bytes)?;
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let newlines = text
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, byte)| **byte == b'\n');
        let skipped = newlines
            .map(|(at, _)| at + 1)
            .nth(lines as usize - 1)
            .unwrap_or(0);
        Ok(start + skipped as u64..state.end)
    }

    /// Whole lines from a position on, and the position after them. Nothing when there is no
    /// whole line yet. What was thrown away meanwhile is skipped.
    pub fn read(&self, from: u64) -> io::Result<(Vec<u8>, u64)> {
        let state = lock(&self.state);
        let current = state.end - state.size;
        let from = from.max(current - state.previous);
        let (path, offset, available) = if from < current {
            (
                previous(&self.path),
                from + state.previous - current,
                current - from,
            )
        } else {
            (
                self.path.clone(),
                from - current,
                state.end - from.min(state.end),
            )
        };
        if available == 0 {
            return Ok((Vec::new(), from));
        }
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(available.min(READ as u64))
            .read_to_end(&mut bytes)?;
        match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => bytes.truncate(at + 1),
            // A line longer than a read is given in parts, and so is a file's unended rest.
            None if bytes.len() == READ || from < current => {}
            None => bytes.clear(),
        }
        let next = from + bytes.len() as u64;
        Ok((bytes, next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything(log: &Log, mut from: u64) -> String {
        let mut text = Vec::new();
        loop {
            let (bytes, next) = log.read(from).unwrap();
            if bytes.is_empty() {
                return String::from_utf8(text).unwrap();
            }
            text.extend(bytes);
            from = next;
        }
    }

    #[test]
    fn two_files_bound_a_log_and_positions_stay_true() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::new(dir.path().into(), 100);
        let log = logs.log("x").unwrap();
        for number in 0..1000 {
            log.append(format!("line {number:04}\n").as_bytes());
        }
        let size: u64 = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(size <= 220, "{size}");
        let text = everything(&log, 0);
        assert!(text.ends_with("line 0999\n") && text.starts_with("line 09"));
        assert_eq!(
            everything(&log, log.tail(3).unwrap().start),
            "line 0997\nline 0998\nline 0999\n"
        );
        assert_eq!(everything(&log, log.tail(0).unwrap().start), text);
    }

    #[test]
    fn only_whole_lines_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let log = Logs::new(dir.path().into(), LIMIT).log("x").unwrap();
        log.append(b"one\ntw");
        let (bytes, next) = log.read(0).unwrap();
        assert_eq!(bytes, b"one\n");
        assert_eq!(log.read(next).unwrap(), (Vec::new(), next));
        log.append(b"o\n");
        assert_eq!(log.read(next).unwrap().0, b"two\n");
        assert_eq!(log.last_line(), "o");
        assert_eq!(log.tail(1).unwrap().start, 4);
    }

    #[test]
    fn a_log_goes_on_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        Logs::new(dir.path().into(), LIMIT)
            .log("x")
            .unwrap()
            .append(b"before\n");
        let log = Logs::new(dir.path().into(), LIMIT).log("x").unwrap();
        log.append(b"after\n");
        assert_eq!(everything(&log, 0), "before\nafter\n");
    }
}
