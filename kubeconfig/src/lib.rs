//! The kubeconfig of the host and the credentials of a cluster.
//!
//! [`Kubeconfig`] writes a cluster's context into the files that kubectl reads and takes it out
//! again, under client-go's lock, without changing a byte that others wrote. [`pki`] makes the
//! certificates and keys. Nothing here reads the environment; the caller hands in what it says.

mod edit;
mod entry;
mod error;
mod file;
mod former;
mod kubeconfig;
mod lock;
pub mod pki;
mod status;

pub use edit::EditError;
pub use entry::{ContextEntry, Extension, Identity};
pub use error::KubeconfigError;
pub use former::Former;
pub use kubeconfig::{Change, CurrentContext, Kubeconfig};
pub use lock::LockError;
pub use status::{Expected, Status};
