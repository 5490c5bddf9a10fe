//! Objects as one text of several YAML documents.
//!
//! Kubectl reads YAML 1.1, in which `yes`, `on`, `1_000` and `0b1` are no texts; writers of YAML 1.2,
//! serde's among them, leave such texts without quotes. Here only what no reader can take for
//! anything else goes without.

use serde_json::Value;

use crate::object::Object;

/// Words that are no texts without quotes, in one version of YAML or the other.
const WORDS: &[&str] = &["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// Writes `objects` in their order, each as a document of its own.
///
/// # Errors
/// None is known; the types of Kubernetes could refuse to be written.
pub fn to_yaml(objects: &[Object]) -> Result<String, serde_json::Error> {
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n");
        mapping(&serde_json::to_value(object)?, 0, &mut text);
    }
    Ok(text)
}

fn mapping(value: &Value, indent: usize, text: &mut String) {
    let Value::Object(pairs) = value else {
        return;
    };
    for (number, (key, value)) in pairs.iter().enumerate() {
        // The first line of a mapping in a list stands behind its hyphen.
        if number > 0 || indent == 0 || text.ends_with('\n') {
            text.push_str(&" ".repeat(indent));
        }
        text.push_str(&single_line(key));
        text.push(':');
        value_of(value, indent, text);
    }
}

/// What stands behind a key.
fn value_of(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(pairs) if !pairs.is_empty() => {
            text.push('\n');
            mapping(value, indent + 2, text);
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            list(items, indent, text);
        }
        _ => {
            text.push(' ');
            scalar(value, indent + 2, text);
        }
    }
}

fn list(items: &[Value], indent: usize, text: &mut String) {
    for item in items {
        text.push_str(&" ".repeat(indent));
        text.push_str("- ");
        match item {
            Value::Object(pairs) if !pairs.is_empty() => mapping(item, indent + 2, text),
            Value::Array(inner) if !inner.is_empty() => {
                // The types of Kubernetes have no lists of lists; JSON is YAML.
                text.push_str(&item.to_string());
                text.push('\n');
            }
            _ => scalar(item, indent + 2, text),
        }
    }
}

fn scalar(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::String(string) if fits_a_block(string) => {
            text.push_str(if string.ends_with('\n') {
                "|\n"
            } else {
                "|-\n"
            });
            for line in string.lines() {
                if !line.is_empty() {
                    text.push_str(&" ".repeat(indent));
                    text.push_str(line);
                }
                text.push('\n');
            }
        }
        Value::String(string) => {
            text.push_str(&single_line(string));
            text.push('\n');
        }
        other => {
            text.push_str(&other.to_string());
            text.push('\n');
        }
    }
}

/// Whether `text` is the same after it was written as a block of lines.
fn fits_a_block(text: &str) -> bool {
    text.trim_end_matches('\n').contains('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && !text.ends_with("\n\n")
        && !text.chars().any(|sign| sign != '\n' && is_special(sign))
        && text.lines().all(|line| !line.ends_with(' '))
}

/// Whether a sign is told by its number: it is not printable, or is a line's end to some readers.
fn is_special(sign: char) -> bool {
    sign.is_control()
        || matches!(
            sign,
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
}

/// `text` in one line, in quotes where it could be taken for anything else.
fn single_line(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut quoted = String::from('"');
    for sign in text.chars() {
        match sign {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            sign if is_special(sign) => quoted.push_str(&format!("\\u{:04x}", u32::from(sign))),
            sign => quoted.push(sign),
        }
    }
    quoted.push('"');
    quoted
}

fn is_plain(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
        && text
            .chars()
            .all(|sign| sign.is_ascii_alphanumeric() || " _./-:@+=,".contains(sign))
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn written(value: &Value) -> String {
        let mut text = String::new();
        mapping(value, 0, &mut text);
        text
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let texts = [
            "",
            " ",
            "a",
            "a b",
            "yes",
            "On",
            "null",
            "~",
            "1",
            "1_000",
            "0b1",
            "0x1f",
            "012",
            "1e3",
            ".5",
            "=",
            "<<",
            "a: b",
            "a:",
            "a #b",
            "#",
            "- a",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "'",
            "\"",
            "\\",
            "a\nb",
            "a\nb\n",
            "a\n\nb",
            "a\n\n",
            "\na",
            " a\nb",
            "a \nb",
            "a\n b\n",
            "\ta",
            "a\tb\n c",
            "\u{7f}",
            "\u{85}x",
            "\u{2028}",
            "äöü",
            "😀",
            "{a}",
            "[a]",
            "a, b",
            "a\r\nb",
            "---",
            "--- a",
            "...",
            "? a",
            "| a",
            "> a",
            "true",
            "2001-01-01",
            "1:30",
        ];
        for text in texts {
            let value = json!({"a": {"b": text, "c": [text, {"d": text, "e": [text]}]}, text: 1});
            let yaml = written(&value);
            let read: Value = serde_yaml::from_str(&yaml).unwrap_or_else(|error| {
                panic!("{text:?}: {error}\n{yaml}");
            });
            assert_eq!(read, value, "{yaml}");
        }
    }

    #[test]
    fn what_older_yaml_takes_for_a_number_or_a_word_is_quoted() {
        for text in [
            "yes", "Y", "off", "1_000", "0b11", "0o7", "+1", "12:30:45", ".inf",
        ] {
            assert_eq!(written(&json!({"a": text})), format!("a: \"{text}\"\n"));
        }
    }

    #[test]
    fn lines_stay_lines() {
        let yaml = written(&json!({"a": {"b": "x\n  y\n\nz\n"}, "c": ["p\nq"]}));
        assert_eq!(
            yaml,
            "a:\n  b: |\n    x\n      y\n\n    z\nc:\n- |-\n  p\n  q\n"
        );
    }

    #[test]
    fn empty_collections_and_other_values_are_written() {
        let value = json!({"a": {}, "b": [], "c": 1, "d": true, "e": null, "f": [[1, "x"]]});
        let read: Value = serde_yaml::from_str(&written(&value)).expect("YAML");
        assert_eq!(read, value);
    }
}
