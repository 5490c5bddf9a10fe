//! `.dockerignore`: what of a folder is no part of a build's context.
//!
//! Patterns are those of the Dockerfile reference: relative to the context's root, `*` within a name, `**` over
//! any number of folders, `!` for what is a part after all; the last one that matches a path, or a folder
//! above it, counts. Globs of the usual libraries mean other things by `**` within a name, and by braces.

use regex::Regex;

/// The patterns of one file, in its order.
#[derive(Debug, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    /// The whole pattern.
    whole: Regex,
    /// Its parts, of one that keeps.
    parts: Vec<Part>,
    /// It takes back what others left out.
    keeps: bool,
}

/// What a pattern has between two slashes.
#[derive(Debug)]
enum Part {
    Name(Regex),
    /// It reaches over slashes.
    Any,
}

impl Ignore {
    /// Reads the patterns.
    ///
    /// # Errors
    /// The line that is no pattern, from 1, and why.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut rules = Vec::new();
        for (index, line) in text.lines().enumerate() {
            // A byte order mark of some editors.
            let line = line.trim_start_matches('\u{feff}').trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (keeps, pattern) = match line.strip_prefix('!') {
                Some(pattern) => (true, pattern.trim()),
                None => (false, line),
            };
            let pattern = cleaned(pattern);
            if pattern.is_empty() {
                continue;
            }
            let rule = Rule::new(&pattern, keeps);
            rules.push(rule.map_err(|reason| (index + 1, reason))?);
        }
        Ok(Self { rules })
    }

    /// Whether a path, relative to the root with `/` between its parts, is no part of the context.
    pub fn leaves_out(&self, path: &str) -> bool {
        let above = path.match_indices('/').map(|(end, _)| &path[..end]);
        let places: Vec<&str> = above.chain([path]).collect();
        let mut is_out = false;
        for rule in &self.rules {
            // A rule that would change nothing need not be asked.
            if rule.keeps == is_out && places.iter().any(|place| rule.whole.is_match(place)) {
                is_out = !rule.keeps;
            }
        }
        is_out
    }

    /// Whether something below a folder that is left out may be a part all the same.
    pub fn may_keep_within(&self, folder: &str) -> bool {
        let mut keeping = self.rules.iter().filter(|rule| rule.keeps);
        keeping.any(|rule| rule.may_match_within(folder))
    }
}

impl Rule {
    fn new(pattern: &str, keeps: bool) -> Result<Self, String> {
        let parts = pattern.split('/').filter(|_| keeps).map(|part| {
            Ok(match part.contains("**") {
                true => Part::Any,
                false => Part::Name(expression(part)?),
            })
        });
        Ok(Self {
            whole: expression(pattern)?,
            parts: parts.collect::<Result<_, String>>()?,
            keeps,
        })
    }

    fn may_match_within(&self, folder: &str) -> bool {
        for (name, part) in folder.split('/').zip(&self.parts) {
            match part {
                Part::Any => return true,
                Part::Name(part) if part.is_match(name) => {}
                Part::Name(_) => return false,
            }
        }
        true
    }
}

/// A pattern as an expression for a whole path.
fn expression(pattern: &str) -> Result<Regex, String> {
    let mut expression = String::from("^");
    let mut rest = pattern.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '*' if rest.next_if_eq(&'*').is_some() => {
                let is_before_slash = rest.next_if_eq(&'/').is_some();
                let is_last = rest.peek().is_none();
                // Before others also no folder at all.
                expression.push_str(match is_before_slash && !is_last {
                    true => "(.*/)?",
                    false => ".*",
                });
            }
            '*' => expression.push_str("[^/]*"),
            '?' => expression.push_str("[^/]"),
            '[' => {
                let mut is_closed = false;
                let class = rest.by_ref().take_while(|&c| {
                    is_closed = c == ']';
                    !is_closed
                });
                let class: String = class.collect();
                let (not, class) = match class.strip_prefix('^') {
                    Some(class) => ("^", class),
                    None => ("", &*class),
                };
                if class.is_empty() || !is_closed {
                    return Err("a [ without its ]".to_owned());
                }
                let class = class
                    .replace('[', "\\[")
                    .replace('&', "\\&")
                    .replace('~', "\\~");
                expression.push_str(&format!("[{not}{class}]"));
            }
            '\\' => match rest.next() {
                Some(escaped) => expression.push_str(&regex::escape(&escaped.to_string())),
                None => return Err("a \\ with nothing behind it".to_owned()),
            },
            plain => expression.push_str(&regex::escape(&plain.to_string())),
        }
    }
    expression.push('$');
    Regex::new(&expression).map_err(|error| error.to_string())
}

/// A pattern without `.`, `..`, and slashes at its ends.
fn cleaned(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rule_that_matches_counts() {
        let ignore = Ignore::parse(
            "# comment\n*/temp*\n**/*.log\ntarget\n!target/keep.bin\nsecret?\n/docs/./a.md\n",
        )
        .unwrap();
        for out in [
            "a/temporary",
            "a/temp/b",
            "x.log",
            "a/b/c/x.log",
            "target/debug/app",
            "secret1",
            "docs/a.md",
        ] {
            assert!(ignore.leaves_out(out), "{out}");
        }
        for part in [
            "temporary",
            "a/b/temp",
            "target/keep.bin",
            "secret12",
            "docs/b.md",
            "src/target",
        ] {
            assert!(!ignore.leaves_out(part), "{part}");
        }
        assert!(ignore.may_keep_within("target"));
        assert!(!ignore.may_keep_within("node_modules"));
    }

    #[test]
    fn all_but_some_is_said_with_a_star_and_exceptions() {
        let ignore = Ignore::parse("*\n!src\n!Dockerfile\nsrc/**/*.tmp\n!**/kept").unwrap();
        assert!(ignore.leaves_out("README.md"));
        assert!(!ignore.leaves_out("src"));
        assert!(!ignore.leaves_out("src/main.c"));
        assert!(ignore.leaves_out("src/a/b.tmp"));
        assert!(!ignore.leaves_out("Dockerfile"));
        assert!(ignore.may_keep_within("anything/at/all"));
        assert!(!Ignore::default().may_keep_within("src"));
    }

    /// Each means what Docker's own matcher means by it.
    #[test]
    fn stars_reach_as_far_as_dockers() {
        for (pattern, path, is_out) in [
            ("**.pem", "certs/a.pem", true),
            ("secrets**", "secrets/deep/file", true),
            ("**/secret", "secret", true),
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a*", "b/a", false),
            ("{a,b}", "a", false),
            ("{a,b}", "{a,b}", true),
            ("a+(b)", "a+(b)", true),
            ("a.b", "axb", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
        ] {
            let ignore = Ignore::parse(pattern).unwrap();
            assert_eq!(ignore.leaves_out(path), is_out, "{pattern} {path}");
        }
        assert_eq!(Ignore::parse("ok\na[").unwrap_err().0, 2);
        for wrong in ["a\\", "a[]", "]a[b"] {
            assert_eq!(Ignore::parse(wrong).unwrap_err().0, 1, "{wrong}");
        }
    }
}
