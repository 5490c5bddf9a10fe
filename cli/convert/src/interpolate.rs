//! Variables in values: `$VAR`, `${VAR}` and its forms with a default, an alternative or a demand.

use crate::fault::{Fault, Result};
use crate::report::Report;
use crate::yaml::{Kind, Node};

/// Why a text cannot be interpolated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unresolved {
    /// A brace that holds no variable.
    #[error("{0:?} is no variable: write `$$` where a dollar sign is meant")]
    Form(String),
    /// `${VAR:?message}` without such a variable.
    #[error("the variable {name} is required: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the file says about it.
        message: String,
    },
}

/// A text with its variables put in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// The text.
    pub(crate) text: String,
    /// Variables that are not set, for which nothing was put in.
    pub(crate) unset: Vec<String>,
}

/// How deep defaults may be in defaults: nobody writes more, and the stack has an end.
const DEEPEST: usize = 100;

/// Puts variables into `text`; `variable` knows them.
pub(crate) fn interpolate(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> std::result::Result<Resolved, Unresolved> {
    interpolate_at(0, text, variable)
}

fn interpolate_at(
    depth: usize,
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> std::result::Result<Resolved, Unresolved> {
    if depth > DEEPEST {
        return Err(form(text));
    }
    let mut resolved = Resolved::default();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        resolved.text.push_str(&rest[..dollar]);
        let behind = &rest[dollar + 1..];
        if let Some(literal) = behind.strip_prefix('$') {
            resolved.text.push('$');
            rest = literal;
        } else if let Some(inner) = behind.strip_prefix('{') {
            let end = closing(inner).ok_or_else(|| form(&rest[dollar..]))?;
            braced(depth, &inner[..end], variable, &mut resolved)?;
            rest = &inner[end + 1..];
        } else {
            let name = name_of(behind);
            match name {
                // What begins nothing is a dollar sign, as in `$(date)`.
                "" => resolved.text.push('$'),
                name => plain(name, variable, &mut resolved),
            }
            rest = &behind[name.len()..];
        }
    }
    resolved.text.push_str(rest);
    Ok(resolved)
}

fn form(from: &str) -> Unresolved {
    Unresolved::Form(from.chars().take(20).collect())
}

/// Where the brace ends that `text` begins behind.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    let mut before = ' ';
    for (place, sign) in text.char_indices() {
        match sign {
            '{' if before == '$' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(place);
        }
        before = sign;
    }
    None
}

/// The variable's name that `text` begins with.
fn name_of(text: &str) -> &str {
    let ends = |(place, sign): &(usize, char)| {
        !(sign.is_ascii_alphabetic() || *sign == '_' || (*place > 0 && sign.is_ascii_digit()))
    };
    let end = text.char_indices().find(ends);
    &text[..end.map_or(text.len(), |(place, _)| place)]
}

fn plain(name: &str, variable: &dyn Fn(&str) -> Option<String>, resolved: &mut Resolved) {
    match variable(name) {
        Some(value) => resolved.text.push_str(&value),
        None => resolved.unset.push(name.to_owned()),
    }
}

/// What stands between braces.
fn braced(
    depth: usize,
    inner: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    resolved: &mut Resolved,
) -> std::result::Result<(), Unresolved> {
    let name = name_of(inner);
    let operation = &inner[name.len()..];
    let no_form = || form(&format!("${{{inner}}}"));
    if name.is_empty() {
        return Err(no_form());
    }
    if operation.is_empty() {
        plain(name, variable, resolved);
        return Ok(());
    }
    // With a colon, an empty value counts as none.
    let (operation, empty_counts) = match operation.strip_prefix(':') {
        Some(operation) => (operation, false),
        None => (operation, true),
    };
    let value = variable(name).filter(|value| empty_counts || !value.is_empty());
    let mut signs = operation.chars();
    let sign = signs.next();
    let word = || interpolate_at(depth + 1, signs.as_str(), variable);
    let put = match (sign, value) {
        (Some('-' | '?'), Some(value)) => Resolved {
            text: value,
            unset: Vec::new(),
        },
        (Some('-'), None) | (Some('+'), Some(_)) => word()?,
        (Some('+'), None) => Resolved::default(),
        (Some('?'), None) => {
            let message = word()?.text;
            return Err(Unresolved::Required {
                name: name.to_owned(),
                message: match message.is_empty() {
                    true => "it is not set".to_owned(),
                    false => message,
                },
            });
        }
        _ => return Err(no_form()),
    };
    resolved.text.push_str(&put.text);
    resolved.unset.extend(put.unset);
    Ok(())
}

