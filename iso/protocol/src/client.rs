//! The host's end of the control API.
//!
//! [`AgentClient`] is one proven connection: it can be cloned, and every clone shares the
//! connection. Its methods are typed conveniences over the generated clients; whoever needs
//! the bare messages takes [`AgentClient::channel`].
//!
//! ```text
//! AgentEndpoint + AgentCredentials --connect--> AgentClient --exec--> ExecSession
//!                                                           --dial--> DialStream
//!                                                           --get---> tar bytes
//! ```

mod connect;
mod dial;
mod error;
mod exec;
mod transfer;

pub use connect::{AgentCredentials, AgentEndpoint, ConnectError};
pub use dial::{DatagramReceiver, DatagramSender, DialStream, Listener};
pub use error::AgentError;
pub use exec::{ExecEvent, ExecInput, ExecOutput, ExecSession};
pub use transfer::{ByteReader, LogLines};

use crate::api::{
    Component, ComponentState, ConfigureRequest, ContainerPort, ContainerPorts, HomeAsked,
    HomeBrought, InfoReply, InfoRequest, ListComponentsRequest, PowerAction, PowerRequest,
    Readiness, RekeyReply, RekeyRequest, RestartComponentRequest, SetClockReply, SetClockRequest,
    StandStillRequest, SyncRequest, WatchPortsRequest, WatchReadinessRequest,
    components_client::ComponentsClient, docker_client::DockerClient,
    machine_client::MachineClient,
};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tonic::transport::Channel;

/// First and longest pause between two attempts of [`AgentClient::connect_when_up`].
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));
/// Shortest and longest time for one attempt; it doubles after each that got no answer in it.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));
/// Added to a limit that the agent keeps itself, before the host stops waiting for it.
const SLACK: Duration = Duration::from_secs(5);

/// A connection to the agent of one machine.
#[derive(Debug, Clone)]
pub struct AgentClient {
    channel: Channel,
}

impl AgentClient {
    /// Connects once and proves the connection with a call, both within `limit`.
    pub async fn connect(
        endpoint: &AgentEndpoint,
        credentials: &AgentCredentials,
        limit: Duration,
    ) -> Result<Self, ConnectError> {
        tokio::time::timeout(limit, connect::connect(endpoint, credentials))
            .await
            .map_err(|_| ConnectError::TimedOut {
                endpoint: endpoint.to_string(),
                limit,
            })?
            .map(|channel| Self { channel })
    }

    /// Connects to a machine that may still be booting: goes on trying as long as nobody
    /// answers, until `limit` is over. What an agent refuses for good fails at once.
    pub async fn connect_when_up(
        endpoint: &AgentEndpoint,
        credentials: &AgentCredentials,
        limit: Duration,
    ) -> Result<Self, ConnectError> {
        let deadline = Instant::now() + limit;
        let mut pause = RETRY.0;
        let mut patience = PATIENCE.0;
        loop {
            // A forwarded port takes connections before anybody listens inside, and such an
            // attempt can hang: none may use up the whole limit.
            let left = deadline.saturating_duration_since(Instant::now());
            let attempt = left.min(patience);
            match Self::connect(endpoint, credentials, attempt).await {
                Err(error) if error.nobody_answers() && Instant::now() + pause < deadline => {
                    if matches!(error, ConnectError::TimedOut { .. }) {
                        patience = (patience * 2).min(PATIENCE.1);
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY.1);
                }
                Err(ConnectError::TimedOut { endpoint, .. }) => {
                    return Err(ConnectError::TimedOut { endpoint, limit });
                }
                done => return done,
            }
        }
    }

    /// The channel itself, for the generated clients of [`crate::api`].
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    fn machine(&self) -> MachineClient<Channel> {
        MachineClient::new(self.channel())
    }

    /// Versions, uptime, memory and disk.
    pub async fn info(&self) -> Result<InfoReply, AgentError> {
        Ok(self.machine().info(InfoRequest {}).await?.into_inner())
    }

