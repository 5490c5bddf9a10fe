//! The drivers that there are: what people call them, and what runs them.
//!
//! This is the one place that names them: a driver more is a folder beside `qemu/`, its module in
//! [`rooms`], and a line of `drivers!`. [`AnyDriver`] is whichever it is, and hands each call on.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Capabilities, Captured, Driver, DriverError, DriverFacts, Exposed, GuestPort, Origin,
    RunningProcess,
};
use crate::accelerator::AcceleratorChoice;
use crate::program::Programs;
use crate::saved::{Kept, SavedFiles};
use crate::spec::{Architecture, MachineSpec};
use crate::state::MachineState;
use crate::store::{Disks, MachineDir};
use crate::template::TemplateFiles;

/// The folder of each. The macro below could not declare them: rustfmt would not find their files.
#[path = ".."]
pub mod rooms {
    pub mod hyperv;
    #[cfg(feature = "libvirt")]
    pub mod libvirt;
    pub mod qemu;
    pub mod virtualbox;
}

/// Makes [`DriverKind`], [`AnyDriver`] and `dispatch!` of one list. A driver of a build that leaves it
/// out is still known by its names, so that the program can say how to get it. (`$` is given as a token
/// for the macro inside, which has parameters of its own.)
macro_rules! drivers {
    ($dollar:tt $(
        $(#[doc = $doc:literal])*
        $kind:ident ($name:literal $(, $other:literal)*)
            $(=> $driver:ty $(, when $when:meta)?)?
            $(, otherwise $otherwise:literal)?;
    )*) => {
        /// A kind of hypervisor.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum DriverKind {
            $($(#[doc = $doc])* $kind,)*
        }

        impl DriverKind {
            /// All of them, in the order in which equally good ones are preferred.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// The driver's own name, then what else people type for it.
            pub(super) const fn names(self) -> &'static [&'static str] {
                match self {
                    $(Self::$kind => &[$name $(, $other)*],)*
                }
            }

            /// How to get a driver that this build does not have.
            pub(super) const fn otherwise(self) -> &'static str {
                match self {
                    $(Self::$kind => concat!($($otherwise)?),)*
                }
            }
        }

        /// A driver of any kind that this build has.
        #[derive(Debug, Clone)]
        #[non_exhaustive]
        pub enum AnyDriver {
            $($($(#[cfg($when)])? #[doc = $name] $kind($driver),)?)*
        }

        impl AnyDriver {
            /// The driver of a kind.
            ///
            /// # Errors
            /// [`DriverError::NotBuiltIn`] for one that this build does not have.
            pub fn new(kind: DriverKind, programs: Programs) -> Result<Self, DriverError> {
                match kind {
                    $($($(#[cfg($when)])?
                        DriverKind::$kind => Ok(Self::$kind(<$driver>::new(programs))),)?)*
                    #[allow(unreachable_patterns, reason = "a build may have all of them")]
                    kind => Err(DriverError::NotBuiltIn { kind, help: kind.otherwise() }),
                }
            }
        }

        /// Calls the same method of whichever driver it is.
        macro_rules! dispatch {
            ($dollar any:ident, $dollar driver:ident => $dollar call:expr) => {
                match $dollar any {
                    $($($(#[cfg($when)])? AnyDriver::$kind($dollar driver) => $dollar call,)?)*
                }
            };
        }
    };
}

drivers! { $
    /// QEMU, through its monitor protocol.
    Qemu("qemu", "qemu2", "kvm", "kvm2") => rooms::qemu::QemuDriver;
    /// libvirt.
    Libvirt("libvirt") => rooms::libvirt::LibvirtDriver, when feature = "libvirt", otherwise "a build has it that was made with `cargo build --release --features libvirt`, which needs libvirt's files (Debian and Ubuntu: sudo apt-get install libvirt-dev); `--driver qemu` runs on KVM as well";
    /// VirtualBox.
    Virtualbox("virtualbox", "vbox") => rooms::virtualbox::VirtualboxDriver;
    /// Hyper-V.
    Hyperv("hyperv", "hyper-v") => rooms::hyperv::HypervDriver;
}

impl Driver for AnyDriver {
    fn kind(&self) -> DriverKind {
        dispatch!(self, driver => driver.kind())
    }

    fn capabilities(&self) -> Capabilities {
        dispatch!(self, driver => driver.capabilities())
    }

    fn cannot_clone(&self) -> DriverError {
        dispatch!(self, driver => driver.cannot_clone())
    }

    async fn probe(
        &self,
        choice: AcceleratorChoice,
        guest: Architecture,
    ) -> Result<DriverFacts, DriverError> {
        dispatch!(self, driver => driver.probe(choice, guest).await)
    }

    async fn prepare(&self, dir: &MachineDir, spec: &MachineSpec) -> Result<(), DriverError> {
        dispatch!(self, driver => driver.prepare(dir, spec).await)
    }

    async fn launch(
        &self,
        dir: &MachineDir,
        spec: &MachineSpec,
        origin: &Origin,
    ) -> Result<Option<RunningProcess>, DriverError> {
        dispatch!(self, driver => driver.launch(dir, spec, origin).await)
    }

    async fn fingerprint(
        &self,
        spec: &MachineSpec,
    ) -> Result<BTreeMap<String, String>, DriverError> {
        dispatch!(self, driver => driver.fingerprint(spec).await)
    }

    async fn freeze(&self, dir: &MachineDir, files: &TemplateFiles) -> Result<(), DriverError> {
        dispatch!(self, driver => driver.freeze(dir, files).await)
    }

    async fn save(&self, dir: &MachineDir, files: &SavedFiles) -> Result<Kept, DriverError> {
        dispatch!(self, driver => driver.save(dir, files).await)
    }

    async fn capture(
        &self,
        dir: &MachineDir,
        spec: &MachineSpec,
        files: &SavedFiles,
        disks: &Disks,
    ) -> Result<Captured, DriverError> {
        dispatch!(self, driver => driver.capture(dir, spec, files, disks).await)
    }

    fn learn(&self, dir: &MachineDir, process: &RunningProcess, files: &TemplateFiles) {
        dispatch!(self, driver => driver.learn(dir, process, files));
    }

    async fn grow(&self, dir: &MachineDir, spec: &MachineSpec) -> Result<(), DriverError> {
        dispatch!(self, driver => driver.grow(dir, spec).await)
    }

    async fn expose(
        &self,
        dir: &MachineDir,
        address: IpAddr,
        ports: &[GuestPort],
    ) -> Result<Vec<Exposed>, DriverError> {
        dispatch!(self, driver => driver.expose(dir, address, ports).await)
    }

    async fn exposed(&self, dir: &MachineDir) -> Result<Vec<Exposed>, DriverError> {
        dispatch!(self, driver => driver.exposed(dir).await)
    }

    async fn conceal(&self, dir: &MachineDir, exposed: &[Exposed]) -> Result<(), DriverError> {
        dispatch!(self, driver => driver.conceal(dir, exposed).await)
    }

    async fn observe(&self, dir: &MachineDir) -> MachineState {
        dispatch!(self, driver => driver.observe(dir).await)
    }

    async fn pause(&self, dir: &MachineDir) -> Result<(), DriverError> {
        dispatch!(self, driver => driver.pause(dir).await)
    }

    async fn resume(&self, dir: &MachineDir) -> Result<(), DriverError> {
        dispatch!(self, driver => driver.resume(dir).await)
    }

    async fn power_button(&self, dir: &MachineDir) -> Result<(), DriverError> {
        dispatch!(self, driver => driver.power_button(dir).await)
    }

    async fn quit(&self, dir: &MachineDir, limit: Duration) -> Result<(), DriverError> {
        dispatch!(self, driver => driver.quit(dir, limit).await)
    }

    async fn wait_off(&self, dir: &MachineDir, limit: Duration) -> Result<(), DriverError> {
        dispatch!(self, driver => driver.wait_off(dir, limit).await)
    }

    async fn forget(&self, dir: &MachineDir) -> Result<(), DriverError> {
        dispatch!(self, driver => driver.forget(dir).await)
    }
}
