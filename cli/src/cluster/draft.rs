//! A new cluster before it is there: what it is made of, and what it begins with.
//!
//! ```text
//! ClusterSpec, image --choose--> Draft { Cold | Bake | Clone } --create--> Cluster
//! ```

use super::bring_up::catalogue;
use super::mount::Mount;
use super::record::{ClusterRecord, Endpoint, FORMAT, Rest};
use super::spec::{ClusterSpec, LEAST_DISK_MIB, StartOptions, Wait};
use super::steps::Steps;
use super::template::{self, Beginning};
use super::{Cluster, boot, image, store};
use crate::commands::App;
use crate::error::{Context as _, ErrorId, Result};
use crate::settings::Settings;
use coracle_iso::images::Image;
use coracle_vm::{AnyDriver, Driver as _, MachineLock, MachineName, MachineSpec, Size};
use std::collections::BTreeMap;
use std::path::Path;

/// How the holder of a lock is told to others.
pub const COMMAND: &str = "coracle start";
/// Guards the choice of addresses between clusters that are made at the same time.
const ADDRESS_LOCK: &str = "addresses.lock";

/// Compares every file of an image with its digest.
pub async fn verify_image(settings: &Settings, image: Image) -> Result<Image> {
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
pub struct Draft {
    spec: ClusterSpec,
    image: Image,
    machine: MachineSpec,
    /// Version by name of the add-ons that it has from its beginning.
    addons: BTreeMap<String, String>,
    /// When it rests by itself.
    rest: Rest,
    /// Whether pods may connect to the host.
    host_access: bool,
    /// Whether its image has an engine: a copy's is as old as its source.
    has_docker: bool,
    mounts: Option<Vec<Mount>>,
    home_is_kept_out: bool,
    /// What it begins with.
    pub beginning: Beginning,
    /// Held while a template is made, so that nobody else makes the same.
    pub baking: Option<MachineLock>,
}

impl Draft {
    /// Chooses what it begins with, and checks the image: as far as a template was made of it, its
    /// files are not read again.
    pub async fn new(
        app: &App,
        steps: &Steps<'_>,
        spec: ClusterSpec,
        options: &StartOptions,
    ) -> Result<Self> {
        let settings = &app.settings;
        let need = image::Need {
            digest: None,
            kubernetes: spec.kubernetes(),
            limit: options.wait_limit,
        };
        let image = image::obtain(app, steps, &need).await?;
        let name = &settings.profile;
        let dir = store(settings).machine_dir(name);
        let driver = AnyDriver::new(spec.driver, settings.programs())?;
        let mut machine = boot::machine_spec(name, &spec, &image, &dir, &driver)?;
        let (beginning, baking) = choose(app, &driver, &spec, &machine, &image, options).await?;
        let image = match &beginning {
            Beginning::Clone(_) => {
                image::check_sizes(settings, &image)?;
                image
            }
            Beginning::Cold | Beginning::Bake(..) | Beginning::Saved(_) => {
                verify_image(settings, image).await?
            }
        };
        let addons = match &beginning {
            Beginning::Clone(template) => template::inherit(&mut machine, template),
            Beginning::Bake(..) => {
                // One size fits all: a disk grows, and never shrinks.
                template::resize(&mut machine, Size::from_mib(LEAST_DISK_MIB));
                BTreeMap::new()
            }
            Beginning::Cold | Beginning::Saved(_) => BTreeMap::new(),
        };
        Ok(Self {
            spec,
            image,
            machine,
            addons,
            rest: Rest {
                auto_stop: options.auto_stop.flatten(),
                stop_at: None,
            },
            host_access: options.host_access.unwrap_or(false),
            has_docker: true,
            mounts: Some(options.mounts.clone()).filter(|mounts| !mounts.is_empty()),
            home_is_kept_out: false,
            beginning,
            baking,
        })
    }

    /// A cluster like another one, whose disk begins with a frozen one of that.
    pub fn copy_of(settings: &Settings, other: &Cluster, disk: &Path) -> Result<Self> {
        let name = &settings.profile;
        let dir = store(settings).machine_dir(name);
        let record = other.record();
        let image = image::open(settings, &record.image)?;
        let mut machine = boot::machine_spec(name, &record.spec, &image, &dir, &other.driver()?)?;
        template::base_on(&mut machine, disk);
        Ok(Self {
            spec: record.spec.clone(),
            image,
            machine,
            addons: record.applied_addons.clone(),
            rest: Rest {
                stop_at: None,
                ..record.rest
            },
            host_access: record.host_access,
            has_docker: record.endpoint.docker_port.is_some(),
            // What its pods have, its memory says that they have.
            mounts: record.mounts.clone(),
            home_is_kept_out: record.home_is_kept_out,
            beginning: Beginning::Cold,
            baking: None,
        })
    }

    /// Chooses an address and writes the cluster's record: from here on it is there.
    pub async fn create(&self, settings: &Settings, lock: &MachineLock) -> Result<Cluster> {
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
        let mut endpoint = boot::allocate(&self.spec, &others)?;
        if !self.has_docker {
            endpoint.docker_port = None;
        }
        let mut machine = self.machine.clone();
        let driver = AnyDriver::new(self.spec.driver, settings.programs())?;
        boot::forward_ports(&mut machine, &endpoint, &driver);
        let record = ClusterRecord {
            format: FORMAT,
            spec: self.spec.clone(),
            image: self.image.digest().to_string(),
            endpoint,
            applied_addons: self.addons.clone(),
            rest: self.rest,
            host_access: self.host_access,
            proxy: settings.proxy.clone(),
            mounts: self.mounts.clone(),
            home_is_kept_out: self.home_is_kept_out,
            docker_context: None,
            former_kubeconfig: None,
            was_ready: false,
        };
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
    driver: &AnyDriver,
    spec: &ClusterSpec,
    machine: &MachineSpec,
    image: &Image,
    options: &StartOptions,
) -> Result<(Beginning, Option<MachineLock>)> {
    let settings = &app.settings;
    // A start that waits for less than everything has nothing whole to freeze.
    let whole = options.wait.len() == Wait::COUNT;
    if options.cold || !whole || !driver.capabilities().can_clone {
        return Ok((Beginning::Cold, None));
    }
    let digest = image.digest().to_string();
    let facts = template::facts(driver, machine, spec, &digest, &catalogue()?).await?;
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
