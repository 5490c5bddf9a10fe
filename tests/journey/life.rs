//! Start, stop and delete, and what they do to the kubeconfig.

use coracle_tests::{Coracle, write};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Somebody's kubeconfig before the cluster: files with their content.
pub(super) struct Kubeconfig {
    files: Vec<(PathBuf, &'static str)>,
    link: PathBuf,
    missing: PathBuf,
}

/// With comments, an unusual style, and fields that nobody knows.
const FIRST: &str = "# my clusters, do not touch
apiVersion: v1
kind: Config
clusters:
- {name: work, cluster: {server: 'https://10.0.0.1:6443', insecure-skip-tls-verify: true}}   # the old one
contexts:
- context:
    cluster: work
    user: me
    namespace: team-a
    x-colour: red        # a field that nobody knows
  name: work
current-context:   \"work\"
x-tool:
    - keep: this
users:
- name: me
  user: {token: abc}
# the end
";

const SECOND: &str = "apiVersion: v1
kind: Config
contexts: []
preferences: {colors: true}
";

/// A list in $KUBECONFIG: a file that is missing, a link to the one with contexts, and another.
pub(super) fn foreign_kubeconfig(coracle: &mut Coracle) -> Kubeconfig {
    let work = coracle.work();
    let (missing, link) = (work.join("missing"), work.join("link"));
    let (first, second) = (work.join("real/config"), work.join("second"));
    write(&first, FIRST);
    write(&second, SECOND);
    std::os::unix::fs::symlink("real/config", &link).unwrap();
    let list = format!(
        "{}:{}:{}",
        missing.display(),
        link.display(),
        second.display()
    );
    coracle.set("KUBECONFIG", list);
    Kubeconfig {
        files: vec![(first, FIRST), (second, SECOND)],
        link,
        missing,
    }
}

pub(super) fn start(coracle: &Coracle) {
    let can = coracle.abilities();
    let start = coracle.run("start").ok();
    eprintln!("a start took {:.1?}", start.took);
    assert!(start.stdout.is_empty(), "progress is no result: {start}");
    for (label, is_due) in [
        ("Checking the host", true),
        ("Booting it", true),
        ("Giving it an identity of its own", can.can_copy),
        ("Writing the kubeconfig", true),
    ] {
        assert_eq!(start.stderr.contains(label), is_due, "{label}: {start}");
    }
    start.says("coracle is ready").says("kubectl get nodes");
    let nodes = coracle.kubectl("get nodes --no-headers");
    let words: Vec<_> = nodes.split_whitespace().collect();
    assert_eq!((words[0], words[1]), ("coracle", "Ready"), "{nodes}");
    assert!(words.last().unwrap().starts_with("v1.37."), "{nodes}");
    assert_eq!(nodes.lines().count(), 1, "{nodes}");
    assert_eq!(coracle.kubectl("config current-context"), "coracle");
}

pub(super) fn start_again(coracle: &Coracle, kubeconfig: &Kubeconfig) {
    let snapshot = || {
        let mut all = vec![fs::read(coracle.machine("coracle").join("machine.json")).unwrap()];
        all.extend(
            kubeconfig
                .files
                .iter()
                .map(|(file, _)| fs::read(file).unwrap()),
        );
        let times = kubeconfig
            .files
            .iter()
            .map(|(file, _)| fs::metadata(file).unwrap().modified().unwrap());
        (
            all,
            times.collect::<Vec<_>>(),
            coracle.boot_id(),
            coracle.hypervisor("coracle").pid,
        )
    };
    let before = snapshot();
    // The fastest of three: one may fall into what the cluster still does after its start.
    let starts: Vec<_> = (0..3)
        .map(|_| coracle.run("start").ok().says("running already"))
        .collect();
    let fastest = starts.into_iter().min_by_key(|start| start.took).unwrap();
    fastest.within(Duration::from_secs(2));
    assert!(
        snapshot() == before,
        "a start on a running cluster changed something"
    );
    let events = coracle.run("start -o json").ok().json_lines();
    assert!(
        events
            .iter()
            .all(|event| !event["type"].as_str().unwrap().ends_with(".step")),
        "{events:?}"
    );
    let refused = coracle
        .run("start --memory 2500mb")
        .done()
        .fails(31, "CORACLE_MACHINE_SETTINGS");
    refused
        .says("--memory")
        .advises("coracle delete -p coracle");
    assert!(snapshot() == before, "a refused start changed something");
}

pub(super) fn stop(coracle: &Coracle) {
    let said = match coracle.abilities().can_save {
        true => "coracle is saved after",
        false => "coracle stopped after",
    };
    let stop = coracle.run("stop").ok().says(said);
    eprintln!("a stop took {:.1?}", stop.took);
    assert!(!stop.stderr.contains("warning"), "{said}: {stop}");
    coracle
        .run("status")
        .done()
        .code_is(3)
        .says("host: Stopped");
    coracle.no_process_is_left();
    coracle.run("stop").ok().says("stopped already");
    coracle
        .run("ssh -- true")
        .done()
        .fails(33, "CORACLE_MACHINE_NOT_RUNNING")
        .advises("coracle start");
    let rows = coracle.run("list -o json").ok().json();
    assert_eq!(rows[0]["Status"], "Stopped", "{rows}");
}

pub(super) fn resume(coracle: &Coracle) {
    let before = coracle.run("ip").ok().text().to_owned();
    let start = coracle.run("start").ok();
    if coracle.abilities().can_save {
        assert!(!start.stderr.contains("cold"), "it booted: {start}");
    }
    eprintln!("a start of a stopped cluster took {:.1?}", start.took);
    assert_eq!(
        coracle.run("ip").ok().text(),
        before,
        "the address stays for the life of the cluster"
    );
    coracle.run("status").ok();
    assert_eq!(coracle.kubectl("config current-context"), "coracle");
}

pub(super) fn delete(coracle: &Coracle, kubeconfig: &Kubeconfig) {
    let link = fs::read_link(&kubeconfig.link).unwrap();
    coracle.delete("coracle");
    coracle.nothing_is_left();
    for (file, before) in &kubeconfig.files {
        let after = fs::read_to_string(file).unwrap();
        assert_eq!(after, *before, "{} is not what it was", file.display());
    }
    assert_eq!(
        fs::read_link(&kubeconfig.link).unwrap(),
        link,
        "the link was replaced"
    );
    assert!(!kubeconfig.missing.exists(), "a file of the list was made");
    coracle
        .run("status")
        .done()
        .fails(35, "CORACLE_MACHINE_NOT_FOUND");
}