/// Puts variables into all values of a file. Keys stay as they are, and so do the extensions at its
/// top, which are there for others.
///
/// # Errors
/// [`Fault::Invalid`] with the line.
pub(crate) fn substitute(
    root: &mut Node,
    variable: &dyn Fn(&str) -> Option<String>,
    report: &mut Report,
) -> Result<()> {
    if let Kind::Mapping(pairs) = &mut root.kind {
        for (key, value) in pairs {
            if !key.text.starts_with("x-") {
                walk(value, &key.text, variable, report)?;
            }
        }
    }
    Ok(())
}

fn walk(
    node: &mut Node,
    path: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    report: &mut Report,
) -> Result<()> {
    let line = node.line;
    match &mut node.kind {
        Kind::Null => {}
        Kind::Scalar { text, plain } => {
            if !text.contains('$') {
                return Ok(());
            }
            let resolved = interpolate(text, variable).map_err(|error| Fault::Invalid {
                line,
                path: path.to_owned(),
                message: error.to_string(),
            })?;
            for name in resolved.unset {
                let message =
                    format!("the variable {name} is not set; nothing is put in its place");
                report.warn_line(line, path.to_owned(), message);
            }
            *text = resolved.text;
            *plain = true;
        }
        Kind::Sequence(items) => {
            for (number, item) in items.iter_mut().enumerate() {
                walk(item, &format!("{path}[{number}]"), variable, report)?;
            }
        }
        Kind::Mapping(pairs) => {
            for (key, value) in pairs {
                walk(value, &format!("{path}.{}", key.text), variable, report)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<String> {
        match name {
            "SET" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            "_2" => Some("two".to_owned()),
            _ => None,
        }
    }

    fn of(text: &str) -> String {
        interpolate(text, &variable).expect(text).text
    }

    #[test]
    fn every_form_gives_what_compose_gives() {
        for (text, expected) in [
            ("a $SET b", "a value b"),
            ("${SET}x$_2", "valuextwo"),
            ("$SET-x", "value-x"),
            ("${SET:-d}", "value"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NONE-d}", "d"),
            ("${NONE:-}", ""),
            ("${SET:+alt}", "alt"),
            ("${EMPTY:+alt}", ""),
            ("${EMPTY+alt}", "alt"),
            ("${NONE+alt}", ""),
            ("${SET:?no}", "value"),
            ("${NONE:-${SET}}", "value"),
            ("${NONE:-${NO:-{x}}}", "{x}"),
            ("${NONE:-http://a:80/?b=c}", "http://a:80/?b=c"),
            ("cost: 5$$", "cost: 5$"),
            ("$${SET}", "${SET}"),
            ("", ""),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_set_is_empty_and_told() {
        let resolved = interpolate("a${NONE}b$NO", &variable).expect("text");
        assert_eq!(resolved.text, "ab");
        assert_eq!(resolved.unset, ["NONE", "NO"]);
        assert!(
            interpolate("${NONE:-x}", &variable)
                .expect("x")
                .unset
                .is_empty()
        );
    }

    #[test]
    fn a_required_variable_is_demanded_with_the_files_own_words() {
        for text in ["${NONE:?set it}", "${NONE?set it}", "${EMPTY:?set it}"] {
            let error = interpolate(text, &variable).expect_err(text);
            assert!(
                error.to_string().ends_with("is required: set it"),
                "{error}"
            );
        }
        assert_eq!(of("${EMPTY?set it}"), "");
    }

    #[test]
    fn a_dollar_sign_that_begins_no_variable_stays() {
        for text in ["5$", "$1", "$(date)", "a $ b", "$é"] {
            assert_eq!(of(text), text);
        }
    }

    #[test]
    fn defaults_in_defaults_have_an_end() {
        let nested = |levels| "${NONE:-".repeat(levels) + "x" + &"}".repeat(levels);
        assert_eq!(of(&nested(50)), "x");
        assert!(interpolate(&nested(100_000), &variable).is_err());
    }

    #[test]
    fn a_brace_that_holds_no_variable_is_refused() {
        for text in ["${", "${}", "${SET", "${SET/a/b}", "${a b}", "${1}"] {
            assert!(interpolate(text, &variable).is_err(), "{text}");
        }
    }
}
