//! What a restore depends on: libvirt, QEMU and what it loads, the processor, the kernel below, and the
//! machine itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::describe::Description;
use super::host::Host;
use crate::accelerator::Accelerator;
use crate::driver::DriverError;
use crate::qemu::shared::{processor, read, stamp};
use crate::spec::MachineSpec;

/// All of it, by name.
pub(super) fn fingerprint(
    host: &Host,
    accelerator: Accelerator,
    spec: &MachineSpec,
) -> Result<BTreeMap<String, String>, DriverError> {
    let facts = [
        ("accelerator", accelerator.to_string()),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("processor", processor(&read("/proc/cpuinfo"))),
        ("libvirt", host.version()),
        ("qemu", stamp(&host.emulator)),
        ("machine", machine(host, accelerator, spec)?),
    ];
    let facts = facts.into_iter();
    Ok(facts
        .map(|(name, value)| (name.to_owned(), value))
        .collect())
}

/// What the document says of the machine itself, and not of its files, its name or its boot.
fn machine(
    host: &Host,
    accelerator: Accelerator,
    spec: &MachineSpec,
) -> Result<String, DriverError> {
    let nowhere = PathBuf::new();
    let mut spec = spec.clone();
    spec.console.clone_from(&nowhere);
    for disk in &mut spec.disks {
        disk.path.clone_from(&nowhere);
    }
    let mut domain = Description {
        spec: &spec,
        name: "",
        folder: Path::new(""),
        accelerator,
        emulator: None,
        user: host.user(),
        panic_device: host.panic_device(),
    }
    .domain()?;
    domain.genid = None;
    domain.metadata = None;
    domain.os.kernel = None;
    domain.os.initrd = None;
    domain.os.cmdline = None;
    domain.to_xml()
}
