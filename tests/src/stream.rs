//! What a program writes, read as it comes, and when each part of it came.

use std::io::Read;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A stream that is read as it comes.
pub(crate) struct Stream {
    written: Arc<Mutex<Written>>,
    ended: Receiver<()>,
}

/// What was read of a stream so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    pub(crate) bytes: Vec<u8>,
    /// How many bytes were there, and when.
    arrivals: Vec<(usize, Instant)>,
}

impl Stream {
    pub(crate) fn of(mut source: impl Read + Send + 'static) -> Self {
        let written = Arc::new(Mutex::new(Written::default()));
        let (tell, ended) = channel();
        let shared = Arc::clone(&written);
        thread::spawn(move || {
            let mut chunk = [0; 16 << 10];
            while let Ok(count @ 1..) = source.read(&mut chunk) {
                shared.lock().unwrap().add(&chunk[..count]);
            }
            let _ = tell.send(());
        });
        Self { written, ended }
    }

    pub(crate) fn so_far(&self) -> Written {
        self.written.lock().unwrap().clone()
    }

    /// Whether it ends within this time.
    pub(crate) fn ends_within(&self, limit: Duration) -> bool {
        self.ended.recv_timeout(limit).is_ok()
    }
}

impl Written {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.arrivals.push((self.bytes.len(), Instant::now()));
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Each line, and how long after `begun` all of it was there.
    pub(crate) fn lines_since(&self, begun: Instant) -> Vec<(Duration, String)> {
        let mut end = 0;
        let lines = self.bytes.split_inclusive(|byte| *byte == b'\n');
        lines
            .map(|line| {
                end += line.len();
                let index = self.arrivals.partition_point(|(length, _)| *length < end);
                let came = self.arrivals[index].1.saturating_duration_since(begun);
                (came, String::from_utf8_lossy(line).trim_end().to_owned())
            })
            .collect()
    }
}
