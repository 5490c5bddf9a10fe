//! Reading a kubeconfig: its shape, and what its lists hold.

use super::{CURRENT_CONTEXT, EditError};
use crate::entry::List;
use coracle_yaml::{Kind, Node, Stream, Value};

/// The mapping of the first document, after a look at its shape; `None` when it is empty.
///
/// # Errors
/// [`EditError::Shape`] when it is not a kubeconfig.
pub(crate) fn checked_root<'stream>(
    text: &str,
    stream: &'stream Stream,
) -> Result<Option<&'stream Node>, EditError> {
    let Some(root) = stream.root() else {
        return Ok(None);
    };
    let wrong = |node: &Node, what: &str| EditError::Shape {
        what: what.to_owned(),
        line: line_of(text, node),
    };
    let Kind::Mapping { pairs, .. } = &root.kind else {
        return Err(wrong(root, "it is not a mapping"));
    };
    for (index, (key, value)) in pairs.iter().enumerate() {
        let Some(name) = key.text() else { continue };
        let list = List::of_key(name).is_some();
        if !list && name != CURRENT_CONTEXT {
            continue;
        }
        if pairs[..index]
            .iter()
            .any(|(other, _)| other.text() == Some(name))
        {
            return Err(wrong(key, &format!("`{name}` is there twice")));
        }
        let fits = match &value.kind {
            Kind::Alias(_) => true,
            Kind::Sequence { .. } => list,
            Kind::Scalar { .. } => value.is_null() || !list,
            Kind::Mapping { .. } => false,
        };
        if !fits {
            let expected = if list { "a list" } else { "text" };
            return Err(wrong(value, &format!("`{name}` is not {expected}")));
        }
    }
    Ok(Some(root))
}

/// The line of a node, from 1.
pub(super) fn line_of(text: &str, node: &Node) -> usize {
    text[..node.start].matches('\n').count() + 1
}

/// A parsed kubeconfig for reading.
pub(crate) struct Entries {
    stream: Stream,
}

impl Entries {
    /// Parses `text`.
    ///
    /// # Errors
    /// [`EditError`] when it is not a kubeconfig.
    pub(crate) fn parse(text: &str) -> Result<Self, EditError> {
        let stream = Stream::parse(text)?;
        checked_root(text, &stream)?;
        Ok(Self { stream })
    }

    /// The current context, unless it is missing or empty.
    pub(crate) fn current_context(&self) -> Option<&str> {
        let value = self.stream.root()?.get(CURRENT_CONTEXT)?;
        value.text().filter(|text| !text.is_empty())
    }

    /// The names in `list`, in order.
    pub(crate) fn names(&self, list: List) -> impl Iterator<Item = &str> {
        self.items(list).iter().filter_map(name_of)
    }

    /// Whether `list` holds an item of this name.
    pub(crate) fn holds(&self, list: List, name: &str) -> bool {
        self.names(list).any(|other| other == name)
    }

    /// The content of the first item of this name in `list`.
    pub(crate) fn content(&self, list: List, name: &str) -> Option<&Node> {
        let item = self.items(list).iter();
        let mut item = item.filter(|item| name_of(item) == Some(name));
        item.next()?.get(list.item_key())
    }

    fn items(&self, list: List) -> &[Node] {
        let value = self.stream.root().and_then(|root| root.get(list.key()));
        value.map(Node::items).unwrap_or_default()
    }
}

/// The name of an item of a list.
pub(super) fn name_of(item: &Node) -> Option<&str> {
    item.get("name").and_then(Node::text)
}

/// Whether a node says what a value says.
pub(super) fn says(node: &Node, value: &Value) -> bool {
    match value {
        Value::Text(text) | Value::Plain(text) => node.text() == Some(text),
        Value::List(items) => {
            matches!(node.kind, Kind::Sequence { .. })
                && node.items().len() == items.len()
                && node
                    .items()
                    .iter()
                    .zip(items)
                    .all(|(node, value)| says(node, value))
        }
        Value::Map(pairs) => {
            matches!(node.kind, Kind::Mapping { .. })
                && node.pairs().len() == pairs.len()
                && pairs
                    .iter()
                    .all(|(key, value)| node.get(key).is_some_and(|node| says(node, value)))
        }
    }
}
