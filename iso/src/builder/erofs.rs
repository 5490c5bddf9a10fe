//! Read-only file systems, made by the build root's mkfs.erofs from a tar archive.

use super::BuildError;
use super::buildroot::BuildRoot;
use super::cache::Cache;
use super::command::Work;
use super::tree::{EPOCH, Tree};
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

/// Bytes of a tree that are compressed together. Larger is smaller on disk and slower to read
/// at random.
const CLUSTER: u32 = 65_536;

/// Writes a tree as an erofs image with a fixed UUID, so that equal trees give equal bytes.
pub(crate) fn write(
    cache: &Cache<'_>,
    work: &Work<'_>,
    root: &BuildRoot,
    tree: &Tree,
    uuid: &str,
    image: &Path,
) -> Result<(), BuildError> {
    let temporary = cache.temporary()?;
    let tar = temporary.path().join("tree.tar");
    let file = File::create(&tar).map_err(BuildError::io(&tar))?;
    tree.to_tar(BufWriter::with_capacity(1 << 20, file))
        .map_err(BuildError::io(&tar))?;
    let mut make = root.tool("usr/bin/mkfs.erofs");
    make.args([
        "--tar=f",
        "--quiet",
        "-zlz4hc,9",
        "-Enoinline_data,force-inode-compact",
    ])
    .arg(format!("-C{CLUSTER}"))
    .arg(format!("-T{EPOCH}"))
    .arg(format!("-U{uuid}"))
    .arg(image)
    .arg(&tar);
    work.run(&mut make)
}
