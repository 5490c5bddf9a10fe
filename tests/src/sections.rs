//! A journey's named sections: one cluster serves many promises, and each failed one is named.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// The sections of one journey, and which of them failed.
#[derive(Debug)]
#[must_use]
pub struct Sections {
    journey: &'static str,
    begun: Instant,
    count: usize,
    failed: Vec<String>,
}

impl Sections {
    /// A journey without sections yet.
    pub fn new(journey: &'static str) -> Self {
        Self {
            journey,
            begun: Instant::now(),
            count: 0,
            failed: Vec::new(),
        }
    }

    /// Runs one section. A failure is kept, and the journey goes on. With `CORACLE_TEST_SECTION` only
    /// those are run whose name holds that text, and those without which the rest makes no sense.
    pub fn run<T>(&mut self, name: &str, section: impl FnOnce() -> T) -> Option<T> {
        let wanted = std::env::var("CORACLE_TEST_SECTION").unwrap_or_default();
        if !name.contains(&wanted) {
            return None;
        }
        self.section(name, section)
    }

    /// As [`Self::run`], for what takes long and is not needed to see that all is well: only with
    /// `make test-full`, or where it is asked for by name.
    pub fn run_long<T>(&mut self, name: &str, section: impl FnOnce() -> T) -> Option<T> {
        let is_named =
            std::env::var_os("CORACLE_TEST_SECTION").is_some_and(|text| !text.is_empty());
        if is_named || std::env::var_os("CORACLE_TEST_FULL").is_some() {
            return self.run(name, section);
        }
        eprintln!("{}: {name}: left to `make test-full`", self.journey);
        None
    }

    fn section<T>(&mut self, name: &str, section: impl FnOnce() -> T) -> Option<T> {
        let begun = Instant::now();
        self.count += 1;
        let outcome = catch_unwind(AssertUnwindSafe(section));
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        eprintln!(
            "[{:6.1} s] {}: {name}: {word} ({:.1?})",
            self.begun.elapsed().as_secs_f64(),
            self.journey,
            begun.elapsed()
        );
        match outcome {
            Ok(value) => Some(value),
            Err(_) => {
                self.failed.push(name.to_owned());
                None
            }
        }
    }

    /// Runs one section without which the rest makes no sense: its failure ends the journey.
    #[track_caller]
    pub fn must<T>(&mut self, name: &str, section: impl FnOnce() -> T) -> T {
        match self.section(name, section) {
            Some(value) => value,
            None => panic!(
                "{}: cannot go on without: {}",
                self.journey,
                self.failed.join("; ")
            ),
        }
    }

    /// Fails the test if a section failed.
    #[track_caller]
    pub fn finish(self) {
        let (failed, count) = (self.failed.len(), self.count);
        assert!(
            self.failed.is_empty(),
            "{}: {failed} of {count} sections failed: {}",
            self.journey,
            self.failed.join("; ")
        );
        eprintln!(
            "{}: {count} sections in {:.1?}",
            self.journey,
            self.begun.elapsed()
        );
    }
}
