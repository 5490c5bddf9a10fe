//! How far a download is, and how fast.

use crate::{DownloadObserver, DownloadProgress};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Least time between two reports.
const REPORT: Duration = Duration::from_millis(200);
/// What counts as of late for the rate.
const LATE: Duration = Duration::from_secs(5);

/// Counts, and tells an observer now and then.
pub(super) struct Meter<'a> {
    observer: &'a dyn DownloadObserver,
    total: u64,
    /// Bytes of files that are whole.
    whole: u64,
    /// Bytes that are there of the file that comes in.
    part: u64,
    received: u64,
    /// When so many bytes had been received, the oldest first.
    marks: VecDeque<(Instant, u64)>,
    reported: Option<Instant>,
}

impl<'a> Meter<'a> {
    pub(super) fn new(observer: &'a dyn DownloadObserver) -> Self {
        Self {
            observer,
            total: 0,
            whole: 0,
            part: 0,
            received: 0,
            marks: VecDeque::from([(Instant::now(), 0)]),
            reported: None,
        }
    }

    /// What all files come to.
    pub(super) fn expect(&mut self, total: u64) {
        self.total = total;
    }

    /// Bytes came in.
    pub(super) fn received(&mut self, bytes: usize) {
        self.received += bytes as u64;
    }

    /// So much is there of the file that comes in.
    pub(super) fn part(&mut self, bytes: u64) {
        self.part = bytes;
        let now = Instant::now();
        let is_time = |at: Instant| now.duration_since(at) >= REPORT;
        if self.reported.is_none_or(is_time) {
            self.report(now);
        }
    }

    /// A file of so many bytes is whole.
    pub(super) fn whole(&mut self, bytes: u64) {
        self.whole += bytes;
        self.part = 0;
        self.report(Instant::now());
    }

    fn report(&mut self, now: Instant) {
        self.reported = Some(now);
        self.marks.push_back((now, self.received));
        while self.marks.len() > 2
            && self
                .marks
                .get(1)
                .is_some_and(|(at, _)| now.duration_since(*at) > LATE)
        {
            self.marks.pop_front();
        }
        self.observer.progress(DownloadProgress {
            done: self.whole + self.part,
            total: self.total,
            received: self.received,
            rate: self.rate(now),
        });
    }

    fn rate(&self, now: Instant) -> u64 {
        let Some((since, before)) = self.marks.front() else {
            return 0;
        };
        let seconds = now.duration_since(*since).as_secs_f64();
        if seconds < 0.001 {
            return 0;
        }
        ((self.received - before) as f64 / seconds) as u64
    }
}
