//! Clusters: a machine (`vm`), an image (`iso`), a context (`kubeconfig`) and add-ons (`addons`)
//! composed to one thing that a person starts and stops.
//!
//! ```text
//!                start::start, capture::clone     delete::delete
//!   (nothing) ------------------> Ready <-----------------------------> (nothing)
//!                                 |   ^
//!                      stop::stop |   | start::start: resumes what was saved, else boots
//!                                 v   |
//!                                Stopped      also after kill -9 of the hypervisor
//! ```
//!
//! A start that is cut off anywhere leaves a machine that the next start goes on with: every step
//! asks what is there already. The steps are one table, [`steps::Step`].

mod api;
mod begin;
mod boot;
mod bring_up;
pub mod capture;
pub mod choice;
pub mod delete;
pub mod docker;
mod draft;
mod given;
pub mod hibernate;
pub mod identity;
pub mod image;
mod kubeconfig;
pub mod mount;
pub mod pause;
mod ready;
mod record;
pub mod services;
pub mod spec;
pub mod start;
pub mod status;
pub mod steps;
pub mod stop;
pub mod template;
pub mod tunnel;

pub use api::{ApiCredentials as TlsCredentials, tls};
pub use boot::own_ports;
pub use identity::IdentityFiles;
pub use kubeconfig::{check as check_kubeconfig, update_context};
pub use record::{ClusterRecord, Endpoint, Rest};

