//! PID 1 of a machine: it mounts, configures, supervises, and serves the control API.
//!
//! The data flows one way:
//!
//! ```text
//! seed disk --disks--> GuestConfig --render, pki--> files in /etc
//!                          |                            |
//!                          v                            v
//! components.toml --table--> rows --supervise--> processes --readiness--> Readiness
//!                                                    |                        |
//!                                                   logs                      v
//!                                                    +------------------->   api   --> host
//! ```
//!
//! - [`stage1`] runs in the initramfs, finds the root file system and hands over;
//! - [`boot`] composes everything else, in order; [`disks`], [`mounts`], [`kernel`],
//!   [`network`], [`processors`] are its steps;
//! - [`children`] is the one place that starts and reaps processes: PID 1 inherits orphans, so
//!   nothing else may wait for a child;
//! - [`given`] places what the host gives beyond that: a proxy, authorities, names, files;
//! - [`host_folders`] mounts folders of the host, which answers what is asked of them;
//! - [`api`] answers the host, and works as well in a process that is not PID 1, which is how
//!   the tests run it.

pub mod accounts;
pub mod api;
pub mod boot;
pub mod children;
pub mod cri;
pub mod disks;
pub mod engine;
pub mod given;
pub mod host_folders;
pub mod images;
pub mod kernel;
pub mod logs;
pub mod mounts;
pub mod network;
pub mod pki;
pub mod place;
pub mod power;
pub mod processors;
pub mod readiness;
pub mod rekey;
pub mod render;
pub mod session;
pub mod signer;
pub mod sshd;
pub mod stage1;
pub mod standstill;
pub mod supervise;
pub mod table;
pub mod tls;
pub mod upkeep;
pub mod uplink;
