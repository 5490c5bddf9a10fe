//! Everything that says something about a cluster: files of the host, the machine's components, and
//! the pods of the system.

use crate::cluster::{self, Cluster};
use crate::error::{Context as _, Error, ErrorId, Result};
use coracle_protocol::client::{AgentClient, AgentError};
use coracle_vm::{MachineDir, log_file};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, LogParams};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the agent of a machine that runs may take to answer.
const AGENT_LIMIT: Duration = Duration::from_secs(10);
/// How long all logs of a machine may take.
const MACHINE_LIMIT: Duration = Duration::from_secs(120);
/// How long one request to the Kubernetes API may take.
pub(super) const API_LIMIT: Duration = Duration::from_secs(15);
/// The pause between two looks at a file that is followed.
const PAUSE: Duration = Duration::from_millis(250);
/// The namespace of the pods that belong to the cluster itself.
const SYSTEM: &str = "kube-system";

/// A log that is kept on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostLog {
    /// The serial console.
    Console,
    /// The hypervisor.
    Qemu,
    /// The host agent.
    HostAgent,
}

impl HostLog {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Console, Self::Qemu, Self::HostAgent];

    /// Its name as a source.
    pub fn name(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Qemu => "qemu",
            Self::HostAgent => "host-agent",
        }
    }

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|log| log.name() == name)
    }

    /// Its file.
    pub fn path(self, dir: &MachineDir) -> PathBuf {
        match self {
            Self::Console => dir.serial_log(),
            Self::Qemu => dir.qemu_log(),
            Self::HostAgent => cluster::host_agent_log(dir),
        }
    }
}

/// Where a line comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A file of the host; the former one holds what came before.
    Host {
        /// Which log.
        log: HostLog,
        /// Whether it is the former file.
        former: bool,
    },
    /// A component of the machine, its agent or its kernel.
    Machine(String),
    /// A container of the system's pods.
    Pod(String),
}

impl Source {
    /// Its name: a host log's, a component's or a container's; a former file's ends with `.old`.
    pub fn name(&self) -> String {
        match self {
            Self::Host { log, former: false } => log.name().to_owned(),
            Self::Host { log, former: true } => format!("{}.old", log.name()),
            Self::Machine(name) | Self::Pod(name) => name.clone(),
        }
    }
}

/// Whose lines are read, and which.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The machine's files.
    pub dir: &'a MachineDir,
    /// The cluster, unless its record is broken.
    pub cluster: Option<&'a Cluster>,
    /// The one source that is wanted.
    pub only: Option<&'a str>,
    /// How many last lines of each component; 0 stands for all that is kept.
    pub last: u32,
}

/// Gives every line to `each`, source by source in the order of their writing. What could not be
/// read is returned in sentences; the one source that is wanted has to be there.
pub async fn read(wanted: &Wanted<'_>, each: &mut dyn FnMut(&Source, &str)) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    match wanted.only {
        Some(name) => match HostLog::from_name(name) {
            Some(log) => {
                if !host(wanted.dir, log, each)? {
                    return Err(said_nothing(log));
                }
            }
            None => missing = component(wanted, name, each).await?,
        },
        None => {
            for log in HostLog::ALL {
                if let Err(error) = host(wanted.dir, log, each) {
                    missing.push(sentence(&error));
                }
            }
            everything_inside(wanted, each, &mut missing).await;
        }
    }
    Ok(missing)
}

/// An error as a sentence about what is missing.
pub fn sentence(error: &Error) -> String {
    error.joined(": ")
}

fn said_nothing(log: HostLog) -> Error {
    Error::new(
        ErrorId::MachineNotRunning,
        format!("there is no log of {} yet", log.name()),
    )
}

/// The lines of a log of the host, what came before first; whether there is such a log.
fn host(dir: &MachineDir, log: HostLog, each: &mut dyn FnMut(&Source, &str)) -> Result<bool> {
    let path = log.path(dir);
    let mut found = false;
    for (file, former) in [(log_file::former(&path), true), (path, false)] {
        let Some(text) = text(&file)? else { continue };
        found = true;
        let source = Source::Host { log, former };
        for line in text.lines() {
            each(&source, line);
        }
    }
    Ok(found)
}

