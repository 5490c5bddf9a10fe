//! A file system tree in memory, and its deterministic tar form.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Modification time of everything in an image: 2026-01-01 00:00:00 UTC, seconds since 1970.
pub(crate) const EPOCH: u64 = 1_767_225_600;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Folder,
    File(Arc<[u8]>),
    /// A symbolic link and its target.
    Link(String),
}

/// A node with its owner and its permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) node: Node,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Entries by path; paths are relative, without a leading or trailing slash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    entries: BTreeMap<String, Entry>,
}

/// Where the top-level folders are that Debian merged into /usr.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// A path of an archive as a path of a tree: without `./`, and below `usr` where that is merged.
pub(crate) fn normal(path: &str) -> String {
    let path = path.trim_start_matches("./").trim_matches('/');
    match path.split_once('/') {
        Some((top, rest)) if MERGED.contains(&top) => format!("usr/{top}/{rest}"),
        _ => path.to_owned(),
    }
}

impl Tree {
    pub(crate) fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries
            .iter()
            .map(|(path, entry)| (path.as_str(), entry))
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.entries.retain(|path, _| keep(path));
    }

    /// Puts an entry in place of what was there. A folder keeps what is below it.
    pub(crate) fn put(&mut self, path: &str, entry: Entry) {
        self.entries.insert(path.to_owned(), entry);
    }

    /// A folder of root's, mode 0755, unless there is something already.
    pub(crate) fn folder(&mut self, path: &str) {
        self.entries.entry(path.to_owned()).or_insert(Entry {
            node: Node::Folder,
            mode: 0o755,
            uid: 0,
            gid: 0,
        });
    }

    /// A file of root's.
    pub(crate) fn file(&mut self, path: &str, content: impl Into<Arc<[u8]>>, mode: u32) {
        self.put(
            path,
            Entry {
                node: Node::File(content.into()),
                mode,
                uid: 0,
                gid: 0,
            },
        );
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        let node = Node::Link(target.to_owned());
        self.put(
            path,
            Entry {
                node,
                mode: 0o777,
                uid: 0,
                gid: 0,
            },
        );
    }

    /// The content of a file.
    pub(crate) fn content(&self, path: &str) -> Option<&Arc<[u8]>> {
        match self.entries.get(path)?.node {
            Node::File(ref content) => Some(content),
            _ => None,
        }
    }

    /// Takes everything of another tree, in place of what was there.
    pub(crate) fn merge(&mut self, other: Self) {
        for (path, entry) in other.entries {
            match self.entries.get_mut(&path) {
                Some(there) if there.node == Node::Folder && entry.node == Node::Folder => {}
                _ => {
                    self.entries.insert(path, entry);
                }
            }
        }
    }

    /// Adds the folders that entries lie in and that are missing.
    pub(crate) fn complete(&mut self) {
        let mut missing = Vec::new();
        for path in self.entries.keys() {
            let mut path = path.as_str();
            while let Some((parent, _)) = path.rsplit_once('/') {
                if self.entries.contains_key(parent) {
                    break;
                }
                missing.push(parent.to_owned());
                path = parent;
            }
        }
        missing.iter().for_each(|path| self.folder(path));
    }

    /// Reads a tar archive. Hard links become equal files; device nodes are left out (the guest
    /// gets them from devtmpfs).
    pub(crate) fn from_tar(archive: impl Read) -> io::Result<Self> {
        let mut tree = Self::default();
        let mut archive = tar::Archive::new(archive);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = text(&entry.path_bytes())?;
            let path = normal(&path);
            if path.is_empty() || path == "." {
                continue;
            }
            let header = entry.header();
            let (mode, uid, gid) = (header.mode()?, header.uid()?, header.gid()?);
            let target = entry
                .link_name_bytes()
                .map(|bytes| text(&bytes))
                .transpose()?;
            let node = match (header.entry_type(), target) {
                (tar::EntryType::Directory, _) => Node::Folder,
                (tar::EntryType::Symlink, Some(target)) => Node::Link(target),
                (tar::EntryType::Link, Some(target)) => {
                    let target = normal(&target);
                    let linked = tree.get(&target).map(|entry| entry.node.clone());
                    linked.ok_or_else(|| {
                        io::Error::other(format!(
                            "{path} is a hard link to {target}, which is missing"
                        ))
                    })?
                }
                (tar::EntryType::Regular | tar::EntryType::Continuous, _) => {
                    let mut content = Vec::new();
                    entry.read_to_end(&mut content)?;
                    Node::File(content.into())
                }
                _ => continue,
            };
            let id = |id: u64| u32::try_from(id).map_err(io::Error::other);
            let entry = Entry {
                node,
                mode: mode & 0o7777,
                uid: id(uid)?,
                gid: id(gid)?,
            };
            let folders = |e: &Entry| e.node == Node::Folder;
            if folders(&entry) && tree.get(&path).is_some() {
                continue;
            }
            tree.put(&path, entry);
        }
        Ok(tree)
    }

    /// Writes a tar archive: ordered by path, all times [`EPOCH`], owners by number only.
    pub(crate) fn to_tar(&self, out: impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(out);
        archive.mode(tar::HeaderMode::Deterministic);
        // Without an entry of its own the top folder would be writable for everybody.
        let top = Entry {
            node: Node::Folder,
            mode: 0o755,
            uid: 0,
            gid: 0,
        };
        let top = (".".to_owned(), top);
        for (path, entry) in std::iter::once((&top.0, &top.1)).chain(&self.entries) {
            let mut header = tar::Header::new_gnu();
            header.set_mode(entry.mode);
            header.set_uid(entry.uid.into());
            header.set_gid(entry.gid.into());
            header.set_mtime(EPOCH);
            header.set_size(0);
            match &entry.node {
                Node::Folder => {
                    header.set_entry_type(tar::EntryType::Directory);
                    archive.append_data(&mut header, format!("{path}/"), io::empty())?;
                }
                Node::File(content) => {
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_size(content.len() as u64);
                    archive.append_data(&mut header, path, &content[..])?;
                }
                Node::Link(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    archive.append_link(&mut header, path, target)?;
                }
            }
        }
        archive.into_inner()?.flush()
    }
}

