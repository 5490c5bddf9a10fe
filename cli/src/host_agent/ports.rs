//! The ports of the host that lead into the machine: open for as long as there is a host agent, whatever
//! the machine does.

use super::activity::Activity;
use super::forward::{Forward, Way};
use super::log;
use crate::cluster::{Cluster, Endpoint};
use crate::error::Result;
use coracle_protocol::{AGENT_PORT, API_PORT, DOCKER_PORT};
use coracle_vm::address::{AddressError, holder};
use coracle_vm::spec::Protocol;
use coracle_vm::{Driver as _, Exposed, GuestPort};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{oneshot, watch};

/// What is added to a port that cannot be had, for the first of those that are tried instead: 80 and 443,
/// which an ordinary user may not open on most hosts, become 8080 and 8443.
const ELSEWHERE: u16 = 8000;
/// How many are tried instead.
const ALTERNATIVES: u16 = 10;

/// Who asks for a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// A Service.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its port, by name where it has one.
        port: String,
    },
    /// A container of the Docker engine, by name.
    Container(String),
}

/// Who tells of owners, always of all of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The cluster's Services.
    Services,
    /// The Docker engine's containers.
    Containers,
}

impl Owner {
    fn source(&self) -> Source {
        match self {
            Self::Service { .. } => Source::Services,
            Self::Container(_) => Source::Containers,
        }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service {
                namespace,
                name,
                port,
            } => write!(f, "{namespace}/{name} port {port}"),
            Self::Container(name) => write!(f, "the container {name}"),
        }
    }
}

/// A port that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Wanted {
    /// Who.
    pub owner: Owner,
    /// Where the host is to listen.
    pub public: SocketAddr,
    /// Where that leads.
    pub guest: GuestPort,
}

impl Wanted {
    fn place(&self) -> Place {
        (self.public, self.guest)
    }

    fn published(&self, opened: std::result::Result<&Asked, String>) -> Published {
        let (address, problem) = match opened {
            Ok(asked) => (Some(asked.open.public), asked.problem.clone()),
            Err(problem) => (None, Some(problem)),
        };
        let port = match &self.owner {
            Owner::Service { port, .. } => port.clone(),
            Owner::Container(_) => self.guest.port.to_string(),
        };
        Published {
            owner: self.owner.clone(),
            reach: Reach {
                port,
                protocol: self.guest.protocol.as_str().to_owned(),
                address,
                problem,
            },
        }
    }
}

/// What came of a port that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Who.
    pub owner: Owner,
    /// Where the port is on the host.
    pub reach: Reach,
}

/// Somebody's port on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Reach {
    /// The port's name, or its number where it has none.
    pub port: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Where it is reached; none where the host cannot listen.
    pub address: Option<SocketAddr>,
    /// Why it is not where it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Ports to be open from now on, all of a source's.
#[derive(Debug)]
pub struct Order {
    /// Whose.
    pub source: Source,
    /// They.
    pub wanted: Vec<Wanted>,
    /// Who waits to hear what came of it.
    pub answer_to: oneshot::Sender<Vec<Published>>,
}

/// All ports of a cluster that are open.
#[derive(Debug)]
pub struct Ports {
    endpoint: Endpoint,
    activity: Arc<Activity>,
    /// Those that every cluster has.
    own: Vec<Open>,
    /// Those that somebody asked for, by where they should be and where they lead.
    asked: BTreeMap<Place, Asked>,
    /// What was asked for last, and what came of it.
    wanted: Vec<Wanted>,
    published: Vec<Published>,
    /// What was exposed for a port that is not wanted any more, and could not be concealed then.
    stale: Vec<Exposed>,
    /// What an earlier host agent has exposed.
    inherited: Vec<Exposed>,
}

/// Where a port should be, and where it leads.
type Place = (SocketAddr, GuestPort);

#[derive(Debug)]
struct Open {
    public: SocketAddr,
    guest: GuestPort,
    way: watch::Sender<Option<SocketAddr>>,
    forward: Forward,
}

#[derive(Debug)]
struct Asked {
    open: Open,
    problem: Option<String>,
}

