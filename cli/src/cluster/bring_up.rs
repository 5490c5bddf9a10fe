//! From a machine in whatever state to a cluster that is ready.

use super::boot;
use super::given;
use super::spec::{StartOptions, Wait};
use super::steps::{Step, Steps};
use super::{Cluster, ready};
use crate::commands::App;
use crate::error::{Context as _, Error, ErrorId, Result};
use coracle_addons::{Addon, AddonObserver, Catalogue, ObjectName, Values};
use coracle_protocol::client::AgentClient;
use coracle_protocol::given::Parcel;
use coracle_vm::{MachineLock, Origin};
use std::time::{Duration, Instant};

/// How often a start boots again after a panic of the kernel: the software emulation of QEMU before 8.1
/// may run code on one processor that another is patching. An image keeps most of that from happening.
const MOST_PANICS: u32 = 2;

/// One start, from a machine that is made to a cluster that is ready.
pub struct Run<'a> {
    /// Settings and progress.
    pub app: &'a App,
    /// The machine's lock.
    pub lock: &'a MachineLock,
    /// The steps that are shown.
    pub steps: &'a Steps<'a>,
    /// What to wait for, and how long.
    pub options: &'a StartOptions,
    /// What the host gives the machine.
    pub parcel: &'a Parcel,
}

impl Run<'_> {
    /// Boots the machine unless it runs, and waits until all of it is ready; once more when its
    /// kernel panics meanwhile.
    pub async fn bring_up(&self, cluster: &Cluster, origin: &Origin) -> Result<AgentClient> {
        let mut panics = 0;
        loop {
            match self.once(cluster, origin).await {
                // etcd syncs every write and the disk has a journal: a machine that is switched off
                // at any moment goes on from where it was.
                Err(error) if panics < MOST_PANICS => {
                    if !boot::kernel_panicked(cluster).await {
                        return Err(error);
                    }
                    panics += 1;
                    self.app
                        .progress
                        .warning("the machine's kernel panicked while it started; booting it anew");
                    boot::switch_off(cluster).await?;
                }
                done => return done,
            }
        }
    }

    async fn once(&self, cluster: &Cluster, origin: &Origin) -> Result<AgentClient> {
        let deadline = Instant::now() + self.options.wait_limit;
        self.steps.begin(Step::Boot).await?;
        boot::power_on(self.app, cluster, origin).await?;
        self.steps.begin(Step::Agent).await?;
        let identity = cluster.present_identity();
        let (agent, has) = boot::agent(
            &self.app.settings,
            cluster,
            &identity,
            self.options.wait_limit,
        )
        .await?;
        // A machine that becomes a template is given nothing.
        if !cluster.passing_identity().exists() {
            self.give(&agent, &has).await?;
        }
        tokio::select! {
            done = self.wait(cluster, &agent, deadline) => done?,
            error = boot::machine_ends(cluster) => return Err(error),
        }
        Ok(agent)
    }

    /// Gives the machine what it does not have already.
    pub async fn give(&self, agent: &AgentClient, has: &str) -> Result<()> {
        given::give(agent, has, self.parcel, &self.app.progress).await
    }

    /// From an agent that answers to a cluster in which a pod can be used.
    async fn wait(&self, cluster: &Cluster, agent: &AgentClient, deadline: Instant) -> Result<()> {
        let (steps, options) = (self.steps, self.options);
        let progress = steps.progress();
        if !cluster.record().spec.has_kubernetes() {
            steps.begin(Step::Engine).await?;
            if !options.wait.is_empty() {
                ready::components(agent, deadline, progress).await?;
            }
            return Ok(());
        }
        steps.begin(Step::Api).await?;
        ready::api_server(agent, deadline, progress).await?;
        let client = cluster.api()?;
        let boot_id = agent.info().await?.boot_id;
        ready::rows(&client, ready::API, &boot_id, deadline, progress).await?;

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
        let values = Values::new(
            spec.dns_address().into(),
            &spec.dns_domain,
            boot::NODE_NAME,
            boot::GUEST_NETWORK.gateway.into(),
        );
        let observer = Shown(steps);
        for addon in &addons {
            if cluster.record().applied_addons.get(&addon.name) == Some(&addon.version) {
                continue;
            }
            let limit = deadline.saturating_duration_since(Instant::now());
            coracle_addons::apply(&client, addon, &values, limit, &observer).await?;
            super::update(
                &self.app.settings,
                self.lock,
                cluster.dir().name(),
                |record| {
                    record
                        .applied_addons
                        .insert(addon.name.clone(), addon.version.clone());
                },
            )?;
        }

        steps.begin(Step::Node).await?;
        let wanted: Vec<ready::Row> = ready::NODE
            .iter()
            .copied()
            .filter(|row| options.wait.contains(&row.wait))
            .collect();
        ready::rows(&client, &wanted, &boot_id, deadline, progress).await?;

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
}

/// The add-ons that there are.
pub fn catalogue() -> Result<Catalogue> {
    Catalogue::builtin().context(ErrorId::Internal, || {
        "the built-in add-ons are damaged".into()
    })
}

/// A name that the catalogue does not have.
pub fn addon_not_found(error: &coracle_addons::LookupError) -> Error {
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
