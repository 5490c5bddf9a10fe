//! Objects to the API server: server-side apply, one after the other, in the order of their kinds.

use std::time::Duration;

use kube::Client;
use kube::api::{DynamicObject, Patch, PatchParams};
use tokio::time::Instant;

use crate::addon::Addon;
use crate::kinds::{self, Resources};
use crate::observer::{AddonObserver, ObjectName};
use crate::render::{self, RenderError, render};
use crate::retry::{self, Failure};
use crate::values::Values;

/// The owner of the fields that are applied, as `kubectl get -o yaml --show-managed-fields` shows.
pub const FIELD_MANAGER: &str = "coracle-addons";

/// Why an add-on was not applied. What was applied before stays: applying again goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// It cannot be rendered; nothing was applied.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The API server refused an object, or did not answer within the limit.
    #[error("add-on {addon}: cannot apply {object}: {reason}")]
    Object {
        /// The add-on.
        addon: String,
        /// The object.
        object: ObjectName,
        /// What the API server said, or why it was not reached.
        reason: String,
    },
}

/// Applies all objects of `addon` and returns their names in the order they were applied.
///
/// Server-side, as [`FIELD_MANAGER`], with conflicts decided for us: fields that somebody changed by
/// hand and that the manifest sets come back, others stay. Failures of an API server that is just
/// coming up are tried again until `limit` has passed.
///
/// # Errors
/// The add-on cannot be rendered, an object is refused, or `limit` has passed.
pub async fn apply(
    client: &Client,
    addon: &Addon,
    values: &Values,
    limit: Duration,
    observer: &dyn AddonObserver,
) -> Result<Vec<ObjectName>, ApplyError> {
    let objects = render(addon, values)?;
    let mut work = Work {
        client,
        addon,
        deadline: Instant::now() + limit,
        observer,
        own_kinds: objects.iter().filter_map(defined_kind).collect(),
        resources: Resources::default(),
    };
    let mut applied = Vec::with_capacity(objects.len());
    for object in &objects {
        if let Err(failure) = work.apply(object).await {
            return Err(ApplyError::Object {
                addon: addon.name.clone(),
                object: work.resources.name(object),
                reason: failure.to_string(),
            });
        }
        let name = work.resources.name(object);
        observer.applied(&addon.name, &name, applied.len() + 1, objects.len());
        applied.push(name);
    }
    Ok(applied)
}

/// The kind that a CustomResourceDefinition defines.
fn defined_kind(object: &DynamicObject) -> Option<String> {
    if render::gvk(object).kind != "CustomResourceDefinition" {
        return None;
    }
    object
        .data
        .pointer("/spec/names/kind")
        .and_then(|kind| kind.as_str())
        .map(str::to_owned)
}

/// One apply of one add-on.
struct Work<'a> {
    client: &'a Client,
    addon: &'a Addon,
    deadline: Instant,
    observer: &'a dyn AddonObserver,
    /// Kinds that the add-on itself defines: their resources appear a moment after the definition.
    own_kinds: Vec<String>,
    resources: Resources,
}

impl Work<'_> {
    async fn apply(&mut self, object: &DynamicObject) -> Result<(), Failure> {
        let gvk = render::gvk(object);
        let shown = self.resources.name(object);
        let told = |failure: &Failure, pause: Duration| {
            let doing = format!("apply {shown}");
            self.observer
                .retrying(&self.addon.name, &doing, &failure.to_string(), pause);
        };
        let resource = match self.resources.find(&gvk) {
            Some(resource) => resource,
            None => {
                let own = self.own_kinds.contains(&gvk.kind);
                let passes = |failure: &Failure| {
                    failure.is_transient() || (own && failure.is_unknown_kind())
                };
                let request = || kinds::discover(self.client, &gvk);
                let found = retry::until(self.deadline, passes, told, request).await?;
                self.resources.learn(&gvk, found.clone());
                found
            }
        };
        let api = kinds::api(self.client, &resource, object.metadata.namespace.as_deref());
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(object);
        let request = || async {
            api.patch(&shown.name, &parameters, &patch)
                .await
                .map(|_| ())
        };
        retry::until(self.deadline, Failure::is_transient, told, request).await
    }
}