impl Open {
    fn at(
        public: SocketAddr,
        guest: GuestPort,
        activity: &Arc<Activity>,
    ) -> std::result::Result<Self, AddressError> {
        let (way, following) = watch::channel(None);
        let forward = Forward::open(public, guest, following, Arc::clone(activity));
        Ok(Self {
            public,
            guest,
            way,
            forward: forward.map_err(|source| AddressError::of(public, source))?,
        })
    }
}

impl Ports {
    /// Opens those that the cluster has from its beginning ([`crate::cluster::own_ports`]).
    pub fn open(
        endpoint: Endpoint,
        own: Vec<(SocketAddr, u16)>,
        activity: Arc<Activity>,
    ) -> Result<Self> {
        let own = own.into_iter().filter_map(|(public, port)| {
            let guest = GuestPort {
                protocol: Protocol::Tcp,
                port,
            };
            match Open::at(public, guest, &activity) {
                // A cluster is one without Docker's clients too.
                Err(error) if port == DOCKER_PORT => {
                    log(&format!("the Docker API is not reached: {error}"));
                    None
                }
                opened => Some(opened),
            }
        });
        Ok(Self {
            endpoint,
            own: own.collect::<std::result::Result<_, AddressError>>()?,
            activity,
            asked: BTreeMap::new(),
            wanted: Vec::new(),
            published: Vec::new(),
            stale: Vec::new(),
            inherited: Vec::new(),
        })
    }

    /// Where the Kubernetes API answers now, without the count of who uses it.
    pub fn api(&self) -> Way {
        let own = self.own.iter().find(|open| open.guest.port == API_PORT);
        own.map_or_else(|| watch::channel(None).1, |open| open.way.subscribe())
    }

    /// What was asked for last.
    pub fn wanted(&self) -> Vec<Wanted> {
        self.wanted.clone()
    }

    /// Takes over what an earlier host agent has exposed: what is not asked for any more when Services
    /// are known is concealed.
    pub async fn inherit(&mut self, cluster: &Cluster) -> Result<()> {
        let exposed = cluster.driver()?.exposed(cluster.dir()).await?;
        let ours = exposed.into_iter().filter(|one| {
            one.guest.port != AGENT_PORT && self.own.iter().all(|open| open.guest != one.guest)
        });
        self.inherited = ours.collect();
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = &Open> {
        self.own
            .iter()
            .chain(self.asked.values().map(|asked| &asked.open))
    }

    /// Leads all of them into the machine, which runs.
    pub async fn lead(&mut self, cluster: &Cluster) -> Result<()> {
        let driver = cluster.driver()?;
        let guests: Vec<GuestPort> = self
            .all()
            .filter(|open| open.way.borrow().is_none())
            .map(|open| open.guest)
            .collect();
        if !guests.is_empty() {
            let address = self.endpoint.address;
            let exposed = driver.expose(cluster.dir(), address, &guests).await?;
            let exposed: BTreeMap<GuestPort, SocketAddr> =
                exposed.iter().map(|one| (one.guest, one.host)).collect();
            for open in self.all() {
                if let Some(host) = exposed.get(&open.guest) {
                    open.way.send_replace(Some(*host));
                }
            }
        }
        if !self.stale.is_empty() {
            driver.conceal(cluster.dir(), &self.stale).await?;
            self.stale.clear();
        }
        Ok(())
    }

    /// The machine is off: who connects waits.
    pub fn hold(&mut self) {
        for open in self.all() {
            open.way.send_replace(None);
        }
        // They are gone with it.
        self.stale.clear();
        self.inherited.clear();
    }

    /// Opens the ports that owners of a kind ask for, and closes all others of that kind. Where one cannot
    /// be had another is taken. [`lead`](Self::lead) leads the new ones.
    pub async fn publish(&mut self, source: Source, wanted: Vec<Wanted>) -> Vec<Published> {
        let mut all = self.wanted.clone();
        all.retain(|one| one.owner.source() != source);
        all.extend(wanted);
        let mut published = self.publish_all(&all).await;
        published.retain(|one| one.owner.source() == source);
        published
    }

    /// Opens all that are asked for, and closes all others but the cluster's own.
    pub async fn publish_all(&mut self, wanted: &[Wanted]) -> Vec<Published> {
        // Those that are not wanted any more are closed first: somebody else may ask for their places.
        let closed = self.close_all_but(wanted).await;
        let published: Vec<Published> = wanted
            .iter()
            .map(|one| one.published(self.opened(one, wanted)))
            .collect();
        let mut stale = std::mem::take(&mut self.stale);
        stale.extend(closed);
        stale.append(&mut self.inherited);
        stale.retain(|one| self.all().all(|open| open.guest != one.guest));
        self.stale = stale;
        for one in published.iter().filter(|one| !self.published.contains(one)) {
            if let Some(problem) = &one.reach.problem {
                log(&format!("{}: {problem}", one.owner));
            }
        }
        self.wanted = wanted.to_vec();
        self.published.clone_from(&published);
        published
    }

    /// Closes what is not wanted, or leads elsewhere now; gives what was exposed for it.
    async fn close_all_but(&mut self, wanted: &[Wanted]) -> Vec<Exposed> {
        let (kept, closed): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.asked)
            .into_iter()
            .partition(|(place, _)| wanted.iter().any(|one| one.place() == *place));
        self.asked = kept;
        let mut exposed = Vec::new();
        for asked in closed.into_values() {
            let (guest, host) = (asked.open.guest, *asked.open.way.borrow());
            exposed.extend(host.map(|host| Exposed { guest, host }));
            asked.open.forward.close().await;
        }
        exposed
    }

