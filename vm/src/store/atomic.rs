//! Files that are there whole or not at all, and readable by their owner only.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::path::Path;
use tempfile::NamedTempFile;

/// Makes a folder and its missing parents, each for its owner only (0700 on Unix). Folders that are
/// there keep their mode.
pub fn create_private_dirs(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Makes a folder of a new name, for its owner only, that is removed unless it is moved away.
pub fn private_folder(parent: &Path, prefix: &str) -> io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.tempdir_in(parent)
}

/// Writes a file for its owner only (0600 on Unix): beside its place, to the disk, then moved over
/// what was there. After an error the former file is still whole.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let (folder, file) = written(path, content)?;
    file.persist(path).map_err(|error| error.error)?;
    sync_dir(folder)
}

/// As [`write`], but a file that is there already is left alone, which is an error
/// ([`io::ErrorKind::AlreadyExists`]).
pub fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let (folder, file) = written(path, content)?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    sync_dir(folder)
}

/// The folder of a path, and a file of this content in it that waits for its name.
fn written<'a>(path: &'a Path, content: &[u8]) -> io::Result<(&'a Path, NamedTempFile)> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = tempfile::Builder::new()
        .prefix(".writing-")
        .tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    Ok((folder, file))
}

/// Opens a file to be locked, for its owner only (0600 on Unix); makes it where it is missing. What is in it
/// stays.
pub fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Makes the names in a folder survive a loss of power. Windows has no such call and needs none.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(path)?.sync_all()
    } else {
        Ok(())
    }
}

/// Removes a file; one that is not there is no error.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Removes a folder with all that is in it; one that is not there is no error.
pub fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Bytes that a file takes on the disk: holes take none.
#[cfg(unix)]
pub fn allocated(meta: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(meta) * 512
}

/// Bytes that a file takes on the disk, as far as this system tells.
#[cfg(not(unix))]
pub fn allocated(meta: &fs::Metadata) -> u64 {
    meta.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_takes_nobodys_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_new(&path, b"first").unwrap();
        let refused = write_new(&path, b"second").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        write(&path, b"third").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
    }
}
