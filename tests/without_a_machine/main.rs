//! What needs no machine to be proven: bad input and faults before a boot, settings, outputs.
//! Runs in seconds. Where a start has to get as far as making a machine, it gets an image of a
//! few bytes (`small_image`), which no hypervisor could boot.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

mod autostart;
mod before_the_boot;
mod convert;
mod download;
mod host;
mod kubeconfigs;
mod logs;
mod outputs;
mod requests;
mod settings;
mod shipped;
