//! Every sample that was taken, under the names of [`crate::catalogue`].

use crate::catalogue::{self, Statistic};
use serde_json::Value;
use std::collections::BTreeMap;

/// What was measured so far.
#[derive(Debug, Default)]
pub(crate) struct Record {
    samples: BTreeMap<&'static str, Vec<f64>>,
    /// Of a figure: its parts by name, in the order in which they came.
    parts: BTreeMap<&'static str, Vec<(String, Vec<f64>)>>,
    skipped: BTreeMap<&'static str, String>,
    facts: Vec<(&'static str, Value)>,
    failures: Vec<&'static str>,
}

impl Record {
    /// One more sample of a figure.
    pub(crate) fn sample(&mut self, id: &'static str, value: f64) {
        let row = catalogue::find(id);
        eprintln!("{}: {value:.3} {}", row.what, row.unit);
        self.samples.entry(id).or_default().push(value);
    }

    /// One more sample of a part of a figure.
    pub(crate) fn part(&mut self, id: &'static str, name: &str, value: f64) {
        let parts = self.parts.entry(id).or_default();
        match parts.iter_mut().find(|(known, _)| known == name) {
            Some((_, samples)) => samples.push(value),
            None => parts.push((name.to_owned(), vec![value])),
        }
    }

    /// Says why a figure has no samples.
    pub(crate) fn skip(&mut self, id: &'static str, reason: &str) {
        eprintln!("{}: skipped: {reason}", catalogue::find(id).what);
        self.skipped.insert(id, reason.to_owned());
    }

    /// Something to know about all figures.
    pub(crate) fn fact(&mut self, name: &'static str, value: impl Into<Value>) {
        let value = value.into();
        self.facts.retain(|(known, _)| *known != name);
        self.facts.push((name, value));
    }

    /// A scenario could not be carried out.
    pub(crate) fn failed(&mut self, scenario: &'static str) {
        eprintln!("FAILED: {scenario}");
        self.failures.push(scenario);
    }

    /// All samples of a figure, in the order in which they were taken.
    pub(crate) fn samples(&self, id: &str) -> &[f64] {
        self.samples.get(id).map_or(&[], Vec::as_slice)
    }

    /// The parts of a figure with all their samples.
    pub(crate) fn parts(&self, id: &str) -> &[(String, Vec<f64>)] {
        self.parts.get(id).map_or(&[], Vec::as_slice)
    }

    /// Why a figure has no samples, where that was said.
    pub(crate) fn skipped(&self, id: &str) -> Option<&str> {
        self.skipped.get(id).map(String::as_str)
    }

    /// What there is to know about all figures.
    pub(crate) fn facts(&self) -> &[(&'static str, Value)] {
        &self.facts
    }

    /// What could not be carried out.
    pub(crate) fn failures(&self) -> &[&'static str] {
        &self.failures
    }

    /// The figure itself; `None` when it was not measured.
    pub(crate) fn value(&self, id: &str) -> Option<f64> {
        let row = catalogue::find(id);
        let samples = self.samples(row.samples);
        match row.statistic {
            Statistic::Median => median(samples),
            Statistic::Most => samples.iter().copied().max_by(f64::total_cmp),
        }
    }

    /// A figure that is made of two others, once both are there.
    pub(crate) fn derive(
        &mut self,
        id: &'static str,
        of: [&str; 2],
        make: impl Fn(f64, f64) -> f64,
    ) {
        if let (Some(one), Some(other)) = (self.value(of[0]), self.value(of[1])) {
            self.sample(id, make(one, other));
        }
    }
}

/// The middle one; of an even number the mean of the two in the middle.
pub(crate) fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (upper, lower) = (sorted.len() / 2, sorted.len().saturating_sub(1) / 2);
    Some((sorted.get(lower)? + sorted.get(upper)?) / 2.0)
}
