//! What the host has: processors, memory, and free space where machines are kept.

use std::io;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use crate::size::Size;

/// What the host could give to a machine, at the moment it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostResources {
    /// Processors that this process may use.
    pub cpus: NonZeroU32,
    /// All of the host's memory.
    pub memory_total: Size,
    /// Memory that could be had without swapping.
    pub memory_available: Size,
    /// Where disk space was measured: the given folder, or its nearest existing parent.
    pub disk_path: PathBuf,
    /// The size of the file system there.
    pub disk_total: Size,
    /// Space that an ordinary user may still fill there.
    pub disk_free: Size,
}

/// A fact about the host could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot find out the host's {what} from {from}")]
pub struct HostError {
    /// Which fact.
    pub what: &'static str,
    /// The file, folder or program asked.
    pub from: String,
    /// What it said.
    #[source]
    pub source: io::Error,
}

/// Which boot of the host this is; `None` where that cannot be told.
pub fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

/// Reads the host's resources. `folder` is where disks will be made; it need not exist yet.
pub fn resources(folder: &Path) -> Result<HostResources, HostError> {
    let cpus = std::thread::available_parallelism()
        .ok()
        .and_then(|count| u32::try_from(count.get()).ok())
        .and_then(NonZeroU32::new)
        .unwrap_or(NonZeroU32::MIN);
    let (memory_total, memory_available) = memory()?;
    let disk_path = folder
        .ancestors()
        .find(|path| path.is_dir())
        .unwrap_or(Path::new("."))
        .to_owned();
    let space = fs4::statvfs(&disk_path).map_err(|source| HostError {
        what: "free space",
        from: disk_path.display().to_string(),
        source,
    })?;
    Ok(HostResources {
        cpus,
        memory_total,
        memory_available,
        disk_path,
        disk_total: Size::from_bytes(space.total_space()),
        disk_free: Size::from_bytes(space.available_space()),
    })
}

/// Total and available memory, from `/proc/meminfo` (see proc_meminfo(5)).
#[cfg(target_os = "linux")]
fn memory() -> Result<(Size, Size), HostError> {
    const FROM: &str = "/proc/meminfo";
    let error = |source| HostError {
        what: "memory",
        from: FROM.to_owned(),
        source,
    };
    let text = std::fs::read_to_string(FROM).map_err(error)?;
    meminfo(&text).ok_or_else(|| {
        error(io::Error::new(
            io::ErrorKind::InvalidData,
            "no MemTotal or MemAvailable",
        ))
    })
}

/// Reads `MemTotal` and `MemAvailable`, which the kernel gives in KiB.
#[cfg(target_os = "linux")]
fn meminfo(text: &str) -> Option<(Size, Size)> {
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(Size::from_bytes(kib.checked_mul(1024)?))
    };
    Some((field("MemTotal")?, field("MemAvailable")?))
}

/// Total memory from sysctl(8), available memory from vm_stat(1): free, inactive and purgeable pages.
#[cfg(target_os = "macos")]
fn memory() -> Result<(Size, Size), HostError> {
    let run = |program: &str, arguments: &[&str]| {
        let error = |source| HostError {
            what: "memory",
            from: program.to_owned(),
            source,
        };
        let output = std::process::Command::new(program)
            .args(arguments)
            .output()
            .map_err(error)?;
        String::from_utf8(output.stdout).map_err(|_| error(io::ErrorKind::InvalidData.into()))
    };
    let unread = |from: &str| HostError {
        what: "memory",
        from: from.to_owned(),
        source: io::ErrorKind::InvalidData.into(),
    };
    let total = run("/usr/sbin/sysctl", &["-n", "hw.memsize"])?;
    let total = total
        .trim()
        .parse()
        .map_err(|_| unread("sysctl hw.memsize"))?;
    let statistics = run("/usr/bin/vm_stat", &[])?;
    let available = vm_stat(&statistics).ok_or_else(|| unread("vm_stat"))?;
    Ok((Size::from_bytes(total), available))
}

/// Reads the page size and the pages that can be had at once from the output of vm_stat(1).
#[cfg(any(target_os = "macos", test))]
fn vm_stat(text: &str) -> Option<Size> {
    let page: u64 = text
        .split("page size of ")
        .nth(1)?
        .split(' ')
        .next()?
        .parse()
        .ok()?;
    let pages = |name: &str| -> Option<u64> {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().trim_end_matches('.').parse().ok()
    };
    let sum =
        pages("Pages free")? + pages("Pages inactive")? + pages("Pages purgeable").unwrap_or(0);
    Some(Size::from_bytes(sum.checked_mul(page)?))
}

/// Total and available memory as Windows gives them.
#[cfg(windows)]
fn memory() -> Result<(Size, Size), HostError> {
    let mut system = sysinfo::System::new();
    system.refresh_memory();
    Ok((
        Size::from_bytes(system.total_memory()),
        Size::from_bytes(system.available_memory()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_something() {
        let folder = tempfile::tempdir().unwrap();
        let host = resources(&folder.path().join("not/yet/there")).unwrap();
        assert_eq!(host.disk_path, folder.path());
        assert!(
            host.memory_total > Size::from_mib(64) && host.memory_available <= host.memory_total,
            "{host:?}"
        );
        assert!(host.disk_free > Size::from_bytes(0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn meminfo_is_read_in_kib() {
        let text = "MemTotal:       24689764 kB\nMemFree:  1 kB\nMemAvailable:   20000000 kB\n";
        assert_eq!(
            meminfo(text),
            Some((
                Size::from_bytes(24_689_764 << 10),
                Size::from_bytes(20_000_000 << 10)
            ))
        );
        assert_eq!(meminfo("MemTotal: 5 kB\n"), None);
    }

    #[test]
    fn vm_stat_is_read_in_pages() {
        let text = "Mach Virtual Memory Statistics: (page size of 16384 bytes)\nPages free:  100.\n\
                    Pages active: 7.\nPages inactive:   50.\nPages purgeable:   10.\n";
        assert_eq!(vm_stat(text), Some(Size::from_bytes(160 * 16384)));
        assert_eq!(vm_stat("nothing"), None);
    }
}
