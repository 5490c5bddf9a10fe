//! A value together with the way to it: typed reading whose errors name the line.

use crate::fault::{Fault, Result};
use crate::yaml::{Kind, Node};

/// A node, where it stands and how one gets there.
#[derive(Debug, Clone)]
pub(crate) struct At<'n> {
    /// The value.
    pub(crate) node: &'n Node,
    /// The line to name: that of its key, where it has one.
    pub(crate) line: usize,
    /// The keys that lead to it.
    pub(crate) path: String,
}

/// One entry of what Compose writes as a mapping or as a list of `KEY=VALUE`.
#[derive(Debug, Clone)]
pub(crate) struct Entry<'n> {
    /// Before the sign.
    pub(crate) key: String,
    /// Behind it; none where there is no sign, or null.
    pub(crate) value: Option<String>,
    /// Where it stands.
    pub(crate) at: At<'n>,
}

impl<'n> At<'n> {
    /// The root of a file.
    pub(crate) fn root(node: &'n Node) -> Self {
        Self {
            node,
            line: node.line,
            path: String::new(),
        }
    }

    /// The value of `key`, unless it is null or not there.
    pub(crate) fn get(&self, key: &str) -> Option<Self> {
        self.pair(key).filter(|at| at.node.kind != Kind::Null)
    }

    /// The value of `key`, also where it is null.
    pub(crate) fn pair(&self, key: &str) -> Option<Self> {
        let (key, node) = self.node.pair(key)?;
        Some(self.child(&key.text, key.line, node))
    }

