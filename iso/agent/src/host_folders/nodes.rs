//! What the kernel knows of one folder: numbers for files, and which names lead to them.

use coracle_protocol::folders::{Attributes, FileKind};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// The folder itself.
pub(super) const ROOT: u64 = 1;

#[derive(Debug)]
pub(super) struct Nodes {
    nodes: HashMap<u64, Node>,
    names: HashMap<(u64, OsString), u64>,
    last: u64,
}

#[derive(Debug)]
struct Node {
    parent: u64,
    name: OsString,
    /// How often the kernel was told of it.
    lookups: u64,
    /// As the kernel was told last.
    attributes: Attributes,
    /// As it was when the machine had changed it, or when a change was told: what is the same is no news.
    own: Option<Attributes>,
    /// How often it is open to be written.
    writers: u32,
    /// Whether its name leads to it.
    is_there: bool,
}

impl Nodes {
    pub(super) fn new() -> Self {
        let root = Node {
            parent: ROOT,
            name: OsString::new(),
            lookups: 1,
            attributes: Attributes {
                kind: FileKind::Folder.into(),
                ..Attributes::default()
            },
            own: None,
            writers: 0,
            is_there: true,
        };
        Self {
            nodes: HashMap::from([(ROOT, root)]),
            names: HashMap::new(),
            last: ROOT,
        }
    }

    /// Its path below the folder; `None` for what has no name any more.
    pub(super) fn path(&self, number: u64) -> Option<Vec<u8>> {
        let mut names = Vec::new();
        let mut next = number;
        while next != ROOT {
            let node = self.nodes.get(&next).filter(|node| node.is_there)?;
            names.push(node.name.as_bytes());
            next = node.parent;
        }
        names.reverse();
        Some(names.join(&b'/'))
    }

    /// The path of a name in a folder.
    pub(super) fn path_in(&self, parent: u64, name: &OsStr) -> Option<Vec<u8>> {
        Some(join(self.path(parent)?, name))
    }

    /// What a path leads to, if the kernel knows it.
    pub(super) fn at(&self, path: &[u8]) -> Option<u64> {
        let parts = path.split(|byte| *byte == b'/');
        parts
            .filter(|part| !part.is_empty())
            .try_fold(ROOT, |parent, part| {
                self.child(parent, OsStr::from_bytes(part))
            })
    }

    /// What a name in a folder leads to.
    pub(super) fn child(&self, parent: u64, name: &OsStr) -> Option<u64> {
        self.names.get(&(parent, name.to_owned())).copied()
    }

    /// The kernel is told of a name and what it leads to. The same file keeps its number.
    pub(super) fn found(&mut self, parent: u64, name: &OsStr, attributes: Attributes) -> u64 {
        if let Some(number) = self.child(parent, name)
            && let Some(node) = self.nodes.get_mut(&number)
        {
            let was = &node.attributes;
            if (was.inode, was.kind) == (attributes.inode, attributes.kind) {
                node.lookups += 1;
                node.attributes = attributes;
                return number;
            }
        }
        self.removed(parent, name);
        self.last += 1;
        let node = Node {
            parent,
            name: name.to_owned(),
            lookups: 1,
            attributes,
            own: None,
            writers: 0,
            is_there: true,
        };
        self.nodes.insert(self.last, node);
        self.names.insert((parent, name.to_owned()), self.last);
        self.last
    }

    /// The kernel has forgotten so many times that it was told.
    pub(super) fn forget(&mut self, number: u64, times: u64) {
        let Some(node) = self.nodes.get_mut(&number).filter(|_| number != ROOT) else {
            return;
        };
        node.lookups = node.lookups.saturating_sub(times);
        if node.lookups == 0
            && let Some(node) = self.nodes.remove(&number)
            && node.is_there
        {
            self.names.remove(&(node.parent, node.name));
        }
    }

    /// A name leads nowhere any more. What it led to may still be open.
    pub(super) fn removed(&mut self, parent: u64, name: &OsStr) {
        if let Some(number) = self.names.remove(&(parent, name.to_owned()))
            && let Some(node) = self.nodes.get_mut(&number)
        {
            node.is_there = false;
        }
    }

    /// What had one name has another.
    pub(super) fn renamed(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) {
        let Some(number) = self.child(from.0, from.1) else {
            return self.removed(to.0, to.1);
        };
        self.removed(to.0, to.1);
        self.names.remove(&(from.0, from.1.to_owned()));
        self.names.insert((to.0, to.1.to_owned()), number);
        if let Some(node) = self.nodes.get_mut(&number) {
            (node.parent, node.name) = (to.0, to.1.to_owned());
        }
    }

