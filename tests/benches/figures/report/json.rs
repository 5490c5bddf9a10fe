//! `figures.json`: every sample, so that other statistics can be made of them.
//!
//! ```text
//! format      1
//! host        what is known of the host and the run, by name
//! figures[]   id, what, unit, statistic, value, goal, verdict, samples[], parts{name: samples[]}, skipped
//! published   source, note, figures[]: who, seconds. Nothing of it was measured here.
//! failed[]    scenarios that could not be carried out
//! ```

use super::Verdict;
use super::published::{FIGURES, NOTE, SOURCE};
use crate::catalogue::{ROWS, Row, Statistic};
use crate::record::Record;
use serde_json::{Map, Value, json};

/// The version of this format.
const FORMAT: u32 = 1;

/// Its text.
pub(crate) fn of(record: &Record) -> String {
    let host: Map<String, Value> = record
        .facts()
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    let figures: Vec<Value> = ROWS.iter().map(|row| figure(row, record)).collect();
    let published: Vec<Value> = FIGURES
        .iter()
        .map(|one| json!({"who": one.who, "seconds": one.seconds}))
        .collect();
    let all = json!({
        "format": FORMAT,
        "host": host,
        "figures": figures,
        "published": {"source": SOURCE, "note": NOTE, "figures": published},
        "failed": record.failures(),
    });
    serde_json::to_string_pretty(&all).expect("it is JSON") + "\n"
}

fn figure(row: &Row, record: &Record) -> Value {
    let parts: Map<String, Value> = record
        .parts(row.id)
        .iter()
        .map(|(name, samples)| (name.clone(), json!(samples)))
        .collect();
    let statistic = match row.statistic {
        Statistic::Median => "median",
        Statistic::Most => "most",
    };
    json!({
        "id": row.id,
        "what": row.what,
        "unit": row.unit,
        "statistic": statistic,
        "value": record.value(row.id),
        "goal": row.goal,
        "verdict": Verdict::of(row, record).as_str(),
        "samples": record.samples(row.samples),
        "parts": parts,
        "skipped": record.skipped(row.id),
    })
}
