//! `start`: from what was asked to a ready cluster, or from where the last start ended.
//!
//! ```text
//! asked + kept --plan--> New | Existing --create, prepare--> Cluster --bring_up--> ready
//!                         |                                   |            |         |
//!                         +--choose--> Cold | Bake | Clone ---+       bake |         | rekey
//!                                                             +<-----------+         v
//!                                                             +--clone---------> kubeconfig
//! ```
//!
//! Every step asks what is there already, so a start can be cut off at any of them: see
//! [`super::steps::Step`].

use super::bring_up::{Run, addon_not_found, catalogue};
use super::draft::{COMMAND, Draft, verify_image};
use super::given::{self, Terms};
use super::spec::{ClusterSpec, LEAST_DISK_MIB, StartOptions};
use super::steps::{Step, Steps};
use super::template::{self, Beginning};
use super::{
    Cluster, boot, choice, docker, hibernate, host_resources, image, kubeconfig, mount, store,
};
use crate::commands::App;
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::images::cache;
use crate::options::{Amount, ClusterOptions};
use crate::settings::Settings;
use coracle_protocol::client::AgentClient;
use coracle_vm::spec::{Caution, Minimum};
use coracle_vm::{
    AnyDriver, Driver as _, DriverKind, HostResources, MachineLock, MachineName, MachineState,
    Origin, ResourceRequest, Size,
};
use std::net::IpAddr;
use std::time::Duration;

/// How long a running cluster may take to prove that it is ready before a start goes the long way.
const QUICK_LOOK: Duration = Duration::from_secs(5);

/// How a start ended.
#[derive(Debug)]
pub enum Outcome {
    /// The cluster is ready.
    Ready {
        /// Kubernetes' version; None without Kubernetes.
        version: Option<String>,
        /// The cluster's address.
        address: IpAddr,
        /// Whether kubectl's current context is this cluster.
        current: bool,
    },
    /// It was ready before.
    WasRunning {
        /// Whether it rests otherwise now, or has something else of the host.
        changed: bool,
    },
    /// What a start would do.
    WouldDo(String),
    /// What a start needs is there, and nothing was started.
    Downloaded {
        /// The image's digest.
        image: String,
        /// Kubernetes' version; None without Kubernetes.
        version: Option<String>,
    },
}

/// What there is to start.
enum Plan {
    /// With what works on this host and could be better.
    New(Box<ClusterSpec>, Vec<Caution>),
    Existing(Box<Cluster>),
}

impl Plan {
    fn spec(&self) -> &ClusterSpec {
        match self {
            Self::New(spec, _) => spec,
            Self::Existing(cluster) => &cluster.record().spec,
        }
    }

    fn existing(&self) -> Option<&Cluster> {
        match self {
            Self::New(..) => None,
            Self::Existing(cluster) => Some(cluster),
        }
    }

    /// What decides what the host gives the machine.
    fn terms(&self, settings: &Settings, options: &StartOptions) -> Terms {
        match self {
            Self::New(spec, _) => Terms {
                spec: spec.as_ref().clone(),
                host_access: options.host_access.unwrap_or(false),
                proxy: settings.proxy.clone(),
            },
            Self::Existing(cluster) => terms_now(settings, cluster, options),
        }
    }
}

/// What a cluster's machine is given by this start. What was asked for this time was written down before;
/// what `config` keeps is for new ones.
fn terms_now(settings: &Settings, cluster: &Cluster, options: &StartOptions) -> Terms {
    match options.unattended {
        true => Terms::of(cluster.record()),
        false => Terms::typed(cluster.record(), settings),
    }
}

