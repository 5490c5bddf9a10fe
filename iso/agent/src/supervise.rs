//! Keeps the components of the table running.
//!
//! One task a component:
//!
//! ```text
//! WAITING --those it comes after are ready--> STARTING --probe passes--> READY
//!                                               ^  |                      |
//!                                   back-off is |  | process ended        | process ended
//!                                          over |  v                      v
//!                                              BACKING_OFF <--------------+--one-shot, 0--> DONE
//!
//! WAITING --it is there on demand--> DONE, dormant --somebody needs it--> STARTING
//! any but WAITING --hold--> DONE, stands still --pause is over--> STARTING anew
//! ```
//!
//! All tasks write one table of states, which everybody else watches.

use crate::children::{Child, Children, Exit};
use crate::given::Environment;
use crate::kernel;
use crate::logs::{Log, Logs};
use crate::readiness::Probe;
use crate::table::{Component, Ready};
use coracle_protocol::api::{self, ComponentState};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot, watch};

/// Pauses between two questions whether it is ready.
const ASK: Duration = Duration::from_millis(100);
/// First and longest pause before an ended component is started again.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// A component that ran this long begins anew with the first pause.
const SETTLED: Duration = Duration::from_secs(60);

/// How long the threads of a process may take to stop where they are; beyond that it is killed.
const STANDS_STILL: Duration = Duration::from_secs(1);

/// Why a component was not restarted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RestartError {
    /// There is none of this name.
    #[error("there is no component {0}")]
    Unknown(String),
    /// It could not be started.
    #[error("{0}")]
    Failed(String),
    /// It was started anew, and was not ready in time.
    #[error("{name} was started and is not ready after {limit:?}")]
    NotReady {
        /// Which.
        name: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The machine is stopping.
    #[error("the machine is stopping")]
    Stopping,
}

enum Order {
    /// To run, where nobody needed it before.
    Begin,
    Restart(oneshot::Sender<Result<(), String>>),
    /// To stand still until the pause is over, and to begin anew then.
    Hold(Duration, oneshot::Sender<Option<Pid>>),
    Stop(oneshot::Sender<()>),
}

/// The running components.
#[derive(Debug)]
pub struct Supervisor {
    rows: Vec<Handle>,
    table: watch::Sender<Vec<api::Component>>,
}

#[derive(Debug)]
struct Handle {
    name: String,
    api: bool,
    outward: bool,
    on_demand: bool,
    stop_order: u32,
    orders: mpsc::Sender<Order>,
}

/// What every task needs.
#[derive(Clone)]
struct Shared {
    children: Children,
    logs: Arc<Logs>,
    probe: Probe,
    path: &'static str,
    outward: Environment,
    table: watch::Sender<Vec<api::Component>>,
}

impl Supervisor {
    /// Starts all components, each as soon as those before it are ready. Those that reach outward have
    /// what is in `outward` when they start.
    #[must_use]
    pub fn start(
        components: Vec<Component>,
        children: &Children,
        logs: &Arc<Logs>,
        probe: &Probe,
        outward: &Environment,
    ) -> Self {
        let states = components.iter().map(|component| api::Component {
            name: component.row.name.clone(),
            state: ComponentState::Waiting.into(),
            on_demand: component.row.on_demand,
            ..api::Component::default()
        });
        let table = watch::Sender::new(states.collect());
        let shared = Shared {
            children: children.clone(),
            logs: Arc::clone(logs),
            probe: probe.clone(),
            path: crate::boot::PATH,
            outward: outward.clone(),
            table: table.clone(),
        };
        let rows = components
            .into_iter()
            .enumerate()
            .map(|(index, component)| {
                let (orders, receiver) = mpsc::channel(4);
                let handle = Handle {
                    name: component.row.name.clone(),
                    api: component.row.api,
                    outward: component.row.outward,
                    on_demand: component.row.on_demand,
                    stop_order: component.row.stop_order,
                    orders,
                };
                let task = Task {
                    index,
                    component,
                    shared: shared.clone(),
                    orders: receiver,
                    needed: false,
                };
                tokio::spawn(task.run());
                handle
            });
        Self {
            rows: rows.collect(),
            table,
        }
    }

