//! An agent in this process: not PID 1, but the same services over the same TLS.

#![allow(dead_code, unreachable_pub)]

pub mod identity;

use coracle_agent::api::{Agent, serve};
use coracle_agent::children::Children;
use coracle_agent::engine::Engine;
use coracle_agent::given::Receiver;
use coracle_agent::logs::{LIMIT, Logs};
use coracle_agent::power::Power;
use coracle_agent::readiness::Probe;
use coracle_agent::rekey::Rekey;
use coracle_agent::supervise::Supervisor;
use coracle_agent::table::{self, Component};
use coracle_agent::tls::{Callers, Identity, Spoken};
use coracle_agent::upkeep::Upkeep;
use coracle_protocol::AGENT_SERVER_NAME;
use coracle_protocol::api::PowerAction;
use coracle_protocol::client::{AgentClient, AgentCredentials, AgentEndpoint};
use coracle_protocol::guest::{GuestNetwork, ServerIdentity};
use identity::{Authority, authority};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

pub const LIMIT_OF_A_TEST: Duration = Duration::from_secs(60);

pub struct TestAgent {
    pub folder: TempDir,
    pub agent: Arc<Agent>,
    pub identity: Identity,
    pub authority: Authority,
    pub endpoint: AgentEndpoint,
    pub powered: mpsc::Receiver<PowerAction>,
}

/// Rows of a table as components.
pub fn components(rows: &str) -> Vec<Component> {
    let text = format!("modules = []\nfile = []\n[parameters]\n{rows}");
    let text = if rows.is_empty() {
        format!("component = []\n{text}")
    } else {
        text
    };
    let table = table::parse(&text).unwrap();
    table::resolve(&table, None, &Default::default()).unwrap()
}

pub fn server_identity(authority: &Authority) -> ServerIdentity {
    let (certificate, key) = authority.issue("agent", "", &[AGENT_SERVER_NAME]).unwrap();
    ServerIdentity {
        certificate,
        key,
        client_ca: authority.pem.clone(),
    }
}

pub fn credentials(authority: &Authority, server_ca: &str) -> AgentCredentials {
    let (certificate, key) = authority.issue("host", "", &[]).unwrap();
    AgentCredentials {
        certificate,
        key,
        server_ca: server_ca.to_owned(),
    }
}

impl TestAgent {
    pub async fn start(rows: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let etc = folder.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let home = folder.path().display();
        let passwd = format!(
            "root:x:{uid}:{gid}::{home}:/bin/sh\ntester:x:4321:4322::/nonexistent:/bin/sh\n"
        );
        write(&etc.join("passwd"), &passwd);
        write(&etc.join("group"), "tester:x:4322:\nmore:x:4323:tester\n");
        let children = Children::start(false).unwrap();
        let logs = Arc::new(Logs::new(folder.path().join("logs"), LIMIT));
        let probe = Probe::new(children.clone(), folder.path().join("pki"));
        let network = GuestNetwork {
            address: [10, 0, 2, 15].into(),
            prefix: 24,
            gateway: [10, 0, 2, 2].into(),
            dns: Vec::new(),
            dhcp: false,
        };
        let given = Receiver::new(folder.path().join("root"), "tester", &network);
        let outward = given.environment();
        let supervisor = Supervisor::start(components(rows), &children, &logs, &probe, outward);
        let (sender, powered) = mpsc::channel(1);
        let authority = authority("test").unwrap();
        let identity = Identity::new(&server_identity(&authority), Spoken::Grpc).unwrap();
        let supervisor = Arc::new(supervisor);
        let upkeep = Upkeep::start(&children, &logs, &supervisor, None, None);
        let engine = Engine::new(
            Arc::clone(&supervisor),
            Arc::clone(&logs),
            folder.path().join("dockerd.sock"),
            network.address,
            Arc::default(),
            Callers::default(),
        );
        let agent = Arc::new(Agent {
            image_digest: "sha256:test".into(),
            kubernetes_version: String::new(),
            etc,
            data: folder.path().into(),
            children,
            logs,
            supervisor,
            power: Power::Told(sender),
            rekey: Rekey {
                identity: identity.clone(),
                docker: None,
                signer: None,
                pki: folder.path().join("pki"),
                standstill: coracle_agent::standstill::Standstill::default(),
            },
            given: Arc::new(given),
            host_folders: Arc::default(),
            engine,
            upkeep,
            callers: Callers::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = AgentEndpoint::Tcp(listener.local_addr().unwrap());
        tokio::spawn(serve(listener, identity.clone(), Arc::clone(&agent)));
        Self {
            folder,
            agent,
            identity,
            authority,
            endpoint,
            powered,
        }
    }

    pub async fn client(&self) -> AgentClient {
        let credentials = credentials(&self.authority, &self.authority.pem);
        AgentClient::connect(&self.endpoint, &credentials, LIMIT_OF_A_TEST)
            .await
            .unwrap()
    }
}

#[allow(clippy::disallowed_methods)]
pub fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

/// Asks until it is so; panics after a while.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} did not come true");
}
