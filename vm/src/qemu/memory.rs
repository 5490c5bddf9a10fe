//! A guest's memory as the host's kernel shows it: which pages of a private mapping are a machine's
//! own, and how to read and write them.
//!
//! /proc/PID/pagemap tells a copied page from one that is still the file's; /proc/PID/mem reads and
//! writes them (proc(5)). Both are open to the parent of the process, also where Yama keeps others
//! from it.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::saved::{PAGE, Run};

/// What the memory's file of Linux is called.
pub(super) const MEMORY_NAME: &str = "coracle-memory";

/// A page is in memory, or in swap, or belongs to a file or to all: bits of /proc/PID/pagemap.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;
/// Entries of pagemap that are read at once.
const ENTRIES: usize = 1 << 16;

/// A part of a file that a process maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    /// Where it is in the process.
    address: u64,
    /// Where it is in the file.
    offset: u64,
    bytes: u64,
}

/// The memory of a guest that goes on from a file: the process maps that file privately.
#[derive(Debug)]
pub(super) struct PrivateMemory {
    process: PathBuf,
    memory: File,
    segments: Vec<Segment>,
}

impl PrivateMemory {
    /// The mapping of a file by a process; an error where there is none, or where this process may
    /// not see it.
    pub(super) fn open(pid: u32, file: &Path, write: bool) -> io::Result<Self> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let meta = std::fs::metadata(file)?;
        let maps = std::fs::read_to_string(process.join("maps"))?;
        let segments = segments(&maps, meta.ino());
        if segments.iter().map(|segment| segment.bytes).sum::<u64>() != meta.len() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("the process does not map {}", file.display()),
            ));
        }
        let memory = File::options()
            .read(true)
            .write(write)
            .open(process.join("mem"))?;
        Ok(Self {
            process,
            memory,
            segments,
        })
    }

    /// The pages that are not the file's any more, by their place in the file.
    pub(super) fn changed(&self) -> io::Result<Vec<Run>> {
        self.pages(|entry| entry & (PRESENT | SWAPPED) != 0 && entry & OF_FILE == 0)
    }

    /// The pages that were used at all.
    pub(super) fn touched(&self) -> io::Result<Vec<Run>> {
        self.pages(|entry| entry & (PRESENT | SWAPPED) != 0)
    }

    fn pages(&self, wanted: impl Fn(u64) -> bool) -> io::Result<Vec<Run>> {
        let pagemap = File::open(self.process.join("pagemap"))?;
        let mut runs = Vec::new();
        for segment in &self.segments {
            let (first, count) = (segment.address / PAGE, segment.bytes / PAGE);
            let mut buffer = vec![0; ENTRIES * 8];
            let mut page = 0;
            while page < count {
                let entries = usize::try_from(count - page)
                    .unwrap_or(ENTRIES)
                    .min(ENTRIES);
                let buffer = &mut buffer[..entries * 8];
                pagemap.read_exact_at(buffer, (first + page) * 8)?;
                for (index, entry) in buffer.chunks_exact(8).enumerate() {
                    let entry = entry
                        .first_chunk()
                        .map_or(0, |entry| u64::from_le_bytes(*entry));
                    if wanted(entry) {
                        let number = segment.offset / PAGE + page + index as u64;
                        add(&mut runs, u32::try_from(number).map_err(io::Error::other)?);
                    }
                }
                page += entries as u64;
            }
        }
        Ok(runs)
    }

    /// Reads the guest's memory as it is.
    pub(super) fn read(&self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        let address = self.address(offset, to.len())?;
        self.memory.read_exact_at(to, address)
    }

    /// Changes the guest's memory. The file stays as it is.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let address = self.address(offset, bytes.len())?;
        self.memory.write_all_at(bytes, address)
    }

    fn address(&self, offset: u64, bytes: usize) -> io::Result<u64> {
        let end = offset + bytes as u64;
        let holds =
            |segment: &&Segment| segment.offset <= offset && end <= segment.offset + segment.bytes;
        let segment = self.segments.iter().find(holds);
        let segment = segment.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "it is beyond the guest's memory",
            )
        })?;
        Ok(segment.address + (offset - segment.offset))
    }
}

fn add(runs: &mut Vec<Run>, page: u32) {
    match runs.last_mut() {
        Some(run) if run.first + run.count == page => run.count += 1,
        _ => runs.push(Run {
            first: page,
            count: 1,
        }),
    }
}

/// The parts of a file in the text of /proc/PID/maps, found by its inode: names change.
fn segments(maps: &str, inode: u64) -> Vec<Segment> {
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let segment = |line: &str| {
        let mut words = line.split_whitespace();
        let (from, to) = words.next()?.split_once('-')?;
        let is_private = words.next()?.contains('p');
        let offset = hex(words.next()?)?;
        let found: u64 = words.nth(1)?.parse().ok()?;
        let address = hex(from)?;
        (found == inode && is_private).then_some(Segment {
            address,
            offset,
            bytes: hex(to)? - address,
        })
    };
    maps.lines().filter_map(segment).collect()
}

/// The file of Linux without a name that holds all memory of a machine which booted, found among what
/// the process has open. `None` for one that goes on from elsewhere.
pub(super) fn whole(pid: u32) -> io::Result<Option<File>> {
    let name = format!("/memfd:{MEMORY_NAME}");
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let is_memory = std::fs::read_link(entry.path())
            .is_ok_and(|target| target.to_string_lossy().starts_with(&name));
        if is_memory {
            return File::open(entry.path()).map(Some);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_file_are_found_by_its_inode() {
        let maps = "7f0000000000-7f0000200000 rw-p 00100000 fe:00 77 /a/ram (deleted)\n\
                    7f0000200000-7f0000300000 rw-p 00000000 00:00 0 \n\
                    7f0000300000-7f0000400000 rw-s 00000000 fe:00 77 /a/ram\n\
                    7f0000400000-7f0000500000 r--p 00000000 fe:00 77 /a/ram\n";
        let found = segments(maps, 77);
        let expected = [
            (0x7f00_0000_0000, 0x10_0000, 0x20_0000),
            (0x7f00_0040_0000, 0, 0x10_0000),
        ];
        let expected = expected.map(|(address, offset, bytes)| Segment {
            address,
            offset,
            bytes,
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn pages_that_follow_each_other_are_one_run() {
        let mut runs = Vec::new();
        for page in [4, 5, 6, 9] {
            add(&mut runs, page);
        }
        assert_eq!(
            runs,
            [Run { first: 4, count: 3 }, Run { first: 9, count: 1 }]
        );
    }
}
