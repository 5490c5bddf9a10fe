//! What a builder tells while it works.

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

/// Listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl BuildObserver for NoObserver {}
