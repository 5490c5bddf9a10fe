//! A driver that tests add: QEMU's, which keeps nothing of a machine that ends. It neither pauses nor saves
//! nor copies one, and leads no port into one from its beginning: its network gives the guest an address,
//! and the driver says where the guest's ports are reached.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::accelerator::AcceleratorChoice;
use crate::driver::{
    Capabilities, Driver, DriverError, DriverFacts, DriverKind, Exposed, GuestAddress, GuestPort,
    Origin, RunningProcess,
};
use crate::program::Programs;
use crate::qemu::QemuDriver;
use crate::saved::{Kept, SavedFiles};
use crate::spec::{Architecture, MachineSpec};
use crate::state::MachineState;
use crate::store::MachineDir;

/// Runs machines with QEMU's driver.
#[derive(Debug, Clone)]
pub struct PretendDriver {
    qemu: QemuDriver,
}

impl PretendDriver {
    /// A driver that finds its programs there.
    pub fn new(programs: Programs) -> Self {
        Self {
            qemu: QemuDriver::new(programs),
        }
    }

    fn unable(&self, reason: &str) -> DriverError {
        DriverError::Unable {
            kind: self.kind(),
            reason: reason.to_owned(),
        }
    }
}

impl Driver for PretendDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Pretend
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            can_pause: false,
            can_hibernate: false,
            can_clone: false,
            guest_address: GuestAddress::Direct,
            ..self.qemu.capabilities()
        }
    }

    async fn probe(
        &self,
        choice: AcceleratorChoice,
        guest: Architecture,
    ) -> Result<DriverFacts, DriverError> {
        let facts = self.qemu.probe(choice, guest).await?;
        Ok(DriverFacts {
            kind: self.kind(),
            version: format!("0.5 over {}", facts.version),
            ..facts
        })
    }

    async fn prepare(&self, dir: &MachineDir, spec: &MachineSpec) -> Result<(), DriverError> {
        self.qemu.prepare(dir, spec).await
    }

    async fn launch(
        &self,
        dir: &MachineDir,
        spec: &MachineSpec,
        origin: &Origin,
    ) -> Result<Option<RunningProcess>, DriverError> {
        match origin {
            Origin::Boot => self.qemu.launch(dir, spec, origin).await,
            _ => Err(self.unable("it only boots machines")),
        }
    }

    async fn fingerprint(
        &self,
        _spec: &MachineSpec,
    ) -> Result<BTreeMap<String, String>, DriverError> {
        Err(self.unable("it restores none"))
    }

    async fn save(&self, _dir: &MachineDir, _files: &SavedFiles) -> Result<Kept, DriverError> {
        Err(self.unable("it saves none"))
    }

    async fn grow(&self, dir: &MachineDir, spec: &MachineSpec) -> Result<(), DriverError> {
        self.qemu.grow(dir, spec).await
    }

    async fn expose(
        &self,
        dir: &MachineDir,
        address: IpAddr,
        ports: &[GuestPort],
    ) -> Result<Vec<Exposed>, DriverError> {
        self.qemu.expose(dir, address, ports).await
    }

    async fn exposed(&self, dir: &MachineDir) -> Result<Vec<Exposed>, DriverError> {
        self.qemu.exposed(dir).await
    }

    async fn conceal(&self, dir: &MachineDir, exposed: &[Exposed]) -> Result<(), DriverError> {
        self.qemu.conceal(dir, exposed).await
    }

    async fn observe(&self, dir: &MachineDir) -> MachineState {
        self.qemu.observe(dir).await
    }

    async fn pause(&self, _dir: &MachineDir) -> Result<(), DriverError> {
        Err(self.unable("it pauses none"))
    }

    async fn resume(&self, dir: &MachineDir) -> Result<(), DriverError> {
        self.qemu.resume(dir).await
    }

    async fn power_button(&self, dir: &MachineDir) -> Result<(), DriverError> {
        self.qemu.power_button(dir).await
    }

    async fn quit(&self, dir: &MachineDir, limit: Duration) -> Result<(), DriverError> {
        self.qemu.quit(dir, limit).await
    }

    async fn wait_off(&self, dir: &MachineDir, limit: Duration) -> Result<(), DriverError> {
        self.qemu.wait_off(dir, limit).await
    }

    async fn forget(&self, dir: &MachineDir) -> Result<(), DriverError> {
        self.qemu.forget(dir).await
    }
}
