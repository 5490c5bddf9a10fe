//! What is printed: help, versions, completion, the form of errors, events, colour.

use coracle_tests::{Coracle, Terminal, installed, repository, small_image, write};
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// Beyond what any command here needs; it only catches what hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// The names under `Commands:` of a help text.
fn subcommands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.trim().is_empty());
    let indented = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    indented
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_has_help_that_ends_well() {
    let coracle = Coracle::new();
    let mut waiting = vec![Vec::<String>::new()];
    let mut seen = BTreeSet::new();
    while let Some(path) = waiting.pop() {
        let help = coracle.coracle(&path).args(["--help"]).ok();
        assert!(help.stdout.contains("Usage: coracle"), "{help}");
        assert!(help.stderr.is_empty(), "help is a result: {help}");
        for name in subcommands(&help.stdout)
            .into_iter()
            .filter(|name| name != "help")
        {
            waiting.push(path.iter().cloned().chain([name]).collect());
        }
        seen.insert(path.join(" "));
    }
    for command in [
        "start",
        "stop",
        "delete",
        "status",
        "list",
        "profile",
        "profile list",
        "ip",
        "ssh",
        "ssh-key",
        "ssh-host",
        "cp",
        "kubectl",
        "logs",
        "image load",
        "image ls",
        "version",
        "config set",
        "config get",
        "config unset",
        "config view",
        "config defaults",
        "completion",
        "update-context",
        "doctor",
        "image-build",
        "options",
    ] {
        assert!(
            seen.contains(command),
            "there is no help of {command}; there is {seen:?}"
        );
    }
    for alias in [
        "create --help",
        "rm --help",
        "ls --help",
        "image list --help",
    ] {
        coracle.run(alias).ok();
    }
    let nothing = coracle.run("").done().code_is(14);
    assert!(
        nothing.stderr.contains("Usage: coracle") && nothing.stdout.is_empty(),
        "{nothing}"
    );
}

#[test]
fn versions_are_told_in_every_form() {
    let coracle = Coracle::new();
    let short = coracle.run("version --short").ok().text().to_owned();
    assert!(
        short
            .strip_prefix('v')
            .is_some_and(|version| version.split('.').count() == 3),
        "{short}"
    );
    coracle.run("--version").ok().says(&short[1..]);
    coracle.run("version").ok().says(&short).says("v1.37.2");
    let json = coracle.run("version --client -o json").ok().json();
    assert_eq!(json["defaultKubernetesVersion"], "v1.37.2");
    assert_eq!(json["coracleVersion"], short[1..]);
    assert_eq!(coracle.run("version -o yaml").ok().yaml(), json);
}

#[test]
fn the_version_does_not_need_a_home() {
    let coracle = Coracle::new();
    coracle.run("version --client").without_env("HOME").ok();
}

#[test]
fn completion_is_a_script_that_each_shell_takes() {
    let coracle = Coracle::new();
    for (shell, check) in [
        ("bash", Some(vec!["bash", "-n"])),
        ("zsh", Some(vec!["zsh", "-n"])),
        ("fish", Some(vec!["fish", "--no-execute"])),
        ("powershell", None),
        ("elvish", None),
    ] {
        let script = coracle.run(&format!("completion {shell}")).ok();
        assert!(
            script.stdout.contains("update-context") && script.stdout.contains("memory"),
            "{shell}: {script}"
        );
        let file = coracle.work().join(format!("completion.{shell}"));
        write(&file, &script.stdout);
        if let Some(check) = check.filter(|check| installed(check[0]).is_some()) {
            coracle
                .program(check[0])
                .args(&check[1..])
                .args([&file])
                .ok();
        }
    }
    // In bash, a completion is asked for as readline does it.
    let ask = "source ./completion.bash; COMP_WORDS=(coracle upd); COMP_CWORD=1; _coracle coracle upd coracle; echo ${COMPREPLY[@]}";
    assert_eq!(
        coracle.program("bash").args(["-c", ask]).ok().text(),
        "update-context"
    );
}

#[test]
fn flags_of_every_command_are_listed() {
    let coracle = Coracle::new();
    coracle
        .run("options")
        .ok()
        .says("--profile")
        .says("--quiet")
        .says("-p");
}

