//! Commands and their outputs as the documents show them.
//!
//! A block ```` ```console ```` holds sessions: lines `$ COMMAND`, continued after a backslash,
//! each followed by what it prints, where `...` stands for anything. A block ```` ```sh ````
//! holds commands only.

/// A fenced block of a Markdown file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The word behind the fence, such as `console`.
    pub language: String,
    /// The line number of the fence, counted from 1.
    pub line: usize,
    /// What stands in it.
    pub text: String,
}

/// One command of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// What is typed.
    pub command: String,
    /// What is printed; empty when nothing is shown.
    pub output: String,
    /// The line number of the command, counted from 1.
    pub line: usize,
}

/// All fenced blocks of a Markdown text, in order.
pub fn blocks(markdown: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in markdown.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(language)) => {
                let language = language
                    .split_whitespace()
                    .next()
                    .unwrap_or_default()
                    .to_owned();
                open = Some(Block {
                    language,
                    line: index + 1,
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

/// The commands of a block, whether it is `sh` or `console`.
pub fn sessions(block: &Block) -> Vec<Session> {
    let mut found: Vec<Session> = Vec::new();
    let mut goes_on = false;
    for (index, line) in block.text.lines().enumerate() {
        let line_number = block.line + 1 + index;
        let typed = match block.language.as_str() {
            "console" => line.strip_prefix("$ "),
            _ => Some(line).filter(|line| !line.trim().is_empty() && !line.starts_with('#')),
        };
        match (typed, found.last_mut()) {
            (_, Some(session)) if goes_on => {
                session.command.push('\n');
                session.command.push_str(line);
            }
            (Some(command), _) => {
                found.push(Session {
                    command: command.to_owned(),
                    output: String::new(),
                    line: line_number,
                });
            }
            (None, Some(session)) => {
                session.output.push_str(line);
                session.output.push('\n');
                continue;
            }
            (None, None) => continue,
        }
        goes_on = line.ends_with('\\');
    }
    found
}

/// Whether `text` is `pattern`, in which `...` stands for anything, a run of blanks for another
/// run of blanks, and blanks at the ends of lines for nothing.
pub fn wildcard_match(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (even(pattern), even(text));
    let parts: Vec<&str> = pattern.split("...").collect();
    let [first, middle @ .., last] = parts.as_slice() else {
        return pattern == text;
    };
    let Some(mut rest) = text.strip_prefix(first.trim_end()) else {
        return false;
    };
    for part in middle {
        match rest.find(part.trim()) {
            Some(at) => rest = &rest[at + part.trim().len()..],
            None => return false,
        }
    }
    rest.ends_with(last.trim_start())
}

fn even(text: &str) -> String {
    let lines = text
        .trim()
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_outputs_are_told_apart() {
        let text =
            "a\n```console\n$ one \\\n  more\nout 1\nout 2\n$ two\n```\n```sh\n# no\nthree\n```\n";
        let found: Vec<_> = blocks(text).iter().flat_map(sessions).collect();
        assert_eq!(found[0].command, "one \\\n  more");
        assert_eq!(
            (found[0].output.as_str(), found[0].line),
            ("out 1\nout 2\n", 3)
        );
        assert_eq!(
            (found[1].command.as_str(), found[1].output.as_str()),
            ("two", "")
        );
        assert_eq!((found[2].command.as_str(), found[2].line), ("three", 11));
    }

    #[test]
    fn dots_stand_for_anything_and_nothing_else_does() {
        assert!(wildcard_match(
            "coracle   Ready ... v1.37...",
            "coracle Ready    <none>  5s v1.37.2\n"
        ));
        assert!(wildcard_match("NAME\n...\nend", "NAME\na\nb\nend"));
        assert!(wildcard_match("same", "same\n"));
        assert!(!wildcard_match(
            "coracle Ready ... v1.38",
            "coracle Ready <none> v1.37.2"
        ));
        assert!(!wildcard_match("same", "same and more"));
        assert!(!wildcard_match("a ... b ... c", "a c b"));
    }
}
