//! Parsing YAML into nodes with byte ranges.

use std::ops::Range;

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span, StructureStyle};

use crate::YamlError;

/// A node: what it says and where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Where its first byte stands, without tag and anchor. An empty value stands where its
    /// key ends.
    pub start: usize,
    /// Where its last byte of content ends.
    pub end: usize,
    /// The start of the first line that holds nothing of it.
    pub lines_end: usize,
    /// The number of its anchor in the stream, 0 without one.
    anchor: usize,
    /// Its explicit tag.
    tag: Option<String>,
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A scalar; `plain` when it is not quoted, so that `null` or `1` are not text.
    Scalar {
        /// What it says.
        text: String,
        /// Whether it is written without quotes.
        plain: bool,
    },
    /// A reference to the anchor of this number.
    Alias(usize),
    /// A sequence, in brackets when `flow`.
    Sequence {
        /// Whether it is written in brackets.
        flow: bool,
        /// Its items, in order.
        items: Vec<Node>,
    },
    /// A mapping, in braces when `flow`.
    Mapping {
        /// Whether it is written in braces.
        flow: bool,
        /// Its keys and values, in order.
        pairs: Vec<(Node, Node)>,
    },
}

impl Node {
    /// Whether nothing stands where the value could be.
    pub fn is_absent(&self) -> bool {
        self.start == self.end && matches!(self.kind, Kind::Scalar { plain: true, .. })
    }

    /// Whether it is null, written out or left away.
    pub fn is_null(&self) -> bool {
        match &self.kind {
            Kind::Scalar { text, plain: true } => {
                self.tag.is_none()
                    && (self.is_absent()
                        || matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
            }
            _ => false,
        }
    }

    /// The text of a scalar that is not null.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// The pairs of a mapping; none for anything else.
    pub fn pairs(&self) -> &[(Node, Node)] {
        match &self.kind {
            Kind::Mapping { pairs, .. } => pairs,
            _ => &[],
        }
    }

    /// The items of a sequence; none for anything else.
    pub fn items(&self) -> &[Node] {
        match &self.kind {
            Kind::Sequence { items, .. } => items,
            _ => &[],
        }
    }

    /// The value of `key` in a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.pair(key).map(|(_, value)| value)
    }

    /// The pair of `key` in a mapping.
    pub fn pair(&self, key: &str) -> Option<&(Node, Node)> {
        self.pairs()
            .iter()
            .find(|(node, _)| node.text() == Some(key))
    }

    /// Whether it is written in brackets or braces.
    pub fn is_flow(&self) -> bool {
        matches!(
            self.kind,
            Kind::Sequence { flow: true, .. } | Kind::Mapping { flow: true, .. }
        )
    }
}

/// Whether two nodes say the same, wherever and however they are laid out.
pub fn same(left: &Node, right: &Node) -> bool {
    if left.anchor != right.anchor || left.tag != right.tag || left.is_null() != right.is_null() {
        return false;
    }
    match (&left.kind, &right.kind) {
        (
            Kind::Scalar { text: one, plain },
            Kind::Scalar {
                text: other,
                plain: other_plain,
            },
        ) => left.is_null() || (one == other && plain == other_plain),
        (Kind::Alias(one), Kind::Alias(other)) => one == other,
        (Kind::Sequence { items: one, .. }, Kind::Sequence { items: other, .. }) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Kind::Mapping { pairs: one, .. }, Kind::Mapping { pairs: other, .. }) => {
            one.len() == other.len()
                && one
                    .iter()
                    .zip(other)
                    .all(|(one, other)| same(&one.0, &other.0) && same(&one.1, &other.1))
        }
        _ => false,
    }
}

/// One document of a stream.
#[derive(Debug, Clone)]
pub struct Document {
    /// Where its `---` ends, when it has one.
    pub marker_end: Option<usize>,
    /// Its content; an absent scalar when it is empty.
    pub root: Node,
}

/// A parsed stream. Kubernetes reads its first document only.
#[derive(Debug, Clone)]
pub struct Stream {
    /// The documents in order; none when the text holds only comments.
    pub documents: Vec<Document>,
}

