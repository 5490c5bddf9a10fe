//! Services as the host reaches them: what the API says of them, and what the host agent made of it.

use super::Cluster;
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::host_agent::{self, Owner, Published, Reach};
use coracle_vm::spec::Protocol;
use k8s_openapi::api::core::v1::{Namespace, Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use kube::runtime::watcher::{self, Event};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long the host agent may take to publish a Service's ports.
const PUBLISHING: Duration = Duration::from_secs(10);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// The label by which an endpoint slice names its Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// A Service in a list.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Listed {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its type, such as `NodePort`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Its ports, as `NAME/NUMBER` or `NUMBER`.
    pub target_ports: Vec<String>,
    /// Where it is reached from the host.
    pub ports: Vec<Reach>,
}

/// A Service's namespace and name.
pub type Key = (String, String);

/// The key of a Service.
pub fn key(service: &Service) -> Key {
    (service.namespace().unwrap_or_default(), service.name_any())
}

/// The protocol of a Service's port; none for SCTP, which nothing here leads.
pub fn protocol(port: &ServicePort) -> Option<Protocol> {
    match port.protocol.as_deref() {
        None | Some("TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some(_) => None,
    }
}

/// All Services of a cluster, as a watch tells of them.
#[derive(Debug, Default)]
pub struct Known {
    services: BTreeMap<Key, Service>,
    /// A list that is not complete yet.
    begun: BTreeMap<Key, Service>,
}

impl Known {
    /// What the watch said last; whether what is known may have changed. Nothing is known before the first
    /// list is complete.
    pub fn take(&mut self, said: Option<watcher::Result<Event<Service>>>) -> Result<bool> {
        let failed = || "cannot follow Services".to_owned();
        let event = said.ok_or_else(|| Error::new(ErrorId::ControlPlaneTimeout, failed()))?;
        match event.context(ErrorId::ControlPlaneTimeout, failed)? {
            Event::Init => {
                self.begun.clear();
                return Ok(false);
            }
            Event::InitApply(service) => {
                self.begun.insert(key(&service), service);
                return Ok(false);
            }
            Event::InitDone => self.services = std::mem::take(&mut self.begun),
            Event::Apply(service) => drop(self.services.insert(key(&service), service)),
            Event::Delete(service) => drop(self.services.remove(&key(&service))),
        }
        Ok(true)
    }

    /// Those that there are.
    pub fn services(&self) -> &BTreeMap<Key, Service> {
        &self.services
    }
}

/// All Services, or those of one namespace.
pub async fn list(cluster: &Cluster, namespace: Option<&str>) -> Result<Vec<Listed>> {
    let client = cluster.api()?;
    let api: Api<Service> = match namespace {
        Some(namespace) => {
            require_namespace(&client, namespace).await?;
            Api::namespaced(client, namespace)
        }
        None => Api::all(client),
    };
    let services = api
        .list(&ListParams::default())
        .await
        .context(ErrorId::ControlPlaneTimeout, || {
            "cannot list Services".into()
        })?;
    let published = host_agent::published(cluster.dir()).await?;
    Ok(services
        .items
        .iter()
        .map(|service| listed(service, &published))
        .collect())
}

fn listed(service: &Service, published: &[Published]) -> Listed {
    let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
    let spec = service.spec.as_ref();
    let ports = spec.and_then(|spec| spec.ports.as_ref());
    Listed {
        kind: spec.and_then(|spec| spec.type_.clone()).unwrap_or_default(),
        target_ports: ports
            .into_iter()
            .flatten()
            .map(|port| match &port.name {
                Some(name) => format!("{name}/{}", port.port),
                None => port.port.to_string(),
            })
            .collect(),
        ports: of(&namespace, &name, published),
        namespace,
        name,
    }
}

fn of(namespace: &str, name: &str, published: &[Published]) -> Vec<Reach> {
    published
        .iter()
        .filter(|one| {
            matches!(&one.owner, Owner::Service { namespace: in_namespace, name: is, .. }
                if in_namespace == namespace && is == name)
        })
        .map(|one| one.reach.clone())
        .collect()
}

/// Where one Service is reached. It has to have an endpoint within `limit`, and a port on the host.
pub async fn reach(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    limit: Duration,
) -> Result<Vec<Reach>> {
    let client = cluster.api()?;
    let api: Api<Service> = Api::namespaced(client.clone(), namespace);
    let found = api
        .get_opt(name)
        .await
        .context(ErrorId::ControlPlaneTimeout, || {
            format!("cannot read the Service {namespace}/{name}")
        })?;
    let Some(service) = found else {
        require_namespace(&client, namespace).await?;
        return Err(Error::new(
            ErrorId::ServiceNotFound,
            format!("there is no Service \"{name}\" in the namespace \"{namespace}\""),
        ));
    };
    let spec = service.spec.as_ref();
    let ports = spec.and_then(|spec| spec.ports.as_ref());
    let is_led = |port: &ServicePort| {
        // SCTP is not led.
        port.node_port.is_some() && port.protocol.as_deref() != Some("SCTP")
    };
    if !ports.into_iter().flatten().any(is_led) {
        let kind = spec
            .and_then(|spec| spec.type_.as_deref())
            .unwrap_or("ClusterIP");
        return Err(Error::new(
            ErrorId::ServiceInternal,
            format!("the Service \"{name}\" is a {kind}, which only pods reach"),
        )
        .help(format!(
            "`kubectl -n {namespace} port-forward service/{name} 8080:PORT` leads a port of this host to it; \
             with the type NodePort or LoadBalancer it has one for good"
        )));
    }
    require_endpoint(&client, namespace, name, limit).await?;
    let begun = Instant::now();
    loop {
        let reached = of(
            namespace,
            name,
            &host_agent::published(cluster.dir()).await?,
        );
        if !reached.is_empty() {
            return Ok(reached);
        }
        if begun.elapsed() >= PUBLISHING {
            return Err(Error::new(
                ErrorId::ServiceNotFound,
                format!("the Service \"{name}\" has not been published on this host yet"),
            ));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn require_namespace(client: &kube::Client, namespace: &str) -> Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    let found = api
        .get_opt(namespace)
        .await
        .context(ErrorId::ControlPlaneTimeout, || {
            format!("cannot read the namespace {namespace}")
        })?;
    match found {
        Some(_) => Ok(()),
        None => Err(Error::new(
            ErrorId::ServiceNotFound,
            format!("there is no namespace \"{namespace}\""),
        )
        .help("`kubectl get namespaces` shows those there are")),
    }
}

/// A Service without a pod that is ready answers nobody.
async fn require_endpoint(
    client: &kube::Client,
    namespace: &str,
    name: &str,
    limit: Duration,
) -> Result<()> {
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let labelled = ListParams::default().labels(&format!("{SERVICE_LABEL}={name}"));
    let begun = Instant::now();
    loop {
        let slices = api
            .list(&labelled)
            .await
            .context(ErrorId::ControlPlaneTimeout, || {
                format!("cannot read the endpoints of {name}")
            })?;
        let is_ready = slices
            .items
            .iter()
            .flat_map(|slice| slice.endpoints.iter().flatten())
            .any(|endpoint| {
                let conditions = endpoint.conditions.as_ref();
                // Absent means ready (the EndpointSlice API).
                conditions.and_then(|all| all.ready).unwrap_or(true)
            });
        if is_ready {
            return Ok(());
        }
        if begun.elapsed() >= limit {
            return Err(Error::new(
                ErrorId::ServiceWithoutEndpoints,
                format!("no pod behind the Service \"{name}\" is ready"),
            )
            .help(format!(
                "`kubectl -n {namespace} describe service {name}` shows its selector, `kubectl -n {namespace} get pods` the pods; \
                 --wait waits longer"
            )));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