fn text(bytes: &[u8]) -> io::Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::default();
        tree.file("usr/bin/su", *b"x", 0o4755);
        tree.link("bin", "usr/bin");
        tree.file(&format!("usr/{}/f", "long".repeat(60)), *b"y", 0o644);
        tree.put(
            "etc/shadow",
            Entry {
                node: Node::File((*b"s").into()),
                mode: 0o640,
                uid: 0,
                gid: 42,
            },
        );
        tree.complete();
        tree
    }

    #[test]
    fn a_tar_reads_back_and_is_the_same_bytes_again() {
        let mut bytes = Vec::new();
        tree().to_tar(&mut bytes).unwrap();
        let read = Tree::from_tar(bytes.as_slice()).unwrap();
        assert_eq!(read, tree());
        let mut again = Vec::new();
        read.to_tar(&mut again).unwrap();
        assert_eq!(again, bytes);
    }

    #[test]
    fn paths_are_brought_below_usr() {
        assert_eq!(normal("./lib/modules/x"), "usr/lib/modules/x");
        assert_eq!(normal("./bin"), "bin");
        assert_eq!(normal("/etc/"), "etc");
        assert_eq!(normal("./"), "");
    }

    #[test]
    fn parents_are_completed_and_a_merge_replaces_files_only() {
        let mut base = tree();
        assert!(base.get("usr").is_some() && base.get("usr/bin").is_some());
        let mut over = Tree::default();
        over.file("etc/shadow", *b"new", 0o600);
        over.put(
            "usr",
            Entry {
                node: Node::Folder,
                mode: 0o700,
                uid: 1,
                gid: 1,
            },
        );
        base.merge(over);
        assert_eq!(&base.content("etc/shadow").unwrap()[..], b"new");
        assert_eq!(base.get("usr").unwrap().mode, 0o755);
    }
}
