//! Putting files in place: whole or not at all, with their mode and owner.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use tokio::net::UnixListener;

/// Mode and owner of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// Group id; None leaves that of the process.
    pub group: Option<u32>,
}

impl Access {
    /// Readable by everybody.
    pub const PUBLIC: Self = Self {
        mode: 0o644,
        group: None,
    };
    /// Readable by root alone.
    pub const SECRET: Self = Self {
        mode: 0o600,
        group: None,
    };
}

/// Writes a file beside its place and renames it there, so that a reader sees the old content
/// or the new. Folders above are made. A file that has this content already is left alone, so
/// that programs that watch it are not woken.
pub fn file(path: &Path, content: &[u8], access: Access) -> io::Result<()> {
    put(path, content, access, true)
}

/// As [`file`], for what every boot places again: it need not outlive a loss of power, and so is not
/// waited for.
pub fn file_of_each_boot(path: &Path, content: &[u8], access: Access) -> io::Result<()> {
    put(path, content, access, false)
}

fn put(path: &Path, content: &[u8], access: Access, durable: bool) -> io::Result<()> {
    let named = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("cannot write {}: {error}", path.display()),
        )
    };
    let mode = Permissions::from_mode(access.mode);
    if fs::read(path).is_ok_and(|present| present == content) {
        if let Some(group) = access.group {
            std::os::unix::fs::chown(path, None, Some(group)).map_err(named)?;
        }
        return fs::set_permissions(path, mode).map_err(named);
    }
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder).map_err(named)?;
    let beside = folder.join(format!(".{}.new", name.to_string_lossy()));
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(content)?;
        if let Some(group) = access.group {
            std::os::unix::fs::fchown(&file, None, Some(group))?;
        }
        file.set_permissions(mode)?;
        if durable {
            file.sync_data()?;
        }
        fs::rename(&beside, path)
    };
    write().map_err(named)
}

/// Puts a symbolic link in the place of whatever file is there.
pub fn link(path: &Path, target: &Path) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let beside = path.with_file_name(format!(".{}.new", name.to_string_lossy()));
    remove(&beside)?;
    std::os::unix::fs::symlink(target, &beside)?;
    fs::rename(&beside, path)
}

/// Removes a file; one that is not there is no error.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Listens on a unix socket in a folder of that mode; what an earlier process left there goes. Has to be
/// called inside the runtime.
pub fn socket(path: &Path, folder_mode: u32) -> io::Result<UnixListener> {
    folder(path.parent().unwrap_or(Path::new("/")), folder_mode)?;
    remove(path)?;
    UnixListener::bind(path)
}

/// Makes a folder, and those above it, and sets its mode.
pub fn folder(path: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_same_content_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        file(&path, b"x", Access::SECRET).unwrap();
        let first = fs::metadata(&path).unwrap();
        file(&path, b"x", Access::PUBLIC).unwrap();
        let second = fs::metadata(&path).unwrap();
        assert_eq!((first.ino(), second.mode() & 0o777), (second.ino(), 0o644));
        file(&path, b"y", Access::PUBLIC).unwrap();
        assert_ne!(fs::metadata(&path).unwrap().ino(), first.ino());
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
    }
}
