//! Stage 2: PID 1 on the root file system.
//!
//! First, step by step and before any thread exists, the machine gets its disks, settings,
//! network and files. Then the agent serves: its API first, so that the host can watch the
//! components come up.

use crate::accounts;
use crate::api::{self, Agent};
use crate::children::{Children, RunError};
use crate::disks::{self, Content, Disk};
use crate::engine::{self, Engine};
use crate::given::Receiver;
use crate::host_folders::HostFolders;
use crate::kernel;
use crate::logs::{self, Logs};
use crate::mounts;
use crate::network::{self, Addressing};
use crate::pki;
use crate::place::{self, Access};
use crate::power;
use crate::processors;
use crate::readiness::Probe;
use crate::rekey::Rekey;
use crate::render::{self, Values};
use crate::signer::{Signer, SignerError};
use crate::sshd;
use crate::standstill::Standstill;
use crate::supervise::Supervisor;
use crate::table::{self, Table};
use crate::tls::{Callers, Identity, Spoken};
use crate::upkeep::{Certificates, Upkeep};
use crate::uplink::{Uplink, UplinkError};
use coracle_protocol::given::Given;
use coracle_protocol::guest::{GuestConfig, GuestNetwork, SshIdentity};
use coracle_protocol::{AGENT_PORT, DOCKER_PORT, GUEST_USER, SSH_PORT, iso_layer, seed};
use nix::sys::resource::{Resource, setrlimit};
use nix::time::ClockId;
use std::convert::Infallible;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// Where programs are looked for, in the whole machine.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/lib/coracle/kubernetes/bin:\
                        /usr/sbin:/usr/bin:/sbin:/bin";

const COMPONENTS: &str = "/usr/lib/coracle/components.toml";
const TEMPLATES: &str = "/usr/lib/coracle/templates";
const PKI: &str = "/etc/kubernetes/pki";
/// What the host made, in memory.
pub const IDENTITY: &str = "/run/coracle/identity";
/// Where the API server asks for signatures; components.toml names it too.
const SIGNER: &str = "/run/coracle/signer/signer.sock";
/// The kubelet runs the pods that are described here.
const MANIFESTS: &str = "/etc/kubernetes/manifests";
/// Whose members may use the Docker API inside.
const DOCKER_GROUP: &str = "docker";
const LOGS: &str = "/var/log/coracle";
/// How long disks may take to appear after their drivers were loaded.
const DISKS: Duration = Duration::from_secs(10);
/// Open files of every process, as container hosts commonly have it.
const OPEN_FILES: u64 = 1 << 20;

