//! `start`: from what was asked to a ready cluster, or from where the last start ended.
//!
//! ```text
//! asked + kept --plan--> New | Existing --machine--> Cluster --boot--> agent --> API --> add-ons
//!                                                                 ready <-- kubeconfig <-- node
//! ```
//!
//! Every step asks what is there already, so a start can be cut off at any of them: see
//! [`super::steps::Step`].

use super::record::{ClusterRecord, Endpoint, FORMAT};
use super::spec::{ClusterSpec, LEAST_DISK_MIB, LEAST_MEMORY_MIB, StartOptions, Wait};
use super::steps::{Step, Steps};
use super::{Cluster, boot, host_resources, image, kubeconfig, ready, store};
use crate::commands::App;
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::options::ClusterOptions;
use crate::settings::Settings;
use coracle_addons::{Addon, AddonObserver, Catalogue, ObjectName, Values};
use coracle_protocol::client::AgentClient;
use coracle_vm::spec::{Architecture, Minimum};
use coracle_vm::{
    AcceleratorChoice, AnyDriver, Driver as _, HostResources, MachineLock, MachineName,
    MachineState, ResourceRequest, Size,
};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How the namer of a lock is told to others.
const COMMAND: &str = "coracle start";
/// Guards the choice of addresses between clusters that are made at the same time.
const ADDRESS_LOCK: &str = "addresses.lock";
/// How often a start boots again after a panic of the kernel. Seen now and then under the
/// software emulation of QEMU 7.2, where one processor may run code that the other is patching.
const MOST_PANICS: u32 = 2;
/// How long a running cluster may take to prove that it is ready before a start goes the long way.
const QUICK_LOOK: Duration = Duration::from_secs(5);

/// How a start ended.
#[derive(Debug)]
pub enum Outcome {
    /// The cluster is ready.
    Ready {
        /// Kubernetes' version.
        version: String,
        /// The cluster's address.
        address: IpAddr,
        /// Whether kubectl's current context is this cluster.
        current: bool,
    },
    /// It was ready before.
    WasRunning,
    /// What a start would do.
    WouldDo(String),
}

/// What there is to start.
enum Plan {
    New(Box<ClusterSpec>),
    Existing(Box<Cluster>),
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
    if let Plan::Existing(cluster) = &plan
        && is_ready(settings, cluster, options).await
    {
        return Ok(Outcome::WasRunning);
    }

    steps.begin(Step::Check).await?;
    let lock = super::lock(settings, &settings.profile, COMMAND, options.wait_limit).await?;
    store(settings).sweep().await?;
    // Another start may have made or changed it while this one waited.
    let plan = self::plan(settings, asked, kept).await?;
    kubeconfig::check_editable(settings).await?;
    match &plan {
        Plan::New(spec) => {
            kubeconfig::check_name(settings, None)?;
            check_host(app, spec).await?;
        }
        Plan::Existing(cluster) => kubeconfig::check_name(settings, Some(cluster))?,
    }

    steps.begin(Step::Image).await?;
    let cluster = match plan {
        Plan::Existing(cluster) => {
            if cluster.state().await? == MachineState::Off {
                verify_image(settings, image::open(settings, &cluster.record().image)?).await?;
            }
            steps.begin(Step::Machine).await?;
            *cluster
        }
        Plan::New(spec) => {
            let image = verify_image(settings, image::current(settings)?).await?;
            steps.begin(Step::Machine).await?;
            create(settings, &lock, *spec, &image).await?
        }
    };
    if cluster.state().await? == MachineState::Off {
        boot::prepare(&cluster).await?;
    }

    let mut panics = 0;
    loop {
        match boot_and_bring_up(settings, &lock, &steps, &cluster, options).await {
            // etcd syncs every write and the disk has a journal: a machine that is switched off at
            // any moment goes on from where it was.
            Err(_) if panics < MOST_PANICS && boot::kernel_panicked(&cluster) => {
                panics += 1;
                app.progress.warning(
                    "the machine's kernel panicked while it started; booting it once more",
                );
                boot::switch_off(&cluster).await?;
            }
            done => break done?,
        }
    }

    steps.begin(Step::Kubeconfig).await?;
    let current =
        kubeconfig::write(settings, &lock, cluster.dir().name(), options.keep_context).await?;
    steps.finish();
    Ok(Outcome::Ready {
        version: cluster.record().spec.kubernetes_version.clone(),
        address: cluster.endpoint().address,
        current,
    })
}

