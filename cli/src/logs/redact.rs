//! Takes secrets out of text: keys and certificates, tokens, passwords, and the user's home folder.
//!
//! It knows secrets by how they look or by what stands before them, so that it takes too much rather
//! than too little. What neither looks like a secret nor is called one stays.

use crate::error::{Context as _, ErrorId, Result};
use regex::{Regex, RegexBuilder};
use serde_json::Value;
use std::borrow::Cow;
use std::path::Path;

/// What stands in a secret's place.
pub const REMOVED: &str = "[removed]";
/// Longest block between a PEM's first and last line, in bytes; one that is longer was cut off.
const LONGEST_PEM: usize = 64 << 10;
const PEM_BEGIN: &str = "-----BEGIN ";
const PEM_END: &str = "-----END ";

/// What a secret's name ends with.
const NAMES: &str = "password|passwd|passphrase|[_-]pwd|token|secret|credentials?|auth|api[_-]?key|access[_-]?key|private[_-]?key|secret[_-]?key|client-key-data|sharedkey";

/// Patterns, and what stands in place of each, in the order in which they are used. NAMES stands for the
/// above.
const PATTERNS: &[(&str, &str)] = &[
    // PEM in base64, as a kubeconfig holds it.
    (r"LS0tLS1CRUdJTi[A-Za-z0-9+/=_-]*", "[removed]"),
    // A URL's user and password.
    (r#"([a-z][a-z0-9+.-]*://)[^\s/"'<>]+@"#, "$1[removed]@"),
    // The same of a proxy that is named without a scheme.
    (
        r#"((?:https?|ftp|all)_?proxy\\?["']?[ \t]*[=:][ \t]*\\?["']?)[^\s/"'@]+@"#,
        "$1[removed]@",
    ),
    (
        r#"((?:authorization|cookie)\\?["']?[ \t]*[=:][ \t]*\[?\\?["']?)[^"'\r\n\]\\]+"#,
        "$1[removed]",
    ),
    (r"\b(bearer[ \t]+)[A-Za-z0-9._~+/=-]{16,}", "$1[removed]"),
    // A flag and its value as two words.
    (
        r#"(--[a-z0-9-]*(?:NAMES)[ \t]+)(?:"[^"\n]*"|'[^'\n]*'|[^\s"'-][^\s"']*)"#,
        "$1[removed]",
    ),
    // `name=value`, `name: value`, also in JSON, also JSON in a string, also YAML over several lines.
    (
        r#"((?:NAMES)\\?["']?[ \t]*[=:][ \t]*)(?:\\"(?:[^"\\\n]|\\[^"\n])*\\"|"(?:[^"\\]|\\.)*"|'[^'\n]*'|[|>][+-]?[ \t]*\r?\n(?:[ \t]+[^\n]*(?:\n|$))+|[^\s"']+)"#,
        "$1[removed]",
    ),
    // JSON in base64: tokens (RFC 7519), and Docker's credentials.
    (r"eyJ[A-Za-z0-9_+/=-]{8,}(?:\.[A-Za-z0-9_-]*)*", "[removed]"),
    (
        r"\b(?:gh[a-z]_|github_pat_|glpat-)[A-Za-z0-9_-]{16,}",
        "[removed]",
    ),
];

/// Knows secrets, and where the user's home folder is.
#[derive(Debug)]
pub struct Redactor {
    patterns: Vec<(Regex, &'static str)>,
    name: Regex,
    /// The home folder as it is written in text, and in JSON in text.
    homes: Vec<String>,
}

impl Redactor {
    /// For the user whose home folder this is.
    pub fn new(home: &Path) -> Result<Self> {
        let compile = |pattern: &str| {
            RegexBuilder::new(&pattern.replace("NAMES", NAMES))
                .case_insensitive(true)
                .build()
                .context(ErrorId::Internal, || {
                    "the patterns of secrets cannot be read".into()
                })
        };
        let patterns = PATTERNS
            .iter()
            .map(|(pattern, replacement)| Ok((compile(pattern)?, *replacement)))
            .collect::<Result<_>>()?;
        Ok(Self {
            patterns,
            name: compile("(?:NAMES)$")?,
            homes: homes(home),
        })
    }

    /// The text without secrets.
    pub fn text(&self, text: &str) -> String {
        let mut text = without_pem(text);
        for (pattern, replacement) in &self.patterns {
            if let Cow::Owned(changed) = pattern.replace_all(&text, *replacement) {
                text = changed;
            }
        }
        for home in &self.homes {
            text = without_home(&text, home);
        }
        text
    }

    /// The value without secrets: every text in it, and whole texts whose field is called like a
    /// secret. It stays JSON.
    pub fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(fields) => {
                for (name, field) in fields.iter_mut() {
                    match field {
                        Value::String(text) if self.name.is_match(name) && !text.is_empty() => {
                            REMOVED.clone_into(text);
                        }
                        _ => self.value(field),
                    }
                }
            }
            _ => {}
        }
    }
}

fn homes(home: &Path) -> Vec<String> {
    // The root of a file system is nobody's home.
    let Some(text) = home.to_str().filter(|_| home.parent().is_some()) else {
        return Vec::new();
    };
    let mut homes = vec![text.replace('\\', "\\\\"), text.to_owned()];
    if let Ok(real) = std::fs::canonicalize(home) {
        homes.extend(real.to_str().map(str::to_owned));
    }
    homes.dedup();
    homes
}

/// The home folder as `~`, where it is a whole folder's name.
fn without_home(text: &str, home: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(home) {
        let goes_on = after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '-' | '_'));
        result.push_str(before);
        result.push_str(if goes_on { home } else { "~" });
        rest = after;
    }
    result + rest
}

/// PEM blocks away, also one whose beginning or end was cut off.
fn without_pem(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        let (begin, end) = (rest.find(PEM_BEGIN), rest.find(PEM_END));
        match (begin, end) {
            (None, None) => return result + rest,
            // The end of a block that began before this text did.
            (_, Some(end)) if begin.is_none_or(|begin| end < begin) => {
                let kept = rest[..end].trim_end_matches(is_pem_body);
                result.push_str(kept);
                result.push_str(REMOVED);
                rest = after_label(&rest[end + PEM_END.len()..]);
            }
            (Some(begin), end) => {
                result.push_str(&rest[..begin]);
                result.push_str(REMOVED);
                rest = match end.filter(|end| end - begin <= LONGEST_PEM) {
                    Some(end) => after_label(&rest[end + PEM_END.len()..]),
                    None => after_label(&rest[begin + PEM_BEGIN.len()..])
                        .trim_start_matches(is_pem_body),
                };
            }
            (None, Some(_)) => return result,
        }
    }
}

/// Behind `LABEL-----`.
fn after_label(rest: &str) -> &str {
    let label =
        rest.trim_start_matches(|c: char| c.is_ascii_uppercase() || c == ' ' || c.is_ascii_digit());
    label.trim_start_matches('-')
}

fn is_pem_body(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '\n' | '\r' | '\\')
}

#[cfg(test)]
mod tests;