/// Starts the cluster of the current profile. `asked` is what was asked for this time, `kept`
/// what holds for new clusters beyond that.
pub async fn start(
    app: &App,
    asked: &ClusterOptions,
    kept: &ClusterOptions,
    options: &StartOptions,
    dry_run: bool,
) -> Result<Outcome> {
    let settings = &app.settings;
    let steps = Steps::new(&app.progress, settings.fault.as_ref());
    // What is wrong with the request itself is said before anything is waited for or made.
    let plan = plan(settings, asked, kept).await?;
    if dry_run {
        return Ok(Outcome::WouldDo(describe(&settings.profile, &plan)?));
    }
    // Without what `config` keeps, which is for new clusters.
    let now = StartOptions::new(asked)?;
    if let Plan::Existing(cluster) = &plan {
        crate::host_agent::ensure(settings, cluster).await?;
        let size = asked.disk_size.map(|Amount(size)| size);
        let limit = options.wait_limit;
        let changed = change_what_may_change(settings, cluster, &now, size, limit).await?;
        if let Some(agent) = ready_agent(settings, cluster, options).await {
            // Some may have been written down just now.
            let cluster = Cluster::find(settings)?;
            let given = give_anew(app, &cluster, &agent, options).await?;
            let configured = now.daemon.give(&agent).await?;
            mount::settle(app, &cluster).await;
            return Ok(Outcome::WasRunning {
                changed: changed || given || configured,
            });
        }
    }

    // What is wrong with what the host gives is said before anything is waited for, too.
    let terms = plan.terms(settings, options);
    let parcel = given::gather(settings, &terms)?;

    steps.begin(Step::Check).await?;
    let lock = super::lock(settings, &settings.profile, COMMAND, options.wait_limit).await?;
    store(settings).sweep().await?;
    template::sweep(settings)?;
    // Another start may have made or changed it while this one waited.
    let plan = self::plan(settings, asked, kept).await?;
    let has_kubernetes = plan.spec().has_kubernetes();
    if has_kubernetes {
        kubeconfig::check_editable(settings).await?;
        kubeconfig::check_name(settings, plan.existing())?;
    }
    let (terms, parcel) = match plan.terms(settings, options) {
        same if same == terms => (terms, parcel),
        terms => {
            let parcel = given::gather(settings, &terms)?;
            (terms, parcel)
        }
    };
    if let Some(said) = given::said_of_proxy(&parcel) {
        app.progress.info(&said);
    }
    let mut plan = plan;
    if let Plan::New(spec, cautions) = &mut plan {
        for caution in cautions {
            app.progress.info(&caution.to_string());
        }
        spec.driver = driver(app, asked.driver.as_ref().or(kept.driver.as_ref())).await?;
        check_rest(settings, spec.driver, options)?;
    }

    steps.begin(Step::Image).await?;
    // What is kept for new clusters is for those.
    let daemon = match &plan {
        Plan::New(..) => options.daemon.clone(),
        Plan::Existing(_) => now.daemon,
    };
    let (cluster, beginning, baking) = match plan {
        Plan::Existing(cluster) => {
            let beginning = beginning(app, &steps, &cluster, options.wait_limit).await?;
            steps.begin(Step::Machine).await?;
            keep_proxy(settings, &lock, &cluster, &terms)?;
            let cluster = boot::settle_ports(settings, &lock, *cluster)?;
            let cluster = template::settle_size(settings, &lock, cluster).await?;
            (cluster, beginning, None)
        }
        Plan::New(spec, _) => {
            let draft = Draft::new(app, &steps, *spec, options).await?;
            steps.begin(Step::Machine).await?;
            let cluster = draft.create(settings, &lock).await?;
            (cluster, draft.beginning, draft.baking)
        }
    };
    if cluster.state().await? == MachineState::Off {
        boot::prepare(&cluster, &beginning, &parcel).await?;
    } else if cluster.passing_identity().exists() {
        // A start was cut off before the machine had its own identity. It takes that now, however far
        // it is: nothing else can be asked with the passing one.
        boot::power_on(app, &cluster, &Origin::Boot).await?;
        template::settle_identity(settings, &cluster, options.wait_limit).await?;
    }
    let run = Run {
        app,
        lock: &lock,
        steps: &steps,
        options,
        parcel: &parcel,
    };
    let cluster = Box::pin(run.begin(cluster, beginning)).await?;
    if cluster.passing_identity().exists() {
        run.rekey(&cluster).await?;
    }
    drop(baking);

    if !cluster.record().was_ready() {
        give_kept_images(app, &steps, &cluster).await?;
    }
    let name = cluster.dir().name();
    let current = match has_kubernetes {
        true => {
            steps.begin(Step::Kubeconfig).await?;
            kubeconfig::write(settings, &lock, name, options.keep_context).await?
        }
        false => {
            super::update(settings, &lock, name, |record| record.was_ready = true)?;
            false
        }
    };
    steps.finish();
    if let Err(error) = docker::bring_back(settings, &cluster) {
        let said = error.message();
        app.progress
            .warning(&format!("its Docker context is not brought back: {said}"));
    }
    mount::settle(app, &cluster).await;
    if !daemon.is_empty() {
        daemon.give(&cluster.agent().await?).await?;
    }
    Ok(Outcome::Ready {
        version: cluster.record().spec.kubernetes().map(str::to_owned),
        address: cluster.endpoint().address,
        current,
    })
}

