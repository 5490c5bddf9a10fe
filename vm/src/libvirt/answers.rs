//! The parts of libvirt's documents that are read: its capabilities, and what a machine says of itself.

use serde::Deserialize;

/// The namespace of our element in a machine's metadata.
pub(super) const NAMESPACE: &str = "urn:coracle:machine:1";

/// The capabilities of a connection (<https://libvirt.org/formatcaps.html>).
#[derive(Debug, Deserialize)]
pub(super) struct Capabilities {
    host: HostCapabilities,
}

#[derive(Debug, Deserialize)]
struct HostCapabilities {
    #[serde(default)]
    secmodel: Vec<SecurityModel>,
}

#[derive(Debug, Deserialize)]
struct SecurityModel {
    model: String,
}

impl Capabilities {
    /// Whether its machines run as a user that each of them may choose: those of a whole host do.
    pub(super) fn choose_users(&self) -> bool {
        self.host.secmodel.iter().any(|one| one.model == "dac")
    }
}

/// What machines of one kind can have (<https://libvirt.org/formatdomaincaps.html>).
#[derive(Debug, Deserialize)]
pub(super) struct DomainCapabilities {
    /// QEMU's program.
    pub(super) path: String,
}

/// A machine (<https://libvirt.org/formatdomain.html>).
#[derive(Debug, Deserialize)]
pub(super) struct KnownDomain {
    #[serde(default)]
    metadata: KnownMetadata,
}

#[derive(Debug, Default, Deserialize)]
struct KnownMetadata {
    #[serde(default, rename = "machine")]
    machines: Vec<KnownMachine>,
}

#[derive(Debug, Deserialize)]
struct KnownMachine {
    #[serde(default, rename = "@xmlns:coracle")]
    namespace: String,
    #[serde(default)]
    folder: String,
}

impl KnownDomain {
    /// The folder that it belongs to, if it is Coracle's.
    pub(super) fn folder(self) -> Option<String> {
        let mut machines = self.metadata.machines.into_iter();
        let ours = machines.find(|machine| machine.namespace == NAMESPACE)?;
        Some(ours.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(metadata: &str) -> Option<String> {
        let text = format!(
            "<domain type='qemu' id='3'><name>x</name>{metadata}<memory unit='KiB'>65536</memory></domain>"
        );
        let domain: KnownDomain = quick_xml::de::from_str(&text).unwrap();
        domain.folder()
    }

    #[test]
    fn a_machine_of_ours_names_its_folder() {
        let ours = "<metadata><os:os xmlns:os='http://os/'><os:machine>no</os:machine></os:os>\
                    <coracle:machine xmlns:coracle='urn:coracle:machine:1'>\
                    <coracle:folder>/m/Ordner &amp; Täler/dev</coracle:folder></coracle:machine></metadata>";
        assert_eq!(folder(ours).as_deref(), Some("/m/Ordner & Täler/dev"));
    }

    #[test]
    fn a_machine_of_somebody_else_names_none() {
        assert_eq!(folder(""), None);
        assert_eq!(folder("<metadata/>"), None);
        let other =
            "<metadata><x:machine xmlns:x='urn:x'><x:folder>/m</x:folder></x:machine></metadata>";
        assert_eq!(folder(other), None);
    }

    #[test]
    fn capabilities_tell_of_users_and_programs() {
        let caps = |models: &str| {
            let text = format!(
                "<capabilities><host><cpu><arch>x86_64</arch></cpu>{models}</host><guest/></capabilities>"
            );
            quick_xml::de::from_str::<Capabilities>(&text)
                .unwrap()
                .choose_users()
        };
        assert!(caps(
            "<secmodel><model>none</model><doi>0</doi></secmodel>\
             <secmodel><model>dac</model><doi>0</doi><baselabel type='kvm'>+1:+1</baselabel></secmodel>"
        ));
        assert!(!caps(
            "<secmodel><model>apparmor</model><doi>0</doi></secmodel>"
        ));
        assert!(!caps(""));
        let text = "<domainCapabilities><path>/usr/bin/qemu-system-x86_64</path><domain>qemu</domain></domainCapabilities>";
        let domain: DomainCapabilities = quick_xml::de::from_str(text).unwrap();
        assert_eq!(domain.path, "/usr/bin/qemu-system-x86_64");
    }
}
