//! QEMU's human monitor, through its monitor protocol.

use std::net::IpAddr;

use qapi::qmp::human_monitor_command;

use super::connect;
use crate::driver::{DriverError, DriverKind, Exposed, GuestPort};
use crate::qmp::QmpClient;
use crate::store::MachineDir;
use crate::user_network::{self, HumanMonitor};

impl HumanMonitor for QmpClient {
    const KIND: DriverKind = DriverKind::Qemu;
    const NETWORK: &'static str = "net";

    async fn ask(&mut self, command: String) -> Result<String, DriverError> {
        let command = human_monitor_command {
            command_line: command,
            cpu_index: None,
        };
        Ok(self.execute(command).await?.trim().to_owned())
    }
}

/// All that is forwarded now.
pub(super) async fn list(dir: &MachineDir) -> Result<Vec<Exposed>, DriverError> {
    user_network::list(&mut connect(dir).await?).await
}

/// Forwards each of `ports` that is not yet, from `address` and ports of the host that are free.
pub(super) async fn add(
    dir: &MachineDir,
    address: IpAddr,
    ports: &[GuestPort],
) -> Result<Vec<Exposed>, DriverError> {
    user_network::add(&mut connect(dir).await?, address, ports).await
}

/// Ends forwards; those that are not there are no error. Connections through them go on.
pub(super) async fn remove(dir: &MachineDir, exposed: &[Exposed]) -> Result<(), DriverError> {
    user_network::remove(&mut connect(dir).await?, exposed).await
}
