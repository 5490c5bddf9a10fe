//! `image.json`: what an image consists of.

use crate::{Arch, Digest, HostPlatform};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The format that this version writes and reads.
pub const FORMAT: u32 = 1;
/// The index's file name in an image's folder.
pub const INDEX_FILE: &str = "image.json";
/// In an image's folder in the store: file names of the parts that were not fetched, one a line.
pub const ABSENT_FILE: &str = "absent";

/// The list of an image's files. Its bytes, as written, give the image its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageIndex {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// Processor of the guest.
    pub arch: Arch,
    /// The Kubernetes version of new machines, such as `v1.37.2`; one of the layers.
    pub default_kubernetes: String,
    /// Words for the kernel of a machine on emulated processors, for which the agent inside is made.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub emulated_command_line: String,
    /// Every file but the index itself, ordered by file name.
    pub parts: Vec<Part>,
}

/// One file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// A name for people, such as `root` or `kubernetes v1.37.2`.
    pub name: String,
    /// The file's name in the image's folder; no path.
    pub file: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the content.
    pub sha256: Digest,
    /// What it is for.
    #[serde(flatten)]
    pub role: Role,
}

/// What a part is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum Role {
    /// Linux, as a boot loader takes it (bzImage or Image).
    Kernel,
    /// The initial RAM file system: agent and early kernel modules.
    Initrd,
    /// The read-only root file system.
    Root,
    /// The file system with the Kubernetes components of one version.
    Kubernetes {
        /// Upstream's version, such as `v1.37.2`.
        version: String,
    },
    /// kubectl for a host.
    Kubectl {
        /// Upstream's version, such as `v1.37.2`.
        version: String,
        /// The host that can run it.
        platform: HostPlatform,
    },
    /// All that a machine needs which starts by its firmware: a hybrid ISO.
    Iso,
    /// The bill of materials, CycloneDX JSON.
    Sbom,
    /// The lock file that builds again with the same Debian packages.
    Lock,
}

impl Role {
    /// Whether a machine can do without: layers of Kubernetes and kubectls, of which each needs one at
    /// most.
    pub fn is_optional(&self) -> bool {
        matches!(self, Self::Kubernetes { .. } | Self::Kubectl { .. })
    }
}

impl ImageIndex {
    /// The bytes of `image.json`.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads `image.json` and checks what other code relies on: the format, plain file names,
    /// no file twice, one kernel, initrd and root, a layer for the default version.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let index: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if index.format != FORMAT {
            return Err(format!(
                "format {}, this version reads format {FORMAT}",
                index.format
            ));
        }
        for (n, part) in index.parts.iter().enumerate() {
            let path = Path::new(&part.file);
            let plain = path
                .file_name()
                .is_some_and(|name| name == path.as_os_str())
                && !part.file.contains(['/', '\\', ':'])
                && part.file != INDEX_FILE
                && part.file != ABSENT_FILE;
            if !plain {
                return Err(format!("{:?} is not a plain file name", part.file));
            }
            if index.parts[..n].iter().any(|other| other.file == part.file) {
                return Err(format!("{} is listed twice", part.file));
            }
        }
        for role in [Role::Kernel, Role::Initrd, Role::Root] {
            if index.parts.iter().filter(|part| part.role == role).count() != 1 {
                return Err(format!(
                    "there is not exactly one part with the role {role:?}"
                ));
            }
        }
        if index.kubernetes(&index.default_kubernetes).is_none() {
            return Err(format!(
                "there is no layer of Kubernetes {}",
                index.default_kubernetes
            ));
        }
        Ok(index)
    }

    /// The layer of a Kubernetes version.
    pub fn kubernetes(&self, version: &str) -> Option<&Part> {
        self.parts
            .iter()
            .find(|part| matches!(&part.role, Role::Kubernetes { version: v } if v == version))
    }

    /// All versions that there are layers of, in the index's order.
    pub fn kubernetes_versions(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match &part.role {
            Role::Kubernetes { version } => Some(version.as_str()),
            _ => None,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn part(file: &str, content: &[u8], role: Role) -> Part {
        Part {
            name: file.into(),
            file: file.into(),
            size: content.len() as u64,
            sha256: Digest::of(content),
            role,
        }
    }

    pub(crate) fn index() -> ImageIndex {
        let version = "v1.2.3".to_owned();
        ImageIndex {
            format: FORMAT,
            arch: Arch::Amd64,
            default_kubernetes: version.clone(),
            emulated_command_line: "maxcpus=1".into(),
            parts: vec![
                part("initrd", b"initrd", Role::Initrd),
                part(
                    "kubectl-v1.2.3",
                    b"kubectl",
                    Role::Kubectl {
                        version: version.clone(),
                        platform: HostPlatform::current(),
                    },
                ),
                part(
                    "kubernetes-v1.2.3.erofs",
                    b"kubernetes",
                    Role::Kubernetes { version },
                ),
                part("root.erofs", b"root", Role::Root),
                part("vmlinuz", b"kernel", Role::Kernel),
            ],
        }
    }

    #[test]
    fn an_index_reads_back_and_is_the_same_bytes_again() {
        let bytes = index().encode().unwrap();
        let read = ImageIndex::decode(&bytes).unwrap();
        assert_eq!(read, index());
        assert_eq!(read.encode().unwrap(), bytes);
        assert_eq!(read.kubernetes_versions().collect::<Vec<_>>(), ["v1.2.3"]);
    }

    #[test]
    fn a_wrong_index_is_refused_by_what_is_wrong() {
        let refusal = |change: fn(&mut ImageIndex)| {
            let mut changed = index();
            change(&mut changed);
            ImageIndex::decode(&changed.encode().unwrap()).unwrap_err()
        };
        assert!(refusal(|i| i.format = 99).contains("format 99"));
        assert!(refusal(|i| i.parts[0].file = "../initrd".into()).contains("plain"));
        assert!(refusal(|i| i.parts[0].file = "C:initrd".into()).contains("plain"));
        assert!(refusal(|i| i.parts[0].file = "..".into()).contains("plain"));
        assert!(refusal(|i| i.parts[0].file = "image.json".into()).contains("plain"));
        assert!(refusal(|i| i.parts[0].file = "absent".into()).contains("plain"));
        assert!(refusal(|i| i.parts[0].file = "vmlinuz".into()).contains("twice"));
        assert!(refusal(|i| i.parts.retain(|p| p.role != Role::Root)).contains("Root"));
        assert!(refusal(|i| i.default_kubernetes = "v9".into()).contains("v9"));
        assert!(ImageIndex::decode(b"{").is_err());
    }
}