    /// The states of all components, in the order of the table.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Vec<api::Component>> {
        self.table.subscribe()
    }

    /// Restarts one; returns when its new process runs.
    pub async fn restart(&self, name: &str) -> Result<(), RestartError> {
        let row = self.row(name)?;
        let (done, answer) = oneshot::channel();
        let stopping = |_| RestartError::Stopping;
        row.orders
            .send(Order::Restart(done))
            .await
            .map_err(|_| RestartError::Stopping)?;
        answer
            .await
            .map_err(stopping)?
            .map_err(RestartError::Failed)
    }

    /// Returns when one is ready, which is started for it where that is done on demand.
    pub async fn need(&self, name: &str, limit: Duration) -> Result<(), RestartError> {
        let row = self.row(name)?;
        let mut table = self.watch();
        let is_ready = |table: &Vec<api::Component>| {
            let mut rows = table.iter();
            rows.any(|one| one.name == name && one.state() == ComponentState::Ready)
        };
        if is_ready(&table.borrow_and_update()) {
            return Ok(());
        }
        let sent = row.orders.send(Order::Begin).await;
        sent.map_err(|_| RestartError::Stopping)?;
        match tokio::time::timeout(limit, table.wait_for(is_ready)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(RestartError::Stopping),
            Err(_) => Err(RestartError::NotReady {
                name: name.to_owned(),
                limit,
            }),
        }
    }

    /// Restarts those that reach outward and run; returns when each is ready with its new process.
    pub async fn restart_outward(&self, limit: Duration) -> Result<(), RestartError> {
        for row in self.rows.iter().filter(|row| row.outward) {
            if row.on_demand {
                // Nobody waits for it, and whoever needs it does so by itself.
                if self.pid(&row.name).is_some() {
                    self.restart(&row.name).await?;
                }
                continue;
            }
            let mut table = self.watch();
            let is = |one: &api::Component| one.name == row.name;
            let pid_of =
                |table: &Vec<api::Component>| table.iter().find(|one| is(one)).map(|one| one.pid);
            let before = pid_of(&table.borrow_and_update());
            self.restart(&row.name).await?;
            let is_new = |table: &Vec<api::Component>| {
                let mut rows = table.iter();
                rows.any(|one| {
                    is(one) && one.state() == ComponentState::Ready && Some(one.pid) != before
                })
            };
            let ready = tokio::time::timeout(limit, table.wait_for(is_new)).await;
            if !matches!(ready, Ok(Ok(_))) {
                let name = row.name.clone();
                return Err(RestartError::NotReady { name, limit });
            }
        }
        Ok(())
    }

    /// Stops one as it stands (SIGSTOP), and returns when not one of its threads runs: that takes a moment,
    /// where an end takes many. When the pause is over, or by a restart, another process takes its place.
    /// Gives the process that stands still; none where there was none, or it had to be killed.
    pub async fn hold(&self, name: &str, pause: Duration) -> Result<Option<Pid>, RestartError> {
        let (done, answer) = oneshot::channel();
        let orders = &self.row(name)?.orders;
        let sent = orders.send(Order::Hold(pause, done)).await;
        sent.map_err(|_| RestartError::Stopping)?;
        answer.await.map_err(|_| RestartError::Stopping)
    }

    /// The processes of those that answer at the API.
    #[must_use]
    pub fn api(&self) -> BTreeSet<Pid> {
        let table = self.table.borrow();
        let rows = self.rows.iter().zip(table.iter());
        rows.filter(|(row, one)| row.api && one.pid != 0)
            .map(|(_, one)| Pid::from_raw(one.pid.cast_signed()))
            .collect()
    }

    /// The process of one that runs.
    #[must_use]
    pub fn pid(&self, name: &str) -> Option<u32> {
        let table = self.table.borrow();
        let one = table.iter().find(|one| one.name == name)?;
        Some(one.pid).filter(|pid| *pid != 0)
    }

    fn row(&self, name: &str) -> Result<&Handle, RestartError> {
        let row = self.rows.iter().find(|row| row.name == name);
        row.ok_or_else(|| RestartError::Unknown(name.to_owned()))
    }

    /// Stops for good those whose order is in the range, low orders first; those of one order
    /// at the same time. Each gets its own grace.
    pub async fn stop(&self, orders: std::ops::Range<u32>) {
        let groups: BTreeSet<u32> = self
            .rows
            .iter()
            .map(|row| row.stop_order)
            .filter(|one| orders.contains(one))
            .collect();
        for group in groups {
            let mut answers = Vec::new();
            for row in self.rows.iter().filter(|row| row.stop_order == group) {
                let (done, answer) = oneshot::channel();
                if row.orders.send(Order::Stop(done)).await.is_ok() {
                    answers.push(answer);
                }
            }
            for answer in answers {
                let _ = answer.await;
            }
        }
    }
}