/// A file of the host, unless it is not there.
fn text(file: &Path) -> Result<Option<String>> {
    match std::fs::read(file) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(error).context(ErrorId::Write, || format!("cannot read {}", file.display()))
        }
    }
}

/// The last lines of a log of the host.
pub fn last_lines(dir: &MachineDir, log: HostLog, count: usize) -> Result<Vec<String>> {
    let text = text(&log.path(dir))?.ok_or_else(|| said_nothing(log))?;
    let all: Vec<_> = text.lines().collect();
    let last = &all[all.len().saturating_sub(count)..];
    Ok(last.iter().map(|line| (*line).to_owned()).collect())
}

/// Gives `each` what is written to a log of the host from now on, for ever. A log that begins anew is
/// read from its beginning.
pub async fn follow(dir: &MachineDir, log: HostLog, each: impl Fn(&[u8])) -> Result<()> {
    let path = log.path(dir);
    let failed = || format!("cannot read {}", path.display());
    let mut at = std::fs::metadata(&path)
        .context(ErrorId::Write, failed)?
        .len();
    loop {
        tokio::time::sleep(PAUSE).await;
        // Between two boots there is none.
        let Ok(mut file) = std::fs::File::open(&path) else {
            at = 0;
            continue;
        };
        let end = file.metadata().context(ErrorId::Write, failed)?.len();
        if end < at {
            at = 0;
        }
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(at))
            .context(ErrorId::Write, failed)?;
        file.take(end - at)
            .read_to_end(&mut bytes)
            .context(ErrorId::Write, failed)?;
        at += bytes.len() as u64;
        each(&bytes);
    }
}

async fn agent(wanted: &Wanted<'_>) -> Result<AgentClient> {
    let cluster = wanted.cluster.ok_or_else(|| {
        Error::new(
            ErrorId::MachineBroken,
            "the machine is not asked: its record is damaged",
        )
    })?;
    cluster.require_running().await?;
    cluster.agent_within(AGENT_LIMIT).await
}

/// All components and all pods of the system.
async fn everything_inside(
    wanted: &Wanted<'_>,
    each: &mut dyn FnMut(&Source, &str),
    missing: &mut Vec<String>,
) {
    let agent = match agent(wanted).await {
        Ok(agent) => agent,
        Err(error) => {
            missing.push(sentence(&error));
            return;
        }
    };
    if let Err(error) = machine(&agent, "", wanted.last, each).await {
        missing.push(sentence(&error));
    }
    if let Err(error) = pods(wanted, None, each, missing).await {
        missing.push(sentence(&error));
    }
}

/// One component, or what the machine does not know by this name: a container of the system's pods.
async fn component(
    wanted: &Wanted<'_>,
    name: &str,
    each: &mut dyn FnMut(&Source, &str),
) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    let agent = agent(wanted).await?;
    match machine(&agent, name, wanted.last, each).await {
        Err(error) if error.id() == ErrorId::GuestNotFound => {
            match pods(wanted, Some(name), each, &mut missing).await {
                Ok(0) | Err(_) => Err(error),
                Ok(_) => Ok(missing),
            }
        }
        done => done.map(|()| missing),
    }
}

/// Lines of one component, or of all when the name is empty.
async fn machine(
    agent: &AgentClient,
    name: &str,
    last: u32,
    each: &mut dyn FnMut(&Source, &str),
) -> Result<()> {
    let reading = async {
        let mut chunks = agent.logs(name, false, last).await?;
        while let Some(chunk) = chunks.next().await? {
            let lead = format!("{}: ", chunk.component);
            let source = Source::Machine(chunk.component);
            for line in String::from_utf8_lossy(&chunk.data).lines() {
                // Of all sources at once, each line is led by its own.
                let line = if name.is_empty() {
                    line.strip_prefix(&lead).unwrap_or(line)
                } else {
                    line
                };
                each(&source, line);
            }
        }
        Ok(())
    };
    let limit = MACHINE_LIMIT;
    tokio::time::timeout(limit, reading)
        .await
        .unwrap_or(Err(AgentError::TimedOut { limit }))
        .map_err(Error::from)
}

