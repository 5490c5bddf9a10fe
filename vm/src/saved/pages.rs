//! Scattered pages of memory as one compressed file.
//!
//! ```text
//! chunk*   up to a mebibyte of pages, runs one after the other: a zstd frame with a checksum
//! index    per chunk its place, its length and its runs: a zstd frame with a checksum
//! footer   place and length of the index, and the mark of this format
//! ```
//!
//! Chunks are packed and unpacked by as many threads as there are processors, a few at most.

use std::fs::File;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

/// Bytes of a page of memory.
pub const PAGE: u64 = 4096;
/// The most pages of one chunk.
const CHUNK: u32 = 256;
/// The format's mark, the last eight bytes of the file.
const MARK: [u8; 8] = *b"coracle1";
/// Bytes of the footer.
const FOOTER: u64 = 24;
/// Faster than writing the pages as they are, and a third of their size.
const LEVEL: i32 = 1;
/// More threads than that wait for each other.
const MOST_THREADS: usize = 4;

/// Pages that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The number of the first one.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl Run {
    /// Where the first one begins.
    pub fn offset(self) -> u64 {
        u64::from(self.first) * PAGE
    }

    fn bytes(self) -> usize {
        self.count as usize * PAGE as usize
    }
}

/// One chunk in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chunk {
    place: u64,
    stored: u32,
    runs: Vec<Run>,
}

/// Writes runs of pages to an empty file. `read` fills a buffer with the pages that begin at an
/// offset; it is called by several threads.
pub fn save(
    runs: &[Run],
    to: &File,
    read: impl Fn(u64, &mut [u8]) -> io::Result<()> + Sync,
) -> io::Result<()> {
    let groups = group(runs);
    let end = Mutex::new(0);
    let chunks = Mutex::new(vec![None; groups.len()]);
    in_parallel(groups.len(), || {
        let mut compressor = compressor()?;
        let (mut raw, mut packed) = (Vec::new(), Vec::new());
        let (groups, end, chunks, read) = (&groups, &end, &chunks, &read);
        Ok(move |index: usize| {
            let runs = &groups[index];
            raw.resize(runs.iter().map(|run| run.bytes()).sum(), 0);
            let mut rest = raw.as_mut_slice();
            for run in runs {
                let (part, further) = rest.split_at_mut(run.bytes());
                read(run.offset(), part)?;
                rest = further;
            }
            packed.clear();
            packed.reserve(zstd::zstd_safe::compress_bound(raw.len()));
            compressor.compress_to_buffer(&raw, &mut packed)?;
            let place = {
                let mut end = lock(end);
                let place = *end;
                *end += packed.len() as u64;
                place
            };
            write_at(to, &packed, place)?;
            lock(chunks)[index] = Some(Chunk {
                place,
                stored: size(packed.len())?,
                runs: runs.clone(),
            });
            Ok(())
        })
    })?;
    let chunks: Vec<Chunk> = lock(&chunks).drain(..).flatten().collect();
    let place = *lock(&end);
    let index = encode(&chunks);
    let packed = compressor()?.compress(&index)?;
    let mut footer = place.to_le_bytes().to_vec();
    footer.extend(size(packed.len())?.to_le_bytes());
    footer.extend(size(index.len())?.to_le_bytes());
    footer.extend(MARK);
    write_at(to, &packed, place)?;
    write_at(to, &footer, place + packed.len() as u64)
}

/// Reads what [`save`] wrote. `write` puts pages to the place where they begin; it is called by
/// several threads. Damage is an error of the kind `InvalidData`.
pub fn load(from: &File, write: impl Fn(u64, &[u8]) -> io::Result<()> + Sync) -> io::Result<()> {
    let chunks = index(from)?;
    in_parallel(chunks.len(), || {
        let mut decompressor = Decompressor::new()?;
        let mut packed = Vec::new();
        let (chunks, write) = (&chunks, &write);
        Ok(move |index: usize| {
            let Chunk {
                place,
                stored,
                runs,
            } = &chunks[index];
            packed.resize(*stored as usize, 0);
            read_at(from, &mut packed, *place)?;
            let expected = runs.iter().map(|run| run.bytes()).sum();
            let raw = decompressor
                .decompress(&packed, expected)
                .map_err(damaged)?;
            if raw.len() != expected {
                return Err(damaged("a chunk has another length"));
            }
            let mut rest = raw.as_slice();
            for run in runs {
                let (part, further) = rest.split_at(run.bytes());
                write(run.offset(), part)?;
                rest = further;
            }
            Ok(())
        })
    })
}