struct Task {
    index: usize,
    component: Component,
    shared: Shared,
    orders: mpsc::Receiver<Order>,
    /// Somebody asked for it before it could begin.
    needed: bool,
}

/// How one life of a process ended.
enum End {
    /// By itself.
    Exit(Exit),
    /// Because it was to be restarted; the answer waits for the new process.
    Restart(oneshot::Sender<Result<(), String>>),
    /// Because it is to stand still for a while; without a process, if that had to be killed.
    Hold(Option<Child>, Duration, oneshot::Sender<Option<Pid>>),
    /// Because it was to be stopped.
    Stop(oneshot::Sender<()>),
}

/// How a time without a process ended.
enum Rest {
    Over,
    Restart(oneshot::Sender<Result<(), String>>),
    Stop(oneshot::Sender<()>),
    /// Nobody can give orders any more.
    Abandoned,
}

impl Task {
    async fn run(mut self) {
        let mut begins = self.wait_for_others().await;
        if self.component.row.on_demand && !self.needed && matches!(begins, Rest::Over) {
            self.set(ComponentState::Done, 0, "starts when it is needed");
            begins = self.rest(Duration::MAX).await;
        }
        let mut waiting = match begins {
            Rest::Over => None,
            Rest::Restart(answer) => Some(answer),
            Rest::Stop(done) => return self.stopped(done),
            Rest::Abandoned => return,
        };
        let mut back_off = BACK_OFF.0;
        loop {
            let began = Instant::now();
            let started = self.spawn();
            let end = match started {
                Ok((child, log)) => {
                    if let Some(answer) = waiting.take() {
                        let _ = answer.send(Ok(()));
                    }
                    self.live(child, &log).await
                }
                Err(error) => {
                    let reason = format!("cannot start {}: {error}", self.component.command[0]);
                    self.shared
                        .logs
                        .note(&format!("{}: {reason}", self.component.row.name));
                    if let Some(answer) = waiting.take() {
                        let _ = answer.send(Err(reason.clone()));
                    }
                    self.set(ComponentState::BackingOff, 0, &reason);
                    End::Exit(Exit::Status(127))
                }
            };
            let rest = match end {
                End::Stop(done) => Rest::Stop(done),
                End::Restart(answer) => {
                    back_off = BACK_OFF.0;
                    Rest::Restart(answer)
                }
                End::Hold(mut child, pause, held) => {
                    back_off = BACK_OFF.0;
                    let _ = held.send(child.as_ref().map(|child| child.pid));
                    self.held(pause);
                    let rest = self.rest(pause).await;
                    if let Some(child) = &mut child {
                        stop(child, Duration::ZERO).await;
                    }
                    rest
                }
                End::Exit(Exit::Status(0)) if self.component.row.one_shot => {
                    self.set(ComponentState::Done, 0, "");
                    self.rest(Duration::MAX).await
                }
                End::Exit(_) => {
                    if began.elapsed() > SETTLED {
                        back_off = BACK_OFF.0;
                    }
                    let rest = self.rest(back_off).await;
                    back_off = (back_off * 2).min(BACK_OFF.1);
                    rest
                }
            };
            match rest {
                Rest::Over => {}
                Rest::Restart(answer) => waiting = Some(answer),
                Rest::Stop(done) => return self.stopped(done),
                Rest::Abandoned => return,
            }
            self.shared
                .table
                .send_modify(|table| table[self.index].restarts += 1);
        }
    }

