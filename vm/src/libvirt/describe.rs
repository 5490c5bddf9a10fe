//! From a specification to libvirt's document, as a pure function of what is to be run.

use std::path::Path;

use super::domain::{
    Backend, Clock, Controller, Cpu, Devices, Disk, DiskDriver, Domain, Features, FileSource,
    Interface, Mac, Memory, Metadata, Model, ModelType, Os, OsType, Present, Rng, Seclabel, Serial,
    SerialFile, Target, Topology,
};
use super::unable;
use crate::accelerator::Accelerator;
use crate::driver::DriverError;
use crate::qemu::shared::{MAC_ADDRESS, kernel_words};
use crate::spec::{self, Architecture, Boot, MachineSpec};

/// All that a document is made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Description<'a> {
    /// The machine.
    pub(super) spec: &'a MachineSpec,
    /// What libvirt calls it.
    pub(super) name: &'a str,
    /// The machine's folder.
    pub(super) folder: &'a Path,
    /// What runs the guest's instructions.
    pub(super) accelerator: Accelerator,
    /// QEMU's program, where it is not the one that libvirt takes by itself.
    pub(super) emulator: Option<&'a Path>,
    /// The user and group that QEMU runs as, where libvirt would take others: the machine's files are
    /// for their owner only, and stay his.
    pub(super) user: Option<(u32, u32)>,
    /// The device that a panic of the kernel is told through.
    pub(super) panic_device: Option<&'static str>,
}

impl Description<'_> {
    /// The document.
    pub(super) fn domain(&self) -> Result<Domain, DriverError> {
        let spec = self.spec;
        let is_x86 = spec.architecture == Architecture::X86_64;
        Ok(Domain {
            kind: match self.accelerator {
                Accelerator::Kvm => "kvm",
                _ => "qemu",
            },
            name: self.name.to_owned(),
            uuid: spec.id,
            genid: is_x86.then_some(spec.generation_id),
            metadata: Some(Metadata::of_folder(text(self.folder)?)),
            memory: Memory {
                unit: "MiB",
                size: spec.memory.mib(),
            },
            vcpu: spec.cpus.get(),
            os: self.os()?,
            features: is_x86.then_some(Features {
                acpi: Present {},
                apic: Present {},
            }),
            cpu: Cpu {
                mode: match self.accelerator {
                    Accelerator::Kvm => "host-passthrough",
                    _ => "maximum",
                },
                topology: Topology {
                    sockets: 1,
                    cores: spec.cpus.get(),
                    threads: 1,
                },
            },
            clock: Clock { offset: "utc" },
            on_poweroff: "destroy",
            on_reboot: "restart",
            // It stays for whoever wants to know.
            on_crash: "preserve",
            devices: self.devices()?,
            seclabel: self.user.map(|(user, group)| Seclabel {
                kind: "static",
                model: "dac",
                relabel: "no",
                label: format!("+{user}:+{group}"),
            }),
        })
    }

    fn os(&self) -> Result<Os, DriverError> {
        let spec = self.spec;
        let kind = OsType {
            architecture: spec.architecture.as_str(),
            machine: match spec.architecture {
                Architecture::X86_64 => "q35",
                Architecture::Aarch64 => "virt",
            },
            kind: "hvm",
        };
        Ok(match &spec.boot {
            Boot::DirectKernel { kernel, initrd, .. } => Os {
                kind,
                kernel: Some(text(kernel)?),
                initrd: Some(text(initrd)?),
                cmdline: Some(kernel_words(spec, self.accelerator)),
            },
            Boot::Firmware => Os {
                kind,
                kernel: None,
                initrd: None,
                cmdline: None,
            },
        })
    }

    fn devices(&self) -> Result<Devices, DriverError> {
        let disks = self.spec.disks.iter().enumerate();
        Ok(Devices {
            emulator: self.emulator.map(text).transpose()?,
            disks: disks
                .map(|(index, one)| disk(one, index))
                .collect::<Result<_, _>>()?,
            controllers: vec![Controller {
                kind: "usb",
                model: "none",
            }],
            interface: Interface {
                kind: "user",
                mac: Mac {
                    address: MAC_ADDRESS,
                },
                model: ModelType { kind: "virtio" },
            },
            serial: Serial {
                kind: "file",
                source: SerialFile {
                    path: text(&self.spec.console)?,
                    append: "on",
                },
            },
            memballoon: Model { model: "none" },
            rng: Rng {
                model: "virtio",
                backend: Backend { model: "builtin" },
            },
            panic: self.panic_device.map(|model| Model { model }),
        })
    }
}

/// One disk. A write that finds the host full stops the guest; a read that fails is told to it.
fn disk(disk: &spec::Disk, index: usize) -> Result<Disk, DriverError> {
    let if_written = |value| (!disk.read_only).then_some(value);
    Ok(Disk {
        kind: "file",
        device: "disk",
        driver: DiskDriver {
            name: "qemu",
            format: disk.format.as_str(),
            discard: if_written("unmap"),
            detect_zeroes: if_written("unmap"),
            error_policy: if_written("enospace"),
            rerror_policy: if_written("report"),
        },
        source: FileSource {
            file: text(&disk.path)?,
        },
        target: Target {
            name: target(index)?,
            bus: "virtio",
        },
        serial: disk.role.as_str(),
        readonly: disk.read_only.then_some(Present {}),
    })
}

/// What libvirt calls the disk at this place of the specification.
pub(super) fn target(index: usize) -> Result<String, DriverError> {
    let letter = u8::try_from(index)
        .ok()
        .and_then(|index| b'a'.checked_add(index));
    match letter {
        Some(letter @ b'a'..=b'z') => Ok(format!("vd{}", char::from(letter))),
        _ => Err(unable("it has more than 26 disks")),
    }
}

/// A path for a document, which holds text, and no control characters.
fn text(path: &Path) -> Result<String, DriverError> {
    match path.to_str() {
        Some(text) if !text.contains(char::is_control) => Ok(text.to_owned()),
        _ => Err(unable(format!(
            "libvirt takes no path with control characters or without a text: {}",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests;
