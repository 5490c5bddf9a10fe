//! From a [`ClusterSpec`] to a booted machine whose agent answers.

use super::given;
use super::identity::{self, IdentityFiles};
use super::mount::Mount;
use super::record::Endpoint;
use super::spec::ClusterSpec;
use super::template::{self, Beginning};
use super::{Cluster, QUIT_LIMIT, image, store};
use crate::commands::App;
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::settings::Settings;
use coracle_iso::KERNEL_COMMAND_LINE;
use coracle_iso::images::Image;
use coracle_protocol::client::AgentClient;
use coracle_protocol::given::Parcel;
use coracle_protocol::guest::{FORMAT, GuestConfig, GuestNetwork, KubernetesConfig};
use coracle_protocol::{AGENT_PORT, API_PORT, DOCKER_PORT, SSH_PORT, seed};
use coracle_vm::address;
use coracle_vm::log_file;
use coracle_vm::spec::{Disk, DiskFormat, DiskRole, Protocol};
use coracle_vm::{
    AcceleratorChoice, AnyDriver, Boot, Capabilities, Driver as _, GuestAddress, MachineDir,
    MachineLock, MachineName, MachineSpec, MachineState, Origin, PortForward, Saves, UserNetwork,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Host name and node name of every cluster.
pub const NODE_NAME: &str = "coracle";
/// The guest's own network, which is that of QEMU's user network. Where a driver's networks give
/// addresses, the guest leads it to those.
pub const GUEST_NETWORK: GuestNetworkAddresses = GuestNetworkAddresses {
    guest: Ipv4Addr::new(10, 0, 2, 15),
    gateway: Ipv4Addr::new(10, 0, 2, 2),
    dns: Ipv4Addr::new(10, 0, 2, 3),
};
/// Port of sshd on the cluster's address: 22 is not an ordinary user's.
const HOST_SSH_PORT: u16 = 2222;
/// Port of the Docker API where somebody else has the usual one.
const OTHER_DOCKER_PORT: u16 = 12376;
/// A panic's first line is at most that many before the console's last one: a trace is in between.
const PANIC_LINES: usize = 100;
/// How much of the console an error carries.
const LAST_WORDS: usize = 5;
/// How long a machine has to be broken before it is given up.
const SILENCE: Duration = Duration::from_secs(15);
/// How often the machine is looked at while its agent does not answer yet.
const WATCH_PAUSE: Duration = Duration::from_millis(500);

/// Addresses of one network.
pub struct GuestNetworkAddresses {
    /// The machine's.
    pub guest: Ipv4Addr,
    /// Where the machine reaches the host, and through it the world.
    pub gateway: Ipv4Addr,
    /// The name server.
    pub dns: Ipv4Addr,
}

/// A free loopback address with the usual ports, or free ports on the only one.
pub fn allocate(spec: &ClusterSpec, others: &[Endpoint]) -> Result<Endpoint> {
    let is_free = |at: SocketAddr| address::check_free(at, Protocol::Tcp).is_ok();
    let api_port = spec.api_port.unwrap_or(API_PORT);
    let used: Vec<Ipv4Addr> = others
        .iter()
        .filter_map(|endpoint| match endpoint.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
        .collect();
    if address::has_many_loopback_addresses() {
        // A port that somebody else holds on every address is their choice to say, not to dodge.
        let ports = [api_port, AGENT_PORT, HOST_SSH_PORT];
        let with_docker = [api_port, AGENT_PORT, HOST_SSH_PORT, DOCKER_PORT];
        let found = address::allocate(&used, &with_docker, is_free)
            // An engine of the host's own may have it on every address.
            .or_else(|_| address::allocate(&used, &ports, is_free))
            .map_err(|error| match spec.api_port {
                Some(port) => Error::caused_by(
                    ErrorId::PortTaken,
                    format!("port {port} is in use on every loopback address"),
                    &error,
                ),
                None => Error::from(error),
            })?;
        return Ok(Endpoint {
            address: found.into(),
            api_port,
            agent_port: AGENT_PORT,
            ssh_port: HOST_SSH_PORT,
            docker_port: [DOCKER_PORT, OTHER_DOCKER_PORT]
                .into_iter()
                .find(|port| is_free((found, *port).into())),
        });
    }
    let taken: Vec<u16> = others
        .iter()
        .flat_map(|endpoint| {
            let own = [endpoint.api_port, endpoint.agent_port, endpoint.ssh_port];
            own.into_iter().chain(endpoint.docker_port)
        })
        .collect();
    let ports = address::allocate_ports(Ipv4Addr::LOCALHOST, 4, &taken, is_free)?;
    let [free_api, agent_port, ssh_port, docker_port] = ports[..] else {
        return Err(Error::new(
            ErrorId::Internal,
            "four ports were asked for, and not given",
        ));
    };
    if let Some(port) = spec.api_port {
        address::check_free((Ipv4Addr::LOCALHOST, port).into(), Protocol::Tcp)?;
    }
    Ok(Endpoint {
        address: Ipv4Addr::LOCALHOST.into(),
        api_port: spec.api_port.unwrap_or(free_api),
        agent_port,
        ssh_port,
        docker_port: Some(docker_port),
    })
}

/// The machine of a new cluster, before it has an address.
pub fn machine_spec(
    name: &MachineName,
    spec: &ClusterSpec,
    image: &Image,
    dir: &MachineDir,
    driver: &AnyDriver,
) -> Result<MachineSpec> {
    let Capabilities {
        data_format,
        boots_kernel,
        ..
    } = driver.capabilities();
    let cpus = coracle_vm::spec::cpus(spec.cpus)?;
    let disk = |role, path, format, read_only, create| Disk {
        role,
        path,
        format,
        read_only,
        create,
        base: None,
    };
    let read_only = |role, path| disk(role, path, DiskFormat::Raw, true, None);
    let layer = match spec.kubernetes() {
        Some(version) => Some(image::kubernetes_layer(image, version)?),
        None => None,
    };
    let (boot, root, layer, seed) = if boots_kernel {
        let kernel = Boot::DirectKernel {
            kernel: image.kernel(),
            initrd: image.initrd(),
            command_line: KERNEL_COMMAND_LINE.into(),
            emulated: image.index().emulated_command_line.clone(),
        };
        (kernel, image.root(), layer, dir.seed_disk())
    } else {
        // All layers are on it.
        (Boot::Firmware, image::iso(image)?, None, dir.seed_cd())
    };
    let data = disk(
        DiskRole::Data,
        dir.data_disk(data_format),
        data_format,
        false,
        Some(spec.disk_size),
    );
    let layer = layer.map(|path| read_only(DiskRole::Layer, path));
    let disks = [read_only(DiskRole::Root, root)]
        .into_iter()
        .chain(layer)
        .chain([data, read_only(DiskRole::Seed, seed)])
        .collect();
    Ok(MachineSpec {
        name: name.clone(),
        id: uuid::Uuid::new_v4(),
        architecture: image::architecture(image),
        cpus,
        memory: spec.memory,
        boot,
        disks,
        network: UserNetwork::default(),
        generation_id: uuid::Uuid::new_v4(),
        accelerator: AcceleratorChoice::Auto,
        console: dir.serial_log(),
    })
}

/// Leads the one port into a machine that is there from its beginning: its agent's. The host agent leads
/// the others, and this one too where the driver forwards nothing.
pub fn forward_ports(machine: &mut MachineSpec, endpoint: &Endpoint, driver: &AnyDriver) {
    machine.network.forwards = match driver.capabilities().guest_address {
        GuestAddress::Forwarded => vec![PortForward::tcp(endpoint.agent(), AGENT_PORT)],
        GuestAddress::Direct => Vec::new(),
    };
}

/// Takes ports from a machine that an earlier version forwarded by itself.
pub fn settle_ports(settings: &Settings, lock: &MachineLock, cluster: Cluster) -> Result<Cluster> {
    let mut spec = cluster.machine_spec().clone();
    forward_ports(&mut spec, &cluster.endpoint(), &cluster.driver()?);
    if spec == *cluster.machine_spec() {
        return Ok(cluster);
    }
    let mut machine = store(settings).get(cluster.dir().name())?;
    machine.spec = spec;
    store(settings).save(lock, &machine)?;
    Cluster::find(settings)
}

/// The ports of the host that a cluster has from its beginning, and those of the guest that they lead
/// to: all but what its driver forwards.
pub fn own_ports(cluster: &Cluster) -> Vec<(SocketAddr, u16)> {
    let record = cluster.record();
    let endpoint = &record.endpoint;
    let forwarded = &cluster.machine_spec().network.forwards;
    let agent = forwarded.is_empty().then(|| (endpoint.agent(), AGENT_PORT));
    let ssh = SocketAddr::new(endpoint.address, endpoint.ssh_port);
    let docker = endpoint.docker().map(|docker| (docker, DOCKER_PORT));
    let has_api = record.spec.has_kubernetes();
    let api = has_api.then(|| (endpoint.api(), API_PORT));
    [(ssh, SSH_PORT)]
        .into_iter()
        .chain(api)
        .chain(docker)
        .chain(agent)
        .collect()
}

/// Makes identity and disks, where they are missing; writes the seed anew, with what the host gives.
pub async fn prepare(cluster: &Cluster, beginning: &Beginning, parcel: &Parcel) -> Result<()> {
    let (own, passing) = (cluster.identity_files(), cluster.passing_identity());
    let record = cluster.record();
    let make = |files: &IdentityFiles, shared| {
        files.make(&record.spec, &record.endpoint, GUEST_NETWORK.guest, shared)
    };
    let boots_with = match beginning {
        // What an earlier start did not come to use: a cold boot takes its own identity.
        Beginning::Cold => {
            passing.remove()?;
            make(&own, None)?;
            &own
        }
        Beginning::Bake(..) => {
            make(&passing, None)?;
            make(&own, Some(&passing))?;
            &passing
        }
        Beginning::Clone(template) => {
            let shared = template::shared_identity(template);
            make(&own, Some(&shared))?;
            shared.copy_shared_part(&passing)?;
            &own
        }
        Beginning::Saved(_) => {
            // All of it is as it was, but for what a boot from inside would be given.
            let has_mounts = cluster.record().mounts.is_some();
            if has_mounts || !given::is_in_seed(seed_disk(cluster)?, parcel) {
                write_seed(cluster, &own, parcel)?;
            }
            return Ok(());
        }
    };
    match beginning {
        // All its clones would have it.
        Beginning::Bake(..) => finish(cluster, boots_with, &Parcel::default()).await,
        _ => finish(cluster, boots_with, parcel).await,
    }
}

/// Makes identity and disks of a cluster that goes on from another one's moment, and answers to that
/// one's identity at first.
pub async fn prepare_copy(
    cluster: &Cluster,
    former: &IdentityFiles,
    parcel: &Parcel,
) -> Result<()> {
    let own = cluster.identity_files();
    let record = cluster.record();
    own.make(
        &record.spec,
        &record.endpoint,
        GUEST_NETWORK.guest,
        Some(former),
    )?;
    former.copy_shared_part(&cluster.passing_identity())?;
    finish(cluster, &own, parcel).await
}

/// Writes the seed with the identity that a boot would take, and makes the disks.
async fn finish(cluster: &Cluster, boots_with: &IdentityFiles, parcel: &Parcel) -> Result<()> {
    write_seed(cluster, boots_with, parcel)?;
    Ok(cluster
        .driver()?
        .prepare(cluster.dir(), cluster.machine_spec())
        .await?)
}

/// Settings, identity and what the host gives as a seed disk.
fn write_seed(cluster: &Cluster, files: &IdentityFiles, parcel: &Parcel) -> Result<()> {
    let mut config = guest_config(cluster, files)?;
    if *files != cluster.passing_identity() {
        // One that becomes a template has none.
        let mounts = cluster.record().mounts.iter().flatten();
        config.host_folders = mounts.map(Mount::folder).collect();
    }
    let path = seed_disk(cluster)?;
    let encode = if *path == cluster.dir().seed_cd() {
        seed::encode_cd
    } else {
        seed::encode
    };
    let seed = encode(&config, parcel).context(ErrorId::Internal, || {
        "cannot write the machine's settings".into()
    })?;
    coracle_vm::store::atomic::write(path, &seed).context(ErrorId::Write, || {
        format!("cannot write {}", path.display())
    })
}

/// Where the machine reads settings and identity from.
fn seed_disk(cluster: &Cluster) -> Result<&Path> {
    cluster.disk(DiskRole::Seed)
}

fn guest_config(cluster: &Cluster, files: &IdentityFiles) -> Result<GuestConfig> {
    let record = cluster.record();
    let spec = &record.spec;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let kubernetes = match spec.kubernetes() {
        None => None,
        Some(version) => Some(KubernetesConfig {
            version: version.to_owned(),
            service_cidr: spec.service_cidr.to_string(),
            pod_cidr: spec.pod_cidr.to_string(),
            dns_domain: spec.dns_domain.clone(),
            dns_address: spec.dns_address(),
            feature_gates: spec.feature_gates.clone(),
            extra_args: spec.extra_args.clone(),
            identity: files.cluster_identity()?,
        }),
    };
    Ok(GuestConfig {
        format: FORMAT,
        image_digest: record.image.clone(),
        hostname: NODE_NAME.into(),
        network: GuestNetwork {
            address: GUEST_NETWORK.guest,
            prefix: 24,
            gateway: GUEST_NETWORK.gateway,
            dns: vec![GUEST_NETWORK.dns.into()],
            dhcp: match cluster.driver()?.capabilities().guest_address {
                GuestAddress::Forwarded => false,
                GuestAddress::Direct => true,
            },
        },
        agent: files.agent_identity()?,
        ssh: files.ssh_identity()?,
        docker: files.docker_identity()?,
        kubernetes,
        host_folders: Vec::new(),
        written_at_millis: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
    })
}

/// Brings the machine to run, from whatever state it is in.
pub async fn power_on(app: &App, cluster: &Cluster, origin: &Origin) -> Result<()> {
    let settings = &app.settings;
    match patient_state(cluster).await? {
        MachineState::Running | MachineState::Starting => Ok(()),
        MachineState::Paused | MachineState::PausedDiskFull => {
            Ok(cluster.driver()?.resume(cluster.dir()).await?)
        }
        MachineState::Off => crate::host_agent::launch(settings, cluster.dir(), origin).await,
        state @ (MachineState::Broken { .. } | MachineState::Panicked) => {
            app.progress
                .warning(&format!("the machine is {state}; booting it anew"));
            switch_off(cluster).await?;
            crate::host_agent::launch(settings, cluster.dir(), &Origin::Boot).await
        }
    }
}

/// What the machine is doing. One whose hypervisor does not answer is looked at again: on a busy host that
/// is silent for a moment, and what runs inside would be lost.
pub async fn patient_state(cluster: &Cluster) -> Result<MachineState> {
    let begun = Instant::now();
    loop {
        match cluster.state().await? {
            MachineState::Broken { .. } if begun.elapsed() < SILENCE => {
                tokio::time::sleep(WATCH_PAUSE).await;
            }
            state => return Ok(state),
        }
    }
}

/// Waits until the agent answers, as long as the machine lives.
pub async fn connect(
    cluster: &Cluster,
    identity: &IdentityFiles,
    limit: Duration,
) -> Result<AgentClient> {
    let credentials = identity.agent_credentials()?;
    let endpoint = cluster.agent_endpoint();
    tokio::select! {
        agent = AgentClient::connect_when_up(&endpoint, &credentials, limit) => Ok(agent?),
        error = machine_ends(cluster) => Err(error),
    }
}

/// As [`connect`]; then steps the machine's clock. The second is the digest of what the machine was given.
pub async fn agent(
    settings: &Settings,
    cluster: &Cluster,
    identity: &IdentityFiles,
    limit: Duration,
) -> Result<(AgentClient, String)> {
    let agent = connect(cluster, identity, limit).await?;
    let given = agent.set_clock(settings.now()).await?.given;
    Ok((agent, given))
}

/// Gives a machine, reached by the identity that it answers to now, the cluster's own one, fresh random
/// numbers and the time. What comes back is as of [`agent`].
pub async fn take_own_identity(
    settings: &Settings,
    cluster: &Cluster,
    present: &IdentityFiles,
    limit: Duration,
) -> Result<(AgentClient, String)> {
    let config = guest_config(cluster, &cluster.identity_files())?;
    let seed = seed::encode_unpadded(&config).context(ErrorId::Internal, || {
        "cannot write the machine's identity".into()
    })?;
    let agent = connect(cluster, present, limit).await?;
    let entropy = identity::entropy()?;
    let given = agent.rekey(seed, entropy, settings.now()).await?.given;
    Ok((agent, given))
}

/// Whether the kernel of this boot panicked: as its panic device told the hypervisor, which stops it
/// before the console says anything; or, early in a boot without that device, as the console says. It
/// is the last thing that a kernel says.
pub async fn kernel_panicked(cluster: &Cluster) -> bool {
    matches!(cluster.state().await, Ok(MachineState::Panicked)) || panic_on_console(cluster)
}

fn panic_on_console(cluster: &Cluster) -> bool {
    let said = log_file::last_lines(&cluster.serial_log(), PANIC_LINES);
    said.iter()
        .any(|line| line.contains("Kernel panic - not syncing"))
}

/// Ends a machine that cannot be asked to.
pub async fn switch_off(cluster: &Cluster) -> Result<()> {
    Ok(cluster.driver()?.quit(cluster.dir(), QUIT_LIMIT).await?)
}

/// Returns when the machine does not run any more, with its last words.
pub async fn machine_ends(cluster: &Cluster) -> Error {
    let mut well = Instant::now();
    loop {
        tokio::time::sleep(WATCH_PAUSE).await;
        let state = match cluster.state().await {
            Ok(MachineState::Running | MachineState::Starting) if panic_on_console(cluster) => {
                "stopped by a panic of its kernel".to_owned()
            }
            Ok(MachineState::Running | MachineState::Starting) => {
                well = Instant::now();
                continue;
            }
            // A monitor on a busy host may be silent for a moment.
            Ok(MachineState::Broken { .. }) if well.elapsed() < SILENCE => continue,
            Ok(state) => state.to_string(),
            Err(error) => return error,
        };
        let mut error = Error::new(
            ErrorId::Machine,
            format!("the machine is {state} before the cluster was ready"),
        );
        for line in log_file::last_lines(&cluster.serial_log(), LAST_WORDS) {
            error = error.because(format!("console: {}", line.trim_end()));
        }
        return error;
    }
}
/// Waits for what an earlier command still has done, and ends a machine that somebody began who was cut
/// off: one that has not run since it was saved, or since its template was made, or that is not seen to
/// run yet. Nothing is lost, and what was saved can be used again. The caller holds the machine's lock.
pub async fn end_cut_off(cluster: &Cluster) -> Result<()> {
    let is_in_hand = crate::host_agent::settle(cluster.dir()).await?;
    let is_cut_off = match cluster.state().await? {
        MachineState::Off => false,
        // Nobody is left who would bring it further.
        MachineState::Starting if !is_in_hand => true,
        _ => Saves::new(cluster.dir()).is_there(),
    };
    if is_cut_off {
        switch_off(cluster).await?;
    }
    Ok(())
}
