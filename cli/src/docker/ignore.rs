//! `.dockerignore`: what of a folder is no part of a build's context.
//!
//! Patterns are those of the Dockerfile reference: relative to the context's root, `*` within a name, `**` over
//! any number of folders, `!` for what is a part after all; the last one that matches a path, or a folder
//! above it, counts.

use globset::{Glob, GlobBuilder, GlobMatcher};

/// The patterns of one file, in its order.
#[derive(Debug, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    matcher: GlobMatcher,
    /// It takes back what others left out.
    keeps: bool,
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
            let matcher = glob(&pattern).map_err(|error| (index + 1, error.to_string()))?;
            rules.push(Rule {
                matcher: matcher.compile_matcher(),
                keeps,
            });
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
            if rule.keeps == is_out && places.iter().any(|place| rule.matcher.is_match(place)) {
                is_out = !rule.keeps;
            }
        }
        is_out
    }

    /// Whether something below a folder that is left out may be a part all the same.
    pub fn may_keep_within(&self) -> bool {
        self.rules.iter().any(|rule| rule.keeps)
    }
}

fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
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
        assert!(ignore.may_keep_within());
    }

    #[test]
    fn all_but_some_is_said_with_a_star_and_exceptions() {
        let ignore = Ignore::parse("*\n!src\n!Dockerfile\nsrc/**/*.tmp").unwrap();
        assert!(ignore.leaves_out("README.md"));
        assert!(!ignore.leaves_out("src"));
        assert!(!ignore.leaves_out("src/main.c"));
        assert!(ignore.leaves_out("src/a/b.tmp"));
        assert!(!ignore.leaves_out("Dockerfile"));
        assert_eq!(Ignore::parse("ok\na[").unwrap_err().0, 2);
        assert!(!Ignore::default().may_keep_within());
    }
}
