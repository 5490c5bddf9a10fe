//! Waiting until an add-on is ready: its readiness rows, each followed by a watch.

use std::time::Duration;

use futures::{StreamExt as _, pin_mut};
use kube::api::{DynamicObject, WatchEvent, WatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use crate::addon::Addon;
use crate::definition::{Condition, Readiness};
use crate::kinds;
use crate::observer::AddonObserver;
use crate::reason;
use crate::retry::{self, Failure};

/// First pause before an object is looked at again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// A watch is renewed after this many seconds, in case its connection is dead without a sign.
const WATCH_SECONDS: u32 = 20;

/// Why an add-on is not ready.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The limit has passed.
    #[error("{0}")]
    TimedOut(Box<NotReady>),
    /// It cannot become ready any more: a condition such as `Failed` is true.
    #[error("{0}")]
    Failed(Box<NotReady>),
    /// The API server refuses to tell.
    #[error("add-on {addon}: cannot look at {row}: {reason}")]
    Refused {
        /// The add-on.
        addon: String,
        /// The row that was looked at.
        row: Box<Readiness>,
        /// What the API server said.
        reason: String,
    },
}

/// An add-on that is not ready, with all that helps to see why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotReady {
    /// The add-on.
    pub addon: String,
    /// The row that is not true; its hint says where to look.
    pub row: Readiness,
    /// How far the object of the row is.
    pub state: String,
    /// One line for each of its pods: phase, and why a container does not run.
    pub pods: Vec<String>,
    /// The last events about the object and its pods, oldest first.
    pub events: Vec<String>,
    /// How long was waited.
    pub waited: Duration,
}

impl std::fmt::Display for NotReady {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            addon,
            row,
            state,
            waited,
            ..
        } = self;
        let seconds = waited.as_secs_f32();
        write!(
            f,
            "add-on {addon} is not ready after {seconds:.0} s: {row}: {state}"
        )
    }
}

/// Waits until every readiness row of `addon` is true, or `limit` has passed.
///
/// A row is followed by a watch, so that the answer comes with the change; where there is nothing to
/// watch yet, or a watch breaks, the object is read again after a pause of at most 200 ms.
///
/// # Errors
/// `limit` has passed, with the state of the pods and the last events; or the API server refuses.
pub async fn wait_ready(
    client: &Client,
    addon: &Addon,
    limit: Duration,
    observer: &dyn AddonObserver,
) -> Result<(), WaitError> {
    let started = Instant::now();
    for row in &addon.readiness {
        let mut wait = Wait {
            addon,
            row,
            deadline: started + limit,
            observer,
            state: "the API server has not answered yet".to_owned(),
        };
        match wait.run(client).await {
            Ok(Verdict::Ready) => observer.ready(&addon.name, row),
            Err(Stop::Refused(failure)) => {
                return Err(WaitError::Refused {
                    addon: addon.name.clone(),
                    row: Box::new(row.clone()),
                    reason: failure.to_string(),
                });
            }
            Ok(Verdict::NotYet(_)) | Err(Stop::Deadline) => {
                let state = wait.state;
                return Err(WaitError::TimedOut(
                    not_ready(client, addon, row, state, started).await,
                ));
            }
            Ok(Verdict::Never(state)) => {
                return Err(WaitError::Failed(
                    not_ready(client, addon, row, state, started).await,
                ));
            }
        }
    }
    Ok(())
}

async fn not_ready(
    client: &Client,
    addon: &Addon,
    row: &Readiness,
    state: String,
    started: Instant,
) -> Box<NotReady> {
    let waited = started.elapsed();
    let found = reason::look(client, row).await;
    Box::new(NotReady {
        addon: addon.name.clone(),
        row: row.clone(),
        state,
        pods: found.pods,
        events: found.events,
        waited,
    })
}

/// What one look at an object says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ready,
    /// Not yet; how far it is.
    NotYet(String),
    /// Not any more; why.
    Never(String),
}

enum Stop {
    Deadline,
    Refused(Failure),
}

/// The wait for one row.
struct Wait<'a> {
    addon: &'a Addon,
    row: &'a Readiness,
    deadline: Instant,
    observer: &'a dyn AddonObserver,
    /// The last state that was seen.
    state: String,
}

