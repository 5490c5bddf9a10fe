//! How the work on add-ons is reported.

use std::fmt;
use std::time::Duration;

use crate::definition::Readiness;

/// Kind, namespace and name of an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// Kind, such as `Deployment`.
    pub kind: String,
    /// Namespace; none for a kind that is in no namespace.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// Told what happens to an add-on. Every method does nothing unless it is overridden; `()` is an
/// observer that looks away.
pub trait AddonObserver: Send + Sync {
    /// An object was applied, the `done`th of `total`.
    fn applied(&self, addon: &str, object: &ObjectName, done: usize, total: usize) {
        let _ = (addon, object, done, total);
    }

    /// A request failed in a way that passes, and is made again after `pause`.
    fn retrying(&self, addon: &str, doing: &str, reason: &str, pause: Duration) {
        let _ = (addon, doing, reason, pause);
    }

    /// A row is not true yet; `state` says how far it is, such as `0 of 1 pods are available`.
    /// Called again only when the state changes.
    fn waiting(&self, addon: &str, row: &Readiness, state: &str) {
        let _ = (addon, row, state);
    }

    /// A row is true.
    fn ready(&self, addon: &str, row: &Readiness) {
        let _ = (addon, row);
    }

    /// An object is gone.
    fn removed(&self, addon: &str, object: &ObjectName) {
        let _ = (addon, object);
    }
}

impl AddonObserver for () {}
