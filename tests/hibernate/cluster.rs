//! A cluster of these tests, as its files, its processes and its guest show it.

use coracle_tests::{Coracle, Done, Process, Profile, until};
use std::fs;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Beyond whatever a saved cluster was seen to need, by far; it only catches what hangs.
pub(super) const LIMIT: Duration = Duration::from_secs(600);

/// One cluster of a sandbox, and its saved state.
#[derive(Clone, Copy)]
pub(super) struct Cluster<'a>(Profile<'a>);

impl<'a> Deref for Cluster<'a> {
    type Target = Profile<'a>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<'a> Cluster<'a> {
    pub(super) fn new(coracle: &'a Coracle, name: &'a str) -> Self {
        Self(Profile { coracle, name })
    }

    /// A new cluster for `test` alone, which is gone afterwards, however that ended.
    #[track_caller]
    pub(super) fn used_for(self, test: impl FnOnce(Self)) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            self.cloned();
            test(self);
        }));
        if let Err(failure) = outcome {
            self.command("delete").done();
            resume_unwind(failure);
        }
        self.delete();
    }

    /// A new cluster, from the template.
    #[track_caller]
    pub(super) fn cloned(&self) {
        let start = self.command("start").ok();
        assert!(
            !start.stderr.contains("Starting the control plane"),
            "it booted: {start}"
        );
        eprintln!("{} is there after {:.2?}", self.name, start.took);
    }

    /// Stops it; it is saved.
    #[track_caller]
    pub(super) fn stop(&self) -> Done {
        let stop = self.command("stop").ok().says("is saved after");
        assert!(!stop.stderr.contains("warning"), "{stop}");
        assert!(self.save().join("save.json").is_file(), "{stop}");
        stop
    }

    /// Starts it; it goes on from its save, which is used up by that.
    #[track_caller]
    pub(super) fn wake(&self) -> Done {
        let start = self.command("start").ok().says("is ready after");
        assert!(!start.stderr.contains("cold"), "{start}");
        self.has_no_save();
        start
    }

    /// Fails the test unless nothing is left of a saved state, or of one that was cut off.
    #[track_caller]
    pub(super) fn has_no_save(&self) {
        let names = self.files();
        let left: Vec<_> = names
            .iter()
            .filter(|name| *name == "save" || name.starts_with('.'))
            .collect();
        assert!(left.is_empty(), "a save is left: {left:?}");
    }

    /// What is in its folder.
    pub(super) fn files(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.folder()) else {
            return Vec::new();
        };
        entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }

    pub(super) fn save(&self) -> PathBuf {
        self.folder().join("save")
    }

    /// Whether it is being saved right now.
    pub(super) fn is_saving(&self) -> bool {
        self.files().iter().any(|name| name.starts_with(".saving-"))
    }

    /// Waits until its save is on the disk, whatever happens to the host.
    #[track_caller]
    pub(super) fn until_durable(&self) {
        until("the save is durable", LIMIT, || {
            self.save().join("durable").exists()
        });
    }

    #[track_caller]
    pub(super) fn hypervisor(&self) -> u32 {
        self.coracle.hypervisor(self.name).pid
    }

    /// Waits until neither its hypervisor nor its host agent is left.
    #[track_caller]
    pub(super) fn until_gone(&self) {
        let folder = self.folder().display().to_string();
        until("its processes end", LIMIT, || {
            let processes = self.coracle.processes();
            let named = |one: &Process| one.command.contains(&folder);
            self.host_agent().is_none() && !processes.iter().any(named)
        });
    }

    /// Puts something into its memory that is nowhere else, and that no compression makes small; gives
    /// what [`Self::filled`] says as long as it is there.
    #[track_caller]
    pub(super) fn fill(&self) -> String {
        self.fill_with(30)
    }

    /// The same with so many megabytes.
    #[track_caller]
    pub(super) fn fill_with(&self, megabytes: u64) -> String {
        self.inside(&format!(
            "head -c {megabytes}000000 /dev/urandom | sudo tee /dev/shm/filler > /dev/null"
        ));
        self.filled()
    }

    #[track_caller]
    pub(super) fn filled(&self) -> String {
        self.inside("sudo md5sum < /dev/shm/filler")
    }

    /// It is still this boot, and the cluster is well: on a busy host the API may take its time.
    #[track_caller]
    pub(super) fn still_runs(&self, boot: &str) {
        assert_eq!(self.boot_id(), boot, "it booted anew");
        until("the node is ready", LIMIT, || {
            let nodes = self.kubectl_run("get nodes --no-headers").done();
            nodes.code() == Some(0) && nodes.stdout.contains(" Ready ")
        });
        self.command("status").ok();
    }

    /// Fails the test unless the guest's clock is within a second of the host's, `ahead` of it.
    #[track_caller]
    pub(super) fn clock_is(&self, ahead: Duration) {
        let host = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + ahead;
        let before = host();
        let guest: f64 = self.inside("date +%s.%N").parse().unwrap();
        let after = host();
        assert!(
            guest > before.as_secs_f64() - 1.0 && guest < after.as_secs_f64() + 1.0,
            "the guest says {guest}, the host {before:?} to {after:?}"
        );
    }

    /// A start that is killed when it comes to a step, and what it said until then.
    #[track_caller]
    pub(super) fn start_until(&self, step: &str) -> Done {
        self.command("start").killed_at(step)
    }

    /// Removes it, and all of it.
    #[track_caller]
    pub(super) fn delete(&self) {
        self.coracle.delete(self.name);
    }
}

/// Copies a save; what it shares with others by links it shares again.
#[track_caller]
pub(super) fn copy_save(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, target) = (
            entry.as_ref().unwrap().path(),
            to.join(entry.unwrap().file_name()),
        );
        if path.is_file() {
            fs::copy(&path, &target).unwrap();
            continue;
        }
        fs::create_dir(&target).unwrap();
        for linked in fs::read_dir(&path).unwrap() {
            let linked = linked.unwrap();
            fs::hard_link(linked.path(), target.join(linked.file_name())).unwrap();
        }
    }
}