/// Makes sure that the image that a start of the current profile's cluster needs is there, with its layer
/// of Kubernetes and its kubectl, each file compared with its digest. Nothing is made or started.
pub async fn download_only(
    app: &App,
    asked: &ClusterOptions,
    kept: &ClusterOptions,
    options: &StartOptions,
) -> Result<Outcome> {
    let settings = &app.settings;
    let steps = Steps::new(&app.progress, settings.fault.as_ref());
    steps.begin(Step::Check).await?;
    let (digest, spec) = match store(settings).exists(&settings.profile) {
        true => {
            let cluster = Cluster::find(settings)?;
            let digest = image::digest_of(&cluster)?;
            (Some(digest), cluster.record().spec.clone())
        }
        false => {
            let memory = super::host_memory(settings)?;
            let spec = ClusterSpec::new(&asked.clone().or(kept.clone()), memory)?;
            (None, spec)
        }
    };
    steps.begin(Step::Image).await?;
    let version = spec.kubernetes();
    let need = image::Need {
        digest,
        kubernetes: version,
        limit: options.wait_limit,
    };
    let image = image::confirm(app, &steps, &need).await?;
    if let Some(version) = version {
        image::kubernetes_layer(&image, version)?;
    }
    steps.finish();
    Ok(Outcome::Downloaded {
        image: image.digest().to_string(),
        version: version.map(str::to_owned),
    })
}

/// Gives a new cluster the images that are kept for it; a warning names those that it cannot be given.
async fn give_kept_images(app: &App, steps: &Steps<'_>, cluster: &Cluster) -> Result<()> {
    let kept = cache::list(&app.settings)?;
    if kept.is_empty() {
        return Ok(());
    }
    steps.begin(Step::Images).await?;
    let agent = cluster.agent().await?;
    for image in kept {
        app.progress.detail(&image.image);
        if let Err(error) = cache::give(&agent, &image).await {
            let (name, said) = (&image.image, error.joined("; "));
            app.progress
                .warning(&format!("{name} is not loaded: {said}"));
        }
    }
    Ok(())
}

/// Gives a machine that runs what the host has for it now, where that is something else than it has.
async fn give_anew(
    app: &App,
    cluster: &Cluster,
    agent: &AgentClient,
    options: &StartOptions,
) -> Result<bool> {
    let settings = &app.settings;
    let terms = terms_now(settings, cluster, options);
    let parcel = given::gather(settings, &terms)?;
    let has = agent.set_clock(settings.now()).await?.given;
    let is_had = given::is_had(&parcel, &has)?;
    let former = &cluster.record().proxy;
    if is_had && *former == terms.proxy {
        return Ok(false);
    }
    let name = cluster.dir().name();
    let lock = super::lock(settings, name, COMMAND, options.wait_limit).await?;
    // First: a start that nobody types would bring the former one back.
    keep_proxy(settings, &lock, cluster, &terms)?;
    if is_had {
        return Ok(false);
    }
    if *former != terms.proxy {
        match given::said_of_proxy(&parcel) {
            Some(said) => app.progress.info(&said),
            None if former.is_set() => app.progress.info("the machine uses no proxy any more"),
            None => {}
        }
    }
    given::give(agent, &has, &parcel, &app.progress).await?;
    Ok(true)
}

