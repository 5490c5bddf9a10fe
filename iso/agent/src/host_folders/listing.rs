//! A folder's entries on their way to the kernel, which takes as many at a time as it has room for.

use super::attributes::{file_attr, kind};
use super::filesystem::{GENERATION, MOMENT, Refuse, Shared};
use coracle_protocol::folders::{Attributes, Entry, FileKind};
use fuser::{INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

/// What a folder's entries are put into.
pub(super) trait Listing: Refuse {
    /// Whether the kernel is told of each entry's attributes, so that it knows of the file.
    const TELLS: bool;
    /// Gives whether it is full.
    fn put(&mut self, entry: &Put<'_>) -> bool;
    fn send(self);
}

pub(super) struct Put<'a> {
    number: u64,
    next: u64,
    name: &'a OsStr,
    attributes: &'a Attributes,
}

impl Listing for ReplyDirectory {
    const TELLS: bool = false;

    fn put(&mut self, entry: &Put<'_>) -> bool {
        let kind = kind(entry.attributes);
        self.add(INodeNo(entry.number), entry.next, kind, entry.name)
    }

    fn send(self) {
        self.ok();
    }
}

impl Listing for ReplyDirectoryPlus {
    const TELLS: bool = true;

    fn put(&mut self, entry: &Put<'_>) -> bool {
        let attr = file_attr(entry.number, entry.attributes);
        let number = INodeNo(entry.number);
        self.add(number, entry.next, entry.name, &MOMENT, &attr, GENERATION)
    }

    fn send(self) {
        self.ok();
    }
}

/// `.` and `..` come first. An entry's offset is the number of those before the next one.
pub(super) fn fill<L: Listing>(
    shared: &Shared,
    node: INodeNo,
    entries: &[Entry],
    offset: u64,
    mut reply: L,
) {
    let folder = Attributes {
        kind: FileKind::Folder.into(),
        ..Attributes::default()
    };
    let mut nodes = shared.nodes();
    for (index, name) in [(0, "."), (1, "..")] {
        // The kernel takes neither for news.
        let put = Put {
            number: node.0,
            next: index + 1,
            name: name.as_ref(),
            attributes: &folder,
        };
        if index >= offset && reply.put(&put) {
            return reply.send();
        }
    }
    let skipped = usize::try_from(offset.saturating_sub(2)).unwrap_or(usize::MAX);
    for (index, entry) in entries.iter().enumerate().skip(skipped) {
        let (name, next) = (OsStr::from_bytes(&entry.name), index as u64 + 3);
        let Some(attributes) = &entry.attributes else {
            continue;
        };
        let number = if L::TELLS {
            nodes.found(node.0, name, *attributes)
        } else {
            // As FUSE has it for what is not known yet.
            nodes.child(node.0, name).unwrap_or(u32::MAX.into())
        };
        let put = Put {
            number,
            next,
            name,
            attributes,
        };
        if reply.put(&put) {
            if L::TELLS {
                // The kernel was not told after all.
                nodes.forget(number, 1);
            }
            break;
        }
    }
    drop(nodes);
    reply.send();
}