/// Why the machine cannot boot.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A disk is missing.
    #[error("there is no {what}; found: {found}")]
    NoDisk {
        /// Which.
        what: &'static str,
        /// The disks that are there and what they hold.
        found: String,
    },
    /// The seed disk cannot be used.
    #[error(transparent)]
    Seed(#[from] seed::SeedError),
    /// A mount failed.
    #[error(transparent)]
    Mount(#[from] mounts::MountError),
    /// The network cannot be set up.
    #[error(transparent)]
    Network(#[from] network::NetworkError),
    /// The network gave no address.
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    /// The table of components cannot be used.
    #[error(transparent)]
    Table(#[from] table::TableError),
    /// A certificate cannot be made.
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
    /// The service account key cannot be used.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The API cannot be served.
    #[error(transparent)]
    Api(#[from] api::ApiError),
    /// Another step failed.
    #[error("{step}: {source}")]
    Step {
        /// Which.
        step: String,
        /// Why.
        source: io::Error,
    },
}

fn step(step: impl Into<String>) -> impl FnOnce(io::Error) -> BootError {
    let step = step.into();
    move |source| BootError::Step { step, source }
}

/// Says on the console why a stage failed and powers off: a machine that cannot boot should
/// end, so that the host notices at once.
pub fn or_power_off<E: std::error::Error>(result: Result<Infallible, E>) -> ExitCode {
    let Err(error) = result;
    let mut text = format!("cannot boot: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    kernel::complain(&text);
    power::off();
    ExitCode::FAILURE
}

/// Boots the machine and serves until it is powered off.
pub fn run() -> Result<Infallible, BootError> {
    for mount in mounts::EARLY {
        if let Err(error) = mounts::mount(mount) {
            kernel::complain(&error.to_string());
        }
    }
    mounts::share_all()?;
    let _ = setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES);
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));

    let text = fs::read_to_string(COMPONENTS).map_err(step(format!("cannot read {COMPONENTS}")))?;
    let table = table::parse(&text)?;
    match kernel::load_drivers(Path::new("/sys"), &table.modules) {
        Ok(complaint) if complaint.is_empty() => {}
        Ok(complaint) => kernel::complain(&complaint),
        Err(error) => kernel::complain(&format!("cannot run modprobe: {error}")),
    }
    let (seed, disks) = seed_and_disks()?;
    let config = seed.config;
    advance_clock(config.written_at_millis);
    let data = one(&disks, Content::Data).or_else(|| one(&disks, Content::Blank));
    let data = data.ok_or_else(|| missing("data disk", &disks))?;
    mounts::data_disk(&data.device, data.content == Content::Blank)?;
    if let Some(kubernetes) = &config.kubernetes {
        mounts::layer(&layer(&disks, &kubernetes.version)?)?;
    }
    for complaint in kernel::set_parameters(Path::new("/proc/sys"), &table.parameters) {
        kernel::complain(&format!("kernel parameter {complaint}"));
    }
    network::loopback()?;
    let uplink = join_network(&config.network)?;
    for complaint in processors::join_all(Path::new("/sys")) {
        kernel::complain(&format!("letting all processors join: {complaint}"));
    }
    let given = Receiver::new("/", &config.hostname, &config.network);
    if let Err(error) = given.take(seed.given, seed.files) {
        // The host sees that it was not taken, gives it again, and says why that fails.
        kernel::complain(&format!(
            "not all that the host gives is in its place: {error}"
        ));
    }
    // Nothing has started yet.
    given.is_seen();
    place_machine_files(&config)?;
    let values = render::values(&config).map_err(|source| table::TableError::Render {
        name: "settings".into(),
        source,
    })?;
    place_kubernetes_files(&config)?;
    render_files(&table, &config, &values)?;
    let components = table::resolve(&table, config.kubernetes.as_ref(), &values)?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(step("cannot start the runtime"))?;
    runtime.block_on(serve(config, components, given, uplink))
}

async fn serve(
    config: GuestConfig,
    components: Vec<table::Component>,
    given: Receiver,
    uplink: Option<Uplink>,
) -> Result<Infallible, BootError> {
    let given = Arc::new(given);
    let children = Children::start(true).map_err(step("cannot watch for signals"))?;
    let logs = Arc::new(Logs::new(LOGS.into(), logs::LIMIT));
    logs.note(&format!(
        "booted {} ({})",
        env!("CARGO_PKG_VERSION"),
        config.image_digest
    ));
    tokio::spawn(logs::kernel::follow(Arc::clone(&logs)));
    let signer = match &config.kubernetes {
        Some(kubernetes) => {
            let keys = &kubernetes.identity;
            let signer = Signer::new(&keys.service_account_key, &keys.service_account_public_key)?;
            let serving = signer.clone().serve(Path::new(SIGNER));
            serving.map_err(step("cannot listen for the API server"))?;
            Some(signer)
        }
        None => None,
    };
    let probe = Probe::new(children.clone(), PKI.into());
    if let Err(error) = given.guard_host(&children, given.host_access()).await {
        kernel::complain(&format!("pods may reach the host: {error}"));
    }
    let uplink = match uplink {
        Some(uplink) => {
            let kept = uplink.keep(&children, &logs, &given).await;
            let unreached = |error: &RunError| {
                kernel::complain(&format!(
                    "neither host nor name server are reached: {error}"
                ));
            };
            kept.inspect_err(unreached).ok()
        }
        None => None,
    };
    let host_folders = Arc::new(HostFolders::default());
    for refusal in host_folders.at_boot(config.host_folders) {
        kernel::complain(&format!(
            "{} is not mounted: {}",
            refusal.id, refusal.reason
        ));
    }
    let outward = given.environment();
    let supervisor = Supervisor::start(components, &children, &logs, &probe, outward);
    let supervisor = Arc::new(supervisor);
    let identity = Identity::new(&config.agent, Spoken::Grpc)?;
    let docker = match &config.docker {
        Some(identity) => Some(Identity::new(identity, Spoken::Http)?),
        None => None,
    };
    let callers = Callers::default();
    let engine = Engine::new(
        Arc::clone(&supervisor),
        Arc::clone(&logs),
        engine::OWN_SOCKET.into(),
        config.network.address,
        Arc::clone(&host_folders),
        callers.clone(),
    );
    serve_docker(&engine, docker.clone()).await?;
    if let Err(error) = engine::share_registries() {
        logs.note(&format!("docker: {error}"));
    }
    engine.begin_if_wanted(Path::new(engine::CONTAINERS), config.kubernetes.is_none());
    let certificates = config.kubernetes.as_ref().map(|_| Certificates {
        folder: PKI.into(),
        name: config.hostname.clone(),
        address: config.network.address,
        administrators: administrators(),
    });
    let upkeep = Upkeep::start(&children, &logs, &supervisor, certificates, uplink);
    let agent = Arc::new(Agent {
        image_digest: config.image_digest.clone(),
        kubernetes_version: config.kubernetes.map(|one| one.version).unwrap_or_default(),
        etc: "/etc".into(),
        data: "/var".into(),
        children,
        logs,
        supervisor,
        power: power::Power::machine(),
        rekey: Rekey {
            identity: identity.clone(),
            docker: docker.clone(),
            signer,
            pki: PKI.into(),
            standstill: Standstill::default(),
        },
        given,
        host_folders,
        engine,
        upkeep,
        callers,
    });
    sshd::listen(
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, SSH_PORT)),
        Arc::clone(&agent),
    )
    .await
    .map_err(step("cannot listen for ssh"))?;
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, AGENT_PORT));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(step(format!("cannot listen on {address}")))?;
    kernel::say("the agent serves");
    api::serve(listener, identity, agent).await?;
    Err(step("the agent's API ended")(
        io::ErrorKind::UnexpectedEof.into(),
    ))
}

