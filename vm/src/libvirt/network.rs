//! QEMU's human monitor, through libvirt.

use virt::sys;

use super::LIMIT;
use super::machine::Machine;
use crate::driver::{DriverError, DriverKind, Exposed, GuestPort};
use crate::qemu::shared::recognise;
use crate::spec::MachineSpec;
use crate::user_network::{HumanMonitor, forward_from};

/// A running machine's monitor.
pub(super) struct Monitor<'a>(pub(super) &'a Machine);

impl HumanMonitor for Monitor<'_> {
    const KIND: DriverKind = DriverKind::Libvirt;
    /// libvirt's name for what is behind a machine's first network card.
    const NETWORK: &'static str = "hostnet0";

    async fn ask(&mut self, command: String) -> Result<String, DriverError> {
        let flags = sys::VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP;
        let answer = self.0.ask("ask QEMU", LIMIT, move |domain| {
            domain.qemu_monitor_command(&command, flags)
        });
        Ok(answer.await?.trim().to_owned())
    }
}

/// Forwards what the specification wants forwarded.
pub(super) async fn forward(machine: &Machine, spec: &MachineSpec) -> Result<(), DriverError> {
    let mut monitor = Monitor(machine);
    for forward in &spec.network.forwards {
        let one = Exposed {
            guest: GuestPort {
                protocol: forward.protocol,
                port: forward.guest_port,
            },
            host: forward.host,
        };
        if let Some(said) = forward_from(&mut monitor, one).await? {
            let what = "forward a port";
            let lines = [said.clone()];
            return Err(
                recognise(&lines, spec).unwrap_or(DriverError::Refused { what, detail: said })
            );
        }
    }
    Ok(())
}
