//! Add-ons: what runs in every cluster, or in those that ask for it, beyond Kubernetes itself.
//!
//! An add-on is a folder: `addon.toml` says what it is, `manifests/*.yaml` are templates of the
//! objects it is made of. The built-in ones are folders of this crate, embedded into the program; a
//! folder of the user's is read the same way. The data goes one way:
//!
//! ```text
//! folders -> Catalogue -> Addon + Values -> render -> objects -> apply -> wait_ready
//! ```
//!
//! The crate knows no machine and no credentials: the caller brings a [`kube::Client`]. It prints
//! nothing and reports through [`AddonObserver`].

mod addon;
mod apply;
mod catalogue;
mod definition;
mod kinds;
mod observer;
mod ready;
mod reason;
mod remove;
mod render;
mod retry;
mod values;

pub use addon::{Addon, Origin};
pub use apply::{ApplyError, FIELD_MANAGER, apply};
pub use catalogue::{Broken, Catalogue, CatalogueError, LookupError};
pub use definition::{Condition, DefinitionError, Enabled, Image, Readiness};
pub use observer::{AddonObserver, ObjectName};
pub use ready::{NotReady, WaitError, wait_ready};
pub use remove::{RemoveError, remove};
pub use render::{
    ADDON_LABEL, MANAGED_BY, MANAGED_BY_LABEL, RenderError, VERSION_ANNOTATION, render,
};
pub use values::{Values, ValuesError};