use crate::error::{Context as _, Error, ErrorId, Result};
use crate::settings::Settings;
use coracle_protocol::client::{AgentClient, AgentEndpoint};
use coracle_vm::program::Programs;
use coracle_vm::spec::DiskRole;
use coracle_vm::{
    AnyDriver, Driver as _, DriverKind, Entry, HostResources, MachineDir, MachineLock, MachineName,
    MachineSpec, MachineState, Size, Store, StoreError,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a command waits for another one that changes the same cluster.
pub const LOCK_LIMIT: Duration = Duration::from_secs(10);
/// How long what pods wrote may take to reach the disk.
const SYNC_LIMIT: Duration = Duration::from_secs(60);
/// How long a hypervisor may take to end by itself before it is killed.
const QUIT_LIMIT: Duration = Duration::from_secs(5);
/// How long a command waits for the agent of a machine that runs.
const AGENT_LIMIT: Duration = Duration::from_secs(30);
/// What a driver cannot do whose clusters only shut down.
const SLEEP: &str = "save a machine, so that its cluster cannot sleep";

/// The store of machines.
pub fn store(settings: &Settings) -> Store {
    Store::new(&settings.home, &settings.runtime_dir)
}

/// Takes the right to change a cluster, or says who has it.
pub async fn lock(
    settings: &Settings,
    name: &MachineName,
    command: &str,
    limit: Duration,
) -> Result<MachineLock> {
    prepare_home(settings)?;
    Ok(store(settings).lock(name, command, limit).await?)
}

/// The state folder and the folder of the sockets, for their owner alone. Before anything is written.
pub fn prepare_home(settings: &Settings) -> Result<()> {
    for folder in [&settings.home, &settings.runtime_dir] {
        coracle_vm::store::atomic::create_private_dirs(folder).context(ErrorId::Write, || {
            format!("cannot make the folder {}", folder.display())
        })?;
    }
    owned_by_us(&settings.runtime_dir)
}

/// A folder below /tmp could have been made by somebody else first.
#[cfg(unix)]
fn owned_by_us(folder: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::symlink_metadata(folder).context(ErrorId::Write, || {
        format!("cannot read {}", folder.display())
    })?;
    if meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(Error::new(
        ErrorId::Write,
        format!("{} belongs to somebody else", folder.display()),
    )
    .help("set CORACLE_HOME to a folder of your own with a short path"))
}

#[cfg(not(unix))]
fn owned_by_us(_folder: &Path) -> Result<()> {
    Ok(())
}

/// Changes what is kept about a cluster.
fn update(
    settings: &Settings,
    lock: &MachineLock,
    name: &MachineName,
    change: impl FnOnce(&mut ClusterRecord),
) -> Result<()> {
    let store = store(settings);
    let mut machine = store.get(name)?;
    let mut record = ClusterRecord::decode(&machine.cluster)?;
    change(&mut record);
    machine.cluster = record.encode()?;
    Ok(store.save(lock, &machine)?)
}

/// The host's processors, memory and free space where machines are kept.
pub fn host_resources(settings: &Settings) -> Result<HostResources> {
    coracle_vm::host::resources(&settings.home).context(ErrorId::Internal, || {
        "cannot find out what this host has".into()
    })
}

/// The host's memory.
pub fn host_memory(settings: &Settings) -> Result<Size> {
    Ok(host_resources(settings)?.memory_total)
}

/// The log of a machine's host agent.
pub fn host_agent_log(dir: &MachineDir) -> PathBuf {
    dir.path().join("host-agent.log")
}

/// A cluster whose records can be read.
#[derive(Debug)]
pub struct Cluster {
    dir: MachineDir,
    machine: coracle_vm::Record,
    record: ClusterRecord,
    programs: Programs,
}

/// What is found under a name.
#[derive(Debug)]
pub enum Found {
    /// A cluster.
    Whole(Box<Cluster>),
    /// A folder whose record cannot be used; it can be deleted.
    Broken {
        /// Its name.
        name: MachineName,
        /// Why.
        reason: String,
    },
}

impl Found {
    fn new(settings: &Settings, entry: Entry) -> Self {
        match entry {
            Entry::Broken { name, reason } => Self::Broken { name, reason },
            Entry::Whole(machine) => {
                let name = machine.spec.name.clone();
                match Cluster::new(settings, *machine) {
                    Ok(cluster) => Self::Whole(Box::new(cluster)),
                    Err(error) => {
                        let causes = error.causes().join("; ");
                        Self::Broken {
                            name,
                            reason: format!("{}: {causes}", error.message()),
                        }
                    }
                }
            }
        }
    }

    /// The cluster's name.
    pub fn name(&self) -> &MachineName {
        match self {
            Self::Whole(cluster) => cluster.dir.name(),
            Self::Broken { name, .. } => name,
        }
    }

    /// The cluster, unless it is broken.
    pub fn whole(&self) -> Option<&Cluster> {
        match self {
            Self::Whole(cluster) => Some(cluster),
            Self::Broken { .. } => None,
        }
    }

    /// The cluster, unless it is broken.
    pub fn into_whole(self) -> Option<Cluster> {
        match self {
            Self::Whole(cluster) => Some(*cluster),
            Self::Broken { .. } => None,
        }
    }
}

/// What a driver cannot do: `what` completes "the driver NAME cannot".
pub fn unable(driver: DriverKind, what: &str) -> Error {
    Error::new(
        ErrorId::DriverUnsupported,
        format!("the driver {driver} cannot {what}"),
    )
}

impl Cluster {
    fn new(settings: &Settings, machine: coracle_vm::Record) -> Result<Self> {
        Ok(Self {
            dir: store(settings).machine_dir(&machine.spec.name),
            record: ClusterRecord::decode(&machine.cluster)?,
            machine,
            programs: settings.programs(),
        })
    }

    /// The cluster of the current profile; it has to be there and whole.
    pub fn find(settings: &Settings) -> Result<Self> {
        let machine = store(settings).get(&settings.profile)?;
        Self::new(settings, machine)
    }

    /// The cluster of the current profile; it has to be there.
    pub fn find_even_if_broken(settings: &Settings) -> Result<Found> {
        let name = &settings.profile;
        let entry = store(settings)
            .find(name)?
            .ok_or_else(|| StoreError::NotFound { name: name.clone() })?;
        Ok(Found::new(settings, entry))
    }

    /// All clusters, by name.
    pub fn all(settings: &Settings) -> Result<Vec<Found>> {
        let entries = store(settings).list()?;
        Ok(entries
            .into_iter()
            .map(|entry| Found::new(settings, entry))
            .collect())
    }

    /// What its driver cannot do with it, as [`unable`] says it.
    pub fn unable(&self, what: &str) -> Error {
        unable(self.machine.driver, what)
    }

    /// Its folder.
    pub fn dir(&self) -> &MachineDir {
        &self.dir
    }

    /// What is kept about it.
    pub fn record(&self) -> &ClusterRecord {
        &self.record
    }

    /// Its machine.
    pub fn machine_spec(&self) -> &MachineSpec {
        &self.machine.spec
    }

    /// Where the host reaches it.
    pub fn endpoint(&self) -> Endpoint {
        self.record.endpoint
    }

    /// The paths of its identity.
    pub fn identity_files(&self) -> IdentityFiles {
        IdentityFiles::new(self.dir.identity())
    }

    /// The identity that its machine answers to before it has its own; there only that long.
    pub fn passing_identity(&self) -> IdentityFiles {
        IdentityFiles::new(self.dir.path().join("passing"))
    }

    /// The identity that its machine answers to now.
    fn present_identity(&self) -> IdentityFiles {
        let passing = self.passing_identity();
        if passing.exists() {
            passing
        } else {
            self.identity_files()
        }
    }

    /// The identity whose key sshd lets in now: a passing one that only clones share has none.
    pub fn ssh_identity(&self) -> IdentityFiles {
        let present = self.present_identity();
        if present.ssh_key().exists() {
            present
        } else {
            self.identity_files()
        }
    }

    /// The console's log.
    pub fn serial_log(&self) -> PathBuf {
        self.dir.serial_log()
    }

    /// The disk that its machine has for something.
    pub fn disk(&self, role: DiskRole) -> Result<&Path> {
        let disk = self.machine_spec().disk(role);
        let missing = || format!("the machine has no {} disk", role.as_str());
        let disk = disk.ok_or_else(|| Error::new(ErrorId::Internal, missing()))?;
        Ok(&disk.path)
    }

    /// Its driver.
    pub fn driver(&self) -> Result<AnyDriver> {
        Ok(AnyDriver::new(self.machine.driver, self.programs.clone())?)
    }

    /// What its machine is doing.
    pub async fn state(&self) -> Result<MachineState> {
        Ok(self.driver()?.observe(&self.dir).await)
    }

    /// Fails unless the machine runs.
    pub async fn require_running(&self) -> Result<()> {
        match self.state().await? {
            MachineState::Running => Ok(()),
            state => Err(self.not_running(&state)),
        }
    }

    /// What a command that needs a running machine says of another state.
    fn not_running(&self, state: &MachineState) -> Error {
        let name = self.dir.name();
        Error::new(
            ErrorId::MachineNotRunning,
            format!("the cluster \"{name}\" is not running: its machine is {state}"),
        )
    }

    /// A connection to the machine's agent, or why there is none.
    pub async fn agent(&self) -> Result<AgentClient> {
        self.agent_within(AGENT_LIMIT).await
    }

    /// As [`Self::agent`], for at most `limit`.
    pub async fn agent_within(&self, limit: Duration) -> Result<AgentClient> {
        let credentials = self.present_identity().agent_credentials()?;
        match AgentClient::connect(&self.agent_endpoint(), &credentials, limit).await {
            Ok(agent) => Ok(agent),
            Err(error) => {
                self.require_running().await?;
                Err(error.into())
            }
        }
    }

    fn agent_endpoint(&self) -> AgentEndpoint {
        AgentEndpoint::Tcp(self.record.endpoint.agent())
    }

    /// A client of its Kubernetes API.
    pub fn api(&self) -> Result<kube::Client> {
        self.client(&self.endpoint().server(), &self.present_identity())
    }

    /// The same at another address, where the same server answers.
    pub fn api_at(&self, address: std::net::SocketAddr) -> Result<kube::Client> {
        self.client(&format!("https://{address}"), &self.present_identity())
    }

    /// The same with the cluster's own identity, whatever its machine answers to yet.
    fn own_api(&self) -> Result<kube::Client> {
        self.client(&self.endpoint().server(), &self.identity_files())
    }

    /// Fails where the machine has no Kubernetes; else gives its version.
    pub fn kubernetes(&self) -> Result<&str> {
        self.record.spec.kubernetes().ok_or_else(|| {
            let name = self.dir.name();
            Error::new(
                ErrorId::NoKubernetes,
                format!("\"{name}\" was made without Kubernetes"),
            )
        })
    }

    fn client(&self, server: &str, files: &IdentityFiles) -> Result<kube::Client> {
        self.kubernetes()?;
        let (authority, certificate, key) = (
            identity::read(&files.cluster_ca())?,
            identity::read(&files.admin())?,
            identity::read(&files.admin_key())?,
        );
        let credentials = api::ApiCredentials {
            authority: &authority,
            certificate: &certificate,
            key: &key,
        };
        api::client(server, credentials)
    }
}
