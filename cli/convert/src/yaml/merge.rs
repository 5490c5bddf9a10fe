//! The merge key of YAML 1.1, `<<`, which Compose files build fragments with.

use super::tree::{Key, Kind, Node};
use crate::fault::{Fault, Result};

/// The pairs of a mapping with what its `<<` brings. What stands in the mapping itself comes before
/// what is merged, and of several merged mappings the first that has a key.
///
/// # Errors
/// [`Fault::Syntax`] where a key is written twice, or what is merged is no mapping.
pub(super) fn merged(written: Vec<(Key, Node)>) -> Result<Vec<(Key, Node)>> {
    let mut pairs: Vec<(Key, Node)> = Vec::with_capacity(written.len());
    let mut sources = Vec::new();
    for (key, value) in written {
        if key.text == "<<" {
            sources.push((key, value));
        } else if let Some((first, _)) = pairs.iter().find(|(known, _)| known.text == key.text) {
            let reason = format!("`{}` is already in line {}", key.text, first.line);
            return Err(fault(key.line, reason));
        } else {
            pairs.push((key, value));
        }
    }
    for (key, value) in sources {
        let mappings = match value.kind {
            Kind::Sequence(items) => items,
            Kind::Null => Vec::new(),
            _ => vec![value],
        };
        for mapping in mappings {
            let Kind::Mapping(brought) = mapping.kind else {
                let reason = "`<<` takes a mapping, or a list of mappings".to_owned();
                return Err(fault(key.line, reason));
            };
            for (key, value) in brought {
                if !pairs.iter().any(|(known, _)| known.text == key.text) {
                    pairs.push((key, value));
                }
            }
        }
    }
    Ok(pairs)
}

fn fault(line: usize, reason: String) -> Fault {
    Fault::Syntax {
        line,
        column: 1,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn says(text: &str, key: &str) -> Vec<(String, String)> {
        let root = parse(text).expect("YAML").root;
        let (_, node) = root.pair(key).expect("the key").clone();
        let pairs = node.pairs().iter().map(|(key, value)| match &value.kind {
            Kind::Scalar { text, .. } => (key.text.clone(), text.clone()),
            other => panic!("{other:?}"),
        });
        pairs.collect()
    }

    fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn what_is_written_comes_before_what_is_merged() {
        let text = "x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\n";
        assert_eq!(says(text, "y"), pairs(&[("b", "3"), ("a", "1")]));
    }

    #[test]
    fn of_a_list_the_first_mapping_that_has_a_key_counts() {
        let text = "x: &x {a: 1}\ny: &y {a: 2, c: 3}\nz:\n  <<: [*x, *y]\n";
        assert_eq!(says(text, "z"), pairs(&[("a", "1"), ("c", "3")]));
    }

    #[test]
    fn only_mappings_are_merged() {
        let error = parse("a:\n  <<: text\n").expect_err("no mapping");
        assert_eq!(error.line(), 2);
    }
}
