//! The life of a host agent: from the first machine that it launches, or the one that it finds, to the
//! command that sends it away.
//!
//! ```text
//!            Launch                 the machine ends
//! (spawned) --------> Machine ----------------------> nothing --ABSENCE--> ends
//!     |                ^ ^  |                            |
//!     +--adopts--------+ |  +--Sleep--> asleep           |          Retire: ends, from every state
//!                        +---Launch-------+--------------+
//! ```
//!
//! It does one thing at a time: what a command asked for is over before the machine's end is looked at.

use super::activity::Activity;
use super::asleep::{self, Asleep};
use super::control::{self, Answer, Asked, LaunchFrom, Request};
use super::ports::{Order, Ports};
use super::rest::{self, Presence};
use super::services;
use super::{
    Report, Told, asked, channel, clock, containers, detach, errand, folders, guard, keep, log,
};
use crate::cluster::{Cluster, hibernate, own_ports};
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::settings::Settings;
use coracle_vm::{Driver as _, MachineDir, MachineState, Origin, RunningProcess, TemplateFiles};
use std::convert::Infallible;
use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// How long there may be no machine: a start that boots it anew comes sooner.
const ABSENCE: Duration = Duration::from_secs(60);
/// The pause before ports are led again that could not be.
const LEAD_PAUSE: Duration = Duration::from_secs(1);
/// How long the last answer may take on its way.
const FAREWELL: Duration = Duration::from_secs(1);
/// When a start has touched what it touches.
const START_UP: Duration = Duration::from_secs(2);

/// How a host agent begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum First {
    /// With the launch of a machine.
    Launch(LaunchFrom),
    /// With the machine that there is, after the host agent that launched it was lost.
    Adopt,
}

/// The machine that it holds.
enum Machine {
    /// None.
    Nothing,
    /// One that runs as this process's child.
    Launched(Box<RunningProcess>),
    /// One that an earlier host agent launched, or that a service of the host runs.
    Watched,
}

struct HostAgent {
    settings: Settings,
    dir: MachineDir,
    activity: Arc<Activity>,
    ports: Ports,
    machine: Machine,
    /// The same for whoever has the cluster rest and wake.
    presence: watch::Sender<Presence>,
    /// When to look at what a machine that began with a template has touched of it.
    learn: Option<(Instant, TemplateFiles)>,
    /// Since when there is no machine.
    absent_since: Instant,
    /// When to try again to lead the ports into the machine.
    lead_again: Option<Instant>,
    /// Tells a machine that was saved what time it is; its ports are led into it after that.
    stepping: Option<AbortOnDropHandle<()>>,
    /// Follow the Services and containers of a machine that there is, and what they order.
    following: Vec<AbortOnDropHandle<Infallible>>,
    orders: (mpsc::Sender<Order>, mpsc::Receiver<Order>),
    /// Commands that changed which folders the machine has.
    mounting: mpsc::Sender<folders::Order>,
}

/// What the hidden command does: begins, reports, and serves until it is not needed any more.
pub async fn serve(
    settings: &Settings,
    first: &First,
    tethered: bool,
    short_lives: u32,
) -> Result<u8> {
    detach::leave_terminal();
    detach::raise_file_limit();
    let begun = begin(settings, first).await;
    let report = match &begun {
        Ok(_) => Report::Running,
        Err(error) => Report::Failed(Told::from(error)),
    };
    let line =
        serde_json::to_string(&report).context(ErrorId::Internal, || "cannot report".into())?;
    // The parent may be gone: the machine goes on without it.
    let _ = writeln!(std::io::stdout(), "{line}").and_then(|()| std::io::stdout().flush());
    let (lock, listener, mut agent, mount_orders) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            log(&error.render(settings.profile.as_str()));
            return Ok(error.exit_code());
        }
    };
    let guard = guard::spawn(settings, tethered, short_lives);
    let (sender, requests) = mpsc::channel(1);
    let mut answering = tokio::spawn(control::serve(listener, sender));
    let dir = agent.dir.clone();
    let (activity, api) = (Arc::clone(&agent.activity), agent.ports.api());
    let presence = agent.presence.subscribe();
    let agent_presence = agent.presence.subscribe();
    let farewell = tokio::select! {
        farewell = agent.live(requests) => farewell,
        never = keep::logs_short(&dir) => match never {},
        never = clock::keep(settings) => match never {},
        never = folders::keep(settings, agent_presence, mount_orders) => match never {},
        never = rest::keep(settings, &activity, presence, api) => match never {},
        never = end_with_tether(settings), if tethered => match never {},
    };
    drop(guard);
    agent.ports.close().await;
    let has_answered = match farewell {
        Some(answer_to) => {
            let _ = answer_to.send(Answer::Retired);
            let answered = tokio::time::timeout(FAREWELL, &mut answering).await;
            answered.is_ok()
        }
        None => false,
    };
    if !has_answered {
        answering.abort();
        let _ = answering.await;
    }
    // Another one may begin from here on.
    drop(lock);
    keep::saves(&dir).await;
    Ok(0)
}

