//! What a cluster says of itself: read from everywhere, searched for known problems, and packed
//! for a bug report.
//!
//! ```text
//! console, qemu, host-agent (files of the host) --+
//! components, kernel (the agent) -----------------+--> sources::read --> problems::Finder
//! system pods (the Kubernetes API) ---------------+         |
//!                                                           v
//! facts of the host, objects of the API ----------> bundle::pack --redact--> FILE.tar.gz
//! ```

pub mod bundle;
mod objects;
pub mod problems;
mod redact;
pub mod sources;
