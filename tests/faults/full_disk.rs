//! The host's disk full under a running machine.

use coracle_tests::{Coracle, Run, until};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Only catches what hangs.
const LIMIT: Duration = Duration::from_secs(300);

/// A small file system for the machines, unmounted when dropped.
pub(super) struct StateOnItsOwnDisk {
    folder: PathBuf,
}

impl StateOnItsOwnDisk {
    /// Puts the machines of a sandbox on a file system of their own; None, with the reason printed,
    /// where this process is not root.
    pub(super) fn mount(coracle: &Coracle) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can mount the small file system");
            return None;
        }
        let folder = coracle.home().join("machines");
        fs::create_dir_all(&folder).unwrap();
        // It has to have room for the disk that is asked for, by `check`; it takes what is used.
        Run::new("mount")
            .args(["-t", "tmpfs", "-o", "size=40g,mode=0700", "tmpfs"])
            .args([&folder])
            .ok();
        coracle.give_to_account(&folder);
        Some(Self { folder })
    }

    fn resize(&self, megabytes: u64) {
        let option = format!("remount,size={megabytes}m");
        Run::new("mount")
            .args(["-o", &option])
            .args([&self.folder])
            .ok();
    }

    fn used_megabytes(&self) -> u64 {
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

    /// Takes the free space away, writes inside until the machine is paused, gives space, starts.
    pub(super) fn fill_and_free(&self, coracle: &Coracle) {
        let boot = coracle.boot_id();
        self.resize(self.used_megabytes() + 8);
        // The writer hangs with the machine and goes on with it.
        let mut writer = coracle
            .coracle([
                "ssh",
                "--",
                "head -c 60000000 /dev/urandom > filler && sync && wc -c < filler",
            ])
            .start();
        until("the machine is paused, and status says why", LIMIT, || {
            let status = coracle.run("status -o json").done();
            assert!(
                !writer.has_ended(),
                "60 MB were written to a disk with 8 MB free: {status}"
            );
            status.json()["Host"] == "Paused: host disk full"
        });
        let text = coracle.run("status").done();
        assert_eq!(text.code(), Some(3), "{text}");
        text.says("host: Paused: host disk full")
            .says("kubeconfig: Configured");
        let still = coracle.run("start").limit(Duration::from_secs(600)).done();
        still.fails(26, "CORACLE_HOST_STORAGE").advises("space");
        self.resize(20_000);
        coracle.run("start").ok();
        assert_eq!(writer.done().ok().text(), "60000000");
        assert_eq!(coracle.boot_id(), boot, "it should go on, not boot anew");
        coracle.run("status").ok();
    }
}

impl Drop for StateOnItsOwnDisk {
    fn drop(&mut self) {
        let done = Run::new("umount").args([&self.folder]).done();
        assert!(done.code() == Some(0) || std::thread::panicking(), "{done}");
    }
}
