//! What is mounted where, in which order.
//!
//! ```text
//! /                root disk, erofs, read-only
//! /var             data disk, ext4: all that survives
//! /etc             overlay: image below, /var/lib/coracle/overlay/etc above
//! /home /root /opt /srv   bound from /var/{home,roothome,opt,srv}
//! /usr/lib/coracle/kubernetes   Kubernetes layer, erofs, read-only
//! /usr/lib/coracle/iso          the ISO, where the machine started from it
//! /run /tmp /dev/shm            memory
//! ```

use crate::kernel;
use crate::place;
use coracle_protocol::DATA_UUID;
use nix::mount::{MsFlags, mount as mount_call};
use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the Kubernetes layer is mounted.
pub const LAYER: &str = "/usr/lib/coracle/kubernetes";
/// Where the ISO is mounted, in a machine that started from it.
pub const ISO: &str = "/usr/lib/coracle/iso";

/// One mount.
#[derive(Debug, Clone, Copy)]
pub struct Mount<'a> {
    /// Device or name.
    pub source: &'a str,
    /// Folder.
    pub target: &'a str,
    /// File system.
    pub kind: &'a str,
    /// Flags.
    pub flags: MsFlags,
    /// Options of the file system.
    pub data: &'a str,
}

const STRICT: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);
const NO_DEVICES: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

const fn memory(target: &'static str, flags: MsFlags, data: &'static str) -> Mount<'static> {
    Mount {
        source: "tmpfs",
        target,
        kind: "tmpfs",
        flags,
        data,
    }
}

const fn virtual_one(
    kind: &'static str,
    target: &'static str,
    data: &'static str,
) -> Mount<'static> {
    Mount {
        source: kind,
        target,
        kind,
        flags: STRICT,
        data,
    }
}

/// The kernel's own, needed in both stages.
pub const KERNEL: &[Mount<'_>] = &[
    virtual_one("proc", "/proc", ""),
    virtual_one("sysfs", "/sys", ""),
    Mount {
        source: "devtmpfs",
        target: "/dev",
        kind: "devtmpfs",
        flags: MsFlags::MS_NOSUID,
        data: "mode=0755",
    },
];

/// What stage 2 adds before the disks.
pub const EARLY: &[Mount<'_>] = &[
    memory("/run", NO_DEVICES, "mode=0755"),
    memory("/tmp", NO_DEVICES, "mode=1777"),
    memory("/dev/shm", NO_DEVICES, "mode=1777"),
    Mount {
        source: "devpts",
        target: "/dev/pts",
        kind: "devpts",
        flags: MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
        data: "mode=0620,gid=5,ptmxmode=0666",
    },
    virtual_one("mqueue", "/dev/mqueue", ""),
    virtual_one(
        "cgroup2",
        "/sys/fs/cgroup",
        "nsdelegate,memory_recursiveprot",
    ),
    virtual_one("bpf", "/sys/fs/bpf", "mode=0700"),
];

/// Folders of the data disk: path, mode.
const FOLDERS: &[(&str, u32)] = &[
    ("/var/lib", 0o755),
    ("/var/lib/coracle", 0o755),
    ("/var/lib/coracle/overlay", 0o700),
    ("/var/lib/coracle/overlay/etc", 0o755),
    ("/var/lib/coracle/overlay/etc-work", 0o700),
    ("/var/lib/coracle/volumes", 0o755),
    ("/var/lib/containerd", 0o711),
    ("/var/lib/etcd", 0o700),
    ("/var/lib/kubelet", 0o750),
    ("/var/log", 0o755),
    ("/var/log/coracle", 0o755),
    ("/var/cache", 0o755),
    ("/var/empty", 0o755),
    ("/var/spool", 0o755),
    ("/var/mail", 0o755),
    ("/var/tmp", 0o1777),
    ("/var/home", 0o755),
    ("/var/roothome", 0o700),
    ("/var/opt", 0o755),
    ("/var/srv", 0o755),
];

/// Folders of the data disk that stand in for folders of the read-only root.
const BOUND: &[(&str, &str)] = &[
    ("/var/home", "/home"),
    ("/var/roothome", "/root"),
    ("/var/opt", "/opt"),
    ("/var/srv", "/srv"),
];

/// Why a mount failed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The call failed.
    #[error("cannot mount {what} at {target}: {source}")]
    Call {
        /// Device or name.
        what: String,
        /// Folder.
        target: String,
        /// Why.
        source: io::Error,
    },
    /// A program of e2fsprogs failed.
    #[error("{program} failed on {device}: {reason}")]
    Tool {
        /// The program.
        program: &'static str,
        /// The disk.
        device: String,
        /// What it printed.
        reason: String,
    },
    /// A folder could not be made.
    #[error("cannot make {folder}: {source}")]
    Folder {
        /// Which.
        folder: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The disk could not be read.
    #[error("cannot read {device}: {source}")]
    Read {
        /// The disk.
        device: String,
        /// Why.
        source: io::Error,
    },
}

/// Mounts one.
pub fn mount(one: &Mount<'_>) -> Result<(), MountError> {
    // Fails on a read-only root, where the folder is there already.
    let _ = fs::create_dir_all(one.target);
    let data = (!one.data.is_empty()).then_some(one.data);
    mount_call(
        Some(one.source),
        one.target,
        Some(one.kind),
        one.flags,
        data,
    )
    .map_err(|error| failed(one.source, one.target, error))
}