#[test]
fn the_documented_errors_are_unique_and_keep_to_their_decades() {
    let document = fs::read_to_string(repository().join("docs/errors.md")).unwrap();
    let rows: Vec<Vec<&str>> = document
        .lines()
        .filter(|line| line.starts_with("| `CORACLE_"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() > 30, "only {} rows", rows.len());
    let ids: BTreeSet<_> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(ids.len(), rows.len(), "an id is there twice");
    for row in &rows {
        let code: u8 = row[1].parse().unwrap_or_else(|_| panic!("{row:?}"));
        assert!((10..120).contains(&code) || code == 130, "{row:?}");
        assert!(!row[2].is_empty() && row.len() == 4, "{row:?}");
    }
}

#[test]
fn errors_are_events_too() {
    let coracle = Coracle::new();
    let refused = coracle
        .run("start --memory 250mb --output json")
        .done()
        .code_is(23);
    let events = refused.json_lines();
    let last = events
        .last()
        .unwrap_or_else(|| panic!("no event: {refused}"));
    assert_eq!(last["specversion"], "1.0");
    assert!(
        last["type"]
            .as_str()
            .is_some_and(|kind| kind.ends_with(".error")),
        "{refused}"
    );
    assert_eq!(last["data"]["name"], "CORACLE_HOST_MEMORY");
    assert_eq!(last["data"]["exitcode"], "23");
    assert!(
        last["data"]["advice"]
            .as_str()
            .is_some_and(|advice| advice.contains("--memory")),
        "{refused}"
    );
    assert!(
        refused.stderr.is_empty(),
        "events are the only output: {refused}"
    );
}

#[test]
fn progress_is_lines_or_events_or_nothing() {
    let coracle = Coracle::new();
    small_image(&coracle.home());
    let start = |flags: &str| {
        coracle
            .run(&format!("start {flags}"))
            .env("CORACLE_FAULT", "interrupt:boot")
            .done()
            .code_is(130)
    };
    let plain = start("");
    assert!(plain.stdout.is_empty(), "progress is no result: {plain}");
    for label in [
        "Checking the host",
        "Verifying the image",
        "Making the machine",
    ] {
        assert!(plain.stderr.contains(label), "{plain}");
    }
    assert!(
        !plain.stderr.contains('\u{1b}'),
        "no escape codes without a terminal: {plain}"
    );
    let quiet = start("--quiet");
    assert!(
        !quiet.stderr.contains("Checking") && quiet.stderr.starts_with("error["),
        "{quiet}"
    );
    let events = start("-o json").json_lines();
    let ids: BTreeSet<_> = events
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), events.len(), "every event has an id of its own");
    let steps: Vec<_> = events
        .iter()
        .filter(|event| event["type"].as_str().unwrap().ends_with(".step"))
        .map(|event| &event["data"])
        .collect();
    let names: Vec<_> = steps
        .iter()
        .map(|step| step["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["check", "image", "machine", "boot"]);
    let numbers: Vec<u32> = steps
        .iter()
        .map(|step| step["currentstep"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
}

#[test]
fn colour_is_for_terminals_and_can_be_refused() {
    const GREEN: &str = "\u{1b}[32m";
    let coracle = Coracle::new();
    small_image(&coracle.home());
    let start = || coracle.run("start").env("CORACLE_FAULT", "interrupt:boot");
    let mut coloured = Terminal::start(&start());
    assert_eq!(coloured.exit_code(LIMIT), Some(130), "{}", coloured.shown());
    assert!(
        coloured.shown().contains(GREEN) && coloured.shown().contains("Verifying the image"),
        "{}",
        coloured.shown()
    );
    let mut plain = Terminal::start(&start().env("NO_COLOR", "1"));
    assert_eq!(plain.exit_code(LIMIT), Some(130), "{}", plain.shown());
    let shown = plain.shown();
    assert!(
        !shown.contains("\u{1b}[3") && shown.contains("Verifying the image"),
        "{shown}"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let coracle = Coracle::new();
    let program = coracle_tests::binary();
    let script = format!(
        "set -o pipefail; '{}' completion bash | head -n 1",
        program.display()
    );
    let done = coracle.program("bash").args(["-c", &script]).done();
    assert!(done.stderr.is_empty(), "{done}");
}

#[test]
fn the_program_named_kubectl_needs_a_kubectl() {
    let coracle = Coracle::new();
    let link = coracle.work().join("kubectl");
    std::os::unix::fs::symlink(coracle_tests::binary(), &link).unwrap();
    // The only kubectl on the path is this program itself.
    let refused = coracle
        .program(&link)
        .args(["get", "nodes"])
        .env("PATH", coracle.work())
        .done();
    refused
        .fails(105, "CORACLE_KUBECTL_NOT_FOUND")
        .says("v1.37.2")
        .advises("install kubectl");
}

#[test]
fn a_template_of_status_is_checked() {
    let coracle = Coracle::new();
    small_image(&coracle.home());
    coracle
        .run("start")
        .env("CORACLE_FAULT", "interrupt:boot")
        .done()
        .code_is(130);
    let status = |format: &str| coracle.coracle(["status", "--format", format]).done();
    assert_eq!(
        status("{{.Name}}={{.Host}},{{ .APIServer }}")
            .code_is(7)
            .stdout,
        "coracle=Stopped,Stopped"
    );
    status("{{.Colour}}")
        .fails(14, "CORACLE_USAGE")
        .advises(".Host");
    status("{{.Name").fails(14, "CORACLE_USAGE");
    let yaml = coracle.run("status -o yaml").done().code_is(7).yaml();
    assert_eq!(yaml, coracle.run("status -o json").done().code_is(7).json());
    let keys: Vec<_> = yaml
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        keys[..5],
        ["Name", "Host", "Kubelet", "APIServer", "Kubeconfig"]
    );
}
