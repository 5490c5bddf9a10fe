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

use super::bring_up::{self, addon_not_found, catalogue};
use super::record::{ClusterRecord, Endpoint, FORMAT};
use super::spec::{ClusterSpec, LEAST_DISK_MIB, LEAST_MEMORY_MIB, StartOptions, Wait};
use super::steps::{Step, Steps};
use super::template::{self, Beginning};
use super::{Cluster, boot, host_resources, image, kubeconfig, ready, store};
use crate::commands::App;
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::options::ClusterOptions;
use crate::settings::Settings;
use coracle_iso::images::Image;
use coracle_protocol::client::AgentClient;
use coracle_vm::spec::{Architecture, Minimum};
use coracle_vm::{
    AcceleratorChoice, AnyDriver, Driver as _, HostResources, MachineLock, MachineName,
    MachineSpec, MachineState, Origin, ResourceRequest, Size, Template,
};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How the namer of a lock is told to others.
const COMMAND: &str = "coracle start";
/// Guards the choice of addresses between clusters that are made at the same time.
const ADDRESS_LOCK: &str = "addresses.lock";
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
    template::sweep(settings)?;
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
    let (cluster, beginning, baking) = match plan {
        Plan::Existing(cluster) => {
            if cluster.state().await? == MachineState::Off {
                verify_image(settings, image::open(settings, &cluster.record().image)?).await?;
            }
            steps.begin(Step::Machine).await?;
            (*cluster, Beginning::Cold, None)
        }
        Plan::New(spec) => {
            let draft = Draft::new(app, *spec, options).await?;
            steps.begin(Step::Machine).await?;
            let cluster = draft.create(settings, &lock).await?;
            (cluster, draft.beginning, draft.baking)
        }
    };
    if cluster.state().await? == MachineState::Off {
        boot::prepare(&cluster, &beginning).await?;
    } else if cluster.passing_identity().exists() {
        // A start was cut off before the machine had its own identity. It takes that now, however far
        // it is: nothing else can be asked with the passing one.
        boot::power_on(settings, &cluster, &Origin::Boot).await?;
        template::settle_identity(&cluster, options.wait_limit).await?;
    }
    let run = Run {
        app,
        lock: &lock,
        steps: &steps,
        options,
    };
    let cluster = run.begin(cluster, beginning).await?;
    if cluster.passing_identity().exists() {
        run.rekey(&cluster).await?;
    }
    drop(baking);

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

async fn verify_image(settings: &Settings, image: Image) -> Result<Image> {
    let settings = settings.clone();
    let verified = tokio::task::spawn_blocking(move || {
        image::verify(&settings, &image)?;
        Ok(image)
    });
    verified.await.context(ErrorId::Internal, || {
        "verifying the image ended early".into()
    })?
}

/// A cluster that is about to be made.
struct Draft {
    spec: ClusterSpec,
    image: Image,
    machine: MachineSpec,
    beginning: Beginning,
    /// Held while a template is made, so that nobody else makes the same.
    baking: Option<MachineLock>,
}

impl Draft {
    /// Chooses what it begins with, and checks the image: as far as a template was made of it, its
    /// files are not read again.
    async fn new(app: &App, spec: ClusterSpec, options: &StartOptions) -> Result<Self> {
        let settings = &app.settings;
        let image = image::current(settings)?;
        let name = &settings.profile;
        let dir = store(settings).machine_dir(name);
        let machine = boot::machine_spec(name, &spec, &image, &dir)?;
        let (beginning, baking) = choose(app, &spec, &machine, &image, options).await?;
        let image = match &beginning {
            Beginning::Clone(_) => {
                image::check_sizes(settings, &image)?;
                image
            }
            Beginning::Cold | Beginning::Bake(..) => verify_image(settings, image).await?,
        };
        Ok(Self {
            spec,
            image,
            machine,
            beginning,
            baking,
        })
    }

    /// Chooses an address and writes the cluster's record: from here on it is there.
    async fn create(&self, settings: &Settings, lock: &MachineLock) -> Result<Cluster> {
        let guard = super::lock(
            settings,
            &lock_name(ADDRESS_LOCK)?,
            COMMAND,
            super::LOCK_LIMIT,
        )
        .await?;
        let others: Vec<Endpoint> = Cluster::all(settings)?
            .iter()
            .filter_map(|found| found.whole().map(Cluster::endpoint))
            .collect();
        let endpoint = boot::allocate(&self.spec, &others)?;
        let mut machine = self.machine.clone();
        boot::forward_ports(&mut machine, &endpoint);
        let mut record = ClusterRecord {
            format: FORMAT,
            spec: self.spec.clone(),
            image: self.image.digest().to_string(),
            endpoint,
            applied_addons: std::collections::BTreeMap::new(),
            former_kubeconfig: None,
        };
        if let Beginning::Clone(template) = &self.beginning {
            template::inherit(&mut record, &mut machine, template);
        }
        let record = coracle_vm::Record::new(
            self.spec.driver,
            machine,
            record.encode()?,
            time::OffsetDateTime::now_utc(),
        );
        store(settings).create(lock, &record)?;
        drop(guard);
        Cluster::new(settings, record)
    }
}

