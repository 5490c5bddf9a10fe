//! A machine by hand, for working on the agent: writes a seed disk with an identity of its own,
//! and talks to the agent that booted with it.
//!
//! ```text
//! machine seed FOLDER [dhcp]                FOLDER/seed.img, keys and a kubeconfig
//! machine ready FOLDER ADDRESS              follows the components until all are ready
//! machine exec FOLDER ADDRESS PROGRAM...    runs a program as root
//! machine logs FOLDER ADDRESS [COMPONENT]
//! machine images FOLDER ADDRESS
//! machine load FOLDER ADDRESS ARCHIVE
//! machine save FOLDER ADDRESS ARCHIVE IMAGE...
//! machine off FOLDER ADDRESS
//! ```
//!
//! ADDRESS is where the agent's port was forwarded to. The kubeconfig expects the Kubernetes
//! API at 127.0.0.1:6443 of the host.
#![allow(clippy::print_stdout, clippy::disallowed_methods, missing_docs)]

use coracle_protocol::api::{ComponentState, ExecStart, PowerAction};
use coracle_protocol::client::{AgentClient, AgentCredentials, AgentEndpoint};
use coracle_protocol::given::Parcel;
use coracle_protocol::guest::{
    ClusterIdentity, FORMAT, GuestConfig, GuestNetwork, KubernetesConfig, ServerIdentity,
    SshIdentity,
};
use coracle_protocol::{AGENT_SERVER_NAME, seed};
use rcgen::KeyPair;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[path = "../tests/support/identity.rs"]
mod identity;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn write_seed(folder: &Path, dhcp: bool) -> Outcome<()> {
    fs::create_dir_all(folder)?;
    let cluster = identity::authority("cluster")?;
    let clients = identity::authority("clients")?;
    let agents = identity::authority("agent")?;
    let serving = cluster.issue(
        "kube-apiserver",
        "",
        &[
            "127.0.0.1",
            "10.0.2.15",
            "10.96.0.1",
            "localhost",
            "kubernetes",
            "kubernetes.default.svc",
        ],
    )?;
    let admin = clients.issue("tester", "system:masters", &[])?;
    let agent = agents.issue("agent", "", &[AGENT_SERVER_NAME])?;
    let host = agents.issue("host", "", &[])?;
    let service_accounts = KeyPair::generate()?;
    let ssh_key = |name: &str| -> Outcome<()> {
        let path = folder.join(name);
        let _ = fs::remove_file(&path);
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(path)
            .status()?;
        made.success()
            .then_some(())
            .ok_or_else(|| "ssh-keygen failed".into())
    };
    ssh_key("host_key")?;
    ssh_key("user_key")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let config = GuestConfig {
        format: FORMAT,
        image_digest: "sha256:by-hand".into(),
        hostname: "coracle".into(),
        network: GuestNetwork {
            address: Ipv4Addr::new(10, 0, 2, 15),
            prefix: 24,
            gateway: Ipv4Addr::new(10, 0, 2, 2),
            dns: vec![Ipv4Addr::new(10, 0, 2, 3).into()],
            dhcp,
        },
        agent: ServerIdentity {
            certificate: agent.0,
            key: agent.1,
            client_ca: agents.pem.clone(),
        },
        ssh: SshIdentity {
            host_key: fs::read_to_string(folder.join("host_key"))?,
            authorized_keys: vec![
                fs::read_to_string(folder.join("user_key.pub"))?
                    .trim()
                    .into(),
            ],
        },
        host_folders: Vec::new(),
        docker: None,
        kubernetes: Some(KubernetesConfig {
            version: "v1.37.2".into(),
            service_cidr: "10.96.0.0/12".into(),
            pod_cidr: "10.244.0.0/16".into(),
            dns_domain: "cluster.local".into(),
            dns_address: Ipv4Addr::new(10, 96, 0, 10),
            feature_gates: BTreeMap::new(),
            extra_args: BTreeMap::new(),
            identity: ClusterIdentity {
                cluster_ca: cluster.pem.clone(),
                serving_certificate: serving.0,
                serving_key: serving.1,
                client_ca: clients.pem,
                client_ca_key: clients.key,
                service_account_key: service_accounts.serialize_pem(),
                service_account_public_key: service_accounts.public_key_pem(),
            },
        }),
        written_at_millis: u64::try_from(now.as_millis())?,
    };
    fs::write(
        folder.join("seed.img"),
        seed::encode(&config, &Parcel::default())?,
    )?;
    fs::write(folder.join("agent-ca.pem"), agents.pem)?;
    fs::write(folder.join("host.pem"), host.0)?;
    fs::write(folder.join("host.key"), host.1)?;
    fs::write(folder.join("cluster-ca.pem"), cluster.pem)?;
    fs::write(folder.join("admin.pem"), admin.0)?;
    fs::write(folder.join("admin.key"), admin.1)?;
    let file = |name: &str| folder.join(name).display().to_string();
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        "clusters": [{"name": "c", "cluster": {
            "server": "https://127.0.0.1:6443", "certificate-authority": file("cluster-ca.pem")}}],
        "users": [{"name": "c", "user": {
            "client-certificate": file("admin.pem"), "client-key": file("admin.key")}}],
    });
    fs::write(
        folder.join("kubeconfig"),
        serde_json::to_vec_pretty(&kubeconfig)?,
    )?;
    Ok(())
}

