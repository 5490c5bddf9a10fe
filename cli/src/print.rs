//! Results on stdout: text, tables, JSON and YAML. A reader that went away is no error.

use crate::error::{Context as _, ErrorId, Result};
use crate::settings::Output;
use serde::Serialize;
use std::io::Write as _;

/// Writes text as it is.
pub fn stdout(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// Writes text as it is to stderr.
pub fn stderr(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Writes one line.
pub fn line(text: impl AsRef<str>) {
    stdout(&format!("{}\n", text.as_ref()));
}

/// Writes a value as JSON or YAML, or `text` of it.
pub fn value<T: Serialize>(
    output: Output,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<()> {
    match output {
        Output::Text => stdout(&text(value)),
        Output::Json => line(
            serde_json::to_string_pretty(value).context(ErrorId::Internal, || {
                "cannot write the result as JSON".into()
            })?,
        ),
        Output::Yaml => stdout(
            &serde_yaml::to_string(value).context(ErrorId::Internal, || {
                "cannot write the result as YAML".into()
            })?,
        ),
    }
    Ok(())
}

/// Columns as wide as their widest cell, two spaces apart, the way kubectl prints them.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let mut push = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, width) in cells.zip(&widths) {
            line.push_str(&format!("{cell:<width$}   "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    push(&mut header.iter().copied());
    for row in rows {
        push(&mut row.iter().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["a".into(), "Running".into()],
            vec!["longer".into(), "Stopped".into()],
        ];
        assert_eq!(
            table(&["NAME", "STATE"], &rows),
            "NAME     STATE\na        Running\nlonger   Stopped\n"
        );
    }
}