/// What [`begin`] gives.
type Begun = (
    File,
    channel::Listener,
    HostAgent,
    mpsc::Receiver<folders::Order>,
);

/// The lock that makes it the only one, where it is asked, and itself with a machine.
async fn begin(settings: &Settings, first: &First) -> Result<Begun> {
    let cluster = Cluster::find(settings)?;
    let dir = cluster.dir().clone();
    let lock = guard::lock(&dir).await?;
    let activity = Activity::new();
    let ports = Ports::open(
        cluster.endpoint(),
        own_ports(&cluster),
        Arc::clone(&activity),
    )?;
    // Before the machine runs, so that whoever sees it run finds somebody to ask.
    let listener = channel::listen(&dir)?;
    let (mounting, mount_orders) = mpsc::channel(1);
    let mut agent = HostAgent {
        settings: settings.clone(),
        dir,
        activity,
        ports,
        machine: Machine::Nothing,
        presence: watch::channel(Presence::Absent).0,
        learn: None,
        absent_since: Instant::now(),
        lead_again: None,
        stepping: None,
        following: Vec::new(),
        orders: mpsc::channel(1),
        mounting,
    };
    match first {
        First::Launch(from) => agent.launch(from).await?,
        First::Adopt => agent.adopt(&cluster).await?,
    }
    Ok((lock, listener, agent, mount_orders))
}

impl HostAgent {
    /// Until it is sent away, or there has been no machine for long. Gives who sent it away, and waits to
    /// hear that it is gone.
    async fn live(
        &mut self,
        mut requests: mpsc::Receiver<Asked>,
    ) -> Option<oneshot::Sender<Answer>> {
        loop {
            let machine_is_there = !matches!(self.machine, Machine::Nothing);
            let is_wanted = *self.presence.borrow() != Presence::Absent;
            let learn_at = self.learn.as_ref().map(|(at, _)| *at);
            tokio::select! {
                biased;
                asked = requests.recv() => {
                    let (request, answer_to) = asked?;
                    let answer = self.carry_out(request).await.unwrap_or_else(|error| {
                        log(&error.render(self.settings.profile.as_str()));
                        Answer::Failed(Told::from(&error))
                    });
                    if let Answer::Retired = answer {
                        // It is told when that is true.
                        return Some(answer_to);
                    }
                    let _ = answer_to.send(answer);
                }
                how = ended(&mut self.machine, &self.settings), if machine_is_there => {
                    log(&format!("the machine ended: {how}"));
                    self.machine_is_gone();
                }
                () = tokio::time::sleep_until(self.absent_since + ABSENCE), if !is_wanted => {
                    log("there is no machine any more");
                    return None;
                }
                () = sleep_until(learn_at) => self.learn(),
                () = sleep_until(self.lead_again) => self.lead().await,
                () = finished(&mut self.stepping) => {
                    self.stepping = None;
                    self.lead().await;
                }
                Some(Order { source, wanted, answer_to }) = self.orders.1.recv() => {
                    let published = self.ports.publish(source, wanted).await;
                    if machine_is_there && self.stepping.is_none() {
                        self.lead().await;
                    }
                    let _ = answer_to.send(published);
                }
            }
        }
    }

