//! A file system of its own, whose free space a test takes away and gives back.

use crate::Run;
use std::path::{Path, PathBuf};

/// A file system in memory, unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Puts a file system over an empty folder; None, with the reason printed, where this process is
    /// not root. It has room for the largest disk that a start asks for, and takes what is used.
    #[track_caller]
    pub fn mount(folder: &Path) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can mount the small file system");
            return None;
        }
        std::fs::create_dir_all(folder).expect("the sandbox is ours");
        Run::new("mount")
            .args(["-t", "tmpfs", "-o", "size=40g,mode=0700", "tmpfs"])
            .args([folder])
            .ok();
        let folder = folder.to_owned();
        Some(Self { folder })
    }

    /// Makes it so large, whatever is used already.
    #[track_caller]
    pub fn resize(&self, megabytes: u64) {
        let option = format!("remount,size={megabytes}m");
        Run::new("mount")
            .args(["-o", &option])
            .args([&self.folder])
            .ok();
    }

    /// How much of it is used.
    #[track_caller]
    pub fn used_megabytes(&self) -> u64 {
        let used = Run::new("df")
            .args(["--block-size=1M", "--output=used"])
            .args([&self.folder])
            .ok();
        used.text()
            .lines()
            .last()
            .and_then(|line| line.trim().parse().ok())
            .unwrap_or_else(|| panic!("{used}"))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let done = Run::new("umount").args([&self.folder]).done();
        assert!(done.code() == Some(0) || std::thread::panicking(), "{done}");
    }
}
