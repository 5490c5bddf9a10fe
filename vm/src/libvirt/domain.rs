//! A machine as libvirt's document of it (<https://libvirt.org/formatdomain.html>): only the elements that
//! Coracle writes.

use serde::Serialize;
use uuid::Uuid;

use super::answers::NAMESPACE;
use super::unable;
use crate::driver::DriverError;

/// The whole document.
#[derive(Debug, Clone, Serialize)]
#[serde(rename = "domain")]
pub(super) struct Domain {
    #[serde(rename = "@type")]
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) uuid: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) genid: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<Metadata>,
    pub(super) memory: Memory,
    pub(super) vcpu: u32,
    pub(super) os: Os,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) features: Option<Features>,
    pub(super) cpu: Cpu,
    pub(super) clock: Clock,
    pub(super) on_poweroff: &'static str,
    pub(super) on_reboot: &'static str,
    pub(super) on_crash: &'static str,
    pub(super) devices: Devices,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seclabel: Option<Seclabel>,
}

impl Domain {
    /// The document as text.
    pub(super) fn to_xml(&self) -> Result<String, DriverError> {
        let mut text = String::new();
        let mut serializer = quick_xml::se::Serializer::new(&mut text);
        serializer.indent(' ', 2);
        self.serialize(serializer)
            .map_err(|error| unable(format!("it cannot be written down for libvirt: {error}")))?;
        Ok(text)
    }
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Metadata {
    #[serde(rename = "coracle:machine")]
    machine: Ours,
}

#[derive(Debug, Clone, Serialize)]
struct Ours {
    #[serde(rename = "@xmlns:coracle")]
    namespace: &'static str,
    #[serde(rename = "coracle:folder")]
    folder: String,
}

impl Metadata {
    /// The mark of a machine of ours.
    pub(super) fn of_folder(folder: String) -> Self {
        let namespace = NAMESPACE;
        Self {
            machine: Ours { namespace, folder },
        }
    }
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Memory {
    #[serde(rename = "@unit")]
    pub(super) unit: &'static str,
    #[serde(rename = "$text")]
    pub(super) size: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Os {
    #[serde(rename = "type")]
    pub(super) kind: OsType,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kernel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) initrd: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cmdline: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct OsType {
    #[serde(rename = "@arch")]
    pub(super) architecture: &'static str,
    #[serde(rename = "@machine")]
    pub(super) machine: &'static str,
    #[serde(rename = "$text")]
    pub(super) kind: &'static str,
}

/// An element that is there or not.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Present {}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Features {
    pub(super) acpi: Present,
    pub(super) apic: Present,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Cpu {
    #[serde(rename = "@mode")]
    pub(super) mode: &'static str,
    pub(super) topology: Topology,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Topology {
    #[serde(rename = "@sockets")]
    pub(super) sockets: u32,
    #[serde(rename = "@cores")]
    pub(super) cores: u32,
    #[serde(rename = "@threads")]
    pub(super) threads: u32,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Clock {
    #[serde(rename = "@offset")]
    pub(super) offset: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Devices {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) emulator: Option<String>,
    #[serde(rename = "disk")]
    pub(super) disks: Vec<Disk>,
    #[serde(rename = "controller")]
    pub(super) controllers: Vec<Controller>,
    pub(super) interface: Interface,
    pub(super) serial: Serial,
    pub(super) memballoon: Model,
    pub(super) rng: Rng,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) panic: Option<Model>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Disk {
    #[serde(rename = "@type")]
    pub(super) kind: &'static str,
    #[serde(rename = "@device")]
    pub(super) device: &'static str,
    pub(super) driver: DiskDriver,
    pub(super) source: FileSource,
    pub(super) target: Target,
    pub(super) serial: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) readonly: Option<Present>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct DiskDriver {
    #[serde(rename = "@name")]
    pub(super) name: &'static str,
    #[serde(rename = "@type")]
    pub(super) format: &'static str,
    #[serde(rename = "@discard", skip_serializing_if = "Option::is_none")]
    pub(super) discard: Option<&'static str>,
    #[serde(rename = "@detect_zeroes", skip_serializing_if = "Option::is_none")]
    pub(super) detect_zeroes: Option<&'static str>,
    #[serde(rename = "@error_policy", skip_serializing_if = "Option::is_none")]
    pub(super) error_policy: Option<&'static str>,
    #[serde(rename = "@rerror_policy", skip_serializing_if = "Option::is_none")]
    pub(super) rerror_policy: Option<&'static str>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct FileSource {
    #[serde(rename = "@file")]
    pub(super) file: String,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Target {
    #[serde(rename = "@dev")]
    pub(super) name: String,
    #[serde(rename = "@bus")]
    pub(super) bus: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Controller {
    #[serde(rename = "@type")]
    pub(super) kind: &'static str,
    #[serde(rename = "@model")]
    pub(super) model: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Interface {
    #[serde(rename = "@type")]
    pub(super) kind: &'static str,
    pub(super) mac: Mac,
    pub(super) model: ModelType,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Mac {
    #[serde(rename = "@address")]
    pub(super) address: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct ModelType {
    #[serde(rename = "@type")]
    pub(super) kind: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Serial {
    #[serde(rename = "@type")]
    pub(super) kind: &'static str,
    pub(super) source: SerialFile,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct SerialFile {
    #[serde(rename = "@path")]
    pub(super) path: String,
    #[serde(rename = "@append")]
    pub(super) append: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Model {
    #[serde(rename = "@model")]
    pub(super) model: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Rng {
    #[serde(rename = "@model")]
    pub(super) model: &'static str,
    pub(super) backend: Backend,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Backend {
    #[serde(rename = "@model")]
    pub(super) model: &'static str,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Seclabel {
    #[serde(rename = "@type")]
    pub(super) kind: &'static str,
    #[serde(rename = "@model")]
    pub(super) model: &'static str,
    #[serde(rename = "@relabel")]
    pub(super) relabel: &'static str,
    pub(super) label: String,
}
