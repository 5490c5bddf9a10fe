//! Known problems, found in lines.

mod table;

use serde::Serialize;
use std::collections::BTreeMap;
use table::{PROBLEMS, Problem};

/// Characters of a line that are shown to a person.
const SHOWN: usize = 400;

/// Takes lines one after the other, and knows what they showed.
#[derive(Debug, Default)]
pub struct Finder {
    lines: u64,
    /// By the problem's place in the table and the source's name.
    seen: BTreeMap<(usize, String), Seen>,
}

#[derive(Debug)]
struct Seen {
    times: u64,
    last: String,
}

/// What was found in all lines that were read.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Findings {
    /// How many lines there were.
    pub lines: u64,
    /// Each problem once, in the table's order.
    pub problems: Vec<Found>,
}

/// A problem that was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Found {
    /// Its name, such as `disk-full`.
    pub name: &'static str,
    /// What it means, as a sentence.
    pub meaning: &'static str,
    /// In how many lines it was seen, by source.
    pub times: BTreeMap<String, u64>,
    /// The last line that showed it, of the source that did so most often.
    pub last_line: String,
    /// That source.
    pub source: String,
    /// What to do, with the cluster's name in it.
    pub help: String,
}

impl Finder {
    /// Takes a line of a source.
    pub fn read(&mut self, source: &str, line: &str) {
        self.lines += 1;
        let Some(place) = PROBLEMS.iter().position(|one| one.is_in(source, line)) else {
            return;
        };
        let seen = self
            .seen
            .entry((place, source.to_owned()))
            .or_insert_with(|| Seen {
                times: 0,
                last: String::new(),
            });
        seen.times += 1;
        line.clone_into(&mut seen.last);
    }

    /// What was found; `profile` is for the advice.
    pub fn findings(self, profile: &str) -> Findings {
        let mut by_place: BTreeMap<usize, BTreeMap<String, Seen>> = BTreeMap::new();
        for ((place, source), seen) in self.seen {
            by_place.entry(place).or_default().insert(source, seen);
        }
        let found = by_place
            .into_iter()
            .filter_map(|(place, sources)| PROBLEMS[place].found(sources, profile));
        Findings {
            lines: self.lines,
            problems: found.collect(),
        }
    }
}

impl Problem {
    fn is_in(&self, source: &str, line: &str) -> bool {
        // What was said before the last boot is said by the same source.
        let source = source.strip_suffix(".old").unwrap_or(source);
        let holds = |text: &&str| line.contains(text);
        (self.sources.is_empty() || self.sources.contains(&source))
            && self.shown_by.iter().any(|texts| texts.iter().all(holds))
            && !self.unless.iter().any(holds)
    }

    fn found(&self, sources: BTreeMap<String, Seen>, profile: &str) -> Option<Found> {
        if sources.values().map(|seen| seen.times).sum::<u64>() < self.at_least {
            return None;
        }
        let times = sources
            .iter()
            .map(|(source, seen)| (source.clone(), seen.times))
            .collect();
        let (source, seen) = sources.into_iter().max_by_key(|(_, seen)| seen.times)?;
        Some(Found {
            name: self.name,
            meaning: self.meaning,
            times,
            last_line: seen.last,
            source,
            help: self.help.replace("{profile}", profile),
        })
    }
}

impl Findings {
    /// For a person: each problem as a paragraph, or that there is none.
    pub fn text(&self) -> String {
        if self.problems.is_empty() {
            return format!("no known problem in {} lines\n", self.lines);
        }
        let paragraphs: Vec<_> = self.problems.iter().map(Found::text).collect();
        paragraphs.join("\n")
    }
}

impl Found {
    fn text(&self) -> String {
        let times: Vec<_> = self
            .times
            .iter()
            .map(|(source, times)| format!("{times} in {source}"))
            .collect();
        // What a source wrote must not move the cursor.
        let mut line: String = self
            .last_line
            .chars()
            .filter(|c| !c.is_control())
            .take(SHOWN)
            .collect();
        if line.len() < self.last_line.len() && line.chars().count() == SHOWN {
            line.push_str(" ...");
        }
        format!(
            "{}: {}\n  lines: {}\n  last:  {}: {line}\n  help:  {}\n",
            self.name,
            self.meaning,
            times.join(", "),
            self.source,
            self.help
        )
    }
}

#[cfg(test)]
mod tests;
