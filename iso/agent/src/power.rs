//! The way down: pods, control plane, container runtime, disks, power.

use crate::cri::Cri;
use crate::engine;
use crate::kernel;
use crate::logs::Logs;
use crate::supervise::Supervisor;
use coracle_protocol::api::PowerAction;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Components whose order is below this are stopped before the pods: whoever would start
/// them again.
pub const BEFORE_PODS: u32 = 10;
/// How long file systems may take to be written.
const SYNC: Duration = Duration::from_secs(60);

/// Where orders to stop go.
#[derive(Debug, Clone)]
pub enum Power {
    /// This process is PID 1 and ends the machine.
    Machine,
    /// It is not: orders are told to whoever runs it.
    Told(mpsc::Sender<PowerAction>),
}

impl Power {
    /// For PID 1.
    #[must_use]
    pub fn machine() -> Self {
        Self::Machine
    }

    /// Stops everything in order and ends the machine. Pods get `grace`.
    pub async fn stop(
        &self,
        action: PowerAction,
        grace: Duration,
        supervisor: &Supervisor,
        logs: &Arc<Logs>,
    ) {
        logs.note(&format!("stopping: {}", action.as_str_name()));
        supervisor.stop(0..BEFORE_PODS).await;
        // Outside of a machine of ours these would be somebody else's.
        if let Self::Machine = self {
            let ((), pods) = tokio::join!(engine::end_containers(grace), stop_pods(grace));
            if let Err(error) = pods {
                logs.note(&format!("pods were not stopped: {error}"));
            }
        }
        supervisor.stop(BEFORE_PODS..u32::MAX).await;
        logs.note("components are stopped");
        match self {
            Self::Machine => end(action, logs).await,
            Self::Told(sender) => {
                let _ = sender.send(action).await;
            }
        }
    }
}

/// Asks every container to end, all at the same time; the runtime kills those that do not
/// within their grace.
async fn stop_pods(grace: Duration) -> Result<(), crate::cri::CriError> {
    let cri = Cri::connect().await?;
    let running = cri.running_containers().await?;
    let mut tasks = tokio::task::JoinSet::new();
    for id in running {
        let cri = cri.clone();
        tasks.spawn(async move { cri.stop_container(&id, grace).await });
    }
    while let Some(stopped) = tasks.join_next().await {
        if let Ok(Err(error)) = stopped {
            return Err(error);
        }
    }
    Ok(())
}

async fn end(action: PowerAction, logs: &Arc<Logs>) {
    let everybody = Pid::from_raw(-1);
    let _ = kill(everybody, Signal::SIGTERM);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let _ = kill(everybody, Signal::SIGKILL);
    logs.note("powering down");
    logs.close();
    // A dead network mount would hold a full sync up for ever.
    let unmounted = tokio::task::spawn_blocking(unmount);
    if tokio::time::timeout(SYNC, unmounted).await.is_err() {
        kernel::complain("the data disk could not be written in time");
    }
    if action == PowerAction::Reboot {
        let _ = reboot(RebootMode::RB_AUTOBOOT);
    }
    off();
}

/// Writes the data disk and takes it out of use.
fn unmount() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    if let Ok(var) = std::fs::File::open("/var") {
        let _ = nix::unistd::syncfs(&var);
    }
    for target in ["/srv", "/opt", "/root", "/home", "/etc"] {
        let _ = umount2(target, MntFlags::MNT_DETACH);
    }
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    if let Err(error) = mount(None::<&str>, "/var", None::<&str>, flags, None::<&str>) {
        kernel::complain(&format!("the data disk stays writable: {error}"));
        let _ = umount2("/var", MntFlags::MNT_DETACH);
    }
    if let Ok(var) = std::fs::File::open("/var") {
        let _ = nix::unistd::syncfs(&var);
    }
}

/// Ends the machine at once. Returns only when the process may not do that.
pub fn off() {
    let _ = reboot(RebootMode::RB_POWER_OFF);
}