/// Writes down the proxy of this start, for those that nobody types.
fn keep_proxy(
    settings: &Settings,
    lock: &MachineLock,
    cluster: &Cluster,
    terms: &Terms,
) -> Result<()> {
    if cluster.record().proxy == terms.proxy {
        return Ok(());
    }
    super::update(settings, lock, cluster.dir().name(), |record| {
        record.proxy = terms.proxy.clone();
    })
}

/// Takes over what was asked for this time of what may change without a new machine: when the cluster
/// rests, which folders it has, whether pods may connect to the host, and how large its disk is. Whether
/// anything did.
async fn change_what_may_change(
    settings: &Settings,
    cluster: &Cluster,
    asked: &StartOptions,
    disk_size: Option<Size>,
    limit: Duration,
) -> Result<bool> {
    let record = cluster.record();
    // A smaller one was refused.
    let size = record.spec.disk_size;
    let disk_size = disk_size.unwrap_or(size);
    let auto_stop = asked.auto_stop.unwrap_or(record.rest.auto_stop);
    let host_access = asked.host_access.unwrap_or(record.host_access);
    let is_same =
        (auto_stop, host_access, disk_size) == (record.rest.auto_stop, record.host_access, size);
    if is_same && asked.mounts.is_empty() {
        return Ok(false);
    }
    check_rest(settings, record.spec.driver, asked)?;
    for mount in &asked.mounts {
        mount.fits(record.mounts.as_deref().unwrap_or_default())?;
    }
    let name = cluster.dir().name();
    let lock = super::lock(settings, name, COMMAND, limit).await?;
    super::update(settings, &lock, name, |record| {
        record.rest.auto_stop = auto_stop;
        record.host_access = host_access;
        record.spec.disk_size = disk_size;
        for mount in asked.mounts.iter().cloned() {
            mount.add_to(record.mounts.get_or_insert_default());
        }
    })?;
    if disk_size != size {
        template::settle_size(settings, &lock, Cluster::find(settings)?).await?;
    }
    Ok(true)
}

/// What a cluster that is there goes on from, with its image checked as far as that needs it.
async fn beginning(
    app: &App,
    steps: &Steps<'_>,
    cluster: &Cluster,
    limit: Duration,
) -> Result<Beginning> {
    boot::end_cut_off(cluster).await?;
    if cluster.state().await? != MachineState::Off {
        return Ok(Beginning::Cold);
    }
    let settings = &app.settings;
    let need = image::Need {
        digest: Some(image::digest_of(cluster)?),
        kubernetes: cluster.record().spec.kubernetes(),
        limit,
    };
    let image = image::obtain(app, steps, &need).await?;
    let (saved, said) = hibernate::find(cluster).await?;
    if let Some(said) = said {
        app.progress.info(&said);
    }
    match saved {
        Some(saved) => {
            // What ran has read its files long ago.
            image::check_sizes(settings, &image)?;
            Ok(Beginning::Saved(Box::new(saved)))
        }
        None => {
            verify_image(settings, image).await?;
            Ok(Beginning::Cold)
        }
    }
}

/// A cluster that rests by itself has to be saved for that.
fn check_rest(settings: &Settings, kind: DriverKind, options: &StartOptions) -> Result<()> {
    let driver = AnyDriver::new(kind, settings.programs())?;
    if options.auto_stop.flatten().is_none() || driver.capabilities().can_hibernate {
        return Ok(());
    }
    let error = super::unable(kind, super::SLEEP);
    Err(error.help("leave --auto-stop away, or write `--auto-stop never`"))
}

/// Whether a machine of the current profile is there that no start finished with: for
/// `--delete-on-failure`.
pub fn made_by_this_start(settings: &Settings) -> bool {
    Cluster::find(settings).is_ok_and(|cluster| !cluster.record().was_ready())
}