    /// Closes all of them.
    pub async fn close(self) {
        let asked = self.asked.into_values().map(|asked| asked.open);
        for open in self.own.into_iter().chain(asked) {
            open.forward.close().await;
        }
    }

    /// The port for what is wanted: the one that there is, unless that had to go elsewhere and its place
    /// is free now. The error tells why there is none.
    fn opened(&mut self, wanted: &Wanted, all: &[Wanted]) -> std::result::Result<&Asked, String> {
        let asked = match self.asked.remove(&wanted.place()) {
            Some(there) if there.problem.is_none() => there,
            Some(elsewhere) => match Open::at(wanted.public, wanted.guest, &self.activity) {
                Ok(open) => {
                    open.way.send_replace(*elsewhere.open.way.borrow());
                    let problem = None;
                    Asked { open, problem }
                }
                Err(_) => elsewhere,
            },
            None => open_somewhere(wanted, all, &self.activity)?,
        };
        Ok(self.asked.entry(wanted.place()).or_insert(asked))
    }

    /// What came of the ports that were asked for last.
    pub fn published(&self) -> Vec<Published> {
        self.published.clone()
    }
}

/// Where it should be; else near there where none of `all` should be, with a problem. The error tells
/// why it is nowhere.
fn open_somewhere(
    wanted: &Wanted,
    all: &[Wanted],
    activity: &Arc<Activity>,
) -> std::result::Result<Asked, String> {
    let public = wanted.public;
    let why = match Open::at(public, wanted.guest, activity) {
        Ok(open) => {
            let problem = None;
            return Ok(Asked { open, problem });
        }
        Err(AddressError::Taken { address }) => {
            let holder = holder(address, wanted.guest.protocol);
            let holder = holder.unwrap_or_else(|| "another program".to_owned());
            format!("{address} is used by {holder}")
        }
        Err(error) => error.to_string(),
    };
    let first = public.port().checked_add(ELSEWHERE);
    let others = first
        .into_iter()
        .flat_map(|first| first..first.saturating_add(ALTERNATIVES));
    for port in others {
        let other = SocketAddr::new(public.ip(), port);
        if all.iter().any(|one| one.public == other) {
            continue;
        }
        if let Ok(open) = Open::at(other, wanted.guest, activity) {
            return Ok(Asked {
                open,
                problem: Some(format!("{why}; it is at {other} instead")),
            });
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A cluster's, at this address.
    fn opened(address: &str) -> Ports {
        let endpoint = Endpoint {
            address: address.parse().unwrap(),
            api_port: 26443,
            agent_port: 27443,
            ssh_port: 22222,
            docker_port: Some(23766),
        };
        let own = vec![
            (endpoint.api(), API_PORT),
            (endpoint.docker().unwrap(), DOCKER_PORT),
        ];
        Ports::open(endpoint, own, Activity::new()).unwrap()
    }

    fn wanted(public: &str, guest: u16) -> Wanted {
        Wanted {
            owner: Owner::Service {
                namespace: "default".into(),
                name: "shop".into(),
                port: "http".into(),
            },
            public: public.parse().unwrap(),
            guest: GuestPort {
                protocol: Protocol::Tcp,
                port: guest,
            },
        }
    }

    #[tokio::test]
    async fn ports_are_opened_kept_and_closed_as_they_are_asked_for() {
        let mut ports = opened("127.88.77.1");
        let one = wanted("127.88.77.1:30080", 30080);
        let two = wanted("127.88.77.1:30081", 30081);
        let published = ports.publish_all(&[one.clone(), two.clone()]).await;
        assert!(published.iter().all(|one| one.reach.problem.is_none()));
        assert_eq!(published[1].reach.address, Some(two.public));
        TcpListener::bind(one.public).unwrap_err();
        ports.publish_all(std::slice::from_ref(&two)).await;
        TcpListener::bind(one.public).unwrap();
        TcpListener::bind(two.public).unwrap_err();
        // What comes to the place of another one in the same breath gets it.
        let three = wanted("127.88.77.1:30081", 30082);
        let published = ports.publish_all(std::slice::from_ref(&three)).await;
        assert_eq!(published[0].reach.problem, None);
        ports.close().await;
        TcpListener::bind(two.public).unwrap();
    }

    #[tokio::test]
    async fn containers_and_services_leave_each_others_ports_alone() {
        let mut ports = opened("127.88.77.4");
        let service = wanted("127.88.77.4:30080", 30080);
        let container = Wanted {
            owner: Owner::Container("web".into()),
            ..wanted("127.88.77.4:8080", 8080)
        };
        ports.publish(Source::Services, vec![service.clone()]).await;
        let published = ports
            .publish(Source::Containers, vec![container.clone()])
            .await;
        assert_eq!(published.len(), 1);
        assert_eq!(published[0].reach.address, Some(container.public));
        ports.publish(Source::Services, Vec::new()).await;
        TcpListener::bind(service.public).unwrap();
        TcpListener::bind(container.public).unwrap_err();
    }

    #[tokio::test]
    async fn one_that_goes_elsewhere_takes_nobodys_place() {
        let _held = TcpListener::bind("127.88.77.3:30080").unwrap();
        let mut ports = opened("127.88.77.3");
        let one = wanted("127.88.77.3:30080", 30080);
        let two = wanted("127.88.77.3:38080", 30081);
        let published = ports.publish_all(&[one, two.clone()]).await;
        assert_eq!(
            published[0].reach.address,
            Some("127.88.77.3:38081".parse().unwrap())
        );
        assert_eq!(
            (published[1].reach.address, &published[1].reach.problem),
            (Some(two.public), &None)
        );
    }

    #[tokio::test]
    async fn a_port_that_somebody_holds_is_elsewhere_until_it_is_free() {
        let held = TcpListener::bind("127.88.77.2:30080").unwrap();
        let mut ports = opened("127.88.77.2");
        let one = wanted("127.88.77.2:30080", 30080);
        let published = ports.publish_all(std::slice::from_ref(&one)).await;
        let actual = published[0].reach.address.unwrap();
        assert_eq!(actual, "127.88.77.2:38080".parse().unwrap());
        let problem = published[0].reach.problem.clone().unwrap();
        assert!(
            problem.contains(&format!(
                "(process {}); it is at 127.88.77.2:38080",
                std::process::id()
            )),
            "{problem}"
        );
        drop(held);
        let published = ports.publish_all(std::slice::from_ref(&one)).await;
        assert_eq!(
            (published[0].reach.address, &published[0].reach.problem),
            (Some(one.public), &None)
        );
    }
}
