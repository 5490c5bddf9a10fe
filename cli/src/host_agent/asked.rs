//! What commands have a cluster's host agent do; where that is gone, they start one or do it themselves.

use super::asleep::{self, Asleep};
use super::control::{self, Answer, LaunchFrom, Request};
use super::{First, Published, spawn};
use crate::cluster::{self, Cluster};
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::settings::Settings;
use coracle_vm::saved::SavedFiles;
use coracle_vm::{Captured, Disks, Driver as _, MachineDir, MachineState, Origin, Saves};
use std::path::Path;
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// How long a host agent may take to end, which may be saving for an earlier command.
const RETIRING: Duration = Duration::from_secs(60);
/// How long a cluster that sleeps may take to run; longest where what was saved cannot be used any more.
const WAKING: Duration = Duration::from_secs(120);
/// How long folders may take to be mounted, also in a machine that has just gone on.
const MOUNTING: Duration = Duration::from_secs(60);
/// The pause between two looks at it.
const WAKING_PAUSE: Duration = Duration::from_millis(50);

/// Launches the machine, which is off, and returns when it runs. The caller holds the machine's lock.
pub async fn launch(settings: &Settings, dir: &MachineDir, origin: &Origin) -> Result<()> {
    let from = LaunchFrom::from(origin);
    let request = Request::Launch(from.clone());
    let Answer::Nobody = control::ask(dir, &request).await? else {
        return Ok(());
    };
    match spawn::spawn(settings, dir, &First::Launch(from)).await {
        // The guard of one that was lost was as quick.
        Err(error) if error.id() == ErrorId::LockBusy => match control::ask(dir, &request).await? {
            Answer::Nobody => Err(error),
            _ => Ok(()),
        },
        done => done,
    }
}

/// Whether a cluster whose machine is off sleeps: its ports are there, and the first who connects wakes it.
pub fn is_asleep(dir: &MachineDir) -> bool {
    Asleep::read(dir).is_some()
}

/// Sees to it that a machine which has a process, and a cluster that sleeps, has a host agent too.
pub async fn ensure(settings: &Settings, cluster: &Cluster) -> Result<()> {
    if control::is_there(cluster.dir()).await?
        || !(is_asleep(cluster.dir()) || cluster.state().await?.has_process())
    {
        return Ok(());
    }
    match spawn::spawn(settings, cluster.dir(), &First::Adopt).await {
        // Somebody else was as quick.
        Err(error) if error.id() == ErrorId::LockBusy => Ok(()),
        done => done,
    }
}

/// What came of the ports that Services asked for.
pub async fn published(dir: &MachineDir) -> Result<Vec<Published>> {
    Ok(match control::ask(dir, &Request::Published).await? {
        Answer::Published(published) => published,
        _ => Vec::new(),
    })
}

/// Has the machine have those folders of this host that the cluster's record says. Gives those that it
/// has not, and why.
pub async fn mount(dir: &MachineDir) -> Result<Vec<(String, String)>> {
    match control::ask_within(dir, &Request::Mount, MOUNTING).await? {
        Answer::Mounted(refused) => Ok(refused),
        _ => Err(Error::new(
            ErrorId::MachineNotRunning,
            "the cluster has no host agent, which serves the host's folders",
        )),
    }
}

/// Sends the host agent away: the cluster's ports are free then, and nothing wakes it. A machine that
/// runs goes on.
pub async fn retire(dir: &MachineDir) -> Result<()> {
    control::ask_within(dir, &Request::Retire, RETIRING).await?;
    asleep::forget(dir)
}

/// Wakes a cluster that sleeps, as any connection does, and returns when its machine runs.
pub async fn wake(cluster: &Cluster) -> Result<()> {
    if !is_asleep(cluster.dir()) {
        return Ok(());
    }
    let ports = cluster::own_ports(cluster);
    let addresses: Vec<_> = ports.iter().map(|(address, _)| *address).collect();
    let connect = tokio::net::TcpStream::connect(addresses.as_slice());
    // For as long as it lives it waits for the machine.
    let _connection = connect.await.context(ErrorId::MachineNotRunning, || {
        "the cluster sleeps, and nobody is there who could wake it".into()
    })?;
    let begun = Instant::now();
    while cluster.state().await? != MachineState::Running {
        if begun.elapsed() > WAKING {
            return Err(Error::new(
                ErrorId::MachineTimeout,
                format!("the cluster \"{}\" does not wake up", cluster.dir().name()),
            ));
        }
        tokio::time::sleep(WAKING_PAUSE).await;
    }
    Ok(())
}

/// Has the machine saved and ended, and its ports held until somebody connects. False where the host
/// agent was lost before it could tell. The caller holds the machine's lock, and the guest's disk is synced.
pub async fn sleep(dir: &MachineDir, wake_at: Option<OffsetDateTime>) -> Result<bool> {
    let wake_at = wake_at.map(OffsetDateTime::unix_timestamp);
    let answer = control::ask(dir, &Request::Sleep { wake_at }).await?;
    Ok(matches!(answer, Answer::Asleep))
}

/// Returns when the machine's host agent does nothing any more that an earlier command asked for: that
/// command may be gone, and its lock with it. The caller holds the machine's lock.
/// False where there is none that launched the machine.
pub async fn settle(dir: &MachineDir) -> Result<bool> {
    let answer = control::ask(dir, &Request::Wait).await?;
    Ok(matches!(answer, Answer::Idle { launched: true }))
}

/// Has the machine saved and ended by its host agent; where that is gone, by this process. The caller
/// holds the machine's lock, and the guest's disk is synced.
pub async fn hibernate(cluster: &Cluster) -> Result<()> {
    if let Answer::Hibernated = control::ask(cluster.dir(), &Request::Hibernate).await? {
        return Ok(());
    }
    if cluster.state().await? == MachineState::Off && Saves::new(cluster.dir()).is_there() {
        // It was gone before it could say that all was done.
        return Ok(());
    }
    tracing::debug!(machine = %cluster.dir().name(), "no host agent: saving from here");
    let saved = cluster::hibernate::hibernate(cluster).await?;
    let written = tokio::task::spawn_blocking(move || saved.make_durable());
    Ok(written.await.context(ErrorId::Internal, || {
        "writing the saved state ended early".into()
    })??)
}

/// As [`hibernate`], for a machine that is saved into a folder and goes on.
pub async fn capture(settings: &Settings, cluster: &Cluster, folder: &Path) -> Result<Captured> {
    match control::ask(cluster.dir(), &Request::Capture(folder.to_owned())).await? {
        Answer::Captured(captured) => Ok(captured),
        _ => {
            // What a host agent that ended in the middle has written.
            SavedFiles::in_folder(folder)
                .clear()
                .context(ErrorId::Write, || {
                    format!("cannot empty {}", folder.display())
                })?;
            capture_from_here(settings, cluster, folder).await
        }
    }
}

/// The same by this process.
pub(super) async fn capture_from_here(
    settings: &Settings,
    cluster: &Cluster,
    folder: &Path,
) -> Result<Captured> {
    let files = SavedFiles::in_folder(folder);
    let disks = Disks::new(&settings.home);
    let driver = cluster.driver()?;
    Ok(driver
        .capture(cluster.dir(), cluster.machine_spec(), &files, &disks)
        .await?)
}
