//! What libvirt on this host can do.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use virt::connect::Connect;

use super::answers::{Capabilities, DomainCapabilities};
use super::failure::refused;
use super::session::Session;
use super::{EXAMINE_LIMIT, unable};
use crate::accelerator::{self, Accelerator, AcceleratorChoice, Verdict};
use crate::driver::DriverError;
use crate::program::Programs;
use crate::qemu::shared::install;
use crate::spec::Architecture;

/// The oldest libvirt that knows all that a machine has: processors of the kind `maximum`.
const OLDEST: Version = Version(7_001_000);
/// The first that knows the panic device that the guest's kernel has a module for.
const PVPANIC: Version = Version(9_001_000);

/// A version as libvirt gives it: millions, thousands and ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(number) = self;
        write!(
            f,
            "{}.{}.{}",
            number / 1_000_000,
            number / 1000 % 1000,
            number % 1000
        )
    }
}

/// libvirt on this host, for one kind of guest.
#[derive(Debug)]
pub(super) struct Host {
    libvirt: Version,
    qemu: Version,
    /// QEMU's program.
    pub(super) emulator: PathBuf,
    /// The same, if it was chosen by the caller.
    pub(super) chosen: Option<PathBuf>,
    has_kvm: bool,
    choose_users: bool,
    guest: Architecture,
}

impl Host {
    /// Asks libvirt.
    pub(super) async fn examine(
        session: &Session,
        programs: &Programs,
        guest: Architecture,
    ) -> Result<Self, DriverError> {
        let chosen = programs.qemu.clone();
        session
            .ask("tell what it can do", EXAMINE_LIMIT, move |connect| {
                examine(connect, chosen, guest)
            })
            .await
    }

    /// Chooses the accelerator.
    pub(super) async fn verdict(&self, choice: AcceleratorChoice) -> Result<Verdict, DriverError> {
        let mut built_in = BTreeSet::from([Accelerator::Tcg]);
        if self.has_kvm {
            built_in.insert(Accelerator::Kvm);
        }
        let facts = accelerator::facts(self.guest, built_in).await;
        Ok(accelerator::decide(choice, &facts)?)
    }

    /// Its version, and QEMU's.
    pub(super) fn version(&self) -> String {
        format!("{} with QEMU {}", self.libvirt, self.qemu)
    }

    /// The user that QEMU has to run as, where libvirt would take another one: this process's.
    pub(super) fn user(&self) -> Option<(u32, u32)> {
        self.choose_users.then(|| {
            let user = rustix::process::geteuid().as_raw();
            (user, rustix::process::getegid().as_raw())
        })
    }

    /// The device that a panic of the guest's kernel is told through.
    pub(super) fn panic_device(&self) -> Option<&'static str> {
        match self.guest {
            _ if self.libvirt >= PVPANIC => Some("pvpanic"),
            Architecture::X86_64 => Some("isa"),
            Architecture::Aarch64 => None,
        }
    }
}

fn examine(
    connect: &Connect,
    chosen: Option<PathBuf>,
    guest: Architecture,
) -> Result<Host, DriverError> {
    let failed = || refused("tell what it can do");
    let libvirt = Version(connect.get_lib_version().map_err(failed())?);
    if libvirt < OLDEST {
        return Err(unable(format!(
            "libvirt is {libvirt}, and {OLDEST} or newer is needed"
        )));
    }
    let capabilities: Capabilities = read(&connect.get_capabilities().map_err(failed())?)?;
    let ask = |kind: &str| {
        let program = chosen.as_deref().and_then(Path::to_str);
        connect.get_domain_capabilities(program, Some(guest.as_str()), None, Some(kind), 0)
    };
    // Without a program for such guests libvirt knows nothing of them.
    let emulated = ask("qemu").map_err(|error| DriverError::NotInstalled {
        program: format!("qemu-system-{}", guest.as_str()),
        install: format!("{} ({})", install(guest), error.message()),
    })?;
    let emulated: DomainCapabilities = read(&emulated)?;
    Ok(Host {
        libvirt,
        qemu: Version(connect.get_hyp_version().map_err(failed())?),
        emulator: PathBuf::from(emulated.path),
        has_kvm: ask("kvm").is_ok(),
        chosen,
        choose_users: capabilities.choose_users(),
        guest,
    })
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, DriverError> {
    quick_xml::de::from_str(text)
        .map_err(|error| unable(format!("what libvirt can do cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert_eq!(Version(9_000_000).to_string(), "9.0.0");
        assert_eq!(Version(7_002_022).to_string(), "7.2.22");
        assert!(Version(9_000_000) < PVPANIC && OLDEST < PVPANIC);
    }
}
