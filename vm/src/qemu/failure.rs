//! Why QEMU ended before it answered, read from its own last words.

use crate::address::{AddressError, check_free};
use crate::driver::DriverError;
use crate::spec::MachineSpec;

/// Words of QEMU that tell a cause apart. Messages of QEMU 7.2 to 10; matched as parts, since the
/// rest of a line differs between versions.
const FORWARD: &str = "Could not set up host forwarding rule";
const KVM: [&str; 2] = [
    "Could not access KVM kernel module: Permission denied",
    "failed to initialize kvm: Permission denied",
];
const DISK_LOCK: [&str; 2] = [
    "Failed to get \"write\" lock",
    "Failed to get shared \"write\" lock",
];
const NO_SPACE: [&str; 2] = ["No space left on device", "Disk quota exceeded"];
const NO_MEMORY: [&str; 2] = ["Cannot allocate memory", "cannot set up guest memory"];

/// Turns the last lines of QEMU's log into an error with a name; `None` for an unknown cause.
pub(super) fn recognise(lines: &[String], spec: &MachineSpec) -> Option<DriverError> {
    let line_with = |words: &[&str]| {
        lines
            .iter()
            .rev()
            .find(|line| words.iter().any(|word| line.contains(word)))
            .map(|line| detail(line))
    };
    if let Some(detail) = line_with(&[FORWARD]) {
        return forward(detail, spec);
    }
    if let Some(detail) = line_with(&KVM) {
        return Some(DriverError::KvmPermission { detail });
    }
    if let Some(detail) = line_with(&DISK_LOCK) {
        return Some(DriverError::DiskInUse { detail });
    }
    if let Some(detail) = line_with(&NO_SPACE) {
        return Some(DriverError::NoSpace { detail });
    }
    line_with(&NO_MEMORY).map(|detail| DriverError::NoMemory {
        asked: spec.memory,
        detail,
    })
}

/// QEMU does not say why a forward failed, so the port is tried again here.
fn forward(detail: String, spec: &MachineSpec) -> Option<DriverError> {
    let named = |host: &dyn std::fmt::Display| detail.contains(&format!("{host}-"));
    let forward = spec
        .network
        .forwards
        .iter()
        .find(|forward| named(&forward.host))?;
    let address = forward.host;
    Some(match check_free(address, forward.protocol) {
        Err(AddressError::Forbidden { .. }) => DriverError::PortForbidden { address, detail },
        _ => DriverError::PortTaken { address, detail },
    })
}

/// A line without QEMU's time stamp and program name.
fn detail(line: &str) -> String {
    line.split_once("qemu-system-")
        .and_then(|(_, rest)| rest.split_once(": "))
        .map_or(line, |(_, message)| message)
        .trim()
        .to_owned()
}
