//! Files of variables, `KEY=VALUE`, in the syntax that Compose has for `.env` and `env_file`.
//!
//! A line is blank, a comment (`# ...`), or `KEY=VALUE`, with `export` before it or not, and `:` in
//! place of `=`. A value in single quotes is taken as it is. In double quotes `\n`, `\r`, `\t`, `\"`,
//! `\\` and `\$` are escapes. Both may go over several lines. Without quotes a value ends before ` #`.
//! Outside of single quotes variables are put in, from the caller's and from the lines before. A `KEY`
//! alone has the caller's value, or is not there.

use crate::interpolate::{Resolved, interpolate};

/// What a file of variables says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvFile {
    /// The variables in the order of the file. A name may come twice: the last one counts.
    pub variables: Vec<(String, String)>,
    /// Variables that a line uses and nobody has set, with that line. They count as empty.
    pub unset: Vec<(usize, String)>,
}

/// Why a text is no file of variables.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct EnvFileError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

impl EnvFile {
    /// Reads `text`; `variable` tells the variables that come before those of the file.
    ///
    /// # Errors
    /// [`EnvFileError`] with the first line that is none of a file of variables.
    pub fn parse(
        text: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, EnvFileError> {
        let mut file = Self::default();
        let mut rest = text.trim_start_matches('\u{feff}');
        let mut line = 1;
        while !rest.is_empty() {
            let taken = file.take(rest, line, variable)?;
            line += rest[..taken].matches('\n').count();
            rest = &rest[taken..];
        }
        Ok(file)
    }

    /// Reads `text` of the format `raw`: behind `=` everything is the value.
    #[must_use]
    pub fn parse_raw(text: &str) -> Self {
        let lines = text.lines().filter(|line| {
            let line = line.trim_start();
            !line.is_empty() && !line.starts_with('#')
        });
        let pairs = lines.filter_map(|line| line.split_once('='));
        Self {
            variables: pairs
                .map(|(key, value)| (key.trim().to_owned(), value.to_owned()))
                .collect(),
            unset: Vec::new(),
        }
    }

    /// The value of the last line that sets `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.variables.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Takes one line, or several where quotes hold them together; gives how many bytes those are.
    fn take(
        &mut self,
        text: &str,
        line: usize,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<usize, EnvFileError> {
        let end = text.find('\n').map_or(text.len(), |end| end + 1);
        let fault = |reason: String| EnvFileError { line, reason };
        let trimmed = text[..end].trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            return Ok(end);
        }
        let start = text.len() - text.trim_start().len();
        let mut written = &text[start..end];
        if let Some(behind) = written.strip_prefix("export ") {
            written = behind.trim_start();
        }
        let sign = written.find(['=', ':']);
        let key = written[..sign.unwrap_or(written.len())].trim();
        let is_key = |sign: char| sign.is_ascii_alphanumeric() || "_.-[]".contains(sign);
        if key.is_empty() || !key.chars().all(is_key) {
            return Err(fault(format!("{key:?} is no name of a variable")));
        }
        let Some(sign) = sign else {
            if let Some(value) = variable(key) {
                self.variables.push((key.to_owned(), value));
            }
            return Ok(end);
        };
        // Where the value begins in `text`; a quote there may go on in the lines that follow.
        let behind = end - (written.len() - sign - 1);
        let blank = text[behind..end].len() - text[behind..end].trim_start().len();
        let value = &text[behind + blank..];
        let (value, taken) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) if blank < end - behind => {
                let (inner, length) = quoted(value, quote).ok_or_else(|| {
                    fault(format!(
                        "the value of {key} begins with {quote} and never ends"
                    ))
                })?;
                let taken = behind + blank + length;
                let rest = text[taken..].find('\n');
                (inner, rest.map_or(text.len(), |rest| taken + rest + 1))
            }
            _ => (unquoted(&text[behind..end]), end),
        };
        let value = match value {
            Value::Literal(value) => value,
            Value::Template(template) => {
                let resolved = self.resolve(&template, variable).map_err(fault)?;
                let unset = resolved.unset.into_iter();
                self.unset.extend(unset.map(|name| (line, name)));
                resolved.text
            }
        };
        self.variables.push((key.to_owned(), value));
        Ok(taken)
    }

    fn resolve(
        &self,
        template: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Resolved, String> {
        let known = |name: &str| variable(name).or_else(|| self.get(name).map(str::to_owned));
        interpolate(template, &known).map_err(|error| error.to_string())
    }
}

