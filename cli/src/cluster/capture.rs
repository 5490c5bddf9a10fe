//! Captures: a running cluster as it is at one moment, while it goes on. A clone goes on from there
//! beside it; a snapshot is kept, and the cluster can go back to it.
//!
//! ```text
//! running --sync--> host agent: save, freeze its disk, go on --+--> clone: another machine's save
//!                                                              +--> snapshot: beside the machine
//! ```

use super::draft::Draft;
use super::record::Carried;
use super::spec::StartOptions;
use super::start::{Outcome, start};
use super::{Cluster, LOCK_LIMIT, SYNC_LIMIT, boot, given, kubeconfig, lock, store, template};
use crate::commands::App;
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::options::ClusterOptions;
use crate::settings::Settings;
use coracle_vm::saved::SavedRecord;
use coracle_vm::spec::DiskRole;
use coracle_vm::store::atomic;
use coracle_vm::{
    Driver as _, MachineName, MachineState, Saves, Saving, Snapshot, SnapshotRecord, Snapshots,
    StoreError,
};
use std::path::PathBuf;
use std::time::Duration;

/// How long the agent of a cluster that was just restored may take to answer.
const AGENT_LIMIT: Duration = Duration::from_secs(60);

/// Captures a running cluster into a folder: what is to be kept about it, and its frozen disk. The
/// caller holds the machine's lock.
async fn capture(
    settings: &Settings,
    cluster: &Cluster,
    saving: &Saving,
) -> Result<(SavedRecord, PathBuf)> {
    let driver = cluster.driver()?;
    let host = driver.fingerprint(cluster.machine_spec()).await?;
    let agent = cluster.agent().await?;
    agent.sync(SYNC_LIMIT).await?;
    let captured = crate::host_agent::capture(settings, cluster, saving.folder()).await;
    // It stood still for a moment.
    let stepped = agent.set_clock(settings.now()).await;
    let captured = captured?;
    stepped?;
    Ok((saving.record(captured.kept, host)?, captured.disk))
}

/// A capture needs a driver that can do it.
fn check_driver(cluster: &Cluster) -> Result<()> {
    let capabilities = cluster.driver()?.capabilities();
    if !capabilities.can_clone || !capabilities.can_hibernate {
        let error = cluster.unable("copy a cluster that runs");
        return Err(error.help(
            "`coracle doctor` names the drivers of this host and what they cannot do; \
             `coracle start -p NAME` makes another cluster",
        ));
    }
    Ok(())
}

/// A capture needs a cluster that runs, is its own, and whose driver can do it.
async fn check(cluster: &Cluster) -> Result<()> {
    check_driver(cluster)?;
    crate::host_agent::settle(cluster.dir()).await?;
    cluster.require_running().await?;
    if cluster.passing_identity().exists() {
        let name = cluster.dir().name();
        let message = format!("the cluster \"{name}\" was never ready");
        return Err(Error::new(ErrorId::MachineNotRunning, message));
    }
    Ok(())
}

/// Makes a second cluster, the current profile's, that goes on from the very moment of `source`, with
/// an identity and an address of its own.
pub async fn clone(app: &App, source: &Cluster, keep_context: bool) -> Result<Outcome> {
    let settings = &app.settings;
    let name = &settings.profile;
    // Before anything of the new one is there.
    check_driver(source)?;
    let held = lock(settings, name, "coracle clone", LOCK_LIMIT).await?;
    if store(settings).exists(name) {
        let existing = name.clone();
        return Err(StoreError::Exists { existing }.into());
    }
    if source.record().spec.has_kubernetes() {
        kubeconfig::check_name(settings, None)?;
    }
    let terms = given::Terms::typed(source.record(), settings);
    let parcel = given::gather(settings, &terms)?;
    {
        let source_name = source.dir().name();
        let _source = lock(settings, source_name, "coracle clone", LOCK_LIMIT).await?;
        check(source).await?;
        app.progress.step(
            "capture",
            &format!("Capturing {source_name} while it runs"),
            1,
            1,
        );
        let saving = Saves::new(source.dir()).begin()?;
        let (saved, disk) = capture(settings, source, &saving).await?;
        app.progress.finish_step();
        // From here on the new machine is there; without what was captured it boots the same disk.
        let draft = Draft::copy_of(settings, source, &disk)?;
        let cluster = draft.create(settings, &held).await?;
        boot::prepare_copy(&cluster, &source.identity_files(), &parcel).await?;
        Saves::new(cluster.dir()).publish(saving, saved, cluster.machine_spec())?;
    }
    drop(held);
    start_as_it_is(app, keep_context).await
}

