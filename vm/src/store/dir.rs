//! Where each file of one machine is.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::name::MachineName;
use crate::qmp::QmpEndpoint;
use crate::spec::DiskFormat;
use crate::store::atomic;

/// The longest path of a Unix socket that every host takes, in bytes: macOS has 104 with the
/// closing zero (sun_path in sys/un.h), Linux 108.
pub const SOCKET_PATH_LIMIT: usize = 103;

/// The record's file name.
pub(super) const RECORD: &str = "machine.json";

/// A path that is too long to be a socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the socket path {path} has {length} bytes, and {SOCKET_PATH_LIMIT} are allowed: choose a shorter runtime folder"
)]
pub struct SocketPathTooLong {
    /// The path.
    pub path: PathBuf,
    /// Its length in bytes.
    pub length: usize,
}

/// The files of one machine. A value of this type says nothing about whether they exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineDir {
    name: MachineName,
    path: PathBuf,
    runtime_dir: PathBuf,
    /// What the names of all sockets of this machine begin with.
    socket_stem: String,
}

impl MachineDir {
    /// The files of the machine `name` in the folder `path`, with its sockets in `runtime_dir`.
    ///
    /// Socket names are short: 12 characters of the name, and 8 of a hash of the whole folder's
    /// path, so that machines of one name in two homes share no socket.
    pub fn new(name: MachineName, path: PathBuf, runtime_dir: &Path) -> Self {
        let hash = Sha256::digest(path.as_os_str().as_encoded_bytes());
        let hash = hex::encode(&hash[..4]);
        let beginning: String = name.as_str().chars().take(12).collect();
        Self {
            socket_stem: format!("{beginning}-{hash}"),
            name,
            path,
            runtime_dir: runtime_dir.to_owned(),
        }
    }

    /// The machine's name.
    pub fn name(&self) -> &MachineName {
        &self.name
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The record, `machine.json`.
    pub fn record(&self) -> PathBuf {
        self.path.join(RECORD)
    }

    /// The disk that the guest writes.
    pub fn data_disk(&self, format: DiskFormat) -> PathBuf {
        self.path.join(format!("data.{}", format.as_str()))
    }

    /// The same under every name that it can have: a capture opens the next one under another.
    pub fn data_disks(&self) -> io::Result<Vec<PathBuf>> {
        beginning_with(&self.path.join("data."))
    }

    /// The disk with the machine's identity and settings, written at each boot.
    pub fn seed_disk(&self) -> PathBuf {
        self.path.join("seed.img")
    }

    /// The same as a CD, for drivers that attach no other small disk.
    pub fn seed_cd(&self) -> PathBuf {
        self.path.join("seed.iso")
    }

    /// What the guest's serial console said since the last launch.
    pub fn serial_log(&self) -> PathBuf {
        self.path.join("serial.log")
    }

    /// What QEMU said since the last launch.
    pub fn qemu_log(&self) -> PathBuf {
        self.path.join("qemu.log")
    }

    /// The identifier of QEMU's process, written by QEMU.
    pub fn qemu_pid(&self) -> PathBuf {
        self.path.join("qemu.pid")
    }

    /// The folder for the machine's secrets.
    pub fn identity(&self) -> PathBuf {
        self.path.join("identity")
    }

    /// The folder that holds sockets, shared by all machines.
    pub fn runtime_dir(&self) -> &Path {
        &self.runtime_dir
    }

    /// The path of the machine's socket for a role, a short word such as `qmp` or `agent`.
    pub fn socket(&self, role: &str) -> Result<PathBuf, SocketPathTooLong> {
        let path = self
            .runtime_dir
            .join(format!("{}.{role}", self.socket_stem));
        let length = path.as_os_str().len();
        if length > SOCKET_PATH_LIMIT {
            Err(SocketPathTooLong { path, length })
        } else {
            Ok(path)
        }
    }

    /// The name of the machine's pipe for a role, on Windows, which has pipes where others have sockets.
    pub fn pipe(&self, role: &str) -> String {
        format!(r"\\.\pipe\coracle-{}.{role}", self.socket_stem)
    }

    /// Where QEMU's monitor listens: a socket on Unix, a named pipe on Windows.
    pub fn qmp(&self) -> Result<QmpEndpoint, SocketPathTooLong> {
        if cfg!(windows) {
            return Ok(QmpEndpoint::Pipe(format!("coracle-{}", self.socket_stem)));
        }
        self.socket("qmp").map(QmpEndpoint::Unix)
    }

    /// Removes all sockets of this machine, whatever their role.
    pub fn remove_sockets(&self) -> io::Result<()> {
        let files = match std::fs::read_dir(&self.runtime_dir) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let stem = OsString::from(&self.socket_stem);
        for file in files {
            let path = file?.path();
            if path.file_stem() == Some(&stem) {
                atomic::remove(&path)?;
            }
        }
        Ok(())
    }
}

/// The files beside a path whose names begin with its name, itself too.
pub(crate) fn beginning_with(path: &Path) -> io::Result<Vec<PathBuf>> {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path.parent().unwrap_or(path))? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(name) {
            found.push(entry.path());
        }
    }
    Ok(found)
}