impl Wait<'_> {
    async fn run(&mut self, client: &Client) -> Result<Verdict, Stop> {
        let api = self.api(client).await?;
        let mut pause = FIRST_PAUSE;
        loop {
            let seen = match retry::once(self.deadline, api.get_opt(&self.row.name)).await {
                Ok(seen) => seen,
                Err(failure) if failure.is_transient() => {
                    self.saw(failure.to_string());
                    self.pause(&mut pause).await?;
                    continue;
                }
                Err(failure) => return Err(Stop::Refused(failure)),
            };
            let state = self.state.clone();
            match self.judge(seen.as_ref()) {
                Verdict::NotYet(_) => {}
                done => return Ok(done),
            }
            let version = seen.and_then(|object| object.metadata.resource_version);
            if let Some(version) = version
                && let Some(done) = self.watch(&api, &version).await?
            {
                return Ok(done);
            }
            if self.state != state {
                pause = FIRST_PAUSE;
            }
            self.pause(&mut pause).await?;
        }
    }

    /// The API of the row's kind; an unknown kind may yet appear.
    async fn api(&mut self, client: &Client) -> Result<Api<DynamicObject>, Stop> {
        let gvk = kind_of(self.row);
        let namespace = self.row.namespace.as_deref();
        if let Some(resource) = kinds::known(&gvk) {
            return Ok(kinds::api(client, &resource, namespace));
        }
        let mut pause = FIRST_PAUSE;
        loop {
            match retry::once(self.deadline, kinds::discover(client, &gvk)).await {
                Ok(resource) => return Ok(kinds::api(client, &resource, namespace)),
                Err(failure) if failure.is_transient() || failure.is_unknown_kind() => {
                    self.saw(failure.to_string());
                    self.pause(&mut pause).await?;
                }
                Err(failure) => return Err(Stop::Refused(failure)),
            }
        }
    }

    /// Follows the object from `version` on until it is decided; none when the watch ends before.
    async fn watch(
        &mut self,
        api: &Api<DynamicObject>,
        version: &str,
    ) -> Result<Option<Verdict>, Stop> {
        let only = format!("metadata.name={}", self.row.name);
        let parameters = WatchParams::default().fields(&only).timeout(WATCH_SECONDS);
        let Ok(stream) = retry::once(self.deadline, api.watch(&parameters, version)).await else {
            return Ok(None);
        };
        pin_mut!(stream);
        loop {
            let event = timeout_at(self.deadline, stream.next()).await;
            match event.map_err(|_| Stop::Deadline)? {
                Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                    match self.judge(Some(&object)) {
                        Verdict::NotYet(_) => {}
                        done => return Ok(Some(done)),
                    }
                }
                Some(Ok(WatchEvent::Bookmark(_))) => {}
                Some(Ok(WatchEvent::Deleted(_) | WatchEvent::Error(_)) | Err(_)) | None => {
                    return Ok(None);
                }
            }
        }
    }

    fn judge(&mut self, object: Option<&DynamicObject>) -> Verdict {
        let verdict = match object {
            None => Verdict::NotYet("it is not there".to_owned()),
            Some(object) => judge(&self.row.condition, object),
        };
        if let Verdict::NotYet(state) = &verdict {
            self.saw(state.clone());
        }
        verdict
    }

    fn saw(&mut self, state: String) {
        if self.state != state {
            self.observer.waiting(&self.addon.name, self.row, &state);
            self.state = state;
        }
    }

    async fn pause(&self, pause: &mut Duration) -> Result<(), Stop> {
        if Instant::now() + *pause >= self.deadline {
            return Err(Stop::Deadline);
        }
        sleep(*pause).await;
        *pause = (*pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// Group, version and kind of a row's object.
pub(crate) fn kind_of(row: &Readiness) -> GroupVersionKind {
    match row
        .api_version
        .as_deref()
        .map(|version| version.rsplit_once('/'))
    {
        Some(Some((group, version))) => GroupVersionKind::gvk(group, version, &row.kind),
        Some(None) => GroupVersionKind::gvk(
            "",
            row.api_version.as_deref().unwrap_or_default(),
            &row.kind,
        ),
        None => {
            kinds::by_name(&row.kind).unwrap_or_else(|| GroupVersionKind::gvk("", "v1", &row.kind))
        }
    }
}

/// Judges an object that is there.
fn judge(condition: &Condition, object: &DynamicObject) -> Verdict {
    match condition {
        Condition::Exists => Verdict::Ready,
        Condition::RolledOut => rolled_out(object),
        Condition::Status(name) => status(name, &object.data),
    }
}

/// Fields of `.status` that count pods; a missing one counts none, as the API leaves zeros out.
fn count(data: &Value, field: &str) -> i64 {
    data.pointer(field)
        .and_then(Value::as_i64)
        .unwrap_or_default()
}

fn rolled_out(object: &DynamicObject) -> Verdict {
    let data = &object.data;
    let generation = object.metadata.generation.unwrap_or_default();
    if count(data, "/status/observedGeneration") < generation {
        return Verdict::NotYet("its controller has not seen it yet".to_owned());
    }
    let is_daemon_set = object
        .types
        .as_ref()
        .is_some_and(|types| types.kind == "DaemonSet");
    let (wanted, updated, available) = if is_daemon_set {
        (
            count(data, "/status/desiredNumberScheduled"),
            count(data, "/status/updatedNumberScheduled"),
            count(data, "/status/numberAvailable"),
        )
    } else {
        (
            data.pointer("/spec/replicas")
                .and_then(Value::as_i64)
                .unwrap_or(1),
            count(data, "/status/updatedReplicas"),
            count(data, "/status/availableReplicas"),
        )
    };
    if updated < wanted {
        return Verdict::NotYet(format!(
            "{updated} of {wanted} pods have the newest template"
        ));
    }
    if available < wanted {
        return Verdict::NotYet(format!("{available} of {wanted} pods are available"));
    }
    Verdict::Ready
}

fn status(name: &str, data: &Value) -> Verdict {
    let conditions = data.pointer("/status/conditions").and_then(Value::as_array);
    let find = |name: &str| {
        conditions
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == name)
    };
    if find(name).is_some_and(|condition| condition["status"] == "True") {
        return Verdict::Ready;
    }
    let failed = find("Failed").filter(|condition| condition["status"] == "True");
    if let (Some(failed), true) = (failed, name != "Failed") {
        return Verdict::Never(format!("it failed{}", because(failed)));
    }
    match find(name) {
        None => Verdict::NotYet(format!("it has no condition {name} yet")),
        Some(condition) => Verdict::NotYet(format!("it is not {name}{}", because(condition))),
    }
}

/// Reason and message of a condition, as far as it has them.
fn because(condition: &Value) -> String {
    let texts = ["reason", "message"].map(|field| condition[field].as_str().unwrap_or_default());
    match texts {
        ["", ""] => String::new(),
        [reason, ""] | ["", reason] => format!(": {reason}"),
        [reason, message] => format!(": {reason}: {message}"),
    }
}