/// Puts runs together to chunks, and splits those that are longer than one.
fn group(runs: &[Run]) -> Vec<Vec<Run>> {
    let mut groups: Vec<Vec<Run>> = Vec::new();
    let mut room = 0;
    for run in runs {
        let mut rest = *run;
        while rest.count > 0 {
            if room == 0 {
                groups.push(Vec::new());
                room = CHUNK;
            }
            let part = Run {
                first: rest.first,
                count: rest.count.min(room),
            };
            room -= part.count;
            rest.first += part.count;
            rest.count -= part.count;
            if let Some(group) = groups.last_mut() {
                group.push(part);
            }
        }
    }
    groups
}

/// Runs a piece of work for each number below `count`, on several threads, each with a worker of its
/// own. The first error ends all.
fn in_parallel<W: FnMut(usize) -> io::Result<()>>(
    count: usize,
    worker: impl Fn() -> io::Result<W> + Sync,
) -> io::Result<()> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work = || {
        let mut worker = worker()?;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(());
            }
            let done = worker(index);
            if done.is_err() {
                next.store(count, Ordering::Relaxed);
                return done;
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.min(MOST_THREADS).min(count))
            .map(|_| scope.spawn(work))
            .collect();
        threads.into_iter().try_for_each(|thread| {
            let ended = thread.join();
            ended.unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
        })
    })
}

fn index(from: &File) -> io::Result<Vec<Chunk>> {
    let length = from.metadata()?.len();
    let start = length
        .checked_sub(FOOTER)
        .ok_or_else(|| damaged("it is too short"))?;
    let mut footer = [0; FOOTER as usize];
    read_at(from, &mut footer, start)?;
    let mut fields = Fields(&footer);
    let (place, stored, raw) = (fields.long()?, fields.short()?, fields.short()?);
    if fields.0 != MARK || place.checked_add(stored.into()) != Some(start) {
        return Err(damaged("its end is not what it should be"));
    }
    let mut packed = vec![0; stored as usize];
    read_at(from, &mut packed, place)?;
    let bytes = zstd::bulk::decompress(&packed, raw as usize).map_err(damaged)?;
    decode(&bytes)
}

fn encode(chunks: &[Chunk]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in chunks {
        bytes.extend(chunk.place.to_le_bytes());
        bytes.extend(chunk.stored.to_le_bytes());
        bytes.extend(
            u32::try_from(chunk.runs.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
        for run in &chunk.runs {
            bytes.extend(run.first.to_le_bytes());
            bytes.extend(run.count.to_le_bytes());
        }
    }
    bytes
}

fn decode(bytes: &[u8]) -> io::Result<Vec<Chunk>> {
    let mut fields = Fields(bytes);
    let mut chunks = Vec::new();
    while !fields.0.is_empty() {
        let (place, stored, count) = (fields.long()?, fields.short()?, fields.short()?);
        let mut runs = Vec::new();
        for _ in 0..count {
            let (first, count) = (fields.short()?, fields.short()?);
            if count > CHUNK {
                return Err(damaged("a run is too long"));
            }
            runs.push(Run { first, count });
        }
        chunks.push(Chunk {
            place,
            stored,
            runs,
        });
    }
    Ok(chunks)
}

/// Little-endian numbers, one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (field, rest) = self
            .0
            .split_first_chunk()
            .ok_or_else(|| damaged("its index ends early"))?;
        self.0 = rest;
        Ok(*field)
    }

    fn long(&mut self) -> io::Result<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn short(&mut self) -> io::Result<u32> {
        self.take().map(u32::from_le_bytes)
    }
}

