//! Templates of whole clusters: which one a new cluster would begin with, how one is made of a
//! cluster that just became ready, and how a clone becomes a cluster of its own.
//!
//! ```text
//! no template: boot with a passing identity --> ready --> bake --> clone --> rekey --> Ready
//!    template:                                                     clone --> rekey --> Ready
//! ```
//!
//! A machine that is to be baked boots with a passing identity, so that no clone's memory holds the
//! keys of another cluster. The machine's folder has that identity in `passing/` for as long as the
//! machine answers to it; [`rekey`] ends that.

use super::identity::IdentityFiles;
use super::record::{Carried, ClusterRecord};
use super::spec::ClusterSpec;
use super::{Cluster, SYNC_LIMIT, boot, store};
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::settings::Settings;
use coracle_addons::Catalogue;
use coracle_protocol::client::AgentClient;
use coracle_vm::spec::{Disk, DiskRole};
use coracle_vm::template::{FORMAT, MOST_BYTES};
use coracle_vm::{
    AnyDriver, Boot, Disks, Driver as _, MachineLock, MachineSpec, MachineState, Saved, Size,
    Snapshots, Template, TemplateError, TemplateKey, TemplateRecord, Templates, host,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use time::OffsetDateTime;

/// How long a machine may take to say which identity it has.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);
/// Facts that change without anybody asking for another cluster: the host's, the hypervisor's, this program's.
const NOT_SETTINGS: [&str; 8] = [
    "accelerator",
    "firmware",
    "image",
    "kernel",
    "libslirp",
    "processor",
    "program",
    "qemu",
];
/// The template's part of an identity: what its clones share, and how to reach them at first.
const IDENTITY: &str = "identity";

/// The templates of the state folder.
pub fn templates(settings: &Settings) -> Templates {
    Templates::new(&settings.home)
}

/// What a new cluster begins with.
#[derive(Debug)]
pub enum Beginning {
    /// Its own disks; a machine that runs already goes on.
    Cold,
    /// The same, but with a passing identity: it becomes a template.
    Bake(TemplateKey, BTreeMap<String, String>),
    /// A template.
    Clone(Box<Template>),
    /// What was saved of it.
    Saved(Box<Saved>),
}

/// Everything that two clusters have to have in common to begin with one template.
pub async fn facts(
    driver: &AnyDriver,
    machine: &MachineSpec,
    spec: &ClusterSpec,
    image: &str,
    catalogue: &Catalogue,
) -> Result<BTreeMap<String, String>> {
    let mut facts = driver.fingerprint(machine).await?;
    let mut fact = |name: &str, value: String| facts.insert(name.to_owned(), value);
    fact("program", env!("CARGO_PKG_VERSION").to_owned());
    fact("image", image.to_owned());
    // Kernel and initial file system are the image's, wherever that is kept.
    if let Boot::DirectKernel { command_line, .. } = &machine.boot {
        fact("kernel command line", command_line.clone());
    }
    let Some(version) = spec.kubernetes() else {
        fact("kubernetes", "none".to_owned());
        return Ok(facts);
    };
    let addons = catalogue.default_addons().map(|addon| addon.name.as_str());
    let addons = catalogue
        .in_order(addons.chain(spec.addons.iter().map(String::as_str)))
        .map_err(|error| Error::caused_by(ErrorId::AddonNotFound, error.to_string(), &error))?;
    let addons = addons
        .iter()
        .map(|addon| format!("{} {}", addon.name, addon.version));
    fact("kubernetes", version.to_owned());
    fact("services", spec.service_cidr.to_string());
    fact("pods", spec.pod_cidr.to_string());
    fact("domain", spec.dns_domain.clone());
    fact("feature gates", format!("{:?}", spec.feature_gates));
    fact("flags", format!("{:?}", spec.extra_args));
    fact("add-ons", addons.collect::<Vec<_>>().join(", "));
    Ok(facts)
}

/// Chooses what a new cluster begins with. The second is one line about a template that cannot be
/// used, for whoever wonders why this start takes longer.
pub fn choose(
    settings: &Settings,
    facts: BTreeMap<String, String>,
) -> Result<(Beginning, Option<String>)> {
    let key = TemplateKey::of(&facts);
    let templates = templates(settings);
    match templates.find(&key, OffsetDateTime::now_utc()) {
        Ok(Some(template)) => {
            templates.note_use(&template)?;
            Ok((Beginning::Clone(Box::new(template)), None))
        }
        // Each of the refusals was told when it was made.
        Ok(None) if templates.is_hopeless() => Ok((Beginning::Cold, None)),
        Ok(None) => {
            let said = overtaken(&templates, &facts)?;
            Ok((Beginning::Bake(key, facts), said))
        }
        Err(TemplateError::Unusable { key, reason }) => {
            let refused = templates.is_refused(&key);
            let said = format!("booting cold: the template cannot be used: {reason}");
            let beginning = if refused {
                Beginning::Cold
            } else {
                Beginning::Bake(key, facts)
            };
            // A refusal was told when it was made.
            Ok((beginning, (!refused).then_some(said)))
        }
        Err(error) => Err(error.into()),
    }
}

/// What has changed since a template was made that this start would else have begun with.
fn overtaken(templates: &Templates, facts: &BTreeMap<String, String>) -> Result<Option<String>> {
    let listed = templates.list(OffsetDateTime::now_utc())?;
    let usable = listed
        .iter()
        .filter_map(|(_, found)| found.as_ref().ok()?.as_ref());
    let mut changed = usable.map(|template| {
        let others = &template.record.facts;
        let names = facts.keys().chain(others.keys()).map(String::as_str);
        let differing = names.filter(|name| facts.get(*name) != others.get(*name));
        differing.collect::<BTreeSet<_>>()
    });
    let of_this_start = changed
        .find(|names| !names.is_empty() && names.iter().all(|name| NOT_SETTINGS.contains(name)));
    Ok(of_this_start.map(|names| {
        let names = Vec::from_iter(names).join(", ");
        format!("booting cold: the template was made with another {names}")
    }))
}

/// Has a machine begin with a template; gives the add-ons that it has then.
pub fn inherit(machine: &mut MachineSpec, template: &Template) -> BTreeMap<String, String> {
    base_on(machine, &template.record.disk);
    let carried = serde_json::from_value::<Carried>(template.record.cluster.clone());
    carried
        .map(|carried| carried.applied_addons)
        .unwrap_or_default()
}

/// Has a machine's disk begin with a frozen one.
pub fn base_on(machine: &mut MachineSpec, base: &Path) {
    for disk in data_disk(machine) {
        disk.base = Some(base.to_owned());
    }
}

/// Says how large a machine's disk is to be. One that is there grows at the next launch.
pub fn resize(machine: &mut MachineSpec, size: Size) {
    for disk in data_disk(machine) {
        disk.create = Some(size);
    }
}

fn data_disk(machine: &mut MachineSpec) -> impl Iterator<Item = &mut Disk> {
    let disks = machine.disks.iter_mut();
    disks.filter(|disk| disk.role == DiskRole::Data)
}

/// The identity of a template's clones before they have their own.
pub fn shared_identity(template: &Template) -> IdentityFiles {
    IdentityFiles::new(template.folder.join(IDENTITY))
}

/// Freezes a cluster that is ready and makes it the first clone of the template that it becomes. The
/// machine is off afterwards.
pub async fn bake(
    settings: &Settings,
    lock: &MachineLock,
    cluster: &Cluster,
    agent: &AgentClient,
    key: &TemplateKey,
    facts: BTreeMap<String, String>,
) -> Result<Template> {
    agent.sync(SYNC_LIMIT).await?;
    // An engine alone is what its clones are for.
    let stands_still = cluster.record().spec.has_kubernetes();
    if stands_still && let Err(error) = agent.stand_still().await {
        // Clones are a little slower then; an older image's agent does not know of it.
        tracing::debug!(%error, "all of it goes on while it is copied");
    }
    let driver = cluster.driver()?;
    let templates = templates(settings);
    let incoming = templates.incoming()?;
    let files = incoming.files();
    driver.freeze(cluster.dir(), &files).await?;
    boot::switch_off(cluster).await?;
    let passing = cluster.passing_identity();
    passing.copy_shared_part(&IdentityFiles::new(incoming.folder().join(IDENTITY)))?;
    let disk = Disks::new(&settings.home).freeze(cluster.disk(DiskRole::Data)?)?;
    let size = |path: &PathBuf| {
        std::fs::metadata(path)
            .map(|meta| meta.len())
            .context(ErrorId::Write, || format!("cannot read {}", path.display()))
    };
    let kept = store(settings).get(cluster.dir().name())?;
    let carried = Carried::of(&ClusterRecord::decode(&kept.cluster)?)?;
    let record = TemplateRecord {
        format: FORMAT,
        created: OffsetDateTime::now_utc(),
        boot_id: host::boot_id().unwrap_or_default(),
        ram_bytes: size(&files.ram)?,
        devices_bytes: size(&files.devices)?,
        disk: disk.clone(),
        facts,
        cluster: carried,
    };
    // The machine first: without its record the frozen disk would be nobody's.
    let mut machine = kept;
    base_on(&mut machine.spec, &disk);
    resize(&mut machine.spec, cluster.record().spec.disk_size);
    store(settings).save(lock, &machine)?;
    Ok(templates.publish(incoming, key, record)?)
}

/// Gives a machine that answers to the passing identity its own. Nobody else knows the machine by
/// then: its ports were never told. What comes back is as of [`boot::agent`].
pub async fn rekey(
    settings: &Settings,
    cluster: &Cluster,
    limit: Duration,
) -> Result<(AgentClient, String)> {
    let passing = cluster.passing_identity();
    let taken = boot::take_own_identity(settings, cluster, &passing, limit).await?;
    passing.remove()?;
    Ok(taken)
}

/// Gives a machine that runs its own identity, unless it took it without anybody noticing: a start
/// can be cut off just behind that.
pub async fn settle_identity(
    settings: &Settings,
    cluster: &Cluster,
    limit: Duration,
) -> Result<()> {
    let credentials = cluster.identity_files().agent_credentials()?;
    let endpoint = cluster.agent_endpoint();
    let answers_to_own = async |limit| {
        AgentClient::connect(&endpoint, &credentials, limit)
            .await
            .is_ok()
    };
    if answers_to_own(SETTLE_LIMIT).await {
        return cluster.passing_identity().remove();
    }
    match rekey(settings, cluster, limit).await {
        // It may have been slow and not somebody else.
        Err(_) if answers_to_own(limit).await => cluster.passing_identity().remove(),
        done => done.map(drop),
    }
}

/// Gives a cluster the disk that it is to have, where its machine has another: one that was asked to be larger,
/// or a template's, by a start that was cut off.
pub async fn settle_size(
    settings: &Settings,
    lock: &MachineLock,
    cluster: Cluster,
) -> Result<Cluster> {
    let wanted = cluster.record().spec.disk_size;
    let disk = cluster.machine_spec().disk(DiskRole::Data);
    if disk.is_none_or(|disk| disk.create == Some(wanted)) {
        return Ok(cluster);
    }
    let mut machine = store(settings).get(cluster.dir().name())?;
    resize(&mut machine.spec, wanted);
    let state = cluster.state().await?;
    if state.has_process() {
        let driver = cluster.driver()?;
        if state == MachineState::Paused {
            // A freeze that was cut off has let go of the disks, until the guest goes on.
            driver.resume(cluster.dir()).await?;
        }
        // First: once it is written down nobody asks again.
        driver.grow(cluster.dir(), &machine.spec).await?;
    }
    store(settings).save(lock, &machine)?;
    Cluster::find(settings)
}

/// Removes templates that are too old or cannot be used, and frozen disks that nothing names.
pub fn sweep(settings: &Settings) -> Result<()> {
    let templates = templates(settings);
    let now = OffsetDateTime::now_utc();
    templates.sweep(now, MOST_BYTES)?;
    let disks = Disks::new(&settings.home);
    let mut named = BTreeSet::new();
    for entry in store(settings).list()? {
        let coracle_vm::Entry::Whole(record) = entry else {
            // Nobody knows what a broken machine names.
            return Ok(());
        };
        let dir = store(settings).machine_dir(&record.spec.name);
        // Under whatever name a capture that was cut off left it.
        named.extend(dir.data_disks().context(ErrorId::Write, || {
            format!("cannot read {}", dir.path().display())
        })?);
        named.extend(record.spec.disks.into_iter().filter_map(|disk| disk.base));
        let snapshots = Snapshots::new(&dir);
        for name in snapshots.names()? {
            match snapshots.get(&name) {
                Ok(snapshot) => named.extend(snapshot.map(|snapshot| snapshot.record.disk)),
                // Nobody knows what it names.
                Err(_) => return Ok(()),
            }
        }
    }
    for (_, found) in templates.list(now)? {
        named.extend(found.ok().flatten().map(|template| template.record.disk));
    }
    for disk in named.clone() {
        named.extend(disks.chain(&disk)?);
    }
    disks.keep_only(&named)?;
    Ok(())
}