/// Whether a machine of the current profile is there that no start finished with: for
/// `--delete-on-failure`.
pub fn made_by_this_start(settings: &Settings) -> bool {
    // The context is written last, so a cluster without one was never ready.
    Cluster::find(settings).is_ok_and(|cluster| cluster.record().former_kubeconfig.is_none())
}

async fn plan(settings: &Settings, asked: &ClusterOptions, kept: &ClusterOptions) -> Result<Plan> {
    let host = host_resources(settings)?;
    if store(settings).exists(&settings.profile) {
        let cluster = Cluster::find(settings)?;
        refuse_other_settings(&cluster, asked, host.memory_total)?;
        return Ok(Plan::Existing(Box::new(cluster)));
    }
    let spec = ClusterSpec::new(&asked.clone().or(kept.clone()), host.memory_total)?;
    check_resources(&spec, &host)?;
    catalogue()?
        .in_order(spec.addons.iter().map(String::as_str))
        .map_err(|error| addon_not_found(&error))?;
    AnyDriver::new(spec.driver, settings.programs())?;
    Ok(Plan::New(Box::new(spec)))
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

fn check_resources(spec: &ClusterSpec, host: &HostResources) -> Result<()> {
    let request = ResourceRequest {
        cpus: coracle_vm::spec::cpus(spec.cpus)?,
        memory: spec.memory,
        disk: spec.disk_size,
    };
    let minimum = Minimum {
        memory: Size::from_mib(LEAST_MEMORY_MIB),
        disk: Size::from_mib(LEAST_DISK_MIB),
    };
    request.check(&minimum, host)?;
    Ok(())
}

async fn check_host(app: &App, spec: &ClusterSpec) -> Result<()> {
    let driver = AnyDriver::new(spec.driver, app.settings.programs())?;
    let facts = driver
        .probe(AcceleratorChoice::Auto, Architecture::of_host())
        .await?;
    if !facts.verdict.accelerator.is_hardware() {
        app.progress.info(&facts.verdict.reason);
    }
    Ok(())
}

async fn verify_image(
    settings: &Settings,
    image: coracle_iso::images::Image,
) -> Result<coracle_iso::images::Image> {
    let settings = settings.clone();
    let verified = tokio::task::spawn_blocking(move || {
        image::verify(&settings, &image)?;
        Ok(image)
    });
    verified.await.context(ErrorId::Internal, || {
        "verifying the image ended early".into()
    })?
}

/// Chooses an address and writes the cluster's record: from here on it is there.
async fn create(
    settings: &Settings,
    lock: &MachineLock,
    spec: ClusterSpec,
    image: &coracle_iso::images::Image,
) -> Result<Cluster> {
    let name = &settings.profile;
    let addresses = MachineName::new(ADDRESS_LOCK)
        .context(ErrorId::Internal, || "cannot guard addresses".into())?;
    let guard = super::lock(settings, &addresses, COMMAND, super::LOCK_LIMIT).await?;
    let others: Vec<Endpoint> = Cluster::all(settings)?
        .iter()
        .filter_map(|found| found.whole().map(Cluster::endpoint))
        .collect();
    let endpoint = boot::allocate(&spec, &others)?;
    let store = store(settings);
    let machine = boot::machine_spec(name, &spec, image, &endpoint, &store.machine_dir(name))?;
    let driver = spec.driver;
    let record = ClusterRecord {
        format: FORMAT,
        spec,
        image: image.digest().to_string(),
        endpoint,
        applied_addons: std::collections::BTreeMap::new(),
        former_kubeconfig: None,
    };
    let record = coracle_vm::Record::new(
        driver,
        machine,
        record.encode()?,
        time::OffsetDateTime::now_utc(),
    );
    store.create(lock, &record)?;
    drop(guard);
    Cluster::new(settings, record)
}

/// From a machine in whatever state to a cluster in which a pod can be used.
async fn boot_and_bring_up(
    settings: &Settings,
    lock: &MachineLock,
    steps: &Steps<'_>,
    cluster: &Cluster,
    options: &StartOptions,
) -> Result<()> {
    let deadline = Instant::now() + options.wait_limit;
    steps.begin(Step::Boot).await?;
    boot::power_on(settings, cluster).await?;
    steps.begin(Step::Agent).await?;
    let agent = boot::agent(cluster, options.wait_limit).await?;
    tokio::select! {
        done = bring_up(settings, lock, steps, cluster, &agent, options, deadline) => done,
        error = boot::machine_ends(cluster) => Err(error),
    }
}

/// From an agent that answers to a cluster in which a pod can be used.
async fn bring_up(
    settings: &Settings,
    lock: &MachineLock,
    steps: &Steps<'_>,
    cluster: &Cluster,
    agent: &AgentClient,
    options: &StartOptions,
    deadline: Instant,
) -> Result<()> {
    let progress = steps.progress();
    steps.begin(Step::Api).await?;
    ready::api_server(agent, deadline, progress).await?;
    let client = cluster.api()?;
    ready::rows(&client, ready::API, deadline, progress).await?;

    steps.begin(Step::Addons).await?;
    let spec = &cluster.record().spec;
    let catalogue = catalogue()?;
    let names = catalogue
        .default_addons()
        .map(|addon| addon.name.as_str())
        .chain(spec.addons.iter().map(String::as_str));
    let addons: Vec<&Addon> = catalogue
        .in_order(names)
        .map_err(|error| addon_not_found(&error))?;
    let values = Values::new(spec.dns_address().into(), &spec.dns_domain, boot::NODE_NAME);
    let observer = Shown(steps);
    for addon in &addons {
        if cluster.record().applied_addons.get(&addon.name) == Some(&addon.version) {
            continue;
        }
        let limit = deadline.saturating_duration_since(Instant::now());
        coracle_addons::apply(&client, addon, &values, limit, &observer).await?;
        super::update(settings, lock, cluster.dir().name(), |record| {
            record
                .applied_addons
                .insert(addon.name.clone(), addon.version.clone());
        })?;
    }

    steps.begin(Step::Node).await?;
    let wanted: Vec<ready::Row> = ready::NODE
        .iter()
        .copied()
        .filter(|row| options.wait.contains(&row.wait))
        .collect();
    ready::rows(&client, &wanted, deadline, progress).await?;

    steps.begin(Step::Ready).await?;
    if !options.wait.is_empty() {
        ready::components(agent, deadline, progress).await?;
    }
    for addon in addons {
        let wanted = match addon.name.as_str() {
            "dns" => options.wait.contains(&Wait::Dns),
            "storage" => options.wait.contains(&Wait::Storage),
            _ => !options.wait.is_empty(),
        };
        if wanted {
            let limit = deadline.saturating_duration_since(Instant::now());
            coracle_addons::wait_ready(&client, addon, limit, &observer).await?;
        }
    }
    Ok(())
}

/// Whether the cluster is all that a start makes of it, as far as can be seen at once.
async fn is_ready(settings: &Settings, cluster: &Cluster, options: &StartOptions) -> bool {
    let look = async {
        if cluster.state().await? != MachineState::Running
            || !kubeconfig::is_written(settings, cluster)?
        {
            return Ok::<bool, Error>(false);
        }
        let table = cluster.agent_within(QUICK_LOOK).await?.components().await?;
        Ok(coracle_protocol::client::is_ready(&table)
            && (options.keep_context || kubeconfig::is_current(settings)?))
    };
    matches!(tokio::time::timeout(QUICK_LOOK, look).await, Ok(Ok(true)))
}

fn describe(name: &MachineName, plan: &Plan) -> Result<String> {
    let (verb, spec) = match plan {
        Plan::New(spec) => ("would make", spec.as_ref()),
        Plan::Existing(cluster) => ("would start", &cluster.record().spec),
    };
    let yaml = serde_yaml::to_string(&spec.as_options())
        .context(ErrorId::Internal, || "cannot describe the cluster".into())?;
    Ok(format!("{verb} the cluster {name}:\n{yaml}"))
}

fn catalogue() -> Result<Catalogue> {
    Catalogue::builtin().context(ErrorId::Internal, || {
        "the built-in add-ons are damaged".into()
    })
}

fn addon_not_found(error: &coracle_addons::LookupError) -> Error {
    Error::caused_by(ErrorId::AddonNotFound, error.to_string(), error)
}

/// Shows what the add-ons' crate reports.
struct Shown<'a>(&'a Steps<'a>);

impl AddonObserver for Shown<'_> {
    fn applied(&self, addon: &str, object: &ObjectName, done: usize, total: usize) {
        tracing::debug!(addon, %object, done, total, "applied");
    }

    fn retrying(&self, addon: &str, doing: &str, reason: &str, pause: Duration) {
        tracing::debug!(addon, doing, reason, ?pause, "trying again");
    }

    fn waiting(&self, addon: &str, _row: &coracle_addons::Readiness, state: &str) {
        self.0.progress().detail(&format!("{addon}: {state}"));
    }
}