async fn connect(folder: &Path, address: &str) -> Outcome<AgentClient> {
    let read = |name: &str| fs::read_to_string(folder.join(name));
    let credentials = AgentCredentials {
        certificate: read("host.pem")?,
        key: read("host.key")?,
        server_ca: read("agent-ca.pem")?,
    };
    let endpoint = AgentEndpoint::Tcp(address.parse()?);
    Ok(AgentClient::connect_when_up(&endpoint, &credentials, Duration::from_secs(120)).await?)
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["seed", folder] => write_seed(Path::new(folder), false),
        ["seed", folder, "dhcp"] => write_seed(Path::new(folder), true),
        ["ready", folder, address] => {
            let began = Instant::now();
            let client = connect(Path::new(folder), address).await?;
            println!(
                "{:6.2} agent {:?}",
                began.elapsed().as_secs_f64(),
                client.info().await?
            );
            let show = |table: &coracle_protocol::api::Readiness| {
                let rows = table.components.iter().map(|one| {
                    let state = match one.state() {
                        ComponentState::Ready | ComponentState::Done => "ok".to_owned(),
                        state => format!("{} {}", state.as_str_name(), one.detail),
                    };
                    format!("{}={state}", one.name)
                });
                let rows: Vec<String> = rows.collect();
                println!("{:6.2} {}", began.elapsed().as_secs_f64(), rows.join("; "));
            };
            let table = client.wait_ready(show, Duration::from_secs(300)).await?;
            for one in table.components {
                println!("{:6} {}", one.ready_at_uptime_millis, one.name);
            }
            println!("{:?}", client.info().await?);
            Ok(())
        }
        ["exec", folder, address, program @ ..] => {
            let client = connect(Path::new(folder), address).await?;
            let argv = program.iter().map(|one| (*one).to_owned()).collect();
            let (code, stdout, stderr) = client
                .run(ExecStart {
                    argv,
                    ..ExecStart::default()
                })
                .await?;
            std::io::stdout().write_all(&stdout)?;
            std::io::stderr().write_all(&stderr)?;
            if code == 0 {
                Ok(())
            } else {
                Err(format!("status {code}").into())
            }
        }
        ["logs", folder, address, component @ ..] => {
            let client = connect(Path::new(folder), address).await?;
            let component = component.first().copied().unwrap_or_default();
            let mut lines = client.logs(component, false, 0).await?;
            while let Some(chunk) = lines.next().await? {
                std::io::stdout().write_all(&chunk.data)?;
            }
            Ok(())
        }
        ["images", folder, address] => {
            let client = connect(Path::new(folder), address).await?;
            for image in client.images().await? {
                println!(
                    "{:>12} {} {}",
                    image.size_bytes,
                    image.digest,
                    image.names.join(" ")
                );
            }
            Ok(())
        }
        ["load", folder, address, archive] => {
            let client = connect(Path::new(folder), address).await?;
            let archive = tokio::fs::File::open(archive).await?;
            println!(
                "{}",
                client.import_images("", archive).await?.names.join("\n")
            );
            Ok(())
        }
        ["save", folder, address, archive, names @ ..] => {
            let client = connect(Path::new(folder), address).await?;
            let names: Vec<String> = names.iter().map(|one| (*one).to_owned()).collect();
            let mut bytes = client.export_images(&names).await?;
            let mut archive = tokio::fs::File::create(archive).await?;
            println!("{} bytes", tokio::io::copy(&mut bytes, &mut archive).await?);
            Ok(())
        }
        ["off", folder, address] => {
            let client = connect(Path::new(folder), address).await?;
            Ok(client
                .power(PowerAction::PowerOff, Duration::from_secs(10))
                .await?)
        }
        _ => Err("see the first lines of this example".into()),
    }
}
