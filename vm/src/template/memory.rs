//! Copying a guest's memory: most of it was never touched, and much of the rest is zero.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// What is looked at for being zero, the unit in which file systems keep holes.
const PAGE: usize = 4096;
/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// Copies all of `from` to the empty file `to`, leaving holes where there are only zeros, and gives
/// the length of both. Blocks; reads about a gigabyte a second.
pub fn copy_sparsely(from: &mut File, to: &mut File) -> io::Result<u64> {
    let length = from.seek(SeekFrom::End(0))?;
    to.set_len(length)?;
    let mut buffer = vec![0; CHUNK];
    let mut position = 0;
    while let Some(data) = next_data(from, position, length)? {
        from.seek(SeekFrom::Start(data.start))?;
        position = data.start;
        while position < data.end {
            let wanted = usize::try_from(data.end - position)
                .unwrap_or(CHUNK)
                .min(CHUNK);
            from.read_exact(&mut buffer[..wanted])?;
            write_pages(to, position, &buffer[..wanted])?;
            position += wanted as u64;
        }
    }
    Ok(length)
}

/// Writes the runs of pages that hold anything.
fn write_pages(to: &mut File, at: u64, bytes: &[u8]) -> io::Result<()> {
    let is_zero = |page: &[u8]| page.iter().all(|byte| *byte == 0);
    let mut begun = None;
    let pages = bytes.chunks(PAGE).enumerate();
    let ends = pages.map(|(index, page)| (index * PAGE, is_zero(page)));
    for (offset, zero) in ends.chain([(bytes.len(), true)]) {
        match (begun, zero) {
            (None, false) => begun = Some(offset),
            (Some(start), true) => {
                to.seek(SeekFrom::Start(at + start as u64))?;
                to.write_all(&bytes[start..offset])?;
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
}
