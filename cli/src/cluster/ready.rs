//! What has to be true before a cluster is called ready, as a table, each row with a hint.

use super::spec::Wait;
use crate::error::{Error, ErrorId, Result};
use crate::progress::Progress;
use coracle_protocol::api::Readiness;
use coracle_protocol::client::{AgentClient, AgentError, component_is_ready, is_ready, is_up};
use k8s_openapi::api::core::v1::Node;
use std::time::{Duration, Instant};

/// First and longest pause between two looks.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// The longest that one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// One fact about the Kubernetes API that a start waits for.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// What it belongs to, for `--wait`.
    pub wait: Wait,
    /// What is waited for.
    pub what: &'static str,
    /// What helps when it does not come true.
    pub hint: &'static str,
    check: Check,
}

#[derive(Debug, Clone, Copy)]
enum Check {
    Readyz,
    NodeReady,
    DefaultServiceAccount,
}

/// The API answers with the cluster's own credentials.
pub const API: &[Row] = &[Row {
    wait: Wait::ApiServer,
    what: "the API server to answer /readyz",
    hint: "`coracle logs -p {profile} --component kube-apiserver` shows why",
    check: Check::Readyz,
}];

/// A pod can be created and is scheduled.
pub const NODE: &[Row] = &[
    Row {
        wait: Wait::Node,
        what: "the node to be Ready",
        hint: "`coracle kubectl -p {profile} -- describe node` shows what it lacks",
        check: Check::NodeReady,
    },
    Row {
        wait: Wait::Node,
        what: "the default service account",
        hint: "`coracle logs -p {profile} --component kube-controller-manager` shows why it is missing",
        check: Check::DefaultServiceAccount,
    },
];

/// Waits for every row, in order, until `deadline`. `boot_id` is the one of the machine: what was
/// reported in an earlier boot does not count. It is empty where the machine does not tell.
pub async fn rows(
    client: &kube::Client,
    rows: &[Row],
    boot_id: &str,
    deadline: Instant,
    progress: &Progress,
) -> Result<()> {
    for row in rows {
        let mut pause = PAUSE.0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let look =
                tokio::time::timeout(REQUEST_LIMIT.min(left), row.check.look(client, boot_id));
            let state = match look.await {
                Ok(Ok(None)) => break,
                Ok(Ok(Some(state))) => state,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it does not answer".to_owned(),
            };
            tracing::debug!(what = row.what, state, "not ready");
            if Instant::now() + pause >= deadline {
                return Err(Error::new(
                    ErrorId::ControlPlaneTimeout,
                    format!("gave up waiting for {}", row.what),
                )
                .because(state)
                .help(row.hint));
            }
            if let crate::progress::Style::Terminal { .. } = progress.style() {
                progress.detail(&state);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(PAUSE.1);
        }
    }
    Ok(())
}

impl Check {
    /// None when it is true, else how things stand.
    async fn look(
        self,
        client: &kube::Client,
        boot_id: &str,
    ) -> std::result::Result<Option<String>, kube::Error> {
        match self {
            Self::Readyz => {
                let request = http::Request::get("/readyz")
                    .body(Vec::new())
                    .map_err(kube::Error::HttpError)?;
                let answer = client.request_text(request).await?;
                Ok((answer.trim() != "ok").then_some(answer))
            }
            Self::NodeReady => {
                let nodes: kube::Api<Node> = kube::Api::all(client.clone());
                let node = nodes.get_opt(super::boot::NODE_NAME).await?;
                let status = node.as_ref().and_then(|node| node.status.as_ref());
                let told = status.and_then(|status| Some(&status.node_info.as_ref()?.boot_id));
                if !boot_id.is_empty() && told.is_some_and(|told| told != boot_id) {
                    return Ok(Some("the kubelet has not reported since the boot".into()));
                }
                let ready = status.and_then(|status| {
                    status
                        .conditions
                        .as_ref()?
                        .iter()
                        .find(|condition| condition.type_ == "Ready")
                });
                Ok(match ready {
                    None => Some("the kubelet has not registered the node yet".into()),
                    Some(ready) if ready.status == "True" => None,
                    Some(ready) => Some(
                        ready
                            .message
                            .clone()
                            .unwrap_or_else(|| "it is not Ready".into()),
                    ),
                })
            }
            Self::DefaultServiceAccount => {
                use k8s_openapi::api::core::v1::ServiceAccount;
                let accounts: kube::Api<ServiceAccount> =
                    kube::Api::namespaced(client.clone(), "default");
                let found = accounts.get_opt("default").await?.is_some();
                Ok((!found).then(|| "it has not been made yet".into()))
            }
        }
    }
}

/// Waits until the agent says that the API server is up: asking itself would cost a handshake each.
pub async fn api_server(agent: &AgentClient, deadline: Instant, progress: &Progress) -> Result<()> {
    follow(
        agent,
        |table| component_is_ready(table, "kube-apiserver"),
        deadline,
        progress,
    )
    .await
}

/// Waits for all components that the agent supervises.
pub async fn components(agent: &AgentClient, deadline: Instant, progress: &Progress) -> Result<()> {
    follow(agent, is_ready, deadline, progress).await
}

async fn follow(
    agent: &AgentClient,
    enough: impl Fn(&Readiness) -> bool + Send,
    deadline: Instant,
    progress: &Progress,
) -> Result<()> {
    let mut shown = String::new();
    let show = |table: &Readiness| {
        let missing = missing(table);
        if missing != shown && !missing.is_empty() {
            progress.detail(&format!("waiting for {missing}"));
            shown = missing;
        }
    };
    let limit = deadline.saturating_duration_since(Instant::now());
    match agent.wait_until(enough, show, limit).await {
        Ok(_) => Ok(()),
        Err(error @ AgentError::NotReady { .. }) => Err(Error::caused_by(
            ErrorId::ControlPlaneTimeout,
            "the control plane did not come up in time",
            &error,
        )),
        Err(error) => Err(error.into()),
    }
}

fn missing(table: &Readiness) -> String {
    let names: Vec<_> = table
        .components
        .iter()
        .filter(|one| !one.on_demand && !is_up(one))
        .map(|one| one.name.as_str())
        .collect();
    names.join(", ")
}
