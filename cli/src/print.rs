//! Results on stdout: text, tables, JSON and YAML. A reader that went away is no error.

use crate::error::{Context as _, Error, ErrorId, Result};
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

/// Fills in `{{.Field}}` with the texts of an object; nothing else of Go's templates is needed.
pub fn fill_in(template: &str, fields: &serde_json::Value) -> Result<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after
            .split_once("}}")
            .ok_or_else(|| Error::new(ErrorId::Usage, "the template has a {{ without }}"))?;
        let field = name
            .trim()
            .strip_prefix('.')
            .and_then(|name| fields.get(name))
            .and_then(serde_json::Value::as_str);
        text.push_str(before);
        text.push_str(field.ok_or_else(|| {
            let known = fields.as_object().into_iter().flatten();
            let known: Vec<String> = known
                .filter(|(_, value)| value.is_string())
                .map(|(name, _)| format!(".{name}"))
                .collect();
            Error::new(
                ErrorId::Usage,
                format!("the template names no field that there is: {{{{{name}}}}}"),
            )
            .help(format!("the fields are {}", known.join(" ")))
        })?);
        rest = after;
    }
    text.push_str(rest);
    Ok(text.replace("\\n", "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_fills_in_fields_and_refuses_others() {
        let fields = serde_json::json!({"Name": "dev", "Host": "Running"});
        assert_eq!(
            fill_in("{{.Name}}:{{ .Host }}\\n", &fields).unwrap(),
            "dev:Running\n"
        );
        assert_eq!(fill_in("{{.Colour}}", &fields).unwrap_err().exit_code(), 14);
        assert_eq!(fill_in("{{.Name", &fields).unwrap_err().exit_code(), 14);
    }

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
