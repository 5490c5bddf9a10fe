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
const NO_MEMORY: [&str; 3] = [
    "Cannot allocate memory",
    "cannot set up guest memory",
    // More than the guest's processor can address.
    "phys-bits too low",
];

/// Turns the last lines of QEMU's log into an error with a name; `None` for an unknown cause.
pub(crate) fn recognise(lines: &[String], spec: &MachineSpec) -> Option<DriverError> {
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use uuid::Uuid;

    use super::*;
    use crate::accelerator::AcceleratorChoice;
    use crate::name::MachineName;
    use crate::size::Size;
    use crate::spec::{Architecture, Boot, PortForward, UserNetwork, cpus};

    fn spec(forwards: Vec<PortForward>) -> MachineSpec {
        MachineSpec {
            name: MachineName::new("dev").unwrap(),
            id: Uuid::nil(),
            architecture: Architecture::X86_64,
            cpus: cpus(1).unwrap(),
            memory: Size::from_gib(3),
            boot: Boot::Firmware,
            disks: Vec::new(),
            network: UserNetwork { forwards },
            generation_id: Uuid::nil(),
            accelerator: AcceleratorChoice::Auto,
            console: "/c".into(),
        }
    }

    fn cause(line: &str, spec: &MachineSpec) -> Option<DriverError> {
        recognise(&["something before".to_owned(), line.to_owned()], spec)
    }

    /// Lines as QEMU 7.2 wrote them.
    #[test]
    fn known_causes_have_names() {
        let spec = spec(Vec::new());
        let kvm = "2026-11-23T21:00:00.000000Z qemu-system-x86_64: Could not access KVM kernel module: Permission denied";
        assert!(
            matches!(cause(kvm, &spec), Some(DriverError::KvmPermission { detail }) if detail.starts_with("Could not"))
        );
        let memory = "qemu-system-x86_64: cannot set up guest memory 'mem': Cannot allocate memory";
        assert!(
            matches!(cause(memory, &spec), Some(DriverError::NoMemory { asked, .. }) if asked == spec.memory)
        );
        let lock =
            "qemu-system-x86_64: -device virtio-blk-pci,drive=data: Failed to get \"write\" lock";
        assert!(matches!(
            cause(lock, &spec),
            Some(DriverError::DiskInUse { .. })
        ));
        let space =
            "qemu-system-x86_64: -pidfile x: cannot create PID file: No space left on device";
        assert!(matches!(
            cause(space, &spec),
            Some(DriverError::NoSpace { .. })
        ));
        assert!(cause("qemu-system-x86_64: could not load PC BIOS 'x'", &spec).is_none());
    }

    #[test]
    fn a_forward_that_failed_names_its_own_address() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = held.local_addr().unwrap();
        let spec = spec(vec![
            PortForward::tcp("127.0.0.1:1".parse().unwrap(), 22),
            PortForward::tcp(taken, 6443),
        ]);
        let line = format!(
            "qemu-system-x86_64: -netdev x: Could not set up host forwarding rule 'tcp:{taken}-:6443'"
        );
        assert!(
            matches!(cause(&line, &spec), Some(DriverError::PortTaken { address, .. }) if address == taken)
        );
    }
}