/// Starts a cluster that is there, with nothing asked for beyond that.
async fn start_as_it_is(app: &App, keep_context: bool) -> Result<Outcome> {
    let none = ClusterOptions::default();
    let options = StartOptions {
        keep_context,
        ..StartOptions::new(&none)?
    };
    Box::pin(start(app, &none, &none, &options, false)).await
}

/// Keeps a running cluster as it is under a name.
pub async fn save_snapshot(app: &App, cluster: &Cluster, name: &MachineName) -> Result<Snapshot> {
    let settings = &app.settings;
    let machine = cluster.dir().name();
    let _lock = lock(settings, machine, "coracle snapshot save", LOCK_LIMIT).await?;
    let snapshots = Snapshots::new(cluster.dir());
    if snapshots.exists(name) {
        return Err(Error::new(
            ErrorId::SnapshotExists,
            format!("the cluster \"{machine}\" has a snapshot \"{name}\" already"),
        ));
    }
    check(cluster).await?;
    let saving = snapshots.begin()?;
    let (saved, disk) = capture(settings, cluster, &saving).await?;
    let carried = Carried::of(cluster.record())?;
    let record = SnapshotRecord::new(disk, carried);
    Ok(snapshots.publish(saving, name, record, saved)?)
}

/// A snapshot that has to be there.
pub fn snapshot(cluster: &Cluster, name: &MachineName) -> Result<Snapshot> {
    let found = Snapshots::new(cluster.dir()).get(name)?;
    found.ok_or_else(|| not_found(cluster, name))
}

fn not_found(cluster: &Cluster, name: &MachineName) -> Error {
    let machine = cluster.dir().name();
    Error::new(
        ErrorId::SnapshotNotFound,
        format!("the cluster \"{machine}\" has no snapshot \"{name}\""),
    )
}

/// Puts the cluster back to a snapshot, and starts it there. What it did since is gone.
pub async fn restore_snapshot(
    app: &App,
    name: &MachineName,
    keep_context: bool,
) -> Result<Outcome> {
    let settings = &app.settings;
    let held = lock(
        settings,
        &settings.profile,
        "coracle snapshot restore",
        LOCK_LIMIT,
    )
    .await?;
    let cluster = Cluster::find(settings)?;
    let snapshot = snapshot(&cluster, name)?;
    let carried: Carried = serde_json::from_value(snapshot.record.cluster.clone())
        .context(ErrorId::Snapshot, || {
            format!("the snapshot \"{name}\" is damaged")
        })?;
    boot::end_cut_off(&cluster).await?;
    if cluster.state().await? != MachineState::Off {
        boot::switch_off(&cluster).await?;
    }
    let saves = Saves::new(cluster.dir());
    saves.discard()?;

    // First the record: from here on a disk that is missing is made from the snapshot's.
    let mut machine = store(settings).get(&settings.profile)?;
    template::base_on(&mut machine.spec, &snapshot.record.disk);
    // The same memory may run more than once: each time its kernel must take other random numbers.
    machine.spec.generation_id = uuid::Uuid::new_v4();
    let mut record = cluster.record().clone();
    record.applied_addons = carried.applied_addons;
    machine.cluster = record.encode()?;
    store(settings).save(&held, &machine)?;
    let disk = cluster.disk(DiskRole::Data)?;
    atomic::remove(disk).context(ErrorId::Write, || {
        format!("cannot replace {}", disk.display())
    })?;
    let cluster = Cluster::find(settings)?;
    let driver = cluster.driver()?;
    driver
        .prepare(cluster.dir(), cluster.machine_spec())
        .await?;
    match &snapshot.saved {
        Ok(saved) => {
            saves.adopt(saved, cluster.machine_spec())?;
        }
        Err(error) => app
            .progress
            .warning(&format!("booting its disk cold: {error}")),
    }
    drop(held);
    let outcome = start_as_it_is(app, keep_context).await?;
    // It has been there before: it must not take the same random numbers again.
    let own = cluster.identity_files();
    boot::take_own_identity(settings, &cluster, &own, AGENT_LIMIT).await?;
    Ok(outcome)
}

/// Removes a snapshot.
pub async fn delete_snapshot(app: &App, cluster: &Cluster, name: &MachineName) -> Result<()> {
    let machine = cluster.dir().name();
    let _lock = lock(
        &app.settings,
        machine,
        "coracle snapshot delete",
        LOCK_LIMIT,
    )
    .await?;
    let snapshots = Snapshots::new(cluster.dir());
    if !snapshots.exists(name) {
        return Err(not_found(cluster, name));
    }
    Ok(snapshots.remove(name)?)
}
