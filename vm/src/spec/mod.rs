//! What a machine is made of.
//!
//! A [`MachineSpec`] holds only values that were checked: a driver needs to ask nothing more, and
//! two equal specifications give two equal machines.

mod check;
#[cfg(test)]
pub(crate) mod sample;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use check::{Caution, Minimum, ResourceRequest, SpecError, cpus};

use crate::accelerator::AcceleratorChoice;
use crate::name::MachineName;
use crate::size::Size;

/// Everything that a driver needs to make and run one machine. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// Name of the machine, and of its folder in the store.
    pub name: MachineName,
    /// The machine's own identifier, which the guest sees as its SMBIOS UUID. Stays for life.
    pub id: Uuid,
    /// The processor family of the guest.
    pub architecture: Architecture,
    /// Number of virtual processors.
    pub cpus: NonZeroU32,
    /// Guest memory; a whole number of MiB.
    pub memory: Size,
    /// How the guest starts.
    pub boot: Boot,
    /// The disks, in the order in which the guest's bus holds them. The guest finds them by content.
    pub disks: Vec<Disk>,
    /// How the guest and the host reach each other.
    pub network: UserNetwork,
    /// Shown to the guest by the generation device: another value tells the kernel that it is a copy
    /// and must reseed its random numbers.
    pub generation_id: Uuid,
    /// What runs the guest's instructions.
    pub accelerator: AcceleratorChoice,
    /// The file that the guest's serial console is appended to.
    pub console: PathBuf,
}

/// The processor family of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

impl Architecture {
    /// The family that this program was built for.
    pub const fn of_host() -> Self {
        if cfg!(target_arch = "aarch64") {
            Self::Aarch64
        } else {
            Self::X86_64
        }
    }

    /// The family's name in QEMU, in Rust targets and in uname(1).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }
}

/// How a guest starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Boot {
    /// The hypervisor loads a Linux kernel itself.
    DirectKernel {
        /// The kernel image.
        kernel: PathBuf,
        /// The initial RAM file system.
        initrd: PathBuf,
        /// The kernel's command line, without a console: the driver adds its own.
        command_line: String,
        /// Further words for it where the processors are emulated by software.
        #[serde(default)]
        emulated: String,
    },
    /// The machine's firmware looks for something to start on the disks.
    Firmware,
}

/// One disk of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// What the disk is for; one disk a role.
    pub role: DiskRole,
    /// The file on the host.
    pub path: PathBuf,
    /// How the file is laid out.
    pub format: DiskFormat,
    /// Whether the guest may only read it.
    pub read_only: bool,
    /// Given for a disk that the driver makes when it is missing: how large the guest sees it.
    pub create: Option<Size>,
    /// A frozen disk that this one begins with: its file keeps the differences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<PathBuf>,
}

/// What a disk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskRole {
    /// The guest's root file system.
    Root,
    /// A read-only file system beside the root.
    Layer,
    /// What the guest writes.
    Data,
    /// The machine's identity and settings.
    Seed,
}

impl DiskRole {
    /// A short name, which the guest sees as the disk's serial number.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Layer => "layer",
            Self::Data => "data",
            Self::Seed => "seed",
        }
    }
}

/// How a disk's file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskFormat {
    /// Byte for byte.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
    /// VirtualBox's format.
    Vdi,
    /// Hyper-V's format.
    Vhdx,
}

impl DiskFormat {
    /// The format's name in QEMU, and what its files' names end with.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vdi => "vdi",
            Self::Vhdx => "vhdx",
        }
    }
}

/// A network of the guest's own behind the hypervisor, reached through forwarded ports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNetwork {
    /// Ports of the host that lead into the guest.
    pub forwards: Vec<PortForward>,
}

/// One port of the host that leads to a port of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortForward {
    /// Where the host listens.
    pub host: SocketAddr,
    /// The guest's port.
    pub guest_port: u16,
    /// What is forwarded.
    pub protocol: Protocol,
}

impl PortForward {
    /// Forwards TCP.
    pub const fn tcp(host: SocketAddr, guest_port: u16) -> Self {
        Self {
            host,
            guest_port,
            protocol: Protocol::Tcp,
        }
    }
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The protocol's name in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl MachineSpec {
    /// The disk of a role.
    pub fn disk(&self, role: DiskRole) -> Option<&Disk> {
        self.disks.iter().find(|disk| disk.role == role)
    }

    /// Where the host listens for a port of the guest.
    pub fn forward_to(&self, guest_port: u16) -> Option<SocketAddr> {
        self.network
            .forwards
            .iter()
            .find(|forward| forward.guest_port == guest_port)
            .map(|forward| forward.host)
    }

    /// Checks what the types cannot: that no two disks share a role or a file, that no two forwards
    /// share a host port, that memory is whole MiB, and that every path is absolute.
    pub fn check(&self) -> Result<(), SpecError> {
        let mut paths: Vec<&PathBuf> = vec![&self.console];
        if let Boot::DirectKernel { kernel, initrd, .. } = &self.boot {
            paths.extend([kernel, initrd]);
        }
        paths.extend(self.disks.iter().map(|disk| &disk.path));
        paths.extend(self.disks.iter().filter_map(|disk| disk.base.as_ref()));
        if let Some(path) = paths.into_iter().find(|path| !path.is_absolute()) {
            return Err(SpecError::RelativePath { path: path.clone() });
        }
        let mut roles = BTreeSet::new();
        let mut files: BTreeSet<OsString> = BTreeSet::new();
        for disk in &self.disks {
            if !roles.insert(disk.role) || !files.insert(disk.path.clone().into_os_string()) {
                return Err(SpecError::DiskTwice {
                    role: disk.role.as_str(),
                    path: disk.path.clone(),
                });
            }
            if disk.read_only && disk.create.is_some() {
                return Err(SpecError::BlankReadOnlyDisk {
                    role: disk.role.as_str(),
                });
            }
        }
        for (index, forward) in self.network.forwards.iter().enumerate() {
            let same = |other: &&PortForward| {
                other.host == forward.host && other.protocol == forward.protocol
            };
            if self.network.forwards[..index]
                .iter()
                .any(|other| same(&other))
            {
                return Err(SpecError::PortTwice { host: forward.host });
            }
        }
        if self.memory.bytes() == 0 || !self.memory.bytes().is_multiple_of(1 << 20) {
            return Err(SpecError::MemoryNotWhole { asked: self.memory });
        }
        Ok(())
    }
}
