//! Manifests of API versions that Kubernetes serves no more, brought to current ones.
//!
//! ```text
//! text -> documents, items of lists -> table.rs: what a kind of a version is now
//!              |                            |
//!              v                            v
//!         draft.rs: the text,   <--edits-- workload.rs, pod.rs, ingress.rs, autoscaler.rs, ...
//!         notes by line
//! ```
//!
//! [`migrate`] takes a text and gives a text. What it does not change stays byte for byte: comments, order,
//! quotes. Each change is a [`Note`] with the line of the text that was given; so is what a person has to
//! decide. A text of current versions is given back as it is, and is looked at all the same.
//!
//! Source of what changed between versions: Kubernetes' Deprecated API Migration Guide, and the types of the
//! versions themselves.

mod autoscaler;
mod draft;
mod ingress;
mod migrate;
mod note;
mod pod;
mod policy;
mod service;
mod table;
mod workload;

pub use coracle_yaml::YamlError;
pub use migrate::{Migration, is_manifest, migrate};
pub use note::{Note, Weight};
