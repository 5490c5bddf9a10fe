//! Which accelerator runs a guest's instructions, and why.
//!
//! [`facts`] gathers what the host shows, [`decide`] is a pure function of those facts.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::spec::Architecture;

/// What can run a guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// Linux's hypervisor.
    Kvm,
    /// macOS's hypervisor framework.
    Hvf,
    /// Windows's hypervisor platform.
    Whpx,
    /// The processor's own virtualisation, used by the hypervisor itself and not through the system's.
    /// Nothing to choose: a hypervisor either is of this kind or is not.
    Native,
    /// QEMU's software emulation, which works everywhere and is much slower.
    Tcg,
}

impl Accelerator {
    /// The accelerator's name, which is QEMU's for one that QEMU has.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Hvf => "hvf",
            Self::Whpx => "whpx",
            Self::Native => "native",
            Self::Tcg => "tcg",
        }
    }

    /// Whether the host's processor runs the guest's instructions itself.
    pub const fn is_hardware(self) -> bool {
        !matches!(self, Self::Tcg)
    }

    /// The accelerator named in a line of QEMU's `-accel help`; none for one that is not used here.
    pub fn from_qemu(name: &str) -> Option<Self> {
        [Self::Kvm, Self::Hvf, Self::Whpx, Self::Tcg]
            .into_iter()
            .find(|accelerator| accelerator.as_str() == name)
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the user wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AcceleratorChoice {
    /// The best that works.
    #[default]
    Auto,
    /// This one or an error.
    #[serde(untagged)]
    Only(Accelerator),
}

/// A text that names no accelerator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no accelerator \"{text}\"; known are auto, kvm, hvf, whpx and tcg")]
pub struct UnknownAccelerator {
    /// The refused text.
    pub text: String,
}

impl FromStr for AcceleratorChoice {
    type Err = UnknownAccelerator;

    fn from_str(text: &str) -> Result<Self, UnknownAccelerator> {
        let lower = text.to_ascii_lowercase();
        if lower == "auto" {
            return Ok(Self::Auto);
        }
        Accelerator::from_qemu(&lower)
            .map(Self::Only)
            .ok_or_else(|| UnknownAccelerator {
                text: text.to_owned(),
            })
    }
}

impl fmt::Display for AcceleratorChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Only(accelerator) => accelerator.fmt(f),
        }
    }
}

/// The operating system of the host, as far as accelerators go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostSystem {
    /// Linux.
    Linux,
    /// macOS.
    MacOs,
    /// Windows.
    Windows,
    /// Another one: software emulation only.
    Other,
}

impl HostSystem {
    /// The one that this program was built for.
    pub const fn current() -> Self {
        if cfg!(target_os = "linux") {
            Self::Linux
        } else if cfg!(target_os = "macos") {
            Self::MacOs
        } else if cfg!(windows) {
            Self::Windows
        } else {
            Self::Other
        }
    }

    /// The hardware accelerator of this system.
    const fn accelerator(self) -> Option<Accelerator> {
        match self {
            Self::Linux => Some(Accelerator::Kvm),
            Self::MacOs => Some(Accelerator::Hvf),
            Self::Windows => Some(Accelerator::Whpx),
            Self::Other => None,
        }
    }
}

/// What happened when the accelerator's device was opened for reading and writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceNode {
    /// There is none.
    Absent,
    /// This user may not.
    Denied,
    /// Something else went wrong.
    Failed(String),
    /// It opens.
    Opens,
}

/// What was found out about the host and its hypervisor program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceleratorFacts {
    /// The host's operating system.
    pub system: HostSystem,
    /// The host's processor family.
    pub host: Architecture,
    /// The guest's processor family.
    pub guest: Architecture,
    /// Linux: `/dev/kvm`. Elsewhere absent.
    pub kvm: DeviceNode,
    /// x86: whether the processor says it has vmx or svm. None where the question has no meaning.
    pub cpu_flag: Option<bool>,
    /// macOS: what `sysctl kern.hv_support` says. None elsewhere, or where it did not answer.
    pub hypervisor_framework: Option<bool>,
    /// What the hypervisor program was built with.
    pub built_in: BTreeSet<Accelerator>,
}

/// The accelerator that will be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What runs the guest's instructions.
    pub accelerator: Accelerator,
    /// One line for the user, without a full stop.
    pub reason: String,
}

/// The accelerator that was asked for cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the accelerator {wanted} cannot be used: {reason}")]
pub struct AcceleratorError {
    /// What was asked for.
    pub wanted: Accelerator,
    /// Why not, as a part of a sentence.
    pub reason: String,
    /// Whether permission for `/dev/kvm` is all that is missing.
    pub permission: bool,
}

/// Why the hardware accelerator does not work; `None` when it does.
struct Obstacle {
    reason: String,
    permission: bool,
}