    fn child(&self, key: &str, line: usize, node: &'n Node) -> Self {
        let path = match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        };
        Self { node, line, path }
    }

    /// All pairs of a mapping, also those whose value is null.
    pub(crate) fn entries(&self) -> Result<Vec<(&'n str, Self)>> {
        match &self.node.kind {
            Kind::Null => Ok(Vec::new()),
            Kind::Mapping(pairs) => Ok(pairs
                .iter()
                .map(|(key, node)| (key.text.as_str(), self.child(&key.text, key.line, node)))
                .collect()),
            _ => Err(self.expected("a mapping")),
        }
    }

    /// All items of a list.
    pub(crate) fn items(&self) -> Result<Vec<Self>> {
        match &self.node.kind {
            Kind::Null => Ok(Vec::new()),
            Kind::Sequence(items) => Ok(self.numbered(items)),
            _ => Err(self.expected("a list")),
        }
    }

    /// All items of a list, or a value that stands alone.
    pub(crate) fn items_or_one(&self) -> Result<Vec<Self>> {
        match &self.node.kind {
            Kind::Scalar { .. } => Ok(vec![self.clone()]),
            _ => self.items(),
        }
    }

    fn numbered(&self, items: &'n [Node]) -> Vec<Self> {
        let numbered = items.iter().enumerate();
        numbered
            .map(|(number, node)| Self {
                node,
                line: node.line,
                path: format!("{}[{number}]", self.path),
            })
            .collect()
    }

    /// The text of a single value.
    pub(crate) fn text(&self) -> Result<&'n str> {
        match &self.node.kind {
            Kind::Scalar { text, .. } => Ok(text),
            _ => Err(self.expected("a text")),
        }
    }

    /// The texts of a list.
    pub(crate) fn texts(&self) -> Result<Vec<String>> {
        let items = self.items()?;
        items
            .iter()
            .map(|item| item.text().map(str::to_owned))
            .collect()
    }

    /// `true` or `false`, in the words of YAML 1.1 too, as Compose takes them.
    pub(crate) fn boolean(&self) -> Result<bool> {
        match self.text()?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" | "1" => Ok(true),
            "false" | "no" | "off" | "n" | "0" | "" => Ok(false),
            _ => Err(self.expected("true or false")),
        }
    }

    /// Whether `key` is there and true.
    pub(crate) fn flag(&self, key: &str) -> Result<bool> {
        self.get(key).map_or(Ok(false), |at| at.boolean())
    }

    /// A whole number.
    pub(crate) fn integer(&self) -> Result<i64> {
        let text = self.text()?.trim();
        text.parse().map_err(|_| self.expected("a whole number"))
    }

    /// What Compose writes as a mapping or as a list of `KEY=VALUE`.
    pub(crate) fn pairs_or_list(&self) -> Result<Vec<Entry<'n>>> {
        if matches!(self.node.kind, Kind::Sequence(_)) {
            let items = self.items()?.into_iter();
            return items
                .map(|at| {
                    let text = at.text()?;
                    let (key, value) = match text.split_once('=') {
                        Some((key, value)) => (key, Some(value.to_owned())),
                        None => (text, None),
                    };
                    let key = key.to_owned();
                    Ok(Entry { key, value, at })
                })
                .collect();
        }
        let entries = self.entries()?.into_iter();
        entries
            .map(|(key, at)| {
                let value = match at.node.kind {
                    Kind::Null => None,
                    _ => Some(at.text()?.to_owned()),
                };
                let key = key.to_owned();
                Ok(Entry { key, value, at })
            })
            .collect()
    }

    /// The names in a list, or the keys of a mapping with what they hold.
    pub(crate) fn names(&self) -> Result<Vec<(&'n str, Self)>> {
        match self.node.kind {
            Kind::Mapping(_) => self.entries(),
            _ => {
                let items = self.items()?.into_iter();
                items.map(|at| Ok((at.text()?, at))).collect()
            }
        }
    }

    /// Whether it says nothing: null, false, an empty text or collection.
    pub(crate) fn is_idle(&self) -> bool {
        match &self.node.kind {
            Kind::Null => true,
            Kind::Scalar { text, plain } => text.is_empty() || (*plain && text == "false"),
            Kind::Sequence(items) => items.is_empty(),
            Kind::Mapping(pairs) => pairs.is_empty(),
        }
    }

    /// That something else is expected here.
    pub(crate) fn expected(&self, what: &str) -> Fault {
        let found = match &self.node.kind {
            Kind::Scalar { text, .. } => format!("{text:?}"),
            _ => self.node.what().to_owned(),
        };
        self.fault(format!("{what} is expected, not {found}"))
    }

    /// A fault of this value.
    pub(crate) fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::Invalid {
            line: self.line,
            path: self.path.clone(),
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::parse;

    #[test]
    fn a_value_of_the_wrong_type_is_named_with_its_line_and_what_is_expected() {
        let root = parse("a:\n  b:\n  - x\n").expect("YAML").root;
        let b = At::root(&root).get("a").and_then(|a| a.get("b"));
        let error = b.expect("b").boolean().expect_err("a list");
        assert_eq!(error.to_string(), "a.b: a text is expected, not a list");
        assert_eq!(error.line(), 2);
    }

    #[test]
    fn a_number_in_quotes_is_a_number() {
        let root = parse("a: '3'\nb: 3\nc: x\n").expect("YAML").root;
        let root = At::root(&root);
        assert_eq!(root.get("a").expect("a").integer().expect("3"), 3);
        assert_eq!(root.get("b").expect("b").integer().expect("3"), 3);
        assert!(root.get("c").expect("c").integer().is_err());
    }

    #[test]
    fn a_list_of_assignments_is_read_as_a_mapping_is() {
        let root = parse("a: [X=1, Y, 'Z=a=b']\nb: {X: 1, Y: , Z: a=b}\n");
        let root = root.expect("YAML").root;
        let read = |key| {
            let entries = At::root(&root).get(key).expect(key).pairs_or_list();
            let entries = entries.expect("entries").into_iter();
            entries
                .map(|entry| (entry.key, entry.value))
                .collect::<Vec<_>>()
        };
        assert_eq!(read("a"), read("b"));
        assert_eq!(read("a")[2].1.as_deref(), Some("a=b"));
        assert_eq!(read("a")[1].1, None);
    }
}