/// Brings the first card up. What comes back, where the network gives addresses, has to be kept.
fn join_network(network: &GuestNetwork) -> Result<Option<Uplink>, BootError> {
    let card = network::first_card()?;
    if network.dhcp {
        return Ok(Some(Uplink::begin(card, network)?));
    }
    let own = Addressing {
        address: network.address,
        prefix: network.prefix,
        gateway: Some(network.gateway),
    };
    network::set(&card, &own)?;
    Ok(None)
}

/// The Docker API: inside for everybody whom the group lets in, outside where it has an identity.
async fn serve_docker(engine: &Arc<Engine>, identity: Option<Identity>) -> Result<(), BootError> {
    let listen = || step("cannot listen for Docker's clients");
    let group = accounts::group_id(Path::new("/etc"), DOCKER_GROUP).unwrap_or_default();
    engine
        .serve_inside(Path::new(engine::SOCKET), group)
        .map_err(listen())?;
    if let Some(identity) = identity {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, DOCKER_PORT));
        let served = engine.serve_outside(address, identity).await;
        served.map_err(listen())?;
    }
    Ok(())
}

/// What the seed disk holds.
struct Seed {
    config: GuestConfig,
    given: Given,
    /// Stands at the files that are given.
    files: File,
}

fn seed_and_disks() -> Result<(Seed, Vec<Disk>), BootError> {
    let mut disks = Vec::new();
    let seed = kernel::wait_for(DISKS, || {
        disks = disks::find(Path::new("/sys/block"), Path::new("/dev")).unwrap_or_default();
        let seed = one(&disks, Content::Seed).or_else(|| one(&disks, Content::SeedCd));
        seed.cloned()
    });
    let seed = seed.ok_or_else(|| missing("seed disk", &disks))?;
    let mut files = File::open(&seed.device).map_err(step("cannot open the seed disk"))?;
    seed::enter(&mut files).map_err(step("cannot read the seed disk"))?;
    let seed = Seed {
        config: seed::decode(&mut files)?,
        given: seed::decode_given(&mut files)?,
        files,
    };
    Ok((seed, disks))
}

/// The layer of a Kubernetes version: a disk, or a file of the ISO.
fn layer(disks: &[Disk], version: &str) -> Result<PathBuf, BootError> {
    if let Some(disk) = one(disks, Content::Kubernetes) {
        return Ok(disk.device.clone());
    }
    let file = Path::new(mounts::ISO).join(iso_layer(version));
    let found = file.exists().then_some(file);
    found.ok_or_else(|| missing("Kubernetes layer", disks))
}

fn one(disks: &[Disk], content: Content) -> Option<&Disk> {
    disks.iter().find(|disk| disk.content == content)
}

fn missing(what: &'static str, disks: &[Disk]) -> BootError {
    let found: Vec<String> = disks
        .iter()
        .map(|disk| format!("{} ({:?})", disk.device.display(), disk.content))
        .collect();
    let found = if found.is_empty() {
        "no disk at all".to_owned()
    } else {
        found.join(", ")
    };
    BootError::NoDisk { what, found }
}

/// A machine without a good clock starts from the host's, as it was when the seed was written.
fn advance_clock(written_at_millis: u64) {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let written = i64::try_from(written_at_millis / 1000).unwrap_or(0);
    if now < written {
        let time = nix::sys::time::TimeSpec::new(written, 0);
        let _ = nix::time::clock_settime(ClockId::CLOCK_REALTIME, time);
    }
}

fn put(path: &str, content: &str, access: Access) -> Result<(), BootError> {
    place::file_of_each_boot(Path::new(path), content.as_bytes(), access)
        .map_err(step("placing files"))
}

