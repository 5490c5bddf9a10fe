//! A command that is written as one text, split as Compose splits it.
//!
//! Compose takes words, quotes and backslashes from the shell and nothing else. Crates that split
//! for a real shell take `#` for a comment, which Compose does not.

/// The words of a command.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    /// In order.
    pub(crate) words: Vec<String>,
    /// What comes from the first sign on that only a shell knows, such as `&&` or `|`: Compose
    /// leaves it out, since it starts no shell.
    pub(crate) left: Option<String>,
}

/// Splits `text`; nothing where a quote does not end.
pub(crate) fn split(text: &str) -> Option<Words> {
    let mut found = Words::default();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut signs = text.char_indices();
    while let Some((place, sign)) = signs.next() {
        match (quote, sign) {
            (Some(mark), _) if sign == mark => quote = None,
            (Some('"'), '\\') => {
                let (_, next) = signs.next()?;
                let word = word.get_or_insert_default();
                if !matches!(next, '"' | '\\' | '$' | '`') {
                    word.push('\\');
                }
                word.push(next);
            }
            (Some(_), _) => word.get_or_insert_default().push(sign),
            (None, '"' | '\'') => {
                quote = Some(sign);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().push(signs.next()?.1),
            (None, ';' | '&' | '|' | '<' | '>') => {
                found.left = Some(text[place..].to_owned());
                break;
            }
            (None, _) if sign.is_whitespace() => found.words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(sign),
        }
    }
    found.words.extend(word);
    quote.is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        split(text).expect(text).words
    }

    #[test]
    fn quotes_and_backslashes_hold_words_together() {
        for (text, expected) in [
            ("npm  start", vec!["npm", "start"]),
            ("sh -c 'a b' \"c d\"", vec!["sh", "-c", "a b", "c d"]),
            (r#"a\ b "x\"y" 'x\y'"#, vec!["a b", "x\"y", r"x\y"]),
            (r#"--a="b c"'d'"#, vec!["--a=b cd"]),
            ("''", vec![""]),
            ("x #y", vec!["x", "#y"]),
            ("sh -c 'a && b'", vec!["sh", "-c", "a && b"]),
            (" \n", vec![]),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
    }

    #[test]
    fn what_needs_a_shell_is_left_out_and_told() {
        let found = split("npm install && npm start").expect("words");
        assert_eq!(found.words, ["npm", "install"]);
        assert_eq!(found.left.as_deref(), Some("&& npm start"));
    }

    #[test]
    fn a_quote_that_does_not_end_is_refused() {
        assert_eq!(split("a 'b"), None);
        assert_eq!(split("a \\"), None);
    }
}
