//! Writing new nodes as YAML text, in block style or as JSON.

/// What a new node says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A scalar as it is to be written: a number, or what was copied from a text with its quotes. Nothing
    /// is added to it.
    Plain(String),
    /// A list.
    List(Vec<Value>),
    /// A mapping, in the order in which it is to be written.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// Text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A mapping.
    pub fn map<'key>(pairs: impl IntoIterator<Item = (&'key str, Value)>) -> Self {
        let pairs = pairs.into_iter();
        Self::Map(pairs.map(|(key, value)| (key.to_owned(), value)).collect())
    }
}

/// Words that some YAML reader takes for a truth value or null instead of text.
const RESERVED: [&str; 12] = [
    "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf", "none",
];

/// A scalar as plain text where every reader takes that for the same text, else in double quotes.
pub fn plain_or_quoted(text: &str) -> String {
    let starts_well = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/');
    let safe =
        |character: char| character.is_ascii_alphanumeric() || "_-./:@+=".contains(character);
    let reserved = RESERVED.iter().any(|word| text.eq_ignore_ascii_case(word));
    if starts_well && text.chars().all(safe) && !text.ends_with(':') && !reserved {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// Text in double quotes, with the escapes that JSON and YAML share.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // C1 controls and the two Unicode line separators may not stand bare in YAML.
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// How JSON is laid out.
#[derive(Debug, Clone, Copy)]
pub(super) enum Layout<'text> {
    /// All on one line.
    Line,
    /// One member a line: `newline` and `indent` before a closing bracket, one `unit` more before
    /// each member.
    Lines {
        newline: &'text str,
        indent: &'text str,
        unit: &'text str,
    },
}

/// A value as JSON, which is YAML's flow style too.
pub(super) fn json(value: &Value, layout: Layout<'_>) -> String {
    let mut out = String::new();
    write_json(value, layout, 0, &mut out);
    out
}

fn write_json(value: &Value, layout: Layout<'_>, depth: usize, out: &mut String) {
    let break_line = |depth: usize, out: &mut String| {
        if let Layout::Lines {
            newline,
            indent,
            unit,
        } = layout
        {
            out.push_str(newline);
            out.push_str(indent);
            out.push_str(&unit.repeat(depth));
        }
    };
    let between = match layout {
        Layout::Line => ", ",
        Layout::Lines { .. } => ",",
    };
    match value {
        Value::Text(text) => out.push_str(&quoted(text)),
        Value::Plain(text) => out.push_str(text),
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { between });
                break_line(depth + 1, out);
                write_json(item, layout, depth + 1, out);
            }
            if !items.is_empty() {
                break_line(depth, out);
            }
            out.push(']');
        }
        Value::Map(pairs) => {
            out.push('{');
            for (index, (key, item)) in pairs.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { between });
                break_line(depth + 1, out);
                out.push_str(&quoted(key));
                out.push_str(": ");
                write_json(item, layout, depth + 1, out);
            }
            if !pairs.is_empty() {
                break_line(depth, out);
            }
            out.push('}');
        }
    }
}

/// The lines of `key: value` in block style without line ends; `indent` stands before each.
/// Lists inside start with `list_offset` more spaces than their key.
pub(super) fn block_pair(
    key: &str,
    value: &Value,
    indent: &str,
    list_offset: usize,
    lines: &mut Vec<String>,
) {
    let key = plain_or_quoted(key);
    match value {
        Value::Text(text) => lines.push(format!("{indent}{key}: {}", plain_or_quoted(text))),
        Value::Plain(text) => lines.push(format!("{indent}{key}: {text}")),
        Value::List(items) if items.is_empty() => lines.push(format!("{indent}{key}: []")),
        Value::Map(pairs) if pairs.is_empty() => lines.push(format!("{indent}{key}: {{}}")),
        Value::List(items) => {
            lines.push(format!("{indent}{key}:"));
            let inner = format!("{indent}{}", " ".repeat(list_offset));
            for item in items {
                block_item(item, &inner, list_offset, lines);
            }
        }
        Value::Map(pairs) => {
            lines.push(format!("{indent}{key}:"));
            let inner = format!("{indent}  ");
            for (key, value) in pairs {
                block_pair(key, value, &inner, list_offset, lines);
            }
        }
    }
}

/// The lines of `- value` in block style; `indent` stands before the dash.
pub(super) fn block_item(value: &Value, indent: &str, list_offset: usize, lines: &mut Vec<String>) {
    match value {
        Value::Text(text) => lines.push(format!("{indent}- {}", plain_or_quoted(text))),
        Value::Map(pairs) if !pairs.is_empty() => {
            let first = lines.len();
            let inner = format!("{indent}  ");
            for (key, value) in pairs {
                block_pair(key, value, &inner, list_offset, lines);
            }
            if let Some(line) = lines.get_mut(first) {
                line.replace_range(indent.len()..=indent.len(), "-");
            }
        }
        other => lines.push(format!("{indent}- {}", json(other, Layout::Line))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_could_be_read_as_something_else_is_quoted() {
        for text in [
            "true", "No", "null", "123", "1e3", "", "~", "- x", "a: b", "a #b", "a:", "*a",
        ] {
            assert_eq!(plain_or_quoted(text), format!("\"{text}\""), "{text}");
        }
        for text in [
            "coracle",
            "https://[::1]",
            "C:\\Users",
            "line\nbreak",
            "\u{85}",
            "\"quoted\"",
        ] {
            let written = plain_or_quoted(text);
            let read: String = serde_yaml::from_str(&written).expect("YAML");
            assert_eq!(read, text, "{written}");
        }
        assert_eq!(
            plain_or_quoted("https://127.88.0.1:6443"),
            "https://127.88.0.1:6443"
        );
    }
}