    /// Without a process until the time is over or an order comes. To be held meanwhile lasts from then on.
    async fn rest(&mut self, time: Duration) -> Rest {
        let mut time = time;
        loop {
            tokio::select! {
                () = tokio::time::sleep(time) => return Rest::Over,
                order = self.orders.recv() => match order {
                    Some(Order::Begin) if time == Duration::MAX => return Rest::Over,
                    // It begins again by itself.
                    Some(Order::Begin) => {}
                    Some(Order::Restart(answer)) => return Rest::Restart(answer),
                    Some(Order::Stop(done)) => return Rest::Stop(done),
                    Some(Order::Hold(pause, held)) => {
                        let _ = held.send(None);
                        self.held(pause);
                        time = pause;
                    }
                    None => return Rest::Abandoned,
                }
            }
        }
    }

    /// On purpose: whoever waits for all components need not wait for this one.
    fn held(&self, pause: Duration) {
        let until = format!("starts again in {} s", pause.as_secs());
        self.set(ComponentState::Done, 0, &until);
    }

    /// Waits until all it comes after are ready. A restart ordered meanwhile starts it at once.
    async fn wait_for_others(&mut self) -> Rest {
        let after = self.component.row.after.clone();
        let mut table = self.shared.table.subscribe();
        let are_ready = |table: &Vec<api::Component>| {
            after.iter().all(|name| {
                table
                    .iter()
                    .any(|one| one.name == *name && one.ready_at_uptime_millis > 0)
            })
        };
        loop {
            tokio::select! {
                _ = table.wait_for(are_ready) => return Rest::Over,
                order = self.orders.recv() => match order {
                    Some(Order::Stop(done)) => return Rest::Stop(done),
                    Some(Order::Restart(answer)) => return Rest::Restart(answer),
                    Some(Order::Begin) => self.needed = true,
                    // It does not run, and waits for longer than that.
                    Some(Order::Hold(_, held)) => drop(held.send(None)),
                    None => return Rest::Abandoned,
                }
            }
        }
    }

    fn spawn(&self) -> io::Result<(Child, Arc<Log>)> {
        let row = &self.component.row;
        let log = self.shared.logs.log(&row.name)?;
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let mut command = Command::new(&self.component.command[0]);
        command
            .args(&self.component.command[1..])
            .env_clear()
            .env("PATH", self.shared.path)
            .env("HOME", "/root");
        if row.outward {
            command.envs(self.shared.outward.variables());
        }
        command
            .envs(&row.environment)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer);
        in_own_session(&mut command);
        if row.timer_slack != 0 {
            with_timer_slack(&mut command, Duration::from_millis(row.timer_slack.into()));
        }
        let child = self.shared.children.spawn(&mut command)?;
        drop(command);
        if row.oom_score != 0 {
            set_oom_score(child.pid.as_raw(), row.oom_score);
        }
        nix::fcntl::fcntl(
            &reader,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
        )?;
        let reader = pipe::Receiver::from_owned_fd(reader)?;
        tokio::spawn(pump(reader, Arc::clone(&log)));
        Ok((child, log))
    }

    /// One life of the process, from its start to its end.
    async fn live(&mut self, mut child: Child, log: &Log) -> End {
        let pid = child.pid.as_raw().cast_unsigned();
        self.set(ComponentState::Starting, pid, "");
        let (shared, index) = (self.shared.clone(), self.index);
        let wanted = self.component.row.ready.clone();
        let mut ready = std::pin::pin!(until_ready(shared, index, wanted));
        let mut is_ready = false;
        let order = loop {
            tokio::select! {
                exit = child.exit() => {
                    if self.component.row.one_shot && exit == Exit::Status(0) {
                        return End::Exit(exit);
                    }
                    let line = log.last_line();
                    let detail =
                        if line.is_empty() { exit.to_string() } else { format!("{exit}: {line}") };
                    self.shared.logs.note(&format!("{} {detail}", self.component.row.name));
                    self.set(ComponentState::BackingOff, 0, &detail);
                    return End::Exit(exit);
                }
                () = &mut ready, if !is_ready => {
                    is_ready = true;
                    self.set(ComponentState::Ready, pid, "");
                }
                order = self.orders.recv() => if !matches!(order, Some(Order::Begin)) {
                    break order;
                },
            }
        };
        if let Some(Order::Hold(pause, held)) = order {
            let stands = stand_still(child.pid).await;
            if !stands {
                stop(&mut child, Duration::ZERO).await;
            }
            return End::Hold(stands.then_some(child), pause, held);
        }
        let grace = Duration::from_secs(self.component.row.stop_grace.into());
        stop(&mut child, grace).await;
        match order {
            Some(Order::Restart(answer)) => End::Restart(answer),
            Some(Order::Stop(done)) => End::Stop(done),
            Some(Order::Begin | Order::Hold(..)) | None => End::Stop(oneshot::channel().0),
        }
    }

    fn stopped(&self, done: oneshot::Sender<()>) {
        self.set(ComponentState::Done, 0, "stopped");
        let _ = done.send(());
    }

    fn set(&self, state: ComponentState, pid: u32, detail: &str) {
        let name = &self.component.row.name;
        let uptime = kernel::uptime_millis();
        self.shared.table.send_modify(|table| {
            let one = &mut table[self.index];
            one.state = state.into();
            one.pid = pid;
            detail.clone_into(&mut one.detail);
            let done = state == ComponentState::Done && self.component.row.one_shot;
            let first = one.ready_at_uptime_millis == 0;
            if first && (state == ComponentState::Ready || done) && detail.is_empty() {
                one.ready_at_uptime_millis = uptime;
                self.shared.logs.note(&format!("{name} is ready"));
            }
        });
    }
}

