//! The initial RAM file system: a cpio archive in the "newc" format.
//!
//! Format: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.

use super::tree::{EPOCH, Entry, Node, Tree};
use std::io::{self, Write};

const MAGIC: &str = "070701";
const END: &str = "TRAILER!!!";

/// Writes a tree, and `/dev/console`, which the kernel opens for the first process.
pub(crate) fn write(tree: &Tree, mut out: impl Write) -> io::Result<()> {
    let mut inode = 0;
    for (path, entry) in tree.iter() {
        inode += 1;
        let (kind, content): (u32, &[u8]) = match &entry.node {
            Node::Folder => (0o040_000, &[]),
            Node::File(content) => (0o100_000, content),
            Node::Link(target) => (0o120_000, target.as_bytes()),
        };
        let links = if entry.node == Node::Folder { 2 } else { 1 };
        member(
            &mut out,
            path,
            inode,
            kind | entry.mode,
            entry,
            links,
            (0, 0),
            content,
        )?;
    }
    let console = Entry {
        node: Node::Folder,
        mode: 0o600,
        uid: 0,
        gid: 0,
    };
    member(
        &mut out,
        "dev/console",
        inode + 1,
        0o020_600,
        &console,
        1,
        (5, 1),
        &[],
    )?;
    member(&mut out, END, 0, 0, &console, 1, (0, 0), &[])
}

#[allow(clippy::too_many_arguments)] // the fields of the format
fn member(
    out: &mut impl Write,
    path: &str,
    inode: u32,
    mode: u32,
    entry: &Entry,
    links: u32,
    device: (u32, u32),
    content: &[u8],
) -> io::Result<()> {
    let size = u32::try_from(content.len()).map_err(io::Error::other)?;
    let name_size = u32::try_from(path.len() + 1).map_err(io::Error::other)?;
    let time = if path == END {
        0
    } else {
        u32::try_from(EPOCH).map_err(io::Error::other)?
    };
    let fields = [
        inode, mode, entry.uid, entry.gid, links, time, size, 0, 0, device.0, device.1, name_size,
        0,
    ];
    let mut header = MAGIC.to_owned();
    header.extend(fields.map(|field| format!("{field:08x}")));
    header += path;
    out.write_all(header.as_bytes())?;
    // The name's end and padding to a multiple of four.
    out.write_all(&[0; 4][..4 - header.len() % 4])?;
    out.write_all(content)?;
    out.write_all(&[0; 3][..content.len().next_multiple_of(4) - content.len()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn the_archive_is_what_cpio_reads() {
        let mut tree = Tree::default();
        tree.file("init", *b"hello", 0o755);
        tree.link("lib", "usr/lib");
        tree.file("usr/lib/abc.ko", *b"12345678", 0o644);
        tree.complete();
        let mut bytes = Vec::new();
        write(&tree, &mut bytes).unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let Ok(mut child) = Command::new("cpio")
            .args(["-t", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        else {
            // The host has no cpio: read the first member by hand.
            assert!(bytes.starts_with(b"070701"));
            assert_eq!(&bytes[110..114], b"init");
            return;
        };
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let listed = child.wait_with_output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert_eq!(
            listed.lines().collect::<Vec<_>>(),
            [
                "init",
                "lib",
                "usr",
                "usr/lib",
                "usr/lib/abc.ko",
                "dev/console"
            ]
        );
    }
}
