//! Which parts of a template's memory a start touches: recorded once, and read ahead in one sweep by
//! every later start, so that a start whose template is not in the host's memory any more waits for
//! one long read and not for thousands of short ones.
//!
//! A file of pairs of little-endian numbers: first page, count of pages. It is a hint: whatever is in
//! it, nothing but time can be lost.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Advice, fadvise};

use super::memory::PrivateMemory;
use crate::saved::{PAGE, Run};
use crate::store::atomic;
use crate::template::TemplateFiles;

/// A read over so many pages that nobody needs is cheaper than another read.
const GAP: u32 = 32;
/// The most pages that are asked for at once.
const MOST: u32 = 512;

/// Records what a machine that just began with a template has touched, unless that is known.
pub(super) fn record(pid: u32, mapped: &Path, files: &TemplateFiles) -> io::Result<()> {
    let path = files.working_set();
    if path.exists() {
        return Ok(());
    }
    let memory = PrivateMemory::open(pid, mapped, false)?;
    let runs = join(&memory.touched()?);
    let numbers = runs.iter().flat_map(|run| [run.first, run.count]);
    let bytes: Vec<u8> = numbers.flat_map(u32::to_le_bytes).collect();
    atomic::write(&path, &bytes)
}

/// Has the kernel read what a start is going to touch. Returns while it does.
pub(super) fn read_ahead(files: &TemplateFiles) -> io::Result<()> {
    let bytes = match std::fs::read(files.working_set()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        bytes => bytes?,
    };
    let ram = File::open(&files.ram)?;
    let number = |bytes: &[u8]| {
        bytes
            .first_chunk()
            .map_or(0, |chunk| u32::from_le_bytes(*chunk))
    };
    for pair in bytes.chunks_exact(8) {
        let (mut first, mut rest) = (number(pair), number(&pair[4..]));
        while rest > 0 {
            let count = rest.min(MOST);
            let run = Run { first, count };
            let length = std::num::NonZeroU64::new(u64::from(count) * PAGE);
            fadvise(&ram, run.offset(), length, Advice::WillNeed)?;
            first = first.saturating_add(count);
            rest -= count;
        }
    }
    Ok(())
}

/// Runs that are near each other as one.
fn join(runs: &[Run]) -> Vec<Run> {
    let mut joined: Vec<Run> = Vec::new();
    for run in runs {
        match joined.last_mut() {
            Some(last) if run.first - (last.first + last.count) <= GAP => {
                last.count = run.first + run.count - last.first;
            }
            _ => joined.push(*run),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_are_near_each_other_are_one() {
        let run = |first, count| Run { first, count };
        let joined = join(&[run(0, 2), run(34, 1), run(100, 5), run(1000, 1)]);
        assert_eq!(joined, [run(0, 35), run(100, 5), run(1000, 1)]);
        assert_eq!(join(&[]), []);
    }

    #[test]
    fn reading_ahead_is_never_an_error_for_what_the_hint_says() {
        let folder = tempfile::tempdir().unwrap();
        let files = TemplateFiles::in_folder(folder.path());
        read_ahead(&files).unwrap();
        atomic::write(&files.ram, &[1; 8192]).unwrap();
        for hint in [&b"short"[..], &[0xff; 16], &[0, 0, 0, 0, 2, 0, 0, 0]] {
            atomic::write(&files.working_set(), hint).unwrap();
            read_ahead(&files).unwrap();
        }
    }
}