    /// As the kernel was told last.
    pub(super) fn attributes(&self, number: u64) -> Option<&Attributes> {
        self.nodes.get(&number).map(|node| &node.attributes)
    }

    /// The kernel is told, or what it knows is invalid.
    pub(super) fn set_attributes(&mut self, number: u64, attributes: Attributes) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.attributes = attributes;
        }
    }

    /// As it is after a change by the machine, or one that is being told.
    pub(super) fn set_own(&mut self, number: u64, attributes: Attributes) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.attributes = attributes;
            node.own = Some(attributes);
        }
    }

    pub(super) fn own(&self, number: u64) -> Option<&Attributes> {
        self.nodes.get(&number)?.own.as_ref()
    }

    /// Somebody in the machine opened it to write, or closed it.
    pub(super) fn opened(&mut self, number: u64) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.writers += 1;
        }
    }

    pub(super) fn closed(&mut self, number: u64) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.writers = node.writers.saturating_sub(1);
        }
    }

    pub(super) fn is_being_written(&self, number: u64) -> bool {
        self.nodes.get(&number).is_some_and(|node| node.writers > 0)
    }

    /// All folders that the kernel knows, the one itself among them.
    pub(super) fn folders(&self) -> Vec<Vec<u8>> {
        let is_folder = |node: &Node| node.attributes.kind == i32::from(FileKind::Folder);
        self.nodes
            .iter()
            .filter(|(_, node)| is_folder(node))
            .filter_map(|(number, _)| self.path(*number))
            .collect()
    }

    /// All that the kernel knows: number, where its name is, and whether it is a folder.
    pub(super) fn all(&self) -> Vec<(u64, u64, OsString, bool)> {
        let folder = i32::from(FileKind::Folder);
        let known = self.nodes.iter().filter(|(_, node)| node.is_there);
        known
            .map(|(number, node)| {
                let is_folder = node.attributes.kind == folder;
                (*number, node.parent, node.name.clone(), is_folder)
            })
            .collect()
    }
}

/// The path of a name in the folder with that path.
fn join(mut folder: Vec<u8>, name: &OsStr) -> Vec<u8> {
    if !folder.is_empty() {
        folder.push(b'/');
    }
    folder.extend(name.as_bytes());
    folder
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(inode: u64) -> Attributes {
        Attributes {
            inode,
            kind: FileKind::File.into(),
            ..Attributes::default()
        }
    }

    fn folder(inode: u64) -> Attributes {
        Attributes {
            inode,
            kind: FileKind::Folder.into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn what_is_below_a_renamed_folder_moves_with_it() {
        let mut nodes = Nodes::new();
        let a = nodes.found(ROOT, "a".as_ref(), folder(7));
        let b = nodes.found(a, "b".as_ref(), file(8));
        assert_eq!(nodes.path(b).unwrap(), b"a/b");
        nodes.renamed((ROOT, "a".as_ref()), (ROOT, "z".as_ref()));
        assert_eq!(nodes.path(b).unwrap(), b"z/b");
        assert_eq!((nodes.at(b"z/b"), nodes.at(b"a/b")), (Some(b), None));
        assert_eq!(nodes.folders().len(), 2);
    }

    #[test]
    fn a_name_that_leads_to_another_file_has_another_number() {
        let mut nodes = Nodes::new();
        let first = nodes.found(ROOT, "a".as_ref(), file(7));
        assert_eq!(nodes.found(ROOT, "a".as_ref(), file(7)), first);
        let second = nodes.found(ROOT, "a".as_ref(), file(9));
        assert_ne!(second, first);
        assert_eq!(nodes.path(first), None);
        nodes.forget(first, 2);
        assert_eq!(nodes.at(b"a"), Some(second));
        nodes.forget(second, 1);
        assert_eq!(nodes.at(b"a"), None);
        assert!(nodes.attributes(second).is_none());
    }

    #[test]
    fn what_replaces_another_file_takes_its_name() {
        let mut nodes = Nodes::new();
        let old = nodes.found(ROOT, "page".as_ref(), file(1));
        let new = nodes.found(ROOT, ".page.tmp".as_ref(), file(2));
        nodes.renamed((ROOT, ".page.tmp".as_ref()), (ROOT, "page".as_ref()));
        assert_eq!(nodes.at(b"page"), Some(new));
        assert_eq!((nodes.path(old), nodes.at(b".page.tmp")), (None, None));
    }
}