impl Stream {
    /// Parses `text`.
    ///
    /// # Errors
    /// [`YamlError::Syntax`] with the place of the fault.
    pub fn parse(text: &str) -> Result<Self, YamlError> {
        let mut builder = Builder {
            text,
            documents: Vec::new(),
            marker_end: None,
            open: Vec::new(),
        };
        for event in Parser::new_from_str_with_options(text, options(false)) {
            let (event, span) = event.map_err(|error| syntax(&error))?;
            builder.take(event, &span)?;
        }
        Ok(Self {
            documents: builder.documents,
        })
    }

    /// The content of the first document, unless it is empty.
    pub fn root(&self) -> Option<&Node> {
        let root = &self.documents.first()?.root;
        (!root.is_absent()).then_some(root)
    }
}

/// A collection whose end has not come yet.
struct Open {
    node: Node,
    key: Option<Node>,
}

/// Puts events together to nodes.
struct Builder<'text> {
    text: &'text str,
    documents: Vec<Document>,
    marker_end: Option<usize>,
    open: Vec<Open>,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), YamlError> {
        let range = self.range(span);
        match event {
            Event::DocumentStart(explicit, _) => {
                self.marker_end = explicit.then_some(range.end);
            }
            Event::Alias(anchor) => self.finish(self.leaf(range, Kind::Alias(anchor), 0, None))?,
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.map(|tag| tag.to_string());
                let kind = Kind::Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain,
                };
                let mut node = self.leaf(range, kind, anchor, tag);
                if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
                    self.end_block_scalar(&mut node);
                }
                self.finish(node)?;
            }
            Event::SequenceStart(style, anchor, tag) => {
                let kind = Kind::Sequence {
                    flow: style == StructureStyle::Flow,
                    items: Vec::new(),
                };
                self.start(range, kind, anchor, tag.map(|tag| tag.to_string()));
            }
            Event::MappingStart(style, anchor, tag) => {
                let kind = Kind::Mapping {
                    flow: style == StructureStyle::Flow,
                    pairs: Vec::new(),
                };
                self.start(range, kind, anchor, tag.map(|tag| tag.to_string()));
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(&range)?,
            _ => {}
        }
        Ok(())
    }

    /// The bytes of a span.
    fn range(&self, span: &Span) -> Range<usize> {
        let start = span.start.byte_offset().unwrap_or(self.text.len());
        start..span.end.byte_offset().unwrap_or(start).max(start)
    }

    fn leaf(&self, range: Range<usize>, kind: Kind, anchor: usize, tag: Option<String>) -> Node {
        Node {
            kind,
            start: range.start,
            end: range.end,
            lines_end: next_line(self.text, range.end),
            anchor,
            tag,
        }
    }

    /// A block scalar's span reaches into the indentation of the line that follows it.
    fn end_block_scalar(&self, node: &mut Node) {
        let content = self.text[..node.end].trim_end_matches([' ', '\t']);
        if content.ends_with('\n') && content.len() > node.start {
            node.lines_end = content.len();
        }
        node.end = self.text[..node.end].trim_end().len().max(node.start);
    }

    fn start(&mut self, range: Range<usize>, kind: Kind, anchor: usize, tag: Option<String>) {
        let node = self.leaf(range, kind, anchor, tag);
        self.open.push(Open { node, key: None });
    }

    fn end(&mut self, range: &Range<usize>) -> Result<(), YamlError> {
        let Some(Open {
            mut node,
            key: None,
        }) = self.open.pop()
        else {
            return Err(YamlError::unsupported("a structure that ends unpaired", 0));
        };
        if node.is_flow() {
            node.end = range.end;
            node.lines_end = next_line(self.text, node.end);
        } else {
            let last = match &node.kind {
                Kind::Sequence { items, .. } => items.last(),
                Kind::Mapping { pairs, .. } => pairs.last().map(|(_, value)| value),
                _ => None,
            };
            if let Some((end, lines_end)) = last.map(|last| (last.end, last.lines_end)) {
                node.end = end;
                node.lines_end = lines_end;
            }
        }
        self.finish(node)
    }

    /// Hands a complete node to the collection that it is in, or to a document.
    fn finish(&mut self, node: Node) -> Result<(), YamlError> {
        let Some(parent) = self.open.last_mut() else {
            let marker_end = self.marker_end.take();
            self.documents.push(Document {
                marker_end,
                root: node,
            });
            return Ok(());
        };
        match (&mut parent.node.kind, parent.key.take()) {
            (Kind::Sequence { items, .. }, _) => items.push(node),
            (Kind::Mapping { pairs, .. }, Some(key)) => pairs.push((key, node)),
            (Kind::Mapping { .. }, None) => parent.key = Some(node),
            _ => return Err(YamlError::unsupported("a value inside a scalar", 0)),
        }
        Ok(())
    }
}