fn compressor() -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    Ok(compressor)
}

fn size(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes).map_err(io::Error::other)
}

fn damaged(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// What a panicking thread held is still whole here: numbers and finished chunks.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(not(unix))]
fn write_at(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, bytes, at)?;
        bytes = &bytes[written..];
        at += written as u64;
    }
    Ok(())
}

#[cfg(not(unix))]
fn read_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[read..];
        at += read as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(number: u64) -> Vec<u8> {
        (0..PAGE)
            .map(|index| ((number * 31 + index / 8) % 251) as u8)
            .collect()
    }

    fn read(offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        for (index, part) in buffer.chunks_mut(PAGE as usize).enumerate() {
            part.copy_from_slice(&page(offset / PAGE + index as u64));
        }
        Ok(())
    }

    fn saved(runs: &[Run]) -> File {
        let file = tempfile::tempfile().unwrap();
        save(runs, &file, read).unwrap();
        file
    }

    const RUNS: [Run; 4] = [
        Run { first: 3, count: 1 },
        Run {
            first: 9,
            count: 700,
        },
        Run {
            first: 1000,
            count: 2,
        },
        Run {
            first: 3_000_000_000,
            count: 5,
        },
    ];

    #[test]
    fn what_was_saved_is_loaded_to_the_same_places() {
        let file = saved(&RUNS);
        let loaded = Mutex::new(std::collections::BTreeMap::new());
        load(&file, |offset, bytes| {
            for (index, part) in bytes.chunks(PAGE as usize).enumerate() {
                let before = lock(&loaded).insert(offset / PAGE + index as u64, part.to_vec());
                assert_eq!(before, None, "a page came twice");
            }
            Ok(())
        })
        .unwrap();
        let loaded = loaded.into_inner().unwrap();
        assert_eq!(loaded.len(), 708);
        for run in RUNS {
            for number in u64::from(run.first)..u64::from(run.first) + u64::from(run.count) {
                assert_eq!(loaded[&number], page(number), "{number}");
            }
        }
        let length = file.metadata().unwrap().len();
        assert!(length < 708 * PAGE / 4, "{length} bytes");
        load(&saved(&[]), |_, _| panic!("there is nothing")).unwrap();
    }

    #[test]
    fn a_file_that_is_cut_off_or_changed_anywhere_is_refused() {
        let file = saved(&RUNS);
        let length = file.metadata().unwrap().len();
        for cut in [0, 10, length / 2, length - 1] {
            let short = tempfile::tempfile().unwrap();
            let mut bytes = vec![0; cut as usize];
            read_at(&file, &mut bytes, 0).unwrap();
            write_at(&short, &bytes, 0).unwrap();
            let error = load(&short, |_, _| Ok(())).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{cut}: {error}");
        }
        for at in (0..length).step_by(1009) {
            let mut byte = [0];
            read_at(&file, &mut byte, at).unwrap();
            write_at(&file, &[byte[0] ^ 0x55], at).unwrap();
            let changed = Mutex::new(false);
            let loaded = load(&file, |offset, bytes| {
                let mut wanted = vec![0; bytes.len()];
                read(offset, &mut wanted)?;
                *lock(&changed) |= wanted != bytes;
                Ok(())
            });
            // A bit that means nothing may be anything: what counts is that no page is wrong.
            assert!(loaded.is_err() || !*lock(&changed), "the byte at {at}");
            write_at(&file, &byte, at).unwrap();
        }
        load(&file, |_, _| Ok(())).unwrap();
    }

    #[test]
    fn an_error_of_the_reader_or_writer_is_passed_on() {
        let file = tempfile::tempfile().unwrap();
        let refused = |_, _: &mut [u8]| Err(io::ErrorKind::PermissionDenied.into());
        let error = save(&RUNS, &file, refused).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let error = load(&saved(&RUNS), |_, _| Err(io::ErrorKind::StorageFull.into()));
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
