//! Nodes that know their line.

/// A value and the line that it begins in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// The line, from 1.
    pub(crate) line: usize,
    /// What it is.
    pub(crate) kind: Kind,
    /// Whether it is tagged `!override` or `!reset`: it takes the place of what it would be merged with.
    pub(crate) whole: bool,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// Nothing, `~` or `null`.
    Null,
    /// Anything with one text: `plain` when it is not quoted, so that `80` and `true` are no text.
    Scalar {
        /// The text.
        text: String,
        /// Whether it is written without quotes, or came from a variable.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping in the order of the file; no key is there twice.
    Mapping(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// The line, from 1.
    pub(crate) line: usize,
    /// The text.
    pub(crate) text: String,
}

impl Node {
    /// A node that stands in `line`.
    pub(crate) fn new(line: usize, kind: Kind) -> Self {
        let whole = false;
        Self { line, kind, whole }
    }

    /// A text that stands in `line`.
    pub(crate) fn text(line: usize, text: impl Into<String>) -> Self {
        let text = text.into();
        Self::new(line, Kind::Scalar { text, plain: false })
    }

    /// The pairs of a mapping; none for anything else.
    pub(crate) fn pairs(&self) -> &[(Key, Self)] {
        match &self.kind {
            Kind::Mapping(pairs) => pairs,
            _ => &[],
        }
    }

    /// The pair of `key` in a mapping.
    pub(crate) fn pair(&self, key: &str) -> Option<&(Key, Self)> {
        self.pairs().iter().find(|(known, _)| known.text == key)
    }

    /// What it is, for a message.
    pub(crate) fn what(&self) -> &'static str {
        match &self.kind {
            Kind::Null => "nothing",
            Kind::Scalar { .. } => "a single value",
            Kind::Sequence(_) => "a list",
            Kind::Mapping(_) => "a mapping",
        }
    }
}