fn lock_name(text: &str) -> Result<MachineName> {
    MachineName::new(text).context(ErrorId::Internal, || format!("cannot lock {text}"))
}

/// A template where there is one. Where there is none, this start makes it, unless another one is
/// doing so: then that one is waited for.
async fn choose(
    app: &App,
    spec: &ClusterSpec,
    machine: &MachineSpec,
    image: &Image,
    options: &StartOptions,
) -> Result<(Beginning, Option<MachineLock>)> {
    let settings = &app.settings;
    let driver = AnyDriver::new(spec.driver, settings.programs())?;
    // A start that waits for less than everything has nothing whole to freeze.
    let whole = options.wait.len() == Wait::COUNT;
    if options.cold || !whole || !driver.capabilities().can_clone {
        return Ok((Beginning::Cold, None));
    }
    let digest = image.digest().to_string();
    let facts = template::facts(&driver, machine, spec, &digest, &catalogue()?).await?;
    let (beginning, said) = template::choose(settings, facts.clone())?;
    let Beginning::Bake(key, _) = &beginning else {
        return Ok((beginning, None));
    };
    let name = lock_name(&format!("template-{}.lock", key.short()))?;
    let Ok(baking) = super::lock(settings, &name, COMMAND, options.wait_limit).await else {
        app.progress
            .info("booting cold: another start takes long to make the template");
        return Ok((Beginning::Cold, None));
    };
    if let Some(said) = said {
        app.progress.info(&said);
    }
    // Whoever held the lock may have made it.
    match template::choose(settings, facts)?.0 {
        beginning @ Beginning::Bake(..) => Ok((beginning, Some(baking))),
        beginning => Ok((beginning, None)),
    }
}

/// One start, from a machine that is made to a cluster that is ready.
struct Run<'a> {
    app: &'a App,
    lock: &'a MachineLock,
    steps: &'a Steps<'a>,
    options: &'a StartOptions,
}

impl Run<'_> {
    /// Boots or clones, whichever it is to begin with. The cluster that comes back may still have a
    /// passing identity.
    async fn begin(&self, cluster: Cluster, beginning: Beginning) -> Result<Cluster> {
        match beginning {
            Beginning::Cold => self
                .bring_up(&cluster, &Origin::Boot)
                .await
                .map(|_| cluster),
            Beginning::Clone(template) => self.go_on_from(cluster, &template).await,
            Beginning::Bake(key, facts) => {
                let agent = self.bring_up(&cluster, &Origin::BootToFreeze).await?;
                self.steps.begin(Step::Template).await?;
                let settings = &self.app.settings;
                let baked =
                    template::bake(settings, self.lock, &cluster, &agent, &key, facts).await;
                drop(agent);
                match baked {
                    Ok(template) => {
                        let cluster = Cluster::find(settings)?;
                        cluster
                            .driver()?
                            .prepare(cluster.dir(), cluster.machine_spec())
                            .await?;
                        self.go_on_from(cluster, &template).await
                    }
                    Err(error) => {
                        self.app.progress.warning(&format!(
                            "no template was made, later starts are cold: {}",
                            error.message()
                        ));
                        self.go_on_without(Cluster::find(settings)?).await
                    }
                }
            }
        }
    }

    async fn bring_up(&self, cluster: &Cluster, origin: &Origin) -> Result<AgentClient> {
        let Self {
            app,
            lock,
            steps,
            options,
        } = self;
        bring_up::bring_up(app, lock, steps, cluster, options, origin).await
    }

    /// Clones; where that fails, boots the same disk cold and remembers not to try again.
    async fn go_on_from(&self, cluster: Cluster, template: &Template) -> Result<Cluster> {
        self.steps.begin(Step::Boot).await?;
        let settings = &self.app.settings;
        let origin = Origin::Template(template.files());
        match boot::power_on(settings, &cluster, &origin).await {
            Ok(()) => Ok(cluster),
            Err(error) if error.id() == ErrorId::Template => {
                let reason = error.causes().join("; ");
                template::templates(settings).refuse(&template.key, &reason)?;
                self.app.progress.warning(&format!(
                    "booting cold, now and from now on: {} ({reason})",
                    error.message()
                ));
                self.cold(cluster).await
            }
            Err(error) => Err(error),
        }
    }

    /// Goes on with a machine that could not be baked: it is paused, or off.
    async fn go_on_without(&self, cluster: Cluster) -> Result<Cluster> {
        if cluster.state().await? == MachineState::Off {
            return self.cold(cluster).await;
        }
        boot::power_on(&self.app.settings, &cluster, &Origin::Boot).await?;
        Ok(cluster)
    }

    async fn cold(&self, cluster: Cluster) -> Result<Cluster> {
        boot::prepare(&cluster, &Beginning::Cold).await?;
        self.bring_up(&cluster, &Origin::Boot).await?;
        Ok(cluster)
    }

    /// Gives the machine its own identity, and waits until the API answers to it.
    async fn rekey(&self, cluster: &Cluster) -> Result<()> {
        self.steps.begin(Step::Rekey).await?;
        let deadline = Instant::now() + self.options.wait_limit;
        template::rekey(cluster, self.options.wait_limit).await?;
        let client = cluster.api()?;
        ready::rows(&client, ready::API, "", deadline, self.steps.progress()).await
    }
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
