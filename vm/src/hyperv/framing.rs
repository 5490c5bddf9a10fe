//! What goes over a PowerShell's pipes: the constant scripts, then a line a request and a line an answer.
//!
//! ```text
//! command line   BOOTSTRAP reads one line and runs it
//! -> base64 of the scripts                            "coracle-answer 0 ..." once they run
//! -> {"number":1,"call":"NAME","with":{"Parameter":"base64"}}
//!                                                     <- coracle-answer 1 base64 of {"ok":..}
//! ```
//!
//! Every value is base64 within the request's JSON: no name can become a part of a script, and
//! neither Windows PowerShell 5.1 nor PowerShell 7 takes one for a date. Answers are base64 too, since
//! what 5.1 writes to a pipe is in the code page of the system. Lines without the mark of an answer are
//! noise: a banner, a warning of a policy, a profile that is loaded against the will of the caller.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The script that PowerShell is started with. It has neither quotation marks nor `$input`, for which
/// PowerShell would read the pipe itself.
pub(super) const BOOTSTRAP: &str = "$ErrorActionPreference = 'Stop'; $coracle = [Console]::In.ReadLine(); if ($null -eq $coracle) { exit 3 }; & ([ScriptBlock]::Create([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($coracle))))";

/// The words before [`BOOTSTRAP`]. Scripts of the command line are not subject to the execution policy.
pub(super) const ARGUMENTS: [&str; 6] = [
    "-NoLogo",
    "-NoProfile",
    "-NonInteractive",
    "-OutputFormat",
    "Text",
    "-Command",
];

/// All scripts, in the order in which they run.
pub(super) const SCRIPTS: &str = concat!(
    include_str!("prologue.ps1"),
    include_str!("host.ps1"),
    include_str!("machine.ps1"),
    include_str!("disk.ps1"),
    include_str!("network.ps1"),
    include_str!("loop.ps1"),
);

/// What every answer begins with.
const MARK: &str = "coracle-answer ";

/// A call of one of the scripts' functions.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// The function.
    pub(super) call: &'static str,
    with: Map<String, Value>,
}

impl Request {
    /// A call without parameters.
    pub(super) fn new(call: &'static str) -> Self {
        Self {
            call,
            with: Map::new(),
        }
    }

    /// Adds a parameter.
    pub(super) fn with(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        let encoded = STANDARD.encode(value.to_string());
        self.with.insert(name.to_owned(), Value::String(encoded));
        self
    }

    /// Adds a parameter that is a list of texts.
    pub(super) fn with_list(mut self, name: &str, values: &[String]) -> Self {
        let encoded = values.iter().map(|value| STANDARD.encode(value).into());
        self.with
            .insert(name.to_owned(), Value::Array(encoded.collect()));
        self
    }

    /// The line, with its end.
    pub(super) fn line(&self, number: u64) -> String {
        let request = json!({"number": number, "call": self.call, "with": self.with});
        format!("{request}\n")
    }
}

/// The first line of all.
pub(super) fn scripts_line() -> String {
    format!("{}\n", STANDARD.encode(SCRIPTS))
}

/// What PowerShell said of a call that failed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Refusal {
    /// The category of the error, for example `PermissionDenied`.
    pub(super) category: String,
    /// Its FullyQualifiedErrorId: the error's own name, a comma, and the command's.
    pub(super) id: String,
    /// The message, in the system's language.
    pub(super) message: String,
    /// The HRESULT of the innermost cause, as `0x8007000E`.
    #[serde(default)]
    pub(super) code: String,
}

/// What a line is.
#[derive(Debug)]
pub(super) enum Line {
    /// Not an answer to this request.
    Noise,
    /// The request's result.
    Done(Value),
    /// The request failed.
    Refused(Refusal),
    /// Marked as the answer to this request, and none.
    Damaged,
}

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    #[serde(default)]
    result: Value,
    error: Option<Refusal>,
}

