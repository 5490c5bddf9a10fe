//! A text that is edited step by step, and what is said of it.

use crate::note::{Note, Weight};
use coracle_yaml::{
    Kind, Node, Stream, Value, YamlError, comments, insert_comments, insert_pair,
    insert_pair_before, remove_pair, rename_key, replace_raw,
};

/// A step of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The value of a key of a mapping.
    Key(&'static str),
    /// An item of a list, or a pair of a mapping, from 0.
    Index(usize),
}

/// The way from a document's root to a node.
pub(crate) type Path = Vec<Step>;

/// A text that was parsed.
#[derive(Debug, Clone)]
struct Parsed {
    text: String,
    stream: Stream,
}

impl Parsed {
    fn new(text: String) -> Result<Self, YamlError> {
        let stream = Stream::parse(&text)?;
        Ok(Self { text, stream })
    }

    /// The root of a document, and what is at a path of it.
    fn at(&self, document: usize, path: &[Step]) -> Option<(&Node, &Node)> {
        let root = &self.stream.documents.get(document)?.root;
        Some((root, walk(root, path)?))
    }
}

/// A part of a text as it becomes.
#[derive(Debug)]
pub(crate) struct Draft {
    /// Lines of the text before it.
    before: usize,
    now: Parsed,
    /// As it was given: notes name its lines.
    given: Parsed,
    notes: Vec<Note>,
}

impl Draft {
    pub(crate) fn new(text: &str, before: usize) -> Result<Self, YamlError> {
        let given = Parsed::new(text.to_owned())?;
        Ok(Self {
            before,
            now: given.clone(),
            given,
            notes: Vec::new(),
        })
    }

    /// The documents of the part that was given.
    pub(crate) fn documents(&self) -> usize {
        self.given.stream.documents.len()
    }

    /// The part, and what was said, by lines.
    pub(crate) fn finish(self) -> (String, Vec<Note>) {
        let mut notes = self.notes;
        notes.sort_by_key(|note| note.line);
        (self.now.text, notes)
    }
}

/// One object of a text: a document, or an item of a list.
#[derive(Debug)]
pub(crate) struct Object<'draft> {
    draft: &'draft mut Draft,
    document: usize,
    /// Where it is in its document.
    root: Path,
}

impl<'draft> Object<'draft> {
    pub(crate) fn new(draft: &'draft mut Draft, document: usize, root: Path) -> Self {
        Self {
            draft,
            document,
            root,
        }
    }

    /// What is at a path, as it is now.
    pub(crate) fn get(&self, path: &[Step]) -> Option<&Node> {
        let (_, node) = self.draft.now.at(self.document, &join(&self.root, path))?;
        Some(node)
    }

    /// The text of a scalar.
    pub(crate) fn text(&self, path: &[Step]) -> Option<String> {
        self.get(path)?.text().map(str::to_owned)
    }

    /// What a node looks like, where it is on one line: a scalar with its quotes, an alias.
    pub(crate) fn raw(&self, node: &Node) -> String {
        self.draft.now.text[node.start..node.end].to_owned()
    }

    /// `Deployment web`.
    pub(crate) fn name(&self) -> String {
        let kind = self.text(&[Step::Key("kind")]).unwrap_or_default();
        let name = self.text(&[Step::Key("metadata"), Step::Key("name")]);
        match name {
            Some(name) => format!("{kind} {name}"),
            None => kind,
        }
    }

    /// Adds a pair to the mapping at a path, before the pair of another key if there is that.
    pub(crate) fn insert(
        &mut self,
        path: &[Step],
        before: Option<&str>,
        key: &str,
        value: &Value,
    ) -> Result<(), YamlError> {
        self.edit(path, |text, root, mapping| {
            let index = before.and_then(|before| index_of(mapping, before));
            match index {
                Some(index) => insert_pair_before(text, root, mapping, index, key, value),
                None => insert_pair(text, root, mapping, key, value),
            }
        })
    }

