//! Machine: facts, readiness, clock, power.

use super::{Agent, Replies, blocking_reader};
use crate::kernel;
use crate::supervise::RestartError;
use coracle_protocol::api::give_request::Request as Giving;
use coracle_protocol::api::machine_server::Machine as Service;
use coracle_protocol::api::{
    GiveReply, GiveRequest, InfoReply, InfoRequest, PowerAction, PowerReply, PowerRequest,
    Readiness, RekeyReply, RekeyRequest, SetClockReply, SetClockRequest, StandStillReply,
    StandStillRequest, SyncReply, SyncRequest, WatchReadinessRequest,
};
use coracle_protocol::given::Given;
use coracle_protocol::seed;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use std::fs::{self, File};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status, Streaming};

/// How long what was restarted may take to be ready.
const READY: Duration = Duration::from_secs(120);

pub(super) struct Machine {
    agent: Arc<Agent>,
    stopping: AtomicBool,
}

impl Machine {
    pub(super) fn new(agent: Arc<Agent>) -> Self {
        Self {
            agent,
            stopping: AtomicBool::new(false),
        }
    }
}

#[tonic::async_trait]
impl Service for Machine {
    type WatchReadinessStream = Replies<Readiness>;

    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoReply>, Status> {
        let (memory_total_bytes, memory_used_bytes) =
            memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
        let disk = nix::sys::statvfs::statvfs(&self.agent.data).ok();
        let (disk_total_bytes, disk_used_bytes) = disk.map_or((0, 0), |disk| {
            let block = disk.fragment_size();
            (
                disk.blocks() * block,
                (disk.blocks() - disk.blocks_free()) * block,
            )
        });
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Response::new(InfoReply {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            image_digest: self.agent.image_digest.clone(),
            kernel_release: release.trim().to_owned(),
            kubernetes_version: self.agent.kubernetes_version.clone(),
            uptime_millis: kernel::uptime_millis(),
            memory_total_bytes,
            memory_used_bytes,
            disk_total_bytes,
            disk_used_bytes,
            clock_millis: clock_millis(),
            boot_id: boot_id.trim().to_owned(),
            callers: self.agent.callers.count(),
        }))
    }

    async fn watch_readiness(
        &self,
        _: Request<WatchReadinessRequest>,
    ) -> Result<Response<Self::WatchReadinessStream>, Status> {
        let tables = WatchStream::new(self.agent.supervisor.watch());
        Ok(Response::new(Box::pin(
            tables.map(|components| Ok(Readiness { components })),
        )))
    }

    async fn set_clock(
        &self,
        request: Request<SetClockRequest>,
    ) -> Result<Response<SetClockReply>, Status> {
        let wanted = request.into_inner().unix_millis;
        let before = clock_millis();
        self.step_clock(wanted)?;
        let stepped_millis = wanted.cast_signed() - before.cast_signed();
        Ok(Response::new(SetClockReply {
            stepped_millis,
            given: self.agent.given.digest(),
        }))
    }

    async fn rekey(&self, request: Request<RekeyRequest>) -> Result<Response<RekeyReply>, Status> {
        let request = request.into_inner();
        let config = seed::decode(request.seed.as_slice())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.step_clock(request.unix_millis)?;
        let agent = &self.agent;
        agent
            .rekey
            .take(&config, &request.entropy, &agent.supervisor, &agent.logs)
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(RekeyReply {
            given: agent.given.digest(),
        }))
    }

    async fn give(
        &self,
        request: Request<Streaming<GiveRequest>>,
    ) -> Result<Response<GiveReply>, Status> {
        let mut requests = request.into_inner();
        let Some(GiveRequest {
            request: Some(Giving::Given(json)),
        }) = requests.message().await?
        else {
            let text = "the first message says what is given";
            return Err(Status::invalid_argument(text));
        };
        let given: Given = serde_json::from_slice(&json)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let mut files = blocking_reader(requests, |request: GiveRequest| match request.request? {
            Giving::Files(data) => Some(data),
            Giving::Given(_) => None,
        });
        let agent = &self.agent;
        // First, so that what could not be guarded is not taken for given.
        if agent.given.host_access() != given.host_access {
            let guarded = agent.given.guard_host(&agent.children, given.host_access);
            guarded
                .await
                .map_err(|error| Status::internal(error.to_string()))?;
        }
        let receiver = Arc::clone(&agent.given);
        let taken = tokio::task::spawn_blocking(move || {
            let taken = receiver.take(given, &mut files);
            // What it did not need: whoever still sends would take an early answer for a broken stream.
            let _ = std::io::copy(&mut files, &mut std::io::sink());
            taken
        });
        let taken = taken.await;
        let taken = taken.map_err(|error| Status::internal(error.to_string()))?;
        let outward = taken.map_err(|error| Status::internal(error.to_string()))?;
        agent.logs.note("took what the host gives");
        if outward {
            let (supervisor, given) = (Arc::clone(&agent.supervisor), Arc::clone(&agent.given));
            // To its end, also where the caller goes away.
            let restarted = tokio::spawn(async move {
                supervisor.restart_outward(READY).await?;
                given.is_seen();
                Ok::<_, RestartError>(())
            });
            let restarted = restarted.await;
            restarted
                .map_err(|error| Status::internal(error.to_string()))?
                .map_err(|error| Status::internal(error.to_string()))?;
        }
        Ok(Response::new(GiveReply {}))
    }

    async fn sync(&self, request: Request<SyncRequest>) -> Result<Response<SyncReply>, Status> {
        let limit = Duration::from_millis(request.into_inner().timeout_millis.into());
        let data = self.agent.data.clone();
        // One file system, not all of them: a dead network mount would hang.
        let written = tokio::task::spawn_blocking(move || {
            File::open(data).and_then(|data| Ok(nix::unistd::syncfs(&data)?))
        });
        match tokio::time::timeout(limit, written).await {
            Ok(Ok(Ok(()))) => Ok(Response::new(SyncReply {})),
            Ok(Ok(Err(error))) => Err(Status::internal(format!("cannot sync: {error}"))),
            Ok(Err(error)) => Err(Status::internal(error.to_string())),
            Err(_) => Err(Status::deadline_exceeded(format!(
                "not written within {limit:?}"
            ))),
        }
    }

    async fn stand_still(
        &self,
        _: Request<StandStillRequest>,
    ) -> Result<Response<StandStillReply>, Status> {
        let (supervisor, logs) = (&self.agent.supervisor, &self.agent.logs);
        let stopped = self.agent.rekey.standstill.begin(&supervisor.api());
        logs.note(&format!("{stopped} processes stand still for a copy"));
        Ok(Response::new(StandStillReply {}))
    }

    async fn power(&self, request: Request<PowerRequest>) -> Result<Response<PowerReply>, Status> {
        let request = request.into_inner();
        let action = request.action();
        if action == PowerAction::Unspecified {
            return Err(Status::invalid_argument("no power action is named"));
        }
        // A second order changes nothing: the first one is being obeyed.
        if !self.stopping.swap(true, Ordering::SeqCst) {
            let agent = Arc::clone(&self.agent);
            let grace = Duration::from_secs(request.grace_seconds.into());
            tokio::spawn(async move {
                agent
                    .power
                    .stop(action, grace, &agent.supervisor, &agent.logs)
                    .await;
            });
        }
        Ok(Response::new(PowerReply {}))
    }
}

impl Machine {
    /// Whoever steps the clock has just let the machine go on, from wherever.
    fn step_clock(&self, unix_millis: u64) -> Result<(), Status> {
        let by = unix_millis.abs_diff(clock_millis());
        let time = TimeSpec::from_duration(Duration::from_millis(unix_millis));
        clock_settime(ClockId::CLOCK_REALTIME, time)
            .map_err(|error| Status::internal(format!("cannot set the clock: {error}")))?;
        let upkeep = &self.agent.upkeep;
        upkeep.clock_stepped(Duration::from_millis(by));
        upkeep.disk_changed();
        Ok(())
    }
}

fn clock_millis() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Total and used bytes from the text of /proc/meminfo.
fn memory(text: &str) -> (u64, u64) {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kibibytes.unwrap_or(0u64) * 1024
    };
    let total = field("MemTotal:");
    (total, total.saturating_sub(field("MemAvailable:")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_in_use_is_total_less_available() {
        let text = "MemTotal:        2048 kB\nMemFree:  1 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(memory(text), (2 << 20, 1 << 20));
        assert_eq!(memory(""), (0, 0));
    }
}