/// Reads a line of a PowerShell's output, for somebody who waits for the answer to a request.
pub(super) fn read(line: &[u8], number: u64) -> Line {
    let line = String::from_utf8_lossy(line);
    let Some((found, text)) = line
        .trim()
        .strip_prefix(MARK)
        .and_then(|rest| rest.split_once(' '))
    else {
        return Line::Noise;
    };
    if found.parse() != Ok(number) {
        return Line::Noise;
    }
    let answer = STANDARD
        .decode(text)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Answer>(&bytes).ok());
    match answer {
        Some(Answer {
            ok: true, result, ..
        }) => Line::Done(result),
        Some(Answer {
            error: Some(error), ..
        }) => Line::Refused(error),
        _ => Line::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn answer(number: u64, json: &str) -> String {
        format!("coracle-answer {number} {}\r\n", STANDARD.encode(json))
    }

    #[test]
    fn no_value_appears_in_a_request_as_it_is() {
        let nasty = [
            "a'; Remove-VM *; '",
            "$(calc)",
            "`n\"",
            "line\nbreak",
            "Grün Straße 日本",
            "2024-01-01T00:00:00Z",
            "/Date(1)/",
            "",
        ];
        for value in nasty {
            let list = [value.to_owned(), "second".to_owned()];
            let line = Request::new("Find-CoracleMachine")
                .with("Name", value)
                .with_list("Dvds", &list)
                .line(7);
            assert!(line.is_ascii() && line.ends_with('\n') && line.lines().count() == 1);
            assert!(value.is_empty() || !line.contains(value), "{line}");
            let read: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(read["number"], 7);
            let text = STANDARD.decode(read["with"]["Name"].as_str().unwrap());
            assert_eq!(String::from_utf8(text.unwrap()).unwrap(), value);
            assert_eq!(read["with"]["Dvds"].as_array().unwrap().len(), 2);
        }
    }

    #[test]
    fn answers_are_told_from_noise() {
        let done = answer(3, r#"{"ok":true,"result":{"state":"Running"}}"#);
        assert!(
            matches!(read(done.as_bytes(), 3), Line::Done(value) if value["state"] == "Running")
        );
        let nothing = answer(3, r#"{"ok":true,"result":null}"#);
        assert!(matches!(
            read(nothing.as_bytes(), 3),
            Line::Done(Value::Null)
        ));
        let refused = answer(
            3,
            r#"{"ok":false,"error":{"category":"PermissionDenied","id":"AccessDenied,X","message":"Zugriff verweigert"}}"#,
        );
        assert!(
            matches!(read(refused.as_bytes(), 3), Line::Refused(error) if error.id == "AccessDenied,X")
        );
        for noise in [
            "",
            "Windows PowerShell\r\n",
            "coracle-answer",
            "coracle-answer x y",
            &answer(4, r#"{"ok":true}"#),
            &format!("> {done}"),
        ] {
            assert!(matches!(read(noise.as_bytes(), 3), Line::Noise), "{noise}");
        }
        assert!(matches!(read(b"\xff\xfeP\0S\0", 3), Line::Noise));
        for damaged in ["coracle-answer 3 %%%", &answer(3, "{}"), &answer(3, "[1")] {
            assert!(
                matches!(read(damaged.as_bytes(), 3), Line::Damaged),
                "{damaged}"
            );
        }
    }

    #[test]
    fn the_bootstrap_needs_no_quoting() {
        assert!(!BOOTSTRAP.contains(['"', '\n', '\\']));
        assert!(!BOOTSTRAP.to_lowercase().contains("$input"));
        assert!(scripts_line().is_ascii());
    }

    /// No PowerShell is at hand where this runs: brackets, braces and quotation marks are paired by a
    /// reader of our own, which knows comments and both kinds of texts.
    #[test]
    fn the_scripts_are_well_formed() {
        assert!(SCRIPTS.is_ascii() && !SCRIPTS.contains('\t') && !SCRIPTS.contains('\r'));
        let mut open = Vec::new();
        let mut characters = SCRIPTS.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '#' => while characters.next().is_some_and(|next| next != '\n') {},
                '\'' => while characters.next().expect("a closed text") != '\'' {},
                '"' => {
                    let mut depth = 0;
                    loop {
                        match characters.next().expect("a closed text") {
                            '`' => drop(characters.next()),
                            '(' => depth += 1,
                            ')' => depth -= 1,
                            '"' if depth == 0 => break,
                            _ => {}
                        }
                    }
                }
                '(' => open.push(')'),
                '{' => open.push('}'),
                '[' => open.push(']'),
                ')' | '}' | ']' => assert_eq!(open.pop(), Some(character)),
                _ => {}
            }
        }
        assert!(open.is_empty());
    }

    #[test]
    fn the_scripts_run_nothing_that_was_made_of_text() {
        let lower = SCRIPTS.to_lowercase();
        for word in [
            "invoke-expression",
            "iex ",
            "scriptblock",
            "-encodedcommand",
            "add-type",
            "start-process",
            "invoke-command",
            "-whatif",
            "$input",
        ] {
            assert!(!lower.contains(word), "{word}");
        }
        // The one dynamic call is of a name that the list has.
        assert_eq!(lower.matches("& $call @arguments").count(), 1);
        assert_eq!(lower.matches("& ").count(), 1);
    }

    #[test]
    fn every_call_is_a_function_and_hyper_v_is_always_named() {
        let functions: BTreeSet<&str> = SCRIPTS
            .lines()
            .filter_map(|line| line.strip_prefix("function ")?.split(' ').next())
            .collect();
        let (_, list) = SCRIPTS.split_once("$coracleCalls = @(").unwrap();
        let (list, _) = list.split_once("\n)").unwrap();
        let calls: Vec<&str> = list.split('\'').skip(1).step_by(2).collect();
        assert_eq!(calls.len(), 14);
        for call in calls {
            assert!(functions.contains(call), "{call}");
        }
        let words = SCRIPTS.split(|c: char| c.is_whitespace() || "()@{}".contains(c));
        for word in words {
            let bare = word.split_once('-').is_some_and(|(verb, noun)| {
                verb.chars().all(char::is_alphabetic)
                    && !verb.is_empty()
                    && (noun.starts_with("VM") || noun.starts_with("VHD"))
            });
            assert!(!bare || word == "Remove-VM", "{word} without its module");
        }
    }
}