/// Chooses. Automatic choice never fails: software emulation is always there.
pub fn decide(
    choice: AcceleratorChoice,
    facts: &AcceleratorFacts,
) -> Result<Verdict, AcceleratorError> {
    match choice {
        AcceleratorChoice::Only(Accelerator::Tcg) => Ok(Verdict {
            accelerator: Accelerator::Tcg,
            reason: "software emulation (TCG), as asked for".to_owned(),
        }),
        AcceleratorChoice::Only(wanted) => match obstacle(wanted, facts) {
            None => Ok(Verdict {
                accelerator: wanted,
                reason: format!("{wanted} works"),
            }),
            Some(Obstacle { reason, permission }) => Err(AcceleratorError {
                wanted,
                reason,
                permission,
            }),
        },
        AcceleratorChoice::Auto => {
            let obstacle = match facts.system.accelerator() {
                Some(best) => match obstacle(best, facts) {
                    None => {
                        return Ok(Verdict {
                            accelerator: best,
                            reason: format!("{best} works"),
                        });
                    }
                    Some(obstacle) => obstacle.reason,
                },
                None => "this system has no accelerator that Coracle knows".to_owned(),
            };
            let reason =
                format!("{obstacle}: using software emulation (TCG), which is much slower");
            Ok(Verdict {
                accelerator: Accelerator::Tcg,
                reason,
            })
        }
    }
}

/// What stands in the way of a hardware accelerator.
fn obstacle(wanted: Accelerator, facts: &AcceleratorFacts) -> Option<Obstacle> {
    let because = |reason: &str| {
        Some(Obstacle {
            reason: reason.to_owned(),
            permission: false,
        })
    };
    if facts.system.accelerator() != Some(wanted) {
        return because("this system has none");
    }
    if facts.host != facts.guest {
        let (host, guest) = (facts.host.as_str(), facts.guest.as_str());
        return because(&format!("the guest is {guest} and the host is {host}"));
    }
    if wanted == Accelerator::Kvm {
        let flag = facts.cpu_flag.unwrap_or(true);
        match &facts.kvm {
            DeviceNode::Absent if !flag => {
                return because("there is no /dev/kvm and the CPU offers no vmx or svm");
            }
            DeviceNode::Absent => {
                return because(
                    "there is no /dev/kvm (is the kvm module loaded, and virtualisation on in the firmware?)",
                );
            }
            _ if !flag => return because("/dev/kvm is here but the CPU offers no vmx or svm"),
            DeviceNode::Denied => {
                let reason =
                    "this user may not open /dev/kvm (usually the group kvm may)".to_owned();
                return Some(Obstacle {
                    reason,
                    permission: true,
                });
            }
            DeviceNode::Failed(error) => {
                return because(&format!("/dev/kvm does not open ({error})"));
            }
            DeviceNode::Opens => {}
        }
    }
    if wanted == Accelerator::Hvf && facts.hypervisor_framework != Some(true) {
        return because("macOS reports no hypervisor support (kern.hv_support)");
    }
    if !facts.built_in.contains(&wanted) {
        return because(&format!("this QEMU was built without {wanted}"));
    }
    None
}

/// Gathers the facts. `built_in` is what the hypervisor program says it has.
pub async fn facts(guest: Architecture, built_in: BTreeSet<Accelerator>) -> AcceleratorFacts {
    AcceleratorFacts {
        system: HostSystem::current(),
        host: Architecture::of_host(),
        guest,
        kvm: kvm_device().await,
        cpu_flag: cpu_flag().await,
        hypervisor_framework: hypervisor_framework().await,
        built_in,
    }
}

/// Opens `/dev/kvm` and closes it again.
async fn kvm_device() -> DeviceNode {
    if !cfg!(target_os = "linux") {
        return DeviceNode::Absent;
    }
    match tokio::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .await
    {
        Ok(_) => DeviceNode::Opens,
        Err(error) => match error.kind() {
            std::io::ErrorKind::NotFound => DeviceNode::Absent,
            std::io::ErrorKind::PermissionDenied => DeviceNode::Denied,
            _ => DeviceNode::Failed(error.to_string()),
        },
    }
}

/// Whether the processor's flags in `/proc/cpuinfo` hold vmx or svm. A device node alone can belong
/// to a paravirtualised host on which ordinary kernels hang.
async fn cpu_flag() -> Option<bool> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return None;
    }
    let text = tokio::fs::read_to_string("/proc/cpuinfo").await.ok()?;
    Some(has_virtualisation_flag(&text))
}

/// Looks for vmx or svm among the flags of the first processor.
fn has_virtualisation_flag(cpuinfo: &str) -> bool {
    let flags = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("flags")?.split_once(':'));
    flags.is_some_and(|(_, flags)| {
        flags
            .split_whitespace()
            .any(|flag| flag == "vmx" || flag == "svm")
    })
}

/// Asks macOS whether its hypervisor framework works on this machine.
async fn hypervisor_framework() -> Option<bool> {
    if !cfg!(target_os = "macos") {
        return None;
    }
    let output = tokio::process::Command::new("/usr/sbin/sysctl")
        .args(["-n", "kern.hv_support"])
        .output()
        .await
        .ok()?;
    Some(output.stdout.trim_ascii() == b"1")
}

#[cfg(test)]
mod tests;
