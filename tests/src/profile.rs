//! One cluster of a sandbox by its name, where a test has several.

use crate::{Coracle, Process, Run};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The cluster of this name.
#[derive(Debug, Clone, Copy)]
pub struct Profile<'a> {
    /// Its sandbox.
    pub coracle: &'a Coracle,
    /// Its name.
    pub name: &'a str,
}

impl Profile<'_> {
    /// `coracle COMMAND -p NAME`, to be run.
    pub fn command(&self, command: &str) -> Run {
        self.coracle.run(&format!("{command} -p {}", self.name))
    }

    /// Its machine's folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.coracle.machine(self.name)
    }

    /// Its host agent, where it is alive; not the guard of that.
    pub fn host_agent(&self) -> Option<u32> {
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
    pub fn kubectl_run(&self, arguments: &str) -> Run {
        self.coracle
            .coracle(["kubectl", "-p", self.name, "--"])
            .args(arguments.split_whitespace())
    }

    /// The same, run to a good end; gives its output.
    #[track_caller]
    pub fn kubectl(&self, arguments: &str) -> String {
        self.kubectl_run(arguments).ok().text().to_owned()
    }

    /// The variables of `docker-env`, which lead the docker command to its engine.
    #[track_caller]
    pub fn docker_variables(&self) -> BTreeMap<String, String> {
        let printed = self.command("docker-env --shell none").ok();
        let variables = printed.stdout.lines().map(|line| {
            let (name, value) = line.split_once('=').expect("NAME=VALUE");
            (name.to_owned(), value.to_owned())
        });
        variables.collect()
    }

    /// Unchecked: on a busy host the schema of all kinds takes longer than kubectl waits.
    #[track_caller]
    pub fn apply(&self, manifests: &str) {
        self.kubectl_run("apply --validate=false -f -")
            .stdin(manifests)
            .ok();
    }

    /// What a script of busybox's shell prints in a pod of its own. It has no single quotes.
    #[track_caller]
    pub fn in_a_pod(&self, script: &str) -> String {
        self.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: asks}}, spec: {{restartPolicy: Never, \
             containers: [{{name: asks, image: coracle.internal/busybox:1.37, \
             command: [sh, -c, '{script}']}}]}}}}"
        ));
        self.kubectl("wait pod/asks --for=jsonpath={.status.phase}=Succeeded --timeout=300s");
        let said = self.kubectl("logs asks");
        self.kubectl("delete pod asks --now");
        said
    }

    /// `coracle ssh -p NAME -- COMMAND`, to be run.
    pub fn ssh(&self, command: &str) -> Run {
        self.coracle
            .coracle(["ssh", "-p", self.name, "--", command])
    }

    /// What a command inside the machine prints.
    #[track_caller]
    pub fn inside(&self, command: &str) -> String {
        self.ssh(command).ok().text().to_owned()
    }

    /// Which boot of its kernel this is.
    #[track_caller]
    pub fn boot_id(&self) -> String {
        self.inside("cat /proc/sys/kernel/random/boot_id")
    }
}
