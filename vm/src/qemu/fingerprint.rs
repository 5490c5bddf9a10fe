//! What a restore depends on: the program and what it loads, the processor, the kernel below.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::command_line::{Invocation, Memory, arguments};
use crate::accelerator::Accelerator;
use crate::driver::DriverError;
use crate::qmp::QmpEndpoint;
use crate::spec::MachineSpec;

/// Files that QEMU loads into the machine when it starts, in these folders beside its own.
const FIRMWARE: [&str; 6] = [
    "bios-256k.bin",
    "efi-virtio.rom",
    "kvmvapic.bin",
    "linuxboot_dma.bin",
    "edk2-aarch64-code.fd",
    "vgabios.bin",
];
const FIRMWARE_FOLDERS: [&str; 3] = [
    "/usr/share/qemu",
    "/usr/share/seabios",
    "/usr/local/share/qemu",
];
/// Its user network, whose state is part of the devices'.
const LIBSLIRP_FOLDERS: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
];

/// All of it, by name. Files count by path, size and time: a package that is upgraded changes them.
pub(super) fn fingerprint(
    program: &Path,
    accelerator: Accelerator,
    spec: &MachineSpec,
) -> Result<BTreeMap<String, String>, DriverError> {
    let mut facts = BTreeMap::new();
    let mut fact = |name: &str, value: String| facts.insert(name.to_owned(), value);
    fact("accelerator", accelerator.to_string());
    fact("architecture", spec.architecture.as_str().to_owned());
    fact("cpus", spec.cpus.to_string());
    fact("memory", spec.memory.to_string());
    fact("kernel", read("/proc/sys/kernel/osrelease"));
    fact("processor", processor(&read("/proc/cpuinfo")));
    fact("qemu", stamp(program));
    let beside = program
        .parent()
        .and_then(Path::parent)
        .map(|folder| folder.join("share/qemu"));
    let folders = FIRMWARE_FOLDERS.iter().map(PathBuf::from).chain(beside);
    let firmware = folders.flat_map(|folder| FIRMWARE.map(|file| folder.join(file)));
    fact("firmware", stamps(firmware));
    let libraries = LIBSLIRP_FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join("libslirp.so.0"));
    fact("libslirp", stamps(libraries));
    let roles = spec.disks.iter().map(|disk| disk.role.as_str());
    fact("disks", roles.collect::<Vec<_>>().join(","));
    fact("devices", devices(accelerator, spec));
    Ok(facts)
}

/// What the command line says of the machine itself, and not of its files.
fn devices(accelerator: Accelerator, spec: &MachineSpec) -> String {
    const OPTIONS: [&str; 4] = ["-machine", "-cpu", "-smp", "-device"];
    let line = arguments(&Invocation {
        spec,
        accelerator,
        memory: Memory::Anonymous,
        monitor: &QmpEndpoint::Pipe(String::new()),
        pid_file: Path::new(""),
        sandbox: false,
        incoming: true,
    });
    let pairs = line.iter().zip(line.iter().skip(1));
    let wanted = pairs.filter(|(option, _)| OPTIONS.iter().any(|one| option == one));
    let values = wanted.map(|(_, value)| value.to_string_lossy());
    // Another one in each machine, and told to its guest after a restore.
    let values = values.filter(|value| !value.starts_with("vmgenid"));
    values.collect::<Vec<_>>().join(" ")
}

pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// The lines of the first processor that a saved state can depend on.
pub(crate) fn processor(cpuinfo: &str) -> String {
    const FIELDS: [&str; 4] = ["model name", "microcode", "stepping", "flags"];
    let lines = cpuinfo.lines().take_while(|line| !line.trim().is_empty());
    let wanted = lines.filter(|line| FIELDS.iter().any(|field| line.starts_with(field)));
    wanted
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("; ")
}

fn stamps(files: impl Iterator<Item = PathBuf>) -> String {
    let there = files.filter(|file| file.exists());
    there
        .map(|file| stamp(&file))
        .collect::<Vec<_>>()
        .join("; ")
}

/// Path, size and time of change of what a path leads to.
pub(crate) fn stamp(path: &Path) -> String {
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let Ok(meta) = real.metadata() else {
        return format!("{}: missing", real.display());
    };
    let changed = meta
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let changed = changed.unwrap_or_default().as_nanos();
    format!("{}: {} bytes of {changed}", real.display(), meta.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_processor_counts_without_what_changes_by_itself() {
        let text = "processor\t: 0\nmodel name\t: Some CPU\ncpu MHz\t: 2100.5\nflags\t: a  b\n\n\
                    processor\t: 1\nmodel name\t: Other\n";
        assert_eq!(processor(text), "model name : Some CPU; flags : a b");
    }

    #[test]
    fn a_file_counts_by_path_size_and_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("qemu");
        assert!(stamp(&file).ends_with(": missing"));
        crate::store::atomic::write(&file, b"one").unwrap();
        let first = stamp(&file);
        crate::store::atomic::write(&file, b"other").unwrap();
        assert_ne!(stamp(&file), first);
    }
}