/// Lines of the system's pods, or of one container's name among them; how many there were.
async fn pods(
    wanted: &Wanted<'_>,
    only: Option<&str>,
    each: &mut dyn FnMut(&Source, &str),
    missing: &mut Vec<String>,
) -> Result<usize> {
    let Some(cluster) = wanted.cluster else {
        return Ok(0);
    };
    let api: Api<Pod> = Api::namespaced(cluster.api()?, SYSTEM);
    let found = answered(api.list(&ListParams::default()), || {
        format!("cannot list the pods in {SYSTEM}")
    })
    .await?;
    let mut count = 0;
    for pod in &found {
        for container in containers_with_logs(pod) {
            if only.is_some_and(|only| only != container) {
                continue;
            }
            count += 1;
            let said = lines_of(&api, &pod.name_any(), container, wanted.last, each).await;
            if let Err(error) = said {
                missing.push(sentence(&error));
            }
        }
    }
    Ok(count)
}

/// Those that run or ran: the API has no log of others.
fn containers_with_logs(pod: &Pod) -> impl Iterator<Item = &str> {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().filter_map(|one| {
        let state = one.state.as_ref()?;
        (state.running.is_some() || state.terminated.is_some()).then_some(one.name.as_str())
    })
}

async fn lines_of(
    api: &Api<Pod>,
    pod: &str,
    container: &str,
    last: u32,
    each: &mut dyn FnMut(&Source, &str),
) -> Result<()> {
    let asked = LogParams {
        container: Some(container.to_owned()),
        tail_lines: (last > 0).then_some(i64::from(last)),
        ..LogParams::default()
    };
    let failed = || format!("cannot read the log of {container} in the pod {pod}");
    let said = answered(api.logs(pod, &asked), failed).await?;
    let source = Source::Pod(container.to_owned());
    for line in said.lines() {
        each(&source, line);
    }
    Ok(())
}

/// What the Kubernetes API answers in time.
pub(super) async fn answered<T>(
    asked: impl Future<Output = kube::Result<T>>,
    failed: impl Fn() -> String,
) -> Result<T> {
    tokio::time::timeout(API_LIMIT, asked)
        .await
        .context(ErrorId::ControlPlaneTimeout, &failed)?
        .context(ErrorId::ControlPlaneTimeout, &failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_vm::MachineName;

    fn machine(folder: &Path) -> MachineDir {
        MachineDir::new(MachineName::new("dev").unwrap(), folder.to_owned(), folder)
    }

    fn wanted<'a>(dir: &'a MachineDir, only: Option<&'a str>) -> Wanted<'a> {
        Wanted {
            dir,
            cluster: None,
            only,
            last: 0,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "nobody else reads it meanwhile")]
    fn write(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
    }

    #[tokio::test]
    async fn files_of_the_host_are_read_in_the_order_of_their_writing() {
        let folder = tempfile::tempdir().unwrap();
        let dir = machine(folder.path());
        write(&log_file::former(&dir.serial_log()), "first\nsecond\n");
        write(&dir.serial_log(), "third\r\n");
        write(&HostLog::HostAgent.path(&dir), "begun\n");
        let mut lines = Vec::new();
        let missing = read(&wanted(&dir, None), &mut |source, line| {
            lines.push(format!("{}: {line}", source.name()));
        })
        .await
        .unwrap();
        assert_eq!(
            lines,
            [
                "console.old: first",
                "console.old: second",
                "console: third",
                "host-agent: begun"
            ]
        );
        assert_eq!(missing, ["the machine is not asked: its record is damaged"]);
        assert_eq!(last_lines(&dir, HostLog::Console, 5).unwrap(), ["third"]);
    }

    #[tokio::test]
    async fn the_one_source_that_is_wanted_has_to_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let dir = machine(folder.path());
        for (name, code) in [("qemu", 33), ("etcd", 38)] {
            let refused = read(&wanted(&dir, Some(name)), &mut |_, _| {}).await;
            assert_eq!(refused.unwrap_err().exit_code(), code, "{name}");
        }
        write(&dir.qemu_log(), "");
        let read = read(&wanted(&dir, Some("qemu")), &mut |_, _| {}).await;
        assert_eq!(read.unwrap(), Vec::<String>::new());
    }
}