/// Moves a mount.
pub fn move_to(from: &str, to: &str) -> Result<(), MountError> {
    mount_call(Some(from), to, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
        .map_err(|error| failed(from, to, error))
}

fn bind(from: &str, to: &str) -> Result<(), MountError> {
    mount_call(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|error| failed(from, to, error))
}

fn failed(what: &str, target: &str, error: nix::errno::Errno) -> MountError {
    MountError::Call {
        what: what.to_owned(),
        target: target.to_owned(),
        source: error.into(),
    }
}

/// Everything is shared, so that mounts made later reach pods that ask for them.
pub fn share_all() -> Result<(), MountError> {
    mount_call(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_SHARED,
        None::<&str>,
    )
    .map_err(|error| failed("/", "/", error))
}

/// Mounts the data disk and what lives on it. A disk that the caller saw to be blank is
/// formatted first; one that grew since is grown into.
pub fn data_disk(device: &Path, blank: bool) -> Result<(), MountError> {
    let name = device.display().to_string();
    if blank {
        let options = [
            "-q",
            "-t",
            "ext4",
            "-m",
            "0",
            "-L",
            "coracle-data",
            "-U",
            DATA_UUID,
        ];
        tool("mke2fs", &options, &name, &[0])?;
    }
    let data = Mount {
        source: &name,
        target: "/var",
        kind: "ext4",
        flags: MsFlags::MS_NOATIME,
        // The disk's file begins as zeros, so that nobody has to zero what is not used yet.
        data: "discard,noinit_itable,errors=remount-ro",
    };
    if let Err(error) = mount(&data) {
        kernel::complain(&format!("{error}; repairing it"));
        // 1: errors were corrected. 2 would be: reboot, which a file system that is not
        // mounted does not need.
        tool("e2fsck", &["-y"], &name, &[0, 1, 2])?;
        mount(&data)?;
    }
    if grew(device).map_err(|source| MountError::Read {
        device: name.clone(),
        source,
    })? {
        kernel::say("the data disk grew: growing its file system");
        tool("resize2fs", &[], &name, &[0])?;
    }
    for &(folder, mode) in FOLDERS {
        place::folder(Path::new(folder), mode)
            .map_err(|source| MountError::Folder { folder, source })?;
    }
    for (target, link) in [("/run", "/var/run"), ("/run/lock", "/var/lock")] {
        if fs::symlink_metadata(link).is_err() {
            let _ = std::os::unix::fs::symlink(target, link);
        }
    }
    let overlay = Mount {
        source: "overlay",
        target: "/etc",
        kind: "overlay",
        flags: MsFlags::MS_NOATIME,
        data: "lowerdir=/etc,upperdir=/var/lib/coracle/overlay/etc,\
               workdir=/var/lib/coracle/overlay/etc-work",
    };
    mount(&overlay)?;
    for (from, to) in BOUND {
        bind(from, to)?;
    }
    Ok(())
}

/// Mounts a Kubernetes layer.
pub fn layer(device: &Path) -> Result<(), MountError> {
    let source = device.display().to_string();
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOATIME | MsFlags::MS_NODEV;
    mount(&Mount {
        source: &source,
        target: LAYER,
        kind: "erofs",
        flags,
        data: "",
    })
}

/// The disk that is mounted at a place, if it is larger than its file system.
pub fn grown(target: &str) -> io::Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let device = mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let device = words.next()?;
        (words.next()? == target).then(|| PathBuf::from(device))
    });
    let Some(device) = device else {
        return Ok(None);
    };
    Ok(grew(&device)?.then_some(device))
}

/// Whether the disk is larger than the ext4 file system on it, by at least one block group's
/// worth: `mke2fs` leaves a smaller rest unused.
fn grew(device: &Path) -> io::Result<bool> {
    const GROUP: u64 = 128 << 20;
    let mut disk = fs::File::open(device)?;
    disk.seek(SeekFrom::Start(1024))?;
    let mut superblock = [0; 1024];
    disk.read_exact(&mut superblock)?;
    Ok(kernel::device_size(device)? >= ext4_size(&superblock) + GROUP)
}

/// Blocks (low half at 4, high half at 0x150) times block size (1024 << the value at 24).
fn ext4_size(superblock: &[u8; 1024]) -> u64 {
    let word = |at: usize| {
        u64::from(u32::from_le_bytes([
            superblock[at],
            superblock[at + 1],
            superblock[at + 2],
            superblock[at + 3],
        ]))
    };
    (word(4) | word(0x150) << 32) << (10 + word(24).min(6))
}

fn tool(
    program: &'static str,
    options: &[&str],
    device: &str,
    good: &[i32],
) -> Result<(), MountError> {
    let output = Command::new(program)
        .args(options)
        .arg(device)
        .stdin(Stdio::null())
        .output();
    let reason = match output {
        Ok(output)
            if output
                .status
                .code()
                .is_some_and(|code| good.contains(&code)) =>
        {
            return Ok(());
        }
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            format!("{}: {text}", output.status)
        }
        Err(error) => error.to_string(),
    };
    Err(MountError::Tool {
        program,
        device: device.to_owned(),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_size_of_a_file_system_is_read_from_its_superblock() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 << 20).unwrap();
        let made = Command::new("/sbin/mke2fs")
            .args(["-q", "-t", "ext4"])
            .arg(file.path())
            .status();
        assert!(made.unwrap().success());
        let mut image = file.reopen().unwrap();
        image.seek(SeekFrom::Start(1024)).unwrap();
        let mut superblock = [0; 1024];
        image.read_exact(&mut superblock).unwrap();
        assert_eq!(ext4_size(&superblock), 64 << 20);
    }
}
