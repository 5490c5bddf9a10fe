//! Log files of a hypervisor: a fresh one each launch, bounded while it runs, and its last lines.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// How much of the end of a log is read for an error message.
const TAIL_BYTES: u64 = 8 * 1024;

/// The file that [`rotate`] and [`bound`] keep former content in: the same path with `.old` added.
pub fn former(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    PathBuf::from(name)
}

/// Puts the log of the launch before aside, in place of the one before that.
pub fn rotate(path: &Path) -> io::Result<()> {
    match std::fs::rename(path, former(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Opens a new log for appending, readable by its owner only.
pub fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Keeps a growing log below a limit: once it is larger, what it holds is copied to the `.old` file
/// and the log starts again from nothing. Its writer must append (`O_APPEND`), as the QEMU driver
/// tells QEMU to. A line written at that very moment can be lost.
pub fn bound(path: &Path, limit: u64) -> io::Result<()> {
    let size = match path.metadata() {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if size <= limit {
        return Ok(());
    }
    let mut from = File::open(path)?;
    from.seek(SeekFrom::Start(size - limit))?;
    let old = former(path);
    match std::fs::remove_file(&old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut to = create(&old)?;
    io::copy(&mut from.take(limit), &mut to)?;
    to.flush()?;
    OpenOptions::new().write(true).open(path)?.set_len(0)
}

/// The last lines of a log, at most `count`, oldest first; none if it cannot be read.
pub fn last_lines(path: &Path, count: usize) -> Vec<String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(count)..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_bounded_and_its_end_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serial.log");
        bound(&path, 10).unwrap();
        let mut writer = create(&path).unwrap();
        writer.write_all(b"0123456789").unwrap();
        bound(&path, 10).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"0123456789");
        writer.write_all(b"abc").unwrap();
        bound(&path, 10).unwrap();
        writer.write_all(b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read(former(&path)).unwrap(), b"3456789abc");
    }

    #[test]
    fn the_last_lines_are_the_last_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qemu.log");
        assert!(last_lines(&path, 3).is_empty());
        let mut writer = create(&path).unwrap();
        for number in 0..5000 {
            writeln!(writer, "line {number}\n").unwrap();
        }
        assert_eq!(last_lines(&path, 2), ["line 4998", "line 4999"]);
        rotate(&path).unwrap();
        assert!(!path.exists() && former(&path).exists());
    }
}