async fn plan(settings: &Settings, asked: &ClusterOptions, kept: &ClusterOptions) -> Result<Plan> {
    let host = host_resources(settings)?;
    if store(settings).exists(&settings.profile) {
        let cluster = Cluster::find(settings)?;
        refuse_other_settings(&cluster, asked, host.memory_total)?;
        let size = cluster.record().spec.disk_size;
        let larger = asked.disk_size.filter(|Amount(asked)| *asked > size);
        if let Some(Amount(disk_size)) = larger {
            let spec = ClusterSpec {
                disk_size,
                ..cluster.record().spec.clone()
            };
            check_resources(&spec, &host)?;
        }
        return Ok(Plan::Existing(Box::new(cluster)));
    }
    let spec = ClusterSpec::new(&asked.clone().or(kept.clone()), host.memory_total)?;
    let cautions = check_resources(&spec, &host)?;
    catalogue()?
        .in_order(spec.addons.iter().map(String::as_str))
        .map_err(|error| addon_not_found(&error))?;
    Ok(Plan::New(Box::new(spec), cautions))
}

fn refuse_other_settings(cluster: &Cluster, asked: &ClusterOptions, memory: Size) -> Result<()> {
    let differences = cluster.record().spec.differences(asked, memory)?;
    if differences.is_empty() {
        return Ok(());
    }
    let name = cluster.dir().name();
    let message =
        format!("the cluster \"{name}\" was made with other settings, which take a new machine");
    Err(differences.into_iter().fold(
        Error::new(ErrorId::MachineSettings, message),
        |error, (setting, has, asked)| {
            error.because(format!("--{setting}: it has {has}, asked for is {asked}"))
        },
    ))
}

fn check_resources(spec: &ClusterSpec, host: &HostResources) -> Result<Vec<Caution>> {
    let request = ResourceRequest {
        cpus: coracle_vm::spec::cpus(spec.cpus)?,
        memory: spec.memory,
        disk: spec.disk_size,
    };
    let minimum = Minimum {
        memory: spec.least_memory(),
        disk: Size::from_mib(LEAST_DISK_MIB),
    };
    Ok(request.check(&minimum, host)?)
}

/// The driver for a new cluster, and what there is to tell about it.
async fn driver(app: &App, asked: Option<&String>) -> Result<DriverKind> {
    let asked = asked.map(|name| name.parse()).transpose()?;
    let facts = choice::choose(&app.settings, asked).await?;
    let is_usual = Some(&facts.kind) == DriverKind::ALL.first();
    if !facts.verdict.accelerator.is_hardware() {
        app.progress.info(&facts.verdict.reason);
    } else if asked.is_none() && !is_usual {
        let (kind, reason) = (facts.kind, &facts.verdict.reason);
        app.progress
            .info(&format!("using the driver {kind} with {reason}"));
    }
    Ok(facts.kind)
}

/// The agent of a cluster that is all that a start makes of it, as far as can be seen at once.
async fn ready_agent(
    settings: &Settings,
    cluster: &Cluster,
    options: &StartOptions,
) -> Option<AgentClient> {
    let look = async {
        let is_led_to = match cluster.record().spec.has_kubernetes() {
            true => {
                kubeconfig::is_written(settings, cluster)?
                    && (options.keep_context || kubeconfig::is_current(settings)?)
            }
            false => cluster.record().was_ready(),
        };
        if cluster.state().await? != MachineState::Running || !is_led_to {
            return Ok::<_, Error>(None);
        }
        let agent = cluster.agent_within(QUICK_LOOK).await?;
        let is_ready = coracle_protocol::client::is_ready(&agent.components().await?);
        Ok(is_ready.then_some(agent))
    };
    tokio::time::timeout(QUICK_LOOK, look).await.ok()?.ok()?
}

fn describe(name: &MachineName, plan: &Plan) -> Result<String> {
    let verb = match plan {
        Plan::New(..) => "would make",
        Plan::Existing(_) => "would start",
    };
    let yaml = serde_yaml::to_string(&plan.spec().as_options())
        .context(ErrorId::Internal, || "cannot describe the cluster".into())?;
    Ok(format!("{verb} the cluster {name}:\n{yaml}"))
}
