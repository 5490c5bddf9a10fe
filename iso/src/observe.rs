//! What a builder and a download tell while they work.

use std::fmt;
use std::time::Duration;

/// One step of a build: it makes one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// A short stable name, such as `etcd` or `root`.
    pub name: String,
    /// What is made, for people: `etcd v3.7.3`.
    pub what: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Hears of a build's progress. Every method may be called from any thread.
pub trait BuildObserver: Send + Sync {
    /// The step's part is not in the cache: work begins.
    fn started(&self, step: &Step) {
        let _ = step;
    }
    /// The step's part was made.
    fn finished(&self, step: &Step, took: Duration) {
        let _ = (step, took);
    }
    /// The step's part was in the cache.
    fn cached(&self, step: &Step) {
        let _ = step;
    }
    /// One line that a program run by the step wrote (standard output or error).
    fn output(&self, step: &Step, line: &str) {
        let _ = (step, line);
    }
}

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownloadProgress {
    /// Bytes of the image that are there and, but for the file that is coming in, compared with their
    /// digests. Fewer than before when something was wrong and is fetched again.
    pub done: u64,
    /// Bytes of all files that are wanted, as they will be on the disk.
    pub total: u64,
    /// Bytes that came over the network so far, or from a folder: fewer than those of the image, as most
    /// are sent compressed.
    pub received: u64,
    /// Bytes a second that came of late.
    pub rate: u64,
}

/// Hears of a download's progress. Every method may be called from any thread.
pub trait DownloadObserver: Send + Sync {
    /// Another process, which is named, is fetching an image: this one waits for it.
    fn waiting(&self, holder: &str) {
        let _ = holder;
    }
    /// An image is fetched from here, shown without a password.
    fn begun(&self, source: &str) {
        let _ = source;
    }
    /// How far it is; several times a second while something comes in.
    fn progress(&self, progress: DownloadProgress) {
        let _ = progress;
    }
    /// Something failed that is tried again, here or elsewhere: one line for a person.
    fn trouble(&self, what: &str) {
        let _ = what;
    }
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl BuildObserver for NoObserver {}

impl DownloadObserver for NoObserver {}