enum Value {
    Literal(String),
    Template(String),
}

/// What stands between quotes at the beginning of `text`, and how long that is with them.
fn quoted(text: &str, quote: char) -> Option<(Value, usize)> {
    let mut inner = String::new();
    let mut signs = text.char_indices().skip(1);
    while let Some((place, sign)) = signs.next() {
        match sign {
            _ if sign == quote => {
                let value = match quote {
                    '\'' => Value::Literal(inner),
                    _ => Value::Template(inner),
                };
                return Some((value, place + 1));
            }
            '\\' if quote == '"' => match signs.next()?.1 {
                'n' => inner.push('\n'),
                'r' => inner.push('\r'),
                't' => inner.push('\t'),
                // The way to write a dollar sign that begins no variable.
                '$' => inner.push_str("$$"),
                escaped @ ('"' | '\\') => inner.push(escaped),
                other => inner.extend(['\\', other]),
            },
            _ => inner.push(sign),
        }
    }
    None
}

/// A value without quotes: up to a comment.
fn unquoted(text: &str) -> Value {
    let text = text.trim_end_matches(['\n', '\r']);
    let comment = [" #", "\t#"].iter().filter_map(|mark| text.find(mark));
    let end = comment.min().unwrap_or(text.len());
    Value::Template(text[..end].trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<String> {
        (name == "HOST").then(|| "shell".to_owned())
    }

    fn read(text: &str) -> Vec<(String, String)> {
        EnvFile::parse(text, &variable).expect(text).variables
    }

    fn one(text: &str) -> String {
        let read = read(text);
        assert_eq!(read.len(), 1, "{text}: {read:?}");
        read[0].1.clone()
    }

    #[test]
    fn a_value_is_what_compose_reads() {
        for (text, expected) in [
            ("A=b", "b"),
            ("A = b c \n", "b c"),
            ("export A=b", "b"),
            ("A: b", "b"),
            ("A=", ""),
            ("A=b # comment", "b"),
            ("A=b#c", "b#c"),
            ("A=\"b # c\" # d", "b # c"),
            ("A='$HOST'", "$HOST"),
            ("A=$HOST", "shell"),
            ("A=\"${HOST}-x\"", "shell-x"),
            ("A=${NO:-d}", "d"),
            ("A=\"a\\nb\\$c\"", "a\nb$c"),
            ("A='a\\nb'", "a\\nb"),
            ("A=\"a\nb\"", "a\nb"),
            ("A=a=b\r\n", "a=b"),
            ("A=pass$$word", "pass$word"),
            ("\u{feff}A=b", "b"),
        ] {
            assert_eq!(one(text), expected, "{text:?}");
        }
    }

    #[test]
    fn later_lines_know_the_earlier_ones() {
        let text = "# first\n\nA=1\nB=${A}2\nHOST=mine\nC=$HOST\n";
        let file = EnvFile::parse(text, &variable).expect("a file");
        assert_eq!(file.get("B"), Some("12"));
        assert_eq!(file.get("C"), Some("shell"), "the caller's come first");
    }

    #[test]
    fn a_name_alone_has_the_callers_value_or_is_not_there() {
        assert_eq!(one("HOST"), "shell");
        assert_eq!(read("OTHER\n"), []);
    }

    #[test]
    fn what_is_not_set_is_told_with_its_line() {
        let file = EnvFile::parse("A=1\nB='x\ny'\nC=$NO", &variable).expect("a file");
        assert_eq!(file.unset, [(4, "NO".to_owned())]);
        assert_eq!(file.get("B"), Some("x\ny"));
    }

    #[test]
    fn a_line_that_says_nothing_is_refused_with_its_number() {
        for (text, line) in [("A=1\nnot this\n", 2), ("A=1\n\nB='x\n", 3), ("=x", 1)] {
            let error = EnvFile::parse(text, &variable).expect_err(text);
            assert_eq!(error.line, line, "{text}");
        }
    }

    #[test]
    fn a_raw_file_is_taken_as_it_is() {
        let file = EnvFile::parse_raw("# c\nA='$x' # y\n\nB\nC=\n");
        let expected = [("A", "'$x' # y"), ("C", "")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(file.variables, expected);
    }
}
