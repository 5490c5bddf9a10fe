//! The host's own docker command, led to a cluster's engine as a user would.

use coracle_tests::{Done, Profile, Run};
use std::collections::BTreeMap;
use std::time::Duration;

/// The engine starts with the first request, and a build runs programs, all of it emulated.
const LIMIT: Duration = Duration::from_secs(300);

/// A cluster's engine as the variables of `docker-env` lead to it.
pub(super) struct Docker<'a> {
    pub(super) cluster: Profile<'a>,
    variables: BTreeMap<String, String>,
}

impl<'a> Docker<'a> {
    pub(super) fn of(cluster: Profile<'a>) -> Self {
        Self {
            cluster,
            variables: cluster.docker_variables(),
        }
    }

    /// A variable that leads to it.
    pub(super) fn variable(&self, name: &str) -> &str {
        &self.variables[name]
    }

    /// `docker ARGUMENTS`, written as a shell would take them without quotes, to be run.
    pub(super) fn command(&self, arguments: &str) -> Run {
        self.with(arguments.split_whitespace())
    }

    /// The same with arguments as they are.
    pub(super) fn with<'b>(&self, arguments: impl IntoIterator<Item = &'b str>) -> Run {
        self.program("docker").args(arguments)
    }

    /// `sh -c SCRIPT`, in which docker is led there.
    pub(super) fn shell(&self, script: &str) -> Run {
        self.program("sh").args(["-c", script])
    }

    fn program(&self, name: &str) -> Run {
        let program = self.cluster.coracle.program(name).limit(LIMIT);
        program.envs(&self.variables)
    }

    /// The same, run to a good end.
    #[track_caller]
    pub(super) fn ok(&self, arguments: &str) -> Done {
        self.command(arguments).done().ok()
    }

    /// What it prints.
    #[track_caller]
    pub(super) fn text(&self, arguments: &str) -> String {
        self.ok(arguments).text().to_owned()
    }

    /// What `sh -c SCRIPT` prints in a running container.
    #[track_caller]
    pub(super) fn inside(&self, container: &str, script: &str) -> String {
        let done = self.with(["exec", container, "sh", "-c", script]).done();
        done.ok().text().to_owned()
    }

    /// Fails; gives what it says.
    #[track_caller]
    pub(super) fn refused(&self, arguments: &str) -> String {
        let done = self.command(arguments).done();
        assert!(done.code().is_some_and(|code| code != 0), "{done}");
        done.stderr
    }
}
