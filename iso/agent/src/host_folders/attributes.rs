//! A file's attributes, as the host tells them and as the kernel wants them.

use super::filesystem::BLOCK;
use coracle_protocol::folders::{Attributes, FileKind, Time};
use fuser::{FileAttr, FileType, INodeNo};
use std::time::{SystemTime, UNIX_EPOCH};

/// Whether what a file holds is the same, as far as its attributes tell.
pub(super) fn same_content(before: Option<&Attributes>, now: Option<&Attributes>) -> bool {
    let of = |one: &Attributes| (one.inode, one.size, one.modified, one.changed);
    matches!((before, now), (Some(before), Some(now)) if of(before) == of(now))
}

pub(super) fn kind(attributes: &Attributes) -> FileType {
    match attributes.kind() {
        FileKind::File => FileType::RegularFile,
        FileKind::Folder => FileType::Directory,
        FileKind::SymbolicLink => FileType::Symlink,
        // One that nobody in the machine listens on.
        FileKind::Other => FileType::Socket,
    }
}

/// Everything is root's in the machine, and everybody may do what the user of the host may: whose it is
/// there says nothing about the users of containers.
pub(super) fn file_attr(number: u64, attributes: &Attributes) -> FileAttr {
    let at = |time: Option<Time>| SystemTime::from(time.unwrap_or_default());
    FileAttr {
        ino: INodeNo(number),
        size: attributes.size,
        blocks: attributes.blocks,
        atime: at(attributes.accessed),
        mtime: at(attributes.modified),
        ctime: at(attributes.changed),
        crtime: UNIX_EPOCH,
        kind: kind(attributes),
        perm: u16::try_from(attributes.mode & 0o7777).unwrap_or(0),
        nlink: attributes.links.max(1),
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}
