//! A cluster of these tests, as its files, its processes and its guest show it.

use coracle_tests::{Coracle, Done, Process, Run, until};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Beyond whatever a saved cluster was seen to need, by far; it only catches what hangs.
pub(super) const LIMIT: Duration = Duration::from_secs(600);
pub(super) const SIGKILL: i32 = 9;

/// One cluster of a sandbox.
#[derive(Clone, Copy)]
pub(super) struct Cluster<'a> {
    pub(super) coracle: &'a Coracle,
    pub(super) name: &'a str,
}

impl<'a> Cluster<'a> {
    pub(super) fn new(coracle: &'a Coracle, name: &'a str) -> Self {
        Self { coracle, name }
    }

    /// `coracle COMMAND -p NAME`, to be run.
    pub(super) fn command(&self, command: &str) -> Run {
        self.coracle.run(&format!("{command} -p {}", self.name))
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

    pub(super) fn folder(&self) -> PathBuf {
        self.coracle.machine(self.name)
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

    /// Its host agent, where it is alive; not the guard of that.
    pub(super) fn host_agent(&self) -> Option<u32> {
        let wanted = format!("host-agent --profile {}", self.name);
        let is_its = |one: &Process| {
            let at = one.command.find(&wanted);
            at.is_some_and(|at| {
                let rest = &one.command[at + wanted.len()..];
                (rest.is_empty() || rest.starts_with(' ')) && !rest.contains("--guard")
            })
        };
        let processes = self.coracle.processes();
        // What it has forked and what is no hypervisor yet looks the same.
        let oldest = processes
            .iter()
            .filter(|one| is_its(one))
            .min_by_key(|one| one.pid);
        oldest.map(|one| one.pid)
    }

    /// `coracle kubectl -p NAME -- ARGUMENTS`, to be run.
    pub(super) fn kubectl_run(&self, arguments: &str) -> Run {
        self.coracle
            .coracle(["kubectl", "-p", self.name, "--"])
            .args(arguments.split_whitespace())
    }

    /// The same, run to a good end; gives its output.
    #[track_caller]
    pub(super) fn kubectl(&self, arguments: &str) -> String {
        self.kubectl_run(arguments).ok().text().to_owned()
    }

    /// Unchecked: on a busy host the schema of all kinds takes longer than kubectl waits.
    #[track_caller]
    pub(super) fn apply(&self, manifests: &str) {
        self.kubectl_run("apply --validate=false -f -")
            .stdin(manifests)
            .ok();
    }

    /// `coracle ssh -p NAME -- COMMAND`, to be run.
    pub(super) fn ssh(&self, command: &str) -> Run {
        self.coracle
            .coracle(["ssh", "-p", self.name, "--", command])
    }

    /// What a command inside the machine prints.
    #[track_caller]
    pub(super) fn inside(&self, command: &str) -> String {
        self.ssh(command).ok().text().to_owned()
    }

    /// Puts something into its memory that is nowhere else, and that no compression makes small; gives
    /// what [`Self::filled`] says as long as it is there.
    #[track_caller]
    pub(super) fn fill(&self) -> String {
        self.inside("head -c 30000000 /dev/urandom | sudo tee /dev/shm/filler > /dev/null");
        self.filled()
    }

    #[track_caller]
    pub(super) fn filled(&self) -> String {
        self.inside("sudo md5sum < /dev/shm/filler")
    }

    #[track_caller]
    pub(super) fn boot_id(&self) -> String {
        self.inside("cat /proc/sys/kernel/random/boot_id")
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
        let start = self
            .command("start")
            .env("CORACLE_FAULT", format!("kill:{step}"))
            .done();
        assert_eq!(start.signal(), Some(SIGKILL), "{start}");
        start
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
