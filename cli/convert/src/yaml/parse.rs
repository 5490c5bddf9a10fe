//! From text to nodes, by the events of the parser.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{Event, Options, Parser, ScalarStyle, Span, Tag};

use super::merge::merged;
use super::tree::{Key, Kind, Node};
use crate::fault::{Fault, Result};

/// The most nodes that a file may have once its aliases stand for what they name. It keeps a small
/// file from becoming a huge one.
const MOST_NODES: usize = 200_000;

/// A parsed text.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// The first document; null when the text says nothing.
    pub(crate) root: Node,
    /// The line in which a second document begins.
    pub(crate) second: Option<usize>,
}

/// Parses `text`: anchors, aliases and merges (`<<`) are resolved, a key that is written twice is
/// refused.
///
/// # Errors
/// [`Fault`] with the line.
pub(crate) fn parse(text: &str) -> Result<Parsed> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    // A last line without its end says the same as one with it.
    options.block_scalar_eof_without_line_feed = true;
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| Fault::Syntax {
            line: error.marker().line(),
            column: error.marker().col() + 1,
            reason: error.kind().to_string(),
        })?;
        builder.take(event, &span)?;
    }
    let mut documents = builder.documents.into_iter();
    let root = documents.next().unwrap_or(Node::new(1, Kind::Null));
    Ok(Parsed {
        root,
        second: documents.next().map(|document| document.line),
    })
}

/// A collection whose end has not come yet.
struct Open {
    line: usize,
    anchor: usize,
    merging: Merging,
    content: Content,
}

/// What a tag says of merges.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Merging {
    Usual,
    Override,
    Reset,
}

impl Merging {
    fn of(tag: Option<&Cow<'_, Tag>>) -> Self {
        match tag.map(|tag| tag.original()).as_deref() {
            Some("!override") => Self::Override,
            Some("!reset") => Self::Reset,
            _ => Self::Usual,
        }
    }

    fn node(self, line: usize, kind: Kind) -> Node {
        Node {
            line,
            kind: match self {
                Self::Reset => Kind::Null,
                _ => kind,
            },
            whole: self != Self::Usual,
        }
    }
}

enum Content {
    Sequence(Vec<Node>),
    Mapping {
        pairs: Vec<(Key, Node)>,
        key: Option<Key>,
    },
}

#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    open: Vec<Open>,
    /// What the anchors name, and of how many nodes that is.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<()> {
        let line = span.start.line();
        match event {
            Event::Alias(anchor) => {
                let Some((mut node, size)) = self.anchors.get(&anchor).cloned() else {
                    return Err(invalid(line, "this alias is inside what it names"));
                };
                self.count(line, size)?;
                // Messages about the value as a whole name the line that asks for it.
                node.line = line;
                self.finish(node, 0)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(line, 1)?;
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let kind = match plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
                    true => Kind::Null,
                    false => Kind::Scalar {
                        text: text.into_owned(),
                        plain,
                    },
                };
                let node = Merging::of(tag.as_ref()).node(line, kind);
                self.finish(node, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                let content = Content::Sequence(Vec::new());
                self.start(line, anchor, Merging::of(tag.as_ref()), content)
            }
            Event::MappingStart(_, anchor, tag) => {
                let (pairs, key) = (Vec::new(), None);
                let content = Content::Mapping { pairs, key };
                self.start(line, anchor, Merging::of(tag.as_ref()), content)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            _ => Ok(()),
        }
    }

    fn count(&mut self, line: usize, nodes: usize) -> Result<()> {
        self.nodes = self.nodes.saturating_add(nodes);
        match self.nodes > MOST_NODES {
            true => Err(invalid(line, "its aliases make this file too large")),
            false => Ok(()),
        }
    }

    fn start(
        &mut self,
        line: usize,
        anchor: usize,
        merging: Merging,
        content: Content,
    ) -> Result<()> {
        self.count(line, 1)?;
        self.open.push(Open {
            line,
            anchor,
            merging,
            content,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let kind = match open.content {
            Content::Sequence(items) => Kind::Sequence(items),
            Content::Mapping { pairs, .. } => Kind::Mapping(merged(pairs)?),
        };
        self.finish(open.merging.node(open.line, kind), open.anchor)
    }

    /// Hands a complete node to the collection that it is in, or to the documents.
    fn finish(&mut self, node: Node, anchor: usize) -> Result<()> {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), size(&node)));
        }
        let Some(parent) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        match &mut parent.content {
            Content::Sequence(items) => items.push(node),
            Content::Mapping { pairs, key } => match key.take() {
                Some(key) => pairs.push((key, node)),
                None => *key = Some(as_key(node)?),
            },
        }
        Ok(())
    }
}