    /// The table of components as it is now.
    pub async fn components(&self) -> Result<Readiness, AgentError> {
        let mut client = ComponentsClient::new(self.channel());
        Ok(client.list(ListComponentsRequest {}).await?.into_inner())
    }

    /// Follows the ports that the Docker engine's containers publish; see `Docker.WatchPorts`.
    pub async fn watch_container_ports(&self) -> Result<ContainerPortsWatch, AgentError> {
        let request = WatchPortsRequest {};
        let stream = DockerClient::new(self.channel())
            .watch_ports(request)
            .await?;
        Ok(ContainerPortsWatch(stream.into_inner()))
    }

    /// Adds settings to those of the Docker engine, an object as in `daemon.json`; see `Docker.Configure`.
    /// Whether that had others.
    ///
    /// # Errors
    /// [`AgentError::Invalid`] for what dockerd does not take.
    pub async fn configure_docker(&self, settings: String) -> Result<bool, AgentError> {
        let request = ConfigureRequest { settings };
        let mut client = DockerClient::new(self.channel());
        Ok(client.configure(request).await?.into_inner().changed)
    }

    /// Takes the machine's questions for the home folder of the host's user; see `Docker.BringHome`.
    pub async fn home_questions(&self) -> Result<HomeQuestions, AgentError> {
        // One question is asked at a time.
        let (answers, sent) = tokio::sync::mpsc::channel(1);
        let stream = DockerClient::new(self.channel())
            .bring_home(tokio_stream::wrappers::ReceiverStream::new(sent))
            .await?;
        Ok(HomeQuestions {
            asked: stream.into_inner(),
            answers,
        })
    }

    /// Restarts one component; returns when its new process runs.
    pub async fn restart_component(&self, name: &str) -> Result<(), AgentError> {
        let mut client = ComponentsClient::new(self.channel());
        client
            .restart(RestartComponentRequest {
                name: name.to_owned(),
            })
            .await?;
        Ok(())
    }

    /// Follows the table of components until each is ready or done; see [`Self::wait_until`].
    pub async fn wait_ready(
        &self,
        observer: impl FnMut(&Readiness) + Send,
        limit: Duration,
    ) -> Result<Readiness, AgentError> {
        self.wait_until(is_ready, observer, limit).await
    }

    /// Follows the table of components until `enough` holds of it, and returns it. The observer
    /// sees the whole table first and after every change. After `limit` the error carries the
    /// last table, so that a caller can say what was missing.
    pub async fn wait_until(
        &self,
        enough: impl Fn(&Readiness) -> bool + Send,
        mut observer: impl FnMut(&Readiness) + Send,
        limit: Duration,
    ) -> Result<Readiness, AgentError> {
        let mut last = Readiness::default();
        let follow = async {
            let mut tables = self
                .machine()
                .watch_readiness(WatchReadinessRequest {})
                .await?
                .into_inner();
            while let Some(table) = tables.message().await? {
                observer(&table);
                last = table;
                if enough(&last) {
                    return Ok(());
                }
            }
            Err(AgentError::Gone("the agent ended the watch".to_owned()))
        };
        match tokio::time::timeout(limit, follow).await {
            Ok(Ok(())) => Ok(last),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(AgentError::NotReady {
                limit,
                last: Box::new(last),
            }),
        }
    }

    /// Steps the guest's clock to `now`. The reply says by how much, and what the machine was given.
    pub async fn set_clock(&self, now: SystemTime) -> Result<SetClockReply, AgentError> {
        let unix_millis = unix_millis(now);
        let reply = self
            .machine()
            .set_clock(SetClockRequest { unix_millis })
            .await?;
        Ok(reply.into_inner())
    }