    /// Removes the pair of a key from the mapping at a path, if it is there. Comments in it and behind it stay, on
    /// lines of their own.
    pub(crate) fn remove(&mut self, path: &[Step], key: &str) -> Result<(), YamlError> {
        let mut kept = Vec::new();
        self.edit(path, |text, _, mapping| {
            let Some(index) = index_of(mapping, key) else {
                return Ok(text.to_owned());
            };
            if let Some((key, value)) = mapping.pairs().get(index) {
                kept = comments(text, &(key.start..value.lines_end))?;
            }
            insert_comments(text, mapping, index, &kept)
        })?;
        self.edit(path, |text, _, mapping| match index_of(mapping, key) {
            Some(index) => remove_pair(text, mapping, index),
            None => Ok(text.to_owned()),
        })
    }

    /// Gives the key of a pair of the mapping at a path another name.
    pub(crate) fn rename(&mut self, path: &[Step], key: &str, to: &str) -> Result<(), YamlError> {
        self.edit(path, |text, _, mapping| match mapping.pair(key) {
            Some(pair) => rename_key(text, pair, to),
            None => Ok(text.to_owned()),
        })
    }

    /// Puts a word in the place of the value of a key in the mapping at a path.
    pub(crate) fn set(&mut self, path: &[Step], key: &str, word: &str) -> Result<(), YamlError> {
        self.edit(path, |text, _, mapping| match mapping.pair(key) {
            Some(pair) => {
                let is_quoted = matches!(&pair.1.kind, Kind::Scalar { plain: false, .. });
                let raw = match is_quoted {
                    true => format!(" {word:?}"),
                    false => format!(" {word}"),
                };
                replace_raw(text, pair, &raw)
            }
            None => Ok(text.to_owned()),
        })
    }

    fn edit(
        &mut self,
        path: &[Step],
        edit: impl FnOnce(&str, &Node, &Node) -> Result<String, YamlError>,
    ) -> Result<(), YamlError> {
        let now = &self.draft.now;
        if let Some((root, node)) = now.at(self.document, &join(&self.root, path)) {
            self.draft.now = Parsed::new(edit(&now.text, root, node)?)?;
        }
        Ok(())
    }

    /// Says what was changed at a path.
    pub(crate) fn changed(&mut self, path: &[Step], what: &str) {
        self.note(path, Weight::Changed, what);
    }

    /// Says what a person has to look at.
    pub(crate) fn look(&mut self, path: &[Step], what: &str) {
        self.note(path, Weight::Look, what);
    }

    fn note(&mut self, path: &[Step], weight: Weight, what: &str) {
        let message = format!("{}: {what}", self.name());
        let path = join(&self.root, path);
        let given = &self.draft.given;
        let document = given.stream.documents.get(self.document);
        let position = document.map_or(0, |document| nearest(&document.root, &path));
        let line = self.draft.before + given.text[..position].matches('\n').count() + 1;
        self.draft.notes.push(Note {
            line,
            weight,
            message,
        });
    }
}

fn index_of(mapping: &Node, key: &str) -> Option<usize> {
    let mut keys = mapping.pairs().iter();
    keys.position(|(node, _)| node.text() == Some(key))
}

fn walk<'node>(node: &'node Node, path: &[Step]) -> Option<&'node Node> {
    path.iter().try_fold(node, |node, step| match step {
        Step::Key(key) => node.get(key),
        Step::Index(index) => match &node.kind {
            Kind::Mapping { pairs, .. } => pairs.get(*index).map(|(_, value)| value),
            _ => node.items().get(*index),
        },
    })
}

/// Where the deepest node of a path begins that there is; a value's key, where it has one.
fn nearest(root: &Node, path: &[Step]) -> usize {
    let (mut node, mut position) = (root, root.start);
    for step in path {
        let next = match step {
            Step::Key(key) => node.pair(key).map(|(key, value)| (key.start, value)),
            Step::Index(index) => match &node.kind {
                Kind::Mapping { pairs, .. } => {
                    pairs.get(*index).map(|(key, value)| (key.start, value))
                }
                _ => node.items().get(*index).map(|item| (item.start, item)),
            },
        };
        let Some((start, value)) = next else {
            break;
        };
        (position, node) = (start, value);
    }
    position
}

/// A path with further steps.
pub(crate) fn join(path: &[Step], further: &[Step]) -> Path {
    [path, further].concat()
}

/// A path of keys.
pub(crate) fn keys<const N: usize>(keys: [&'static str; N]) -> Path {
    keys.map(Step::Key).into()
}
