//! Objects of an add-on away again, in the reverse of the order they were applied in.

use std::time::Duration;

use kube::Client;
use kube::api::{DeleteParams, DynamicObject};
use tokio::time::{Instant, sleep};

use crate::addon::Addon;
use crate::kinds::{self, Resources};
use crate::observer::{AddonObserver, ObjectName};
use crate::render::{self, RenderError, render};
use crate::retry::{self, Failure};
use crate::values::Values;

/// Namespaces that belong to the cluster, and go with no add-on.
const CLUSTERS_OWN: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Pause between two looks at an object that is being deleted.
const LOOK: Duration = Duration::from_millis(200);

/// Why an add-on was not removed. What is gone stays gone: removing again goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// It cannot be rendered; nothing was removed.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The API server refused, or did not answer within the limit.
    #[error("add-on {addon}: cannot remove {object}: {reason}")]
    Object {
        /// The add-on.
        addon: String,
        /// The object.
        object: ObjectName,
        /// What the API server said, or why it was not reached.
        reason: String,
    },
    /// The object was deleted, but something holds it.
    #[error("add-on {addon}: {object} is still being deleted after {} s; finalizers: {finalizers}", limit.as_secs())]
    Held {
        /// The add-on.
        addon: String,
        /// The object.
        object: ObjectName,
        /// How long was waited.
        limit: Duration,
        /// What holds it.
        finalizers: String,
    },
}

/// Deletes all objects of `addon` with what they own, and waits until they are gone. Objects that
/// are not there, and kinds that the API server does not know, count as gone. The namespaces of the
/// cluster itself stay, whatever a manifest says.
///
/// # Errors
/// The add-on cannot be rendered, a deletion is refused, or `limit` has passed.
pub async fn remove(
    client: &Client,
    addon: &Addon,
    values: &Values,
    limit: Duration,
    observer: &dyn AddonObserver,
) -> Result<Vec<ObjectName>, RemoveError> {
    let objects = render(addon, values)?;
    let deadline = Instant::now() + limit;
    let mut resources = Resources::default();
    let mut removed = Vec::with_capacity(objects.len());
    for object in objects.iter().rev() {
        let name = resources.name(object);
        if name.kind == "Namespace" && CLUSTERS_OWN.contains(&name.name.as_str()) {
            continue;
        }
        let told = |failure: &Failure, pause: Duration| {
            let doing = format!("remove {name}");
            observer.retrying(&addon.name, &doing, &failure.to_string(), pause);
        };
        match delete(client, &mut resources, object, deadline, told).await {
            Ok(None) => {}
            Ok(Some(held)) => {
                let finalizers = held.metadata.finalizers.unwrap_or_default().join(", ");
                return Err(RemoveError::Held {
                    addon: addon.name.clone(),
                    object: name,
                    limit,
                    finalizers: if finalizers.is_empty() {
                        "none".to_owned()
                    } else {
                        finalizers
                    },
                });
            }
            Err(failure) => {
                let reason = failure.to_string();
                return Err(RemoveError::Object {
                    addon: addon.name.clone(),
                    object: name,
                    reason,
                });
            }
        }
        observer.removed(&addon.name, &name);
        removed.push(name);
    }
    Ok(removed)
}

/// Deletes one object and waits until it is gone; the object when it is still there at `deadline`.
async fn delete(
    client: &Client,
    resources: &mut Resources,
    object: &DynamicObject,
    deadline: Instant,
    told: impl Fn(&Failure, Duration),
) -> Result<Option<DynamicObject>, Failure> {
    let gvk = render::gvk(object);
    let resource = match resources.find(&gvk) {
        Some(resource) => resource,
        None => {
            let request = || kinds::discover(client, &gvk);
            match retry::until(deadline, Failure::is_transient, &told, request).await {
                Ok(found) => {
                    resources.learn(&gvk, found.clone());
                    found
                }
                Err(failure) if failure.is_unknown_kind() => return Ok(None),
                Err(failure) => return Err(failure),
            }
        }
    };
    let api = kinds::api(client, &resource, object.metadata.namespace.as_deref());
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let parameters = DeleteParams::foreground();
    let request = || async { api.delete(name, &parameters).await.map(|_| ()) };
    match retry::until(deadline, Failure::is_transient, &told, request).await {
        Ok(()) => {}
        Err(failure) if failure.is_not_found() => return Ok(None),
        Err(failure) => return Err(failure),
    }
    loop {
        let request = || api.get_opt(name);
        let left = retry::until(deadline, Failure::is_transient, &told, request).await?;
        if left.is_none() || Instant::now() + LOOK >= deadline {
            return Ok(left);
        }
        sleep(LOOK).await;
    }
}
