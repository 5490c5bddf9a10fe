//! What was measured, for people and programs: a table on standard error, `figures.json`, `start.svg`.

mod chart;
mod json;
mod published;
mod table;

use crate::catalogue::Row;
use crate::record::Record;
use std::path::Path;

/// How a figure compares with its goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Met,
    Beyond,
    /// It has no goal, or was not measured.
    None,
}

impl Verdict {
    fn of(row: &Row, record: &Record) -> Self {
        match (row.goal, record.value(row.id)) {
            (Some(goal), Some(value)) if value > goal => Self::Beyond,
            (Some(_), Some(_)) => Self::Met,
            _ => Self::None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Beyond => "BEYOND",
            Self::None => "",
        }
    }
}

/// Shows the table, and writes the files into a folder.
pub(crate) fn write(record: &Record, folder: &Path) {
    std::fs::create_dir_all(folder).expect("target/ is ours");
    table::show(record);
    for (name, content) in [
        ("figures.json", json::of(record)),
        ("start.svg", chart::of(record)),
    ] {
        let file = folder.join(name);
        coracle_tests::write(&file, content);
        eprintln!("{}", file.display());
    }
}
