//! Copying and hashing files that are mostly holes: of a guest's memory most was never touched, and much
//! of the rest is zero.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use sha2::{Digest as _, Sha256};

/// What is looked at for being zero, the unit in which file systems keep holes.
const PAGE: usize = 4096;
/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// Copies all of `from` to the empty file `to`, leaving holes where there are only zeros, and gives
/// the length of both. Blocks; reads about a gigabyte a second.
pub fn copy_sparsely(from: &mut File, to: &mut File) -> io::Result<u64> {
    let length = from.seek(SeekFrom::End(0))?;
    to.set_len(length)?;
    for_runs(from, |at, bytes| {
        to.seek(SeekFrom::Start(at))?;
        to.write_all(bytes)
    })?;
    Ok(length)
}

/// SHA-256 over the pages that hold anything, each behind its number (64 bits, little endian): holes and
/// zeros are the same to it. Blocks.
pub(super) fn digest(file: &mut File) -> io::Result<String> {
    let mut hash = Sha256::new();
    for_runs(file, |at, bytes| {
        for (page, content) in (at / PAGE as u64..).zip(bytes.chunks(PAGE)) {
            hash.update(page.to_le_bytes());
            hash.update(content);
        }
        Ok(())
    })?;
    Ok(hex::encode(hash.finalize()))
}

/// Reads a file from its beginning and hands on, with their position, the runs of pages that hold
/// anything. A run is [`CHUNK`] bytes at most, and begins with a page.
fn for_runs(file: &mut File, mut take: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut buffer = vec![0; CHUNK];
    let mut position = 0;
    while let Some(data) = next_data(file, position, length)? {
        // Whole pages, also where the file system's blocks are smaller.
        position = data.start - data.start % PAGE as u64;
        let end = data.end.next_multiple_of(PAGE as u64).min(length);
        file.seek(SeekFrom::Start(position))?;
        while position < end {
            let wanted = usize::try_from(end - position).unwrap_or(CHUNK).min(CHUNK);
            file.read_exact(&mut buffer[..wanted])?;
            runs_of(position, &buffer[..wanted], &mut take)?;
            position += wanted as u64;
        }
    }
    Ok(())
}

/// The runs of pages in these bytes, which stand at a page's beginning.
fn runs_of(
    at: u64,
    bytes: &[u8],
    mut take: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let is_zero = |page: &[u8]| page.iter().all(|byte| *byte == 0);
    let mut begun = None;
    let pages = bytes.chunks(PAGE).enumerate();
    let ends = pages.map(|(index, page)| (index * PAGE, is_zero(page)));
    for (offset, zero) in ends.chain([(bytes.len(), true)]) {
        match (begun, zero) {
            (None, false) => begun = Some(offset),
            (Some(start), true) => {
                take(at + start as u64, &bytes[start..offset])?;
                begun = None;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The next part of the file that may hold anything.
#[cfg(target_os = "linux")]
fn next_data(file: &File, from: u64, length: u64) -> io::Result<Option<std::ops::Range<u64>>> {
    use rustix::fs::{SeekFrom, seek};
    if from >= length {
        return Ok(None);
    }
    let start = match seek(file, SeekFrom::Data(from)) {
        Ok(start) => start,
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let end = seek(file, SeekFrom::Hole(start))?;
    Ok(Some(start..end.min(length)))
}

/// Holes cannot be asked for here: all of it may hold something.
#[cfg(not(target_os = "linux"))]
#[allow(clippy::unnecessary_wraps, reason = "the same shape as on Linux")]
fn next_data(_file: &File, from: u64, length: u64) -> io::Result<Option<std::ops::Range<u64>>> {
    Ok((from < length).then_some(from..length))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn a_copy_has_the_same_bytes_and_holes_for_zeros() {
        let mut from = tempfile::tempfile().unwrap();
        from.set_len(64 << 20).unwrap();
        from.write_all_at(&[7; 5000], 3 << 20).unwrap();
        from.write_all_at(&vec![0; 8 << 20], 10 << 20).unwrap();
        from.write_all_at(b"the end", (64 << 20) - 7).unwrap();
        let mut to = tempfile::tempfile().unwrap();
        assert_eq!(copy_sparsely(&mut from, &mut to).unwrap(), 64 << 20);
        let (mut wanted, mut found) = (Vec::new(), Vec::new());
        from.seek(SeekFrom::Start(0)).unwrap();
        to.seek(SeekFrom::Start(0)).unwrap();
        from.read_to_end(&mut wanted).unwrap();
        to.read_to_end(&mut found).unwrap();
        assert!(wanted == found, "the copy differs");
        assert!(to.metadata().unwrap().blocks() * 512 < 1 << 20);
    }
    #[test]
    fn a_digest_does_not_know_holes_from_zeros_and_tells_moved_pages_apart() {
        let of = |pages: &[(u64, &[u8])]| {
            let mut file = tempfile::tempfile().unwrap();
            file.set_len(4 << 20).unwrap();
            for (page, bytes) in pages {
                file.write_all_at(bytes, page * PAGE as u64).unwrap();
            }
            digest(&mut file).unwrap()
        };
        let zeros = vec![0; 2 << 20];
        assert_eq!(of(&[(7, b"seven")]), of(&[(0, &zeros), (7, b"seven")]));
        assert_ne!(of(&[(7, b"seven")]), of(&[(8, b"seven")]));
        assert_ne!(of(&[(7, b"seven")]), of(&[(7, b"sevem")]));
    }
}