/// A text in parts that can each be read, and edited, by themselves: one begins at each `---`, with the
/// directives of that document.
///
/// # Errors
/// [`YamlError::Syntax`] with the place of the fault.
pub fn parts(text: &str) -> Result<Vec<&str>, YamlError> {
    let stream = Stream::parse(text)?;
    let markers = stream.documents.iter().filter_map(|one| one.marker_end);
    let (mut parts, mut begun) = (Vec::new(), 0);
    for marker in markers {
        let mut start = line_start(text, marker.saturating_sub(1));
        while start > begun && text[line_start(text, start - 1)..].starts_with('%') {
            start = line_start(text, start - 1);
        }
        if start > begun {
            parts.push(&text[begun..start]);
            begun = start;
        }
    }
    parts.push(&text[begun..]);
    Ok(parts)
}

/// The comments that begin in a part of a text, each from its `#` to the end of its line.
///
/// # Errors
/// [`YamlError::Syntax`] with the place of the fault.
pub fn comments(text: &str, part: &Range<usize>) -> Result<Vec<String>, YamlError> {
    let mut found = Vec::new();
    for event in Parser::new_from_str_with_options(text, options(true)) {
        let (event, span) = event.map_err(|error| syntax(&error))?;
        let start = span.start.byte_offset().unwrap_or(text.len());
        if let Event::Comment(words, _) = event
            && part.contains(&start)
        {
            found.push(format!("#{}", words.trim_end()));
        }
    }
    Ok(found)
}

fn options(with_comments: bool) -> Options {
    let mut options = Options::default();
    options.set_emit_comments(with_comments);
    // As kubectl's reader: a line behind such a scalar would change what it says.
    options.block_scalar_eof_without_line_feed = true;
    options
}

fn syntax(error: &ScanError) -> YamlError {
    YamlError::Syntax {
        line: error.marker().line(),
        column: error.marker().col() + 1,
        reason: error.kind().to_string(),
    }
}

/// The start of the line after the one that holds `position`.
pub(super) fn next_line(text: &str, position: usize) -> usize {
    text[position..]
        .find('\n')
        .map_or(text.len(), |offset| position + offset + 1)
}

/// The start of the line that holds `position`.
pub(super) fn line_start(text: &str, position: usize) -> usize {
    text[..position]
        .rfind('\n')
        .map_or(0, |newline| newline + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_apart_at_its_documents() {
        for (text, wanted) in [
            ("a: 1\n", vec!["a: 1\n"]),
            ("", vec![""]),
            ("# head\n---\na: 1\n", vec!["# head\n", "---\na: 1\n"]),
            (
                "a: 1\n--- # two\nb: |\n  ---\n  c\n---\n# empty\n---\nd: 4",
                vec![
                    "a: 1\n",
                    "--- # two\nb: |\n  ---\n  c\n",
                    "---\n# empty\n",
                    "---\nd: 4",
                ],
            ),
            (
                "a: 1\n...\n%YAML 1.2\n---\nb: 2\n",
                vec!["a: 1\n...\n", "%YAML 1.2\n---\nb: 2\n"],
            ),
        ] {
            let parts = parts(text).expect("YAML");
            assert_eq!(parts, wanted);
            for part in parts {
                Stream::parse(part).expect("YAML");
            }
        }
    }
}
