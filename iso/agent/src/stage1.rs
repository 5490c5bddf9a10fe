//! Stage 1, inside the initramfs: from a bare kernel to the root file system.
//!
//! It loads the modules that `/modules.list` names (in that order), finds the root disk,
//! mounts it, and becomes the agent on it. Everything that needs tools happens there.

use crate::disks::{self, Content, Disk};
use crate::kernel;
use crate::mounts::{self, Mount};
use coracle_protocol::ISO_ROOT;
use nix::mount::MsFlags;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long disks may take to appear.
const DISKS: Duration = Duration::from_secs(20);
const ROOT: &str = "/sysroot";
/// Where the ISO is mounted until the root file system has it.
const ISO: &str = "/iso";
/// Where the agent lives on the root file system.
const AGENT: &str = "/usr/lib/coracle/agent";

/// Why stage 1 could not hand over.
#[derive(Debug, thiserror::Error)]
pub enum Stage1Error {
    /// A mount failed.
    #[error(transparent)]
    Mount(#[from] mounts::MountError),
    /// A module could not be loaded.
    #[error("cannot load the module {module}")]
    Module {
        /// Its file.
        module: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No disk carries the root file system.
    #[error("no root disk within {DISKS:?}; found {found}")]
    NoRoot {
        /// The disks that are there and what they hold.
        found: String,
    },
    /// Another step failed.
    #[error("{step}")]
    Step {
        /// Which.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Runs stage 1; returns only when it failed.
pub fn run() -> Result<std::convert::Infallible, Stage1Error> {
    let step = |step| move |source| Stage1Error::Step { step, source };
    for mount in mounts::KERNEL {
        mounts::mount(mount)?;
    }
    load_modules(Path::new("/modules.list"))?;
    let disk = find_root()?;
    let device = disk.device.display().to_string();
    let read_only = |source, target, kind| {
        mounts::mount(&Mount {
            source,
            target,
            kind,
            flags: MsFlags::MS_RDONLY | MsFlags::MS_NOATIME,
            data: "",
        })
    };
    if disk.content == Content::Iso {
        read_only(&device, ISO, "iso9660")?;
        // A file that holds a file system is mounted as a disk is, since Linux 6.12.
        read_only(&format!("{ISO}/{ISO_ROOT}"), ROOT, "erofs")?;
        mounts::move_to(ISO, &format!("{ROOT}{}", mounts::ISO))?;
    } else {
        read_only(&device, ROOT, "erofs")?;
    }
    free_memory();
    for mount in mounts::KERNEL {
        mounts::move_to(mount.target, &format!("{ROOT}{}", mount.target))?;
    }
    std::env::set_current_dir(ROOT).map_err(step("cannot enter the root file system"))?;
    mounts::move_to(".", "/")?;
    nix::unistd::chroot(".").map_err(|error| step("cannot change the root")(error.into()))?;
    std::env::set_current_dir("/").map_err(step("cannot enter the root file system"))?;
    let error = Command::new(AGENT)
        .arg("boot")
        .env_clear()
        .env("PATH", crate::boot::PATH)
        .exec();
    Err(step("cannot start the agent on the root file system")(
        error,
    ))
}

fn load_modules(list: &Path) -> Result<(), Stage1Error> {
    // A kernel with everything built in needs no list.
    let Ok(list) = fs::read_to_string(list) else {
        return Ok(());
    };
    for module in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
        kernel::load_file(Path::new(module)).map_err(|source| Stage1Error::Module {
            module: module.to_owned(),
            source,
        })?;
    }
    Ok(())
}

fn find_root() -> Result<Disk, Stage1Error> {
    let mut found = Vec::new();
    let root = kernel::wait_for(DISKS, || {
        found = disks::find(Path::new("/sys/block"), Path::new("/dev")).unwrap_or_default();
        found
            .iter()
            .find(|disk| matches!(disk.content, Content::Root | Content::Iso))
            .cloned()
    });
    root.ok_or_else(|| {
        let found: Vec<String> = found
            .iter()
            .map(|disk| format!("{} ({:?})", disk.device.display(), disk.content))
            .collect();
        Stage1Error::NoRoot {
            found: if found.is_empty() {
                "none".into()
            } else {
                found.join(", ")
            },
        }
    })
}

/// The initramfs lives in memory and cannot be unmounted: what it held is deleted.
fn free_memory() {
    let kept = ["proc", "sys", "dev", "sysroot"];
    let Ok(entries) = fs::read_dir("/") else {
        return;
    };
    for entry in entries.flatten() {
        if kept.iter().all(|name| entry.file_name() != *name) {
            let path = entry.path();
            let _ = if path.is_dir() {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            };
        }
    }
}
