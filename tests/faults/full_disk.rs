//! The host's disk full under a running machine.

use coracle_tests::{Coracle, SmallDisk, until};
use std::time::Duration;

/// Only catches what hangs.
const LIMIT: Duration = Duration::from_secs(300);

/// A file system of their own for the machines of a sandbox.
pub(super) struct StateOnItsOwnDisk(SmallDisk);

impl StateOnItsOwnDisk {
    /// None, with the reason printed, where this process is not root.
    pub(super) fn mount(coracle: &Coracle) -> Option<Self> {
        let folder = coracle.home().join("machines");
        let disk = SmallDisk::mount(&folder)?;
        coracle.give_to_account(&folder);
        Some(Self(disk))
    }

    /// Takes the free space away, writes inside until the machine is paused, gives space, starts.
    pub(super) fn fill_and_free(&self, coracle: &Coracle) {
        let boot = coracle.boot_id();
        self.0.resize(self.0.used_megabytes() + 8);
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
        self.0.resize(20_000);
        coracle.run("start").ok();
        assert_eq!(writer.done().ok().text(), "60000000");
        assert_eq!(coracle.boot_id(), boot, "it should go on, not boot anew");
        coracle.run("status").ok();
    }
}
