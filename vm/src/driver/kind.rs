//! What people call a driver.

use std::fmt;
use std::str::FromStr;

use super::DriverKind;

/// A text that names no driver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no driver \"{text}\"; known are {}", known())]
pub struct UnknownDriver {
    /// The refused text.
    pub text: String,
}

impl DriverKind {
    /// The driver's own name.
    pub fn as_str(self) -> &'static str {
        self.names()[0]
    }
}

/// The own names of all drivers, for a message.
fn known() -> String {
    let names = DriverKind::ALL.iter().map(|kind| kind.as_str());
    names.collect::<Vec<_>>().join(", ")
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
        let mut kinds = DriverKind::ALL.iter().copied();
        kinds
            .find(|kind| kind.names().contains(&lower.as_str()))
            .ok_or_else(|| UnknownDriver {
                text: text.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::{AnyDriver, Driver, DriverError};
    use crate::program::Programs;

    #[test]
    fn drivers_are_found_by_their_names_and_by_minikubes() {
        for (text, name) in [
            ("qemu", "qemu"),
            ("QEMU2", "qemu"),
            ("kvm2", "qemu"),
            ("kvm", "qemu"),
            ("libvirt", "libvirt"),
            ("hyperv", "hyperv"),
            ("vbox", "virtualbox"),
        ] {
            assert_eq!(text.parse().map(DriverKind::as_str), Ok(name));
        }
        let error = "parallels".parse::<DriverKind>().unwrap_err();
        assert!(
            error
                .to_string()
                .contains("known are qemu, libvirt, virtualbox, hyperv"),
            "{error}"
        );
    }

    #[test]
    fn a_driver_that_is_not_built_in_says_how_to_get_it() {
        for &kind in DriverKind::ALL {
            match AnyDriver::new(kind, Programs::default()) {
                Ok(driver) => assert_eq!(driver.kind(), kind),
                Err(DriverError::NotBuiltIn { kind: told, help }) => {
                    assert!(told == kind && !help.is_empty(), "{kind}");
                }
                Err(error) => panic!("{kind}: {error}"),
            }
        }
    }
}
