//! What differs from one host system to the other: error numbers, names, links, and attributes.
//!
//! The machine runs Linux, whatever the host is.

use cap_fs_ext::MetadataExt as _;
use cap_std::fs::{Dir, Metadata};
use cap_std::time::SystemTime as CapTime;
use coracle_protocol::folders::{Attributes, FileKind, Time};
use std::io;
use std::path::{Path, PathBuf};

/// Error numbers of Linux.
pub(super) mod linux {
    pub(in super::super) const EPERM: u32 = 1;
    pub(in super::super) const ENOENT: u32 = 2;
    pub(in super::super) const EIO: u32 = 5;
    pub(in super::super) const EACCES: u32 = 13;
    pub(in super::super) const EEXIST: u32 = 17;
    pub(in super::super) const EXDEV: u32 = 18;
    pub(in super::super) const ENOTDIR: u32 = 20;
    pub(in super::super) const EISDIR: u32 = 21;
    pub(in super::super) const EINVAL: u32 = 22;
    pub(in super::super) const EFBIG: u32 = 27;
    pub(in super::super) const ENOSPC: u32 = 28;
    pub(in super::super) const EROFS: u32 = 30;
    pub(in super::super) const EMLINK: u32 = 31;
    pub(in super::super) const ENAMETOOLONG: u32 = 36;
    pub(in super::super) const ENOTEMPTY: u32 = 39;
    pub(in super::super) const EDQUOT: u32 = 122;
    pub(in super::super) const ESTALE: u32 = 116;
}

pub(super) fn errno(number: u32) -> io::Error {
    #[cfg(target_os = "linux")]
    return io::Error::from_raw_os_error(i32::try_from(number).unwrap_or(5));
    #[cfg(not(target_os = "linux"))]
    io::Error::other(Number(number))
}

/// A number of Linux on another system.
#[cfg(not(target_os = "linux"))]
#[derive(Debug, thiserror::Error)]
#[error("error {0} of Linux")]
struct Number(u32);

/// An error's number on Linux.
pub(super) fn number(error: &io::Error) -> u32 {
    #[cfg(target_os = "linux")]
    if let Some(number) = error.raw_os_error().and_then(|raw| u32::try_from(raw).ok()) {
        return number;
    }
    #[cfg(not(target_os = "linux"))]
    if let Some(Number(number)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return *number;
    }
    match error.kind() {
        io::ErrorKind::NotFound => linux::ENOENT,
        io::ErrorKind::PermissionDenied => linux::EACCES,
        io::ErrorKind::AlreadyExists => linux::EEXIST,
        io::ErrorKind::NotADirectory => linux::ENOTDIR,
        io::ErrorKind::IsADirectory => linux::EISDIR,
        io::ErrorKind::DirectoryNotEmpty => linux::ENOTEMPTY,
        io::ErrorKind::ReadOnlyFilesystem => linux::EROFS,
        io::ErrorKind::StorageFull => linux::ENOSPC,
        io::ErrorKind::QuotaExceeded => linux::EDQUOT,
        io::ErrorKind::FileTooLarge => linux::EFBIG,
        io::ErrorKind::CrossesDevices => linux::EXDEV,
        io::ErrorKind::TooManyLinks => linux::EMLINK,
        io::ErrorKind::InvalidFilename => linux::ENAMETOOLONG,
        io::ErrorKind::InvalidInput => linux::EINVAL,
        io::ErrorKind::Unsupported => linux::EPERM,
        _ => linux::EIO,
    }
}

/// A path as this system writes it. One that would lead out of the folder is none.
pub(super) fn path(of: &[u8]) -> io::Result<PathBuf> {
    let path = PathBuf::from(os_string(of)?);
    let is_plain = path
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    match is_plain {
        true => Ok(path),
        false => Err(errno(linux::EINVAL)),
    }
}

#[cfg(unix)]
#[allow(clippy::unnecessary_wraps, reason = "the form of the other systems")]
pub(super) fn os_string(of: &[u8]) -> io::Result<std::ffi::OsString> {
    use std::os::unix::ffi::OsStrExt as _;
    Ok(std::ffi::OsStr::from_bytes(of).to_owned())
}

/// Names that are no text cannot be written here.
#[cfg(not(unix))]
pub(super) fn os_string(of: &[u8]) -> io::Result<std::ffi::OsString> {
    let text = std::str::from_utf8(of).map_err(|_| errno(linux::EINVAL))?;
    Ok(text.into())
}

#[cfg(unix)]
pub(super) fn bytes(of: &std::ffi::OsStr) -> Vec<u8> {
    std::os::unix::ffi::OsStrExt::as_bytes(of).to_vec()
}

#[cfg(not(unix))]
pub(super) fn bytes(of: &std::ffi::OsStr) -> Vec<u8> {
    of.to_string_lossy().replace('\\', "/").into_bytes()
}

#[cfg(unix)]
pub(super) fn symbolic_link(root: &Dir, target: &Path, path: &Path) -> io::Result<()> {
    // Where it leads is the machine's affair.
    root.symlink_contents(target, path)
}

#[cfg(not(unix))]
pub(super) fn symbolic_link(_: &Dir, _: &Path, _: &Path) -> io::Result<()> {
    Err(errno(linux::EPERM))
}

#[cfg(unix)]
pub(super) fn read_at(file: &std::fs::File, to: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, to, offset)
}

#[cfg(unix)]
pub(super) fn write_at(file: &std::fs::File, from: &[u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, from, offset)
}

#[cfg(windows)]
pub(super) fn read_at(file: &std::fs::File, to: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, to, offset)
}

#[cfg(windows)]
pub(super) fn write_at(file: &std::fs::File, from: &[u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, from, offset)
}

pub(super) fn attributes(meta: &Metadata) -> Attributes {
    let kind = if meta.is_file() {
        FileKind::File
    } else if meta.is_dir() {
        FileKind::Folder
    } else if meta.is_symlink() {
        FileKind::SymbolicLink
    } else {
        FileKind::Other
    };
    let at = |time: io::Result<CapTime>| time.ok().map(|time| time.into_std().into());
    let (mode, blocks, changed) = details(meta);
    Attributes {
        kind: kind.into(),
        mode,
        size: meta.len(),
        blocks,
        inode: meta.ino(),
        links: u32::try_from(meta.nlink()).unwrap_or(u32::MAX),
        accessed: at(meta.accessed()),
        modified: at(meta.modified()),
        changed,
    }
}

#[cfg(unix)]
fn details(meta: &Metadata) -> (u32, u64, Option<Time>) {
    use cap_std::fs::MetadataExt as _;
    let changed = Time {
        seconds: meta.ctime(),
        nanos: u32::try_from(meta.ctime_nsec()).unwrap_or(0),
    };
    (meta.mode() & 0o7777, meta.blocks(), Some(changed))
}

#[cfg(not(unix))]
fn details(meta: &Metadata) -> (u32, u64, Option<Time>) {
    // Everything there may be run.
    let mode = if meta.permissions().readonly() {
        0o555
    } else {
        0o777
    };
    (mode, meta.len().div_ceil(512), None)
}
