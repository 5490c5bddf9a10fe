//! Why an object is not ready: the pods behind it, and the last events about it and them.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client};
use serde_json::Value;
use tokio::time::timeout;

use crate::definition::Readiness;
use crate::kinds;
use crate::ready::kind_of;

/// The look must not make a time-out much longer than its limit.
const LIMIT: Duration = Duration::from_secs(5);
/// Events that are told, the newest.
const EVENTS: usize = 6;
/// Objects that are read of one kind.
const PAGE: u32 = 500;

/// What was found; empty where the API server did not answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) pods: Vec<String>,
    pub(crate) events: Vec<String>,
}

/// Looks at the pods and the events of a row's object.
pub(crate) async fn look(client: &Client, row: &Readiness) -> Found {
    let Some(namespace) = &row.namespace else {
        return Found::default();
    };
    let mut found = Found::default();
    let filled = async {
        let pods = pods(client, row, namespace).await?;
        found.pods = pods.iter().map(describe_pod).collect();
        let names: Vec<&str> = pods
            .iter()
            .filter_map(|pod| pod.metadata.name.as_deref())
            .collect();
        found.events = events(client, row, namespace, &names).await?;
        Ok::<(), kube::Error>(())
    };
    // A failure here leaves what was found so far; the error being explained is the caller's.
    let _ = timeout(LIMIT, filled).await;
    found
}

/// The pods that the object selects, or the pod that it is.
async fn pods(client: &Client, row: &Readiness, namespace: &str) -> Result<Vec<Pod>, kube::Error> {
    let all: Api<Pod> = Api::namespaced(client.clone(), namespace);
    if row.kind == "Pod" {
        return Ok(all.get_opt(&row.name).await?.into_iter().collect());
    }
    let Some(resource) = kinds::known(&kind_of(row)) else {
        return Ok(Vec::new());
    };
    let api: Api<DynamicObject> = kinds::api(client, &resource, Some(namespace));
    let Some(object) = api.get_opt(&row.name).await? else {
        return Ok(Vec::new());
    };
    let labels = object
        .data
        .pointer("/spec/selector/matchLabels")
        .and_then(Value::as_object);
    let Some(labels) = labels else {
        return Ok(Vec::new());
    };
    let selector: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    let parameters = ListParams::default()
        .labels(&selector.join(","))
        .limit(PAGE);
    Ok(all.list(&parameters).await?.items)
}

fn describe_pod(pod: &Pod) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or("?");
    let Some(status) = &pod.status else {
        return format!("pod {name}: it has no status yet");
    };
    let mut text = format!(
        "pod {name}: {}",
        status.phase.as_deref().unwrap_or("Unknown")
    );
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled {
        let message = condition
            .message
            .as_deref()
            .unwrap_or("it is not scheduled");
        text = format!("{text}, {message}");
    }
    let containers = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses);
    for container in containers.flatten() {
        if let Some(state) = describe_container(container) {
            text = format!("{text}, {state}");
        }
    }
    text
}

/// What is wrong with a container, if anything is.
fn describe_container(container: &ContainerStatus) -> Option<String> {
    let name = &container.name;
    let mut text = None;
    if let Some(state) = &container.state {
        if let Some(waiting) = &state.waiting {
            let reason = waiting.reason.as_deref().unwrap_or("no reason");
            let message = waiting
                .message
                .as_deref()
                .map_or(String::new(), |text| format!(" ({text})"));
            text = Some(format!("container {name} waits: {reason}{message}"));
        } else if let Some(ended) = state
            .terminated
            .as_ref()
            .filter(|ended| ended.exit_code != 0)
        {
            text = Some(format!("container {name} ended with {}", ended.exit_code));
        } else if state.running.is_some() && !container.ready {
            text = Some(format!("container {name} runs but is not ready"));
        }
    }
    let last = container
        .last_state
        .as_ref()
        .and_then(|last| last.terminated.as_ref());
    match (text, last) {
        (Some(text), Some(last)) => Some(format!(
            "{text}; it ended before with {} ({}), {} restarts",
            last.exit_code,
            last.reason.as_deref().unwrap_or("no reason"),
            container.restart_count,
        )),
        (text, _) => text,
    }
}

/// The newest events about the object, its pods, and what stands between (a ReplicaSet's name begins
/// with the Deployment's), oldest first.
async fn events(
    client: &Client,
    row: &Readiness,
    namespace: &str,
    pods: &[&str],
) -> Result<Vec<String>, kube::Error> {
    let all: Api<Event> = Api::namespaced(client.clone(), namespace);
    let prefix = format!("{}-", row.name);
    let mut events: Vec<Event> = all
        .list(&ListParams::default().limit(PAGE))
        .await?
        .items
        .into_iter()
        .filter(|event| {
            let name = event.involved_object.name.as_deref().unwrap_or_default();
            name == row.name || name.starts_with(&prefix) || pods.contains(&name)
        })
        .collect();
    events.sort_by_key(event_time);
    let newest = events.split_off(events.len().saturating_sub(EVENTS));
    Ok(newest.iter().map(describe_event).collect())
}

/// When an event was last seen, in nanoseconds since 1970.
fn event_time(event: &Event) -> i128 {
    let series = event
        .series
        .as_ref()
        .and_then(|series| series.last_observed_time.as_ref());
    let precise = series.or(event.event_time.as_ref()).map(|time| time.0);
    let coarse = event
        .last_timestamp
        .as_ref()
        .or(event.metadata.creation_timestamp.as_ref());
    precise
        .or(coarse.map(|time| time.0))
        .map_or(0, |time| time.as_nanosecond())
}

fn describe_event(event: &Event) -> String {
    let object = &event.involved_object;
    let times = event.count.filter(|count| *count > 1);
    format!(
        "{} {}: {}: {}{}",
        object.kind.as_deref().unwrap_or("object"),
        object.name.as_deref().unwrap_or("?"),
        event.reason.as_deref().unwrap_or("event"),
        event.message.as_deref().unwrap_or_default().trim(),
        times.map_or(String::new(), |count| format!(" ({count} times)")),
    )
}
