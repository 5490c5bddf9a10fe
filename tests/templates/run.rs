//! `coracle run`: a cluster for one command.

use coracle_tests::{Coracle, Run, kill_pid, signal_pid, until};
use rustix::process::Signal;
use std::fs;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(300);
const LIVES: &str = "lives as long as the command";

/// `coracle run -- sh -c SCRIPT`, with the cluster's own kubectl as `$KUBECTL`.
fn run(coracle: &Coracle, script: &str) -> Run {
    coracle
        .coracle(["run", "--", "sh", "-c", script])
        .env("KUBECTL", coracle.own_kubectl())
}

/// The clusters that runs made.
fn of_runs(coracle: &Coracle) -> Vec<String> {
    let mut names = coracle.machines();
    names.retain(|name| name.starts_with("run-"));
    names
}

#[track_caller]
fn nothing_of_it_is_left(coracle: &Coracle) {
    until("the clusters of runs are gone", LIMIT, || {
        let home = coracle.home().join("machines");
        let no_process = coracle
            .processes()
            .iter()
            .all(|one| !one.command.contains("/machines/run-"));
        let no_folder = fs::read_dir(home)
            .unwrap()
            .flatten()
            .all(|entry| !entry.file_name().to_string_lossy().starts_with("run-"));
        no_process && no_folder
    });
    let files = fs::read_dir(coracle.home().join("run")).unwrap().flatten();
    let left: Vec<_> = files
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().ends_with(".kubeconfig"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

pub(super) fn passes_on(coracle: &Coracle) {
    let before = fs::read(coracle.kubeconfig()).unwrap();
    let script = "$KUBECTL get nodes --no-headers && $KUBECTL create configmap mine && \
                  $KUBECTL config current-context && cat && exit 7";
    let ran = run(coracle, script)
        .stdin("and its input\n")
        .done()
        .code_is(7);
    eprintln!("a run took {:.2?}", ran.took);
    ran.says(" Ready ").says("run-").says("and its input");
    assert_eq!(fs::read(coracle.kubeconfig()).unwrap(), before);
    nothing_of_it_is_left(coracle);
    coracle
        .coracle(["run", "--", "/no/such/program"])
        .done()
        .fails(14, "CORACLE_USAGE")
        .says("/no/such/program");
    nothing_of_it_is_left(coracle);
}

pub(super) fn side_by_side(coracle: &Coracle) {
    // Each sees what it made itself, while both are there.
    let script = "$KUBECTL create configmap mine --from-literal=a=b && touch up-$NAME && \
                  until [ -e up-one ] && [ -e up-two ]; do sleep 0.1; done; \
                  $KUBECTL get configmap -o name";
    let runs = ["one", "two"].map(|name| run(coracle, script).env("NAME", name).start());
    for started in runs {
        let ran = started.done().ok();
        let seen = ran.stdout.matches("configmap/mine\n").count();
        assert_eq!(seen, 1, "{ran}");
    }
    nothing_of_it_is_left(coracle);
}

pub(super) fn ended(coracle: &Coracle) {
    // The command's own answer to a signal is the answer; without one it ends by it, as a shell would say.
    // (A shell could not trap what was ignored when it began.)
    let script = "$| = 1; $SIG{TERM} = sub { exit 3 }; $SIG{INT} = sub { exit 4 }; \
                  $SIG{HUP} = 'DEFAULT'; print \"waits\n\"; sleep 1 while 1";
    for (signal, code) in [(Signal::TERM, 3), (Signal::INT, 4), (Signal::HUP, 129)] {
        let asked = coracle.coracle(["run", "--", "perl", "-e", script]);
        let mut asked = asked.start();
        asked.until_it_says("waits");
        assert_eq!(of_runs(coracle).len(), 1);
        signal_pid(asked.pid(), signal);
        asked.done().code_is(code);
        nothing_of_it_is_left(coracle);
    }

    let interrupted = run(coracle, "true").env("CORACLE_FAULT", "interrupt:rekey");
    interrupted.done().fails(130, "CORACLE_INTERRUPTED");
    nothing_of_it_is_left(coracle);

    let mut killed = run(coracle, "while kill -0 $PPID; do sleep 0.1; done").start();
    killed.until_it_says(LIVES);
    assert_eq!(of_runs(coracle).len(), 1);
    kill_pid(killed.pid());
    assert_eq!(killed.done().signal(), Some(9));
    nothing_of_it_is_left(coracle);
}