/// Asks until the answer is yes, and shows each new reason why it is not.
async fn until_ready(shared: Shared, index: usize, ready: Ready) {
    if ready == Ready::Ended {
        return std::future::pending().await;
    }
    let mut last = String::new();
    while let Err(reason) = shared.probe.ask(&ready).await {
        if reason != last {
            shared
                .table
                .send_modify(|table| reason.clone_into(&mut table[index].detail));
            last = reason;
        }
        tokio::time::sleep(ASK).await;
    }
}

/// Whether all threads of a process have stopped where they are, within [`STANDS_STILL`].
async fn stand_still(pid: Pid) -> bool {
    let _ = nix::sys::signal::kill(pid, Signal::SIGSTOP);
    let stopped = async {
        while !has_stopped(pid) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(STANDS_STILL, stopped).await.is_ok()
}

/// Whether the kernel says so of each thread (proc(5), the third field of stat).
pub(crate) fn has_stopped(pid: Pid) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    threads.into_iter().flatten().flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes()[0]);
        // A thread that ended meanwhile says nothing.
        matches!(state, Some(b'T' | b'Z' | b'X') | None)
    })
}

/// SIGTERM, and after the grace SIGKILL to its whole session.
async fn stop(child: &mut Child, grace: Duration) {
    let _ = nix::sys::signal::kill(child.pid, Signal::SIGTERM);
    if tokio::time::timeout(grace, child.exit()).await.is_err() {
        let _ = killpg(child.pid, Signal::SIGKILL);
        child.exit().await;
    }
}

/// The process leads a session and group of its own, so that signals to it reach nobody else; and what
/// whoever started this one ignores, Ctrl-C mostly, it does not.
pub(crate) fn in_own_session(command: &mut Command) {
    // SAFETY: setsid and signal are safe to call between fork and exec, and no handler is set.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP] {
                nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigDfl)?;
            }
            Ok(())
        });
    }
}

/// The process, all its threads and what it starts may be woken by timers that much later
/// (prctl(2), `PR_SET_TIMERSLACK`). An event that they wait for wakes them as soon as ever.
fn with_timer_slack(command: &mut Command, slack: Duration) {
    let nanoseconds = u64::try_from(slack.as_nanos()).unwrap_or(u64::MAX);
    // SAFETY: prctl is safe to call between fork and exec.
    unsafe {
        command.pre_exec(move || Ok(nix::sys::prctl::set_timerslack(nanoseconds)?));
    }
}

fn set_oom_score(pid: i32, score: i32) {
    let path = format!("/proc/{pid}/oom_score_adj");
    if let Ok(mut file) = std::fs::OpenOptions::new().write(true).open(path) {
        let _ = io::Write::write_all(&mut file, score.to_string().as_bytes());
    }
}

/// Copies what a component prints to its log until nobody holds the pipe any more.
pub(crate) async fn pump(mut reader: pipe::Receiver, log: Arc<Log>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = reader.read(&mut buffer).await {
        log.append(&buffer[..length]);
    }
}