/// Name, resolver, machine id, home folders and who may log in.
fn place_machine_files(config: &GuestConfig) -> Result<(), BootError> {
    let name = &config.hostname;
    nix::unistd::sethostname(name).map_err(|error| step("cannot set the name")(error.into()))?;
    put("/etc/hostname", &format!("{name}\n"), Access::PUBLIC)?;
    let servers: Vec<String> = config
        .network
        .dns
        .iter()
        .map(|server| format!("nameserver {server}\n"))
        .collect();
    put("/etc/resolv.conf", &servers.concat(), Access::PUBLIC)?;
    if fs::read_to_string("/etc/machine-id")
        .unwrap_or_default()
        .trim()
        .is_empty()
    {
        let id = fs::read_to_string("/proc/sys/kernel/random/uuid")
            .map_err(step("cannot make a machine id"))?;
        put(
            "/etc/machine-id",
            &id.replace('-', ""),
            Access {
                mode: 0o444,
                group: None,
            },
        )?;
    }
    place_ssh_files(&config.ssh)?;
    place::folder(Path::new("/run/sshd"), 0o755).map_err(step("cannot make /run/sshd"))?;
    place::folder(Path::new("/run/lock"), 0o1777).map_err(step("cannot make /run/lock"))?;
    for user in ["root", GUEST_USER] {
        if let Ok(Some(account)) = accounts::find(Path::new("/etc"), user) {
            home(&account).map_err(step(format!("cannot make the home of {user}")))?;
        }
    }
    Ok(())
}

/// Who sshd is, and whom it lets in. It is started for each connection, and reads them then.
pub fn place_ssh_files(ssh: &SshIdentity) -> Result<(), BootError> {
    put(
        &format!("{IDENTITY}/ssh_host_ed25519_key"),
        &ssh.host_key,
        Access::SECRET,
    )?;
    let keys = ssh.authorized_keys.join("\n") + "\n";
    put(
        &format!("{IDENTITY}/authorized_keys/{GUEST_USER}"),
        &keys,
        Access::PUBLIC,
    )
}

/// Makes a home folder once, from /etc/skel.
fn home(account: &accounts::Account) -> io::Result<()> {
    let made = account.home.join(".profile").exists() || account.home.join(".bashrc").exists();
    if made {
        return Ok(());
    }
    fs::create_dir_all(&account.home)?;
    let own = |path: &Path| std::os::unix::fs::chown(path, Some(account.uid), Some(account.gid));
    for entry in fs::read_dir("/etc/skel").into_iter().flatten().flatten() {
        let to = account.home.join(entry.file_name());
        if entry.file_type()?.is_file() && !to.exists() {
            fs::copy(entry.path(), &to)?;
            own(&to)?;
        }
    }
    fs::set_permissions(&account.home, fs::Permissions::from_mode(0o700))?;
    own(&account.home)
}

fn place_kubernetes_files(config: &GuestConfig) -> Result<(), BootError> {
    let Some(kubernetes) = &config.kubernetes else {
        return Ok(());
    };
    place::folder(Path::new(MANIFESTS), 0o755).map_err(step("cannot make a folder"))?;
    let node = pki::Node {
        name: &config.hostname,
        address: config.network.address,
        administrators: administrators(),
        now: OffsetDateTime::now_utc(),
    };
    pki::ensure(Path::new(PKI), &node)?;
    pki::place_identity(Path::new(IDENTITY), Path::new(PKI), &kubernetes.identity)?;
    Ok(())
}

/// The group that may act as the cluster's administrator.
fn administrators() -> Option<u32> {
    accounts::group_id(Path::new("/etc"), GUEST_USER).unwrap_or_default()
}

fn render_files(table: &Table, config: &GuestConfig, values: &Values) -> Result<(), BootError> {
    let rows = table
        .files
        .iter()
        .filter(|row| config.kubernetes.is_some() || !row.kubernetes)
        .filter(|row| !(row.once && row.path.exists()));
    for row in rows {
        let template = PathBuf::from(TEMPLATES).join(&row.template);
        let text = fs::read_to_string(&template)
            .map_err(step(format!("cannot read {}", template.display())))?;
        let mut values = values.clone();
        values.extend(row.values.clone());
        let name = row.template.clone();
        let text = render::fill(&text, &values)
            .map_err(|source| table::TableError::Render { name, source })?;
        let group = match &row.group {
            Some(name) => accounts::group_id(Path::new("/etc"), name).unwrap_or_default(),
            None => None,
        };
        let access = Access {
            mode: row.mode,
            group,
        };
        place::file_of_each_boot(&row.path, text.as_bytes(), access)
            .map_err(step("placing files"))?;
    }
    Ok(())
}