    async fn carry_out(&mut self, request: Request) -> Result<Answer> {
        Ok(match request {
            Request::Launch(from) => {
                self.launch(&from).await?;
                Answer::Launched
            }
            Request::Hibernate => {
                hibernate::hibernate(&Cluster::find(&self.settings)?).await?;
                Answer::Hibernated
            }
            Request::Sleep { wake_at } => {
                self.sleep(wake_at).await?;
                Answer::Asleep
            }
            Request::Capture(folder) => {
                let cluster = Cluster::find(&self.settings)?;
                let captured = asked::capture_from_here(&self.settings, &cluster, &folder);
                Answer::Captured(Box::pin(captured).await?)
            }
            Request::Published => Answer::Published(self.ports.published()),
            Request::Wait => Answer::Idle {
                launched: matches!(self.machine, Machine::Launched(_)),
            },
            Request::Mount => Answer::Mounted(self.mount().await?),
            Request::Retire => Answer::Retired,
        })
    }

    /// Launches the machine and leads the ports into it.
    async fn launch(&mut self, from: &LaunchFrom) -> Result<()> {
        self.machine_is_gone();
        let was_asleep = matches!(*self.presence.borrow(), Presence::Asleep { .. });
        let origin = match from {
            LaunchFrom::Boot => Origin::Boot,
            LaunchFrom::Saved => Origin::Saved(Box::new(hibernate::saved(&self.settings)?)),
            LaunchFrom::Template(folder) => Origin::Template(TemplateFiles::in_folder(folder)),
        };
        let cluster = Cluster::find(&self.settings)?;
        let driver = cluster.driver()?;
        let launching = driver.launch(cluster.dir(), cluster.machine_spec(), &origin);
        self.machine = match Box::pin(launching).await? {
            Some(process) => {
                log(&format!("the machine runs as process {}", process.pid));
                Machine::Launched(Box::new(process))
            }
            None => {
                log("the machine runs");
                Machine::Watched
            }
        };
        asleep::forget(&self.dir)?;
        self.presence.send_replace(Presence::Running);
        if was_asleep {
            // Who woke it is not served by an old clock.
            let stepping = tokio::spawn(clock::step(self.settings.clone()));
            self.stepping = Some(AbortOnDropHandle::new(stepping));
        } else {
            self.lead().await;
        }
        self.follow(match from {
            LaunchFrom::Template(_) => services::COURTESY_OF_A_CLONE,
            LaunchFrom::Boot | LaunchFrom::Saved => services::COURTESY,
        });
        self.learn = from
            .template()
            .map(|files| (Instant::now() + START_UP, files));
        tokio::spawn(keep::template(self.settings.clone(), from.clone()));
        Ok(())
    }

