//! What the end-to-end tests are made of: a [`Coracle`] in a sandbox of its own, commands with a
//! time limit, terminals, ordinary users, and checks that nothing is left behind.
//!
//! The tests run the built program (`CORACLE_BIN`, else `target/release/coracle`, else
//! `target/debug/coracle`) and know nothing of its inside. Those that need a machine take the
//! image, and most of them a template, from the state folder `CORACLE_TEST_HOME` (default
//! `target/test-home`), and run one at a time, whatever `--test-threads` says. Time limits only catch
//! what hangs.
//!
//! A failed assertion panics with the whole output of the command: that is how a test fails.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "this crate is test code: a panic is a failed test, and what is printed is its report"
)]

mod abilities;
mod account;
mod archive;
mod authority;
mod build;
mod document;
mod emulator;
mod files;
mod greeter;
mod image;
mod libvirtd;
mod mirror;
mod portable;
mod process;
mod profile;
mod run;
mod sandbox;
mod sections;
mod small_disk;
mod stream;
mod template;
mod terminal;
mod toolchains;
mod wait;
mod workspace;

pub use abilities::Abilities;
pub use account::Account;
pub use archive::{ImageArchive, archive_of_one_program};
pub use authority::Authority;
pub use build::build;
pub use document::{Block, Session, blocks, sessions, wildcard_match};
pub use emulator::{ANOTHER_QEMU, qemu_through};
pub use files::{append, damage, replace_in, repository, unpacked, write};
pub use greeter::{GREETING, greet};
pub use image::{OTHER_KUBERNETES, iso_image, layered_image, noise, small_image, small_image_for};
pub use libvirtd::Libvirtd;
pub use mirror::{Fault, Mirror, Request, read_head};
pub use portable::make_portable;
pub use process::{Process, alive, cpu_seconds, kill_pid, processes_naming, signal_pid};
pub use profile::Profile;
pub use run::{Done, Run, Started, installed};
pub use sandbox::{Coracle, binary, built_image, kept_folder, shared_home, target};
pub use sections::Sections;
pub use small_disk::SmallDisk;
pub use terminal::Terminal;
pub use toolchains::{go_env, rust_sysroot};
pub use wait::{until, until_some};
pub use workspace::Workspace;
