//! A machine for tests, which say what matters to them: `MachineSpec { boot, ..sample::machine() }`.

use uuid::Uuid;

use super::{Architecture, Boot, Disk, DiskFormat, DiskRole, MachineSpec, UserNetwork, cpus};
use crate::accelerator::AcceleratorChoice;
use crate::name::MachineName;
use crate::size::Size;

/// A disk that is there.
pub(crate) fn disk(role: DiskRole, path: &str, format: DiskFormat, read_only: bool) -> Disk {
    Disk {
        role,
        path: path.into(),
        format,
        read_only,
        create: None,
        base: None,
    }
}

/// A machine without disks and forwards.
pub(crate) fn machine() -> MachineSpec {
    MachineSpec {
        name: MachineName::new("dev").unwrap(),
        id: Uuid::from_u128(0x11),
        architecture: Architecture::X86_64,
        cpus: cpus(2).unwrap(),
        memory: Size::from_gib(3),
        boot: Boot::DirectKernel {
            kernel: "/i/vmlinuz".into(),
            initrd: "/i/initrd".into(),
            command_line: "quiet random.trust_cpu=on".to_owned(),
            emulated: "maxcpus=1".to_owned(),
        },
        disks: Vec::new(),
        network: UserNetwork::default(),
        generation_id: Uuid::from_u128(0x22),
        accelerator: AcceleratorChoice::Auto,
        console: "/m/dev/serial.log".into(),
    }
}