    /// Saves the machine, and holds its ports until somebody connects. Who does so meanwhile waits.
    async fn sleep(&mut self, wake_at: Option<i64>) -> Result<()> {
        self.ports.hold();
        if let Err(error) = hibernate::hibernate(&Cluster::find(&self.settings)?).await {
            self.lead().await;
            return Err(error);
        }
        self.machine_is_gone();
        let kept = Asleep {
            wake_at: wake_at.and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok()),
            ports: self.ports.wanted(),
        };
        kept.write(&self.dir)?;
        self.is_asleep(&kept);
        let dir = self.dir.clone();
        tokio::spawn(async move { keep::saves(&dir).await });
        Ok(())
    }

    fn is_asleep(&self, kept: &Asleep) {
        let wake_at = kept.wake_at;
        self.presence.send_replace(Presence::Asleep { wake_at });
    }

    /// Goes on with the machine that there is, or with the ports of one that sleeps.
    async fn adopt(&mut self, cluster: &Cluster) -> Result<()> {
        if cluster.state().await? == MachineState::Off {
            if let Some(kept) = Asleep::read(&self.dir) {
                log("goes on for a cluster that sleeps");
                self.ports.publish_all(&kept.ports).await;
                self.is_asleep(&kept);
            }
            return Ok(());
        }
        log("goes on with a machine whose host agent was lost");
        self.machine = Machine::Watched;
        self.presence.send_replace(Presence::Running);
        if let Err(error) = self.ports.inherit(cluster).await {
            log(&format!(
                "what was exposed is not known: {}",
                error.message()
            ));
        }
        self.lead().await;
        self.follow(services::COURTESY);
        Ok(())
    }

    /// Leads the ports into the machine. Somebody else may be at its monitor, for as long as a save takes.
    async fn lead(&mut self) {
        let led = async { self.ports.lead(&Cluster::find(&self.settings)?).await };
        self.lead_again = match led.await {
            Ok(()) => None,
            Err(error) => {
                log(&format!("ports are led later: {}", error.message()));
                Some(Instant::now() + LEAD_PAUSE)
            }
        };
    }

    fn follow(&mut self, courtesy: Duration) {
        let orders = self.orders.0.clone();
        let api = self.ports.api();
        let services = services::follow(self.settings.clone(), courtesy, api, orders.clone());
        let containers = containers::follow(self.settings.clone(), courtesy, orders);
        self.following = vec![
            AbortOnDropHandle::new(tokio::spawn(services)),
            AbortOnDropHandle::new(tokio::spawn(containers)),
        ];
    }

    fn machine_is_gone(&mut self) {
        self.following.clear();
        self.stepping = None;
        self.machine = Machine::Nothing;
        self.learn = None;
        self.lead_again = None;
        self.absent_since = Instant::now();
        self.ports.hold();
        match Asleep::read(&self.dir) {
            // One that could not be woken sleeps on.
            Some(kept) => self.is_asleep(&kept),
            None => drop(self.presence.send_replace(Presence::Absent)),
        }
    }

    /// Has the machine have what the cluster's record says; what it could not have, and why. Who serves
    /// folders tells within the time that the machine's agent may take to answer.
    async fn mount(&self) -> Result<Vec<(String, String)>> {
        let gone = || Error::new(ErrorId::Internal, "nobody serves folders");
        let (order, outcome) = oneshot::channel();
        self.mounting.send(order).await.map_err(|_| gone())?;
        let outcome = outcome.await.map_err(|_| gone())?;
        outcome.map_err(|reason| Error::new(ErrorId::Guest, reason))
    }

    fn learn(&mut self) {
        if let (Some((_, files)), Machine::Launched(process)) = (self.learn.take(), &self.machine)
            && let Ok(driver) = Cluster::find(&self.settings).and_then(|found| found.driver())
        {
            driver.learn(&self.dir, process, &files);
        }
    }
}

/// Waits for the machine's end and says how it was. May be cancelled.
async fn ended(machine: &mut Machine, settings: &Settings) -> String {
    let ended = match machine {
        Machine::Nothing => std::future::pending().await,
        Machine::Launched(process) => process.wait().await.map(|status| status.to_string()),
        Machine::Watched => off(settings)
            .await
            .map(|()| "nobody knows how".to_owned())
            .map_err(|error| std::io::Error::other(error.message().to_owned())),
    };
    ended.unwrap_or_else(|error| format!("its process is lost: {error}"))
}

/// Waits until no process runs the machine.
async fn off(settings: &Settings) -> Result<()> {
    /// Each time that is waited; a machine may run for months.
    const PATIENCE: Duration = Duration::from_secs(24 * 3600);
    let cluster = Cluster::find(settings)?;
    let driver = cluster.driver()?;
    loop {
        match driver.wait_off(cluster.dir(), PATIENCE).await {
            Err(coracle_vm::DriverError::TimedOut { .. }) => {}
            done => return Ok(done?),
        }
    }
}

/// Waits for a task's end. May be cancelled.
async fn finished(task: &mut Option<AbortOnDropHandle<()>>) {
    match task {
        // However it ended: it has said so.
        Some(task) => drop(task.await),
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Deletes the cluster when nobody holds the other end of standard input any more. The deletion ends
/// the machine, and sends this process away.
async fn end_with_tether(settings: &Settings) -> Infallible {
    let mut input = tokio::io::stdin();
    // Nothing is ever written there; an error is an end too.
    let _ = tokio::io::copy(&mut input, &mut tokio::io::sink()).await;
    log("the command that this cluster was made for has ended; deleting it");
    match errand::run(settings, &["delete"]).await {
        Ok(()) => log("it is deleted"),
        Err(error) => log(&format!("cannot delete it: {}", error.message())),
    }
    std::future::pending().await
}
