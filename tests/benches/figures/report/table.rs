//! The table for a person.

use super::Verdict;
use super::published::{FIGURES, NOTE, SOURCE};
use crate::catalogue::{ROWS, Row, Statistic};
use crate::record::{Record, median};

/// Parts of a figure below this share of it are left to `figures.json`.
const SMALL: f64 = 0.01;

/// Writes it to standard error.
pub(crate) fn show(record: &Record) {
    eprintln!();
    for (name, value) in record.facts() {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        eprintln!("{name}: {text}");
    }
    eprintln!(
        "\n{:52} {:>9} {:3} {:>20} {:>3} {:>7} {:7} published by others (s)",
        "figure", "measured", "", "lowest..highest", "n", "goal", "verdict"
    );
    for row in ROWS {
        line(row, record);
        parts(row, record);
    }
    eprintln!("\nMeasured: medians, where there are several. Every sample is in figures.json.");
    eprintln!("Published by others: {NOTE}. {SOURCE}.");
    eprintln!(
        "Noise: load average {} at the beginning, {} at the end; repeats differ most: {}.",
        fact(record, "load average at the beginning"),
        fact(record, "load average at the end"),
        widest(record).unwrap_or_default(),
    );
    if !record.failures().is_empty() {
        eprintln!("FAILED: {}", record.failures().join(", "));
    }
}

fn line(row: &Row, record: &Record) {
    let goal = row.goal.map(|goal| goal.to_string()).unwrap_or_default();
    let verdict = Verdict::of(row, record).as_str();
    let Some(value) = record.value(row.id) else {
        let why = record.skipped(row.id).unwrap_or("not measured");
        eprintln!("{:52} {:>9} {why}", row.what, "-");
        return;
    };
    let samples = record.samples(row.samples);
    let spread = match (row.statistic, samples) {
        (Statistic::Median, [_, _, ..]) => {
            let (lowest, highest) = range(samples);
            format!("{}..{}", short(lowest), short(highest))
        }
        _ => String::new(),
    };
    let published: Vec<String> = FIGURES
        .iter()
        .filter(|_| row.published)
        .map(|one| format!("{} {:.1}", one.who, one.seconds))
        .collect();
    eprintln!(
        "{:52} {:>9} {:3} {spread:>20} {:>3} {goal:>7} {verdict:7} {}",
        row.what,
        short(value),
        row.unit,
        samples.len(),
        published.join(", ")
    );
}

fn parts(row: &Row, record: &Record) {
    let parts = record.parts(row.id);
    let least = record.value(row.id).unwrap_or_default() * SMALL;
    for (name, samples) in parts {
        if let Some(value) = median(samples).filter(|value| *value >= least) {
            eprintln!("  {name:50} {:>9} {}", short(value), row.unit);
        }
    }
}

fn range(samples: &[f64]) -> (f64, f64) {
    let fold = |begin, pick: fn(f64, f64) -> f64| samples.iter().copied().fold(begin, pick);
    (
        fold(f64::INFINITY, f64::min),
        fold(f64::NEG_INFINITY, f64::max),
    )
}

/// The figure whose samples differ most from each other, in proportion.
fn widest(record: &Record) -> Option<String> {
    let spread = |row: &Row| {
        let (lowest, highest) = range(record.samples(row.id));
        highest / lowest
    };
    let repeated = ROWS.iter().filter(|row| record.samples(row.id).len() > 2);
    let widest = repeated.max_by(|one, other| spread(one).total_cmp(&spread(other)));
    widest.map(|row| {
        format!(
            "{}, the highest {:.1} times the lowest",
            row.what,
            spread(row)
        )
    })
}

fn fact(record: &Record, name: &str) -> String {
    let found = record.facts().iter().find(|(known, _)| *known == name);
    found
        .and_then(|(_, value)| value.as_str())
        .unwrap_or("?")
        .to_owned()
}

/// Three digits, at the least.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.3}"),
    }
}
