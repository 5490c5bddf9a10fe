//! Which drivers there are, and what people call them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The drivers that the design names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriverKind {
    /// QEMU, through its monitor protocol.
    Qemu,
    /// libvirt.
    Libvirt,
    /// VirtualBox.
    Virtualbox,
    /// Hyper-V.
    Hyperv,
}

/// What people type for each driver: its own name first, then names that Minikube uses.
const NAMES: [(DriverKind, &[&str]); 4] = [
    (DriverKind::Qemu, &["qemu", "qemu2", "kvm", "kvm2"]),
    (DriverKind::Libvirt, &["libvirt"]),
    (DriverKind::Virtualbox, &["virtualbox", "vbox"]),
    (DriverKind::Hyperv, &["hyperv", "hyper-v"]),
];

/// A text that names no driver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no driver \"{text}\"; known are {}", DriverKind::known())]
pub struct UnknownDriver {
    /// The refused text.
    pub text: String,
}

impl DriverKind {
    /// The driver's own name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Libvirt => "libvirt",
            Self::Virtualbox => "virtualbox",
            Self::Hyperv => "hyperv",
        }
    }

    /// All drivers, the preferred one first.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(kind, _)| *kind)
    }

    /// Whether this build can use it.
    pub const fn is_built_in(self) -> bool {
        matches!(self, Self::Qemu)
    }

    /// The own names of all drivers, for a message.
    fn known() -> String {
        let names: Vec<&str> = Self::all().map(Self::as_str).collect();
        names.join(", ")
    }
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for DriverKind {
    type Err = UnknownDriver;

    fn from_str(text: &str) -> Result<Self, UnknownDriver> {
        let lower = text.to_ascii_lowercase();
        NAMES
            .iter()
            .find(|(_, names)| names.contains(&lower.as_str()))
            .map(|(kind, _)| *kind)
            .ok_or_else(|| UnknownDriver {
                text: text.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::{AnyDriver, Driver};
    use crate::program::Programs;

    #[test]
    fn drivers_are_found_by_their_names_and_by_minikubes() {
        for (text, kind) in [
            ("qemu", DriverKind::Qemu),
            ("QEMU2", DriverKind::Qemu),
            ("kvm2", DriverKind::Qemu),
            ("kvm", DriverKind::Qemu),
            ("libvirt", DriverKind::Libvirt),
            ("hyperv", DriverKind::Hyperv),
            ("virtualbox", DriverKind::Virtualbox),
        ] {
            assert_eq!(text.parse::<DriverKind>(), Ok(kind));
        }
        let error = "parallels".parse::<DriverKind>().unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("known are qemu, libvirt, virtualbox, hyperv"),
            "{error}"
        );
    }

    #[test]
    fn a_driver_that_is_not_built_in_says_so() {
        for kind in DriverKind::all() {
            match AnyDriver::new(kind, Programs::default()) {
                Ok(driver) => assert!(kind.is_built_in() && driver.kind() == kind),
                Err(error) => assert!(
                    !kind.is_built_in()
                        && error.to_string()
                            == format!("the driver {kind} is not supported in this version")
                ),
            }
        }
    }
}