    /// Gives the machine another identity, a clock and fresh random numbers; see `Machine.Rekey`.
    /// `seed` is a seed disk, `entropy` random bytes of the host. This connection stays; the next
    /// one needs the credentials of the new identity. The reply says what the machine was given.
    pub async fn rekey(
        &self,
        seed: Vec<u8>,
        entropy: Vec<u8>,
        now: SystemTime,
    ) -> Result<RekeyReply, AgentError> {
        let request = RekeyRequest {
            seed,
            entropy,
            unix_millis: unix_millis(now),
        };
        Ok(self.machine().rekey(request).await?.into_inner())
    }

    /// Has all but the Kubernetes API stand still, for a copy that is about to be made.
    pub async fn stand_still(&self) -> Result<(), AgentError> {
        self.machine().stand_still(StandStillRequest {}).await?;
        Ok(())
    }

    /// Writes all file systems of the data disk to it.
    pub async fn sync(&self, limit: Duration) -> Result<(), AgentError> {
        let timeout_millis = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        let call = async { Ok(self.machine().sync(SyncRequest { timeout_millis }).await?) };
        within(limit + SLACK, call).await?;
        Ok(())
    }

    /// Begins to stop the machine; returns when the agent has begun. The connection ends with
    /// the machine.
    pub async fn power(&self, action: PowerAction, grace: Duration) -> Result<(), AgentError> {
        let grace_seconds = u32::try_from(grace.as_secs()).unwrap_or(u32::MAX);
        let request = PowerRequest {
            action: action.into(),
            grace_seconds,
        };
        self.machine().power(request).await?;
        Ok(())
    }
}

fn unix_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Whether the component of this name is ready.
#[must_use]
pub fn component_is_ready(table: &Readiness, name: &str) -> bool {
    let mut components = table.components.iter();
    components.any(|one| one.name == name && one.state() == ComponentState::Ready)
}

/// What containers publish, as it becomes.
#[derive(Debug)]
pub struct ContainerPortsWatch(tonic::Streaming<ContainerPorts>);

impl ContainerPortsWatch {
    /// All ports after the next change, and at first as they are.
    ///
    /// # Errors
    /// The machine is gone.
    pub async fn next(&mut self) -> Result<Vec<ContainerPort>, AgentError> {
        match self.0.message().await? {
            Some(all) => Ok(all.ports),
            None => Err(AgentError::Protocol("the agent ended a watch")),
        }
    }
}

/// The machine's questions for the home folder of the host's user.
#[derive(Debug)]
pub struct HomeQuestions {
    asked: tonic::Streaming<HomeAsked>,
    answers: tokio::sync::mpsc::Sender<HomeBrought>,
}

impl HomeQuestions {
    /// Waits for one.
    ///
    /// # Errors
    /// The machine is gone.
    pub async fn next(&mut self) -> Result<HomeAsked, AgentError> {
        match self.asked.message().await? {
            Some(asked) => Ok(asked),
            None => Err(AgentError::Protocol("the agent ended its questions")),
        }
    }

    /// Answers one.
    ///
    /// # Errors
    /// The machine is gone.
    pub async fn answer(&self, answer: HomeBrought) -> Result<(), AgentError> {
        let sent = self.answers.send(answer).await;
        sent.map_err(|_| AgentError::Protocol("the agent takes no answers"))
    }
}

/// Whether every component of the table is ready, or done as it should be.
#[must_use]
pub fn is_ready(table: &Readiness) -> bool {
    !table.components.is_empty()
        && table
            .components
            .iter()
            .all(|one| one.on_demand || is_up(one))
}

/// Whether a component is ready, or done as it should be.
#[must_use]
pub fn is_up(component: &Component) -> bool {
    matches!(
        component.state(),
        ComponentState::Ready | ComponentState::Done
    )
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, AgentError>>,
) -> Result<T, AgentError> {
    tokio::time::timeout(limit, call)
        .await
        .map_err(|_| AgentError::TimedOut { limit })?
}