fn as_key(node: Node) -> Result<Key> {
    let line = node.line;
    match node.kind {
        Kind::Scalar { text, .. } => Ok(Key { line, text }),
        _ => Err(invalid(line, "a key has to be a single value")),
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.kind {
        Kind::Sequence(items) => items.iter().map(size).sum(),
        Kind::Mapping(pairs) => pairs.iter().map(|(_, value)| size(value)).sum(),
        _ => 0,
    }
}

fn invalid(line: usize, message: &str) -> Fault {
    Fault::Syntax {
        line,
        column: 1,
        reason: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(text: &str) -> Node {
        parse(text).expect("YAML").root
    }

    fn at<'n>(node: &'n Node, keys: &[&str]) -> &'n Node {
        keys.iter().fold(node, |node, key| {
            &node.pair(key).unwrap_or_else(|| panic!("no {key}")).1
        })
    }

    #[test]
    fn every_value_knows_its_line() {
        let node = root("# first\na:\n  b: 1\n  c:\n  - x\n  - y\n");
        assert_eq!(at(&node, &["a", "b"]).line, 3);
        let Kind::Sequence(items) = &at(&node, &["a", "c"]).kind else {
            panic!("no list")
        };
        assert_eq!(
            items.iter().map(|item| item.line).collect::<Vec<_>>(),
            [5, 6]
        );
    }

    #[test]
    fn an_alias_stands_for_what_its_anchor_names() {
        let node = root("a: &a {x: 1}\nb: *a\n");
        assert_eq!(
            at(&node, &["b", "x"]).kind,
            at(&node, &["a", "x"]).kind.clone()
        );
        assert_eq!(at(&node, &["b"]).line, 2);
        assert_eq!(at(&node, &["b", "x"]).line, 1);
    }

    #[test]
    fn null_is_written_in_many_ways_and_not_in_quotes() {
        for text in ["a:", "a: ~", "a: null"] {
            assert_eq!(at(&root(text), &["a"]).kind, Kind::Null, "{text}");
        }
        assert_ne!(at(&root("a: 'null'"), &["a"]).kind, Kind::Null);
        assert_ne!(at(&root("a: ''"), &["a"]).kind, Kind::Null);
        assert_eq!(root("# nothing\n").kind, Kind::Null);
    }

    #[test]
    fn aliases_of_aliases_do_not_fill_the_memory() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let below = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        let error = parse(&text).expect_err("too large");
        assert!(error.to_string().contains("too large"), "{error}");
    }

    #[test]
    fn a_fault_of_the_syntax_names_its_line() {
        let error = parse("a: 1\nb: [\n").expect_err("no YAML");
        assert!(matches!(error, Fault::Syntax { .. }));
        assert!(error.line() >= 2, "{error:?}");
        let error = parse("a: 1\nb: 2\na: 3\n").expect_err("twice");
        assert_eq!(error.line(), 3);
    }

    #[test]
    fn a_second_document_is_noticed() {
        assert_eq!(parse("a: 1\n---\nb: 2\n").expect("YAML").second, Some(3));
        assert_eq!(parse("---\na: 1\n").expect("YAML").second, None);
    }
}
