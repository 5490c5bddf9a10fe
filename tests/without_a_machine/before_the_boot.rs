//! A start that ends before a hypervisor runs: killed, interrupted, beside another one; and
//! records of machines that were damaged.

use coracle_tests::{Coracle, append, small_image, write};
use std::fs;
use std::path::Path;

/// The steps up to the one before which the hypervisor is started.
const STEPS: [&str; 4] = ["check", "image", "machine", "boot"];

/// A way to damage a file, with its name.
type Harm = (&'static str, fn(&Path));

fn sandbox() -> Coracle {
    let coracle = Coracle::new();
    small_image(&coracle.home());
    coracle
}

#[track_caller]
fn made_and_not_booted(coracle: &Coracle, profile: &str) {
    let start = coracle
        .run(&format!("start -p {profile}"))
        .env("CORACLE_FAULT", "interrupt:boot")
        .done();
    start.fails(130, "CORACLE_INTERRUPTED");
}

#[test]
fn a_start_killed_or_interrupted_before_the_boot_leaves_what_start_and_delete_go_on_from() {
    for kind in ["kill", "interrupt"] {
        for step in STEPS {
            let mut coracle = sandbox();
            let cut = || match kind {
                "kill" => coracle.run("start").killed_at(step),
                _ => coracle.run("start").interrupted_at(step),
            };
            let start = cut();
            if kind == "interrupt" {
                start
                    .says("interrupted while: ")
                    .advises("coracle start -p coracle")
                    .advises("coracle delete -p coracle");
            }
            let there = coracle.machines();
            assert_eq!(
                there.len(),
                usize::from(step == "boot"),
                "{kind}:{step}: {there:?}"
            );
            // The next start goes on to the last step that needs no hypervisor.
            made_and_not_booted(&coracle, "coracle");
            coracle.run("delete").ok();
            coracle.nothing_is_left();
            // And delete works right behind the cut, whatever it left.
            cut();
            let delete = coracle.run("delete").done();
            let expected = if step == "boot" { 0 } else { 35 };
            assert_eq!(delete.code(), Some(expected), "{kind}:{step}: {delete}");
            coracle.delete_all();
        }
    }
}

#[test]
fn two_starts_of_one_profile_make_one_machine() {
    let coracle = sandbox();
    let starts: Vec<_> = (0..4)
        .map(|_| {
            coracle
                .run("start")
                .env("CORACLE_FAULT", "interrupt:boot")
                .start()
        })
        .collect();
    for start in starts {
        start.done().fails(130, "CORACLE_INTERRUPTED");
    }
    assert_eq!(coracle.machines(), ["coracle"]);
}

#[test]
fn profiles_that_start_at_once_get_addresses_of_their_own() {
    let coracle = sandbox();
    let names = ["a", "b", "c", "d"];
    let starts: Vec<_> = names
        .iter()
        .map(|name| {
            coracle
                .run(&format!("start -p {name}"))
                .env("CORACLE_FAULT", "interrupt:boot")
                .start()
        })
        .collect();
    for start in starts {
        start.done().fails(130, "CORACLE_INTERRUPTED");
    }
    let mut addresses: Vec<_> = names
        .iter()
        .map(|name| coracle.run(&format!("ip -p {name}")).ok().text().to_owned())
        .collect();
    assert!(
        addresses.iter().all(|address| address.starts_with("127.")),
        "{addresses:?}"
    );
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), names.len(), "{addresses:?}");
    assert_eq!(coracle.machines(), names);
    // One of them goes; the others are left alone, and its address is used again.
    coracle.run("delete b d").ok();
    assert_eq!(coracle.machines(), ["a", "c"]);
}

#[test]
fn names_that_differ_in_case_only_are_one_folder_elsewhere_and_refused() {
    let coracle = sandbox();
    made_and_not_booted(&coracle, "dev");
    let refused = coracle
        .run("start -p DEV")
        .env("CORACLE_FAULT", "interrupt:boot")
        .done();
    refused
        .fails(31, "CORACLE_MACHINE_SETTINGS")
        .says("\"dev\"");
    assert_eq!(coracle.machines(), ["dev"]);
}

#[test]
fn a_damaged_record_is_listed_as_broken_and_can_be_deleted() {
    let harm: [Harm; 6] = [
        ("cut off", |file| {
            let length = fs::metadata(file).unwrap().len();
            fs::OpenOptions::new()
                .write(true)
                .open(file)
                .unwrap()
                .set_len(length / 2)
                .unwrap();
        }),
        ("empty", |file| write(file, "")),
        ("missing", |file| fs::remove_file(file).unwrap()),
        ("with something behind it", |file| append(file, "\n{}\n")),
        ("of another format", |file| {
            let mut record: serde_json::Value =
                serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
            record["format"] = 99.into();
            write(file, record.to_string());
        }),
        ("without its cluster", |file| {
            let mut record: serde_json::Value =
                serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
            record["cluster"] = serde_json::Value::Null;
            write(file, record.to_string());
        }),
    ];
    for (how, harm) in harm {
        let mut coracle = sandbox();
        made_and_not_booted(&coracle, "whole");
        made_and_not_booted(&coracle, "hurt");
        harm(&coracle.machine("hurt").join("machine.json"));
        let rows = coracle.run("list -o json").ok().json();
        assert_eq!(
            (&rows[0]["Name"], &rows[0]["Status"]),
            (&"hurt".into(), &"Broken".into()),
            "{how}: {rows}"
        );
        assert_eq!(
            (&rows[1]["Name"], &rows[1]["Status"]),
            (&"whole".into(), &"Stopped".into()),
            "{how}: {rows}"
        );
        let status = coracle.run("status -p hurt -o json").done().code_is(7);
        assert_eq!(status.json()["Host"], "Broken", "{how}: {status}");
        assert!(
            status.json()["Problems"]
                .as_array()
                .is_some_and(|list| !list.is_empty()),
            "{how}: {status}"
        );
        for command in ["start", "stop", "ip", "ssh", "logs", "kubectl get nodes"] {
            let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
            let refused = coracle.run(&format!("{word} -p hurt {rest}")).done();
            refused
                .fails(38, "CORACLE_MACHINE_BROKEN")
                .advises("coracle delete -p hurt");
        }
        coracle.run("doctor").done().says("hurt is broken");
        coracle.run("delete -p hurt").ok();
        assert_eq!(coracle.machines(), ["whole"], "{how}");
        coracle.delete_all();
    }
}

#[test]
fn commands_on_a_cluster_that_is_not_there_say_so() {
    let coracle = Coracle::new();
    write(coracle.work().join("file"), "x");
    for command in [
        "status",
        "stop",
        "delete",
        "ip",
        "ssh",
        "ssh -- true",
        "ssh-key",
        "ssh-host",
        "cp file :/tmp/file",
        "logs",
        "logs --problems",
        "logs --bundle new.tar.gz",
        "kubectl -- get nodes",
        "image ls",
        "image load file",
        "update-context",
    ] {
        let refused = coracle.run(command).done();
        refused
            .fails(35, "CORACLE_MACHINE_NOT_FOUND")
            .advises("coracle start -p coracle");
    }
    coracle.run("list").ok().says("coracle start");
    assert_eq!(
        coracle.run("list -o json").ok().json(),
        serde_json::json!([])
    );
    coracle.run("stop --all").ok();
    coracle.run("delete --all").ok();
    coracle.nothing_is_left();
}

#[test]
fn commands_on_a_stopped_cluster_say_that_it_is_not_running() {
    let coracle = sandbox();
    made_and_not_booted(&coracle, "coracle");
    write(coracle.work().join("file"), "x");
    for command in [
        "ssh -- true",
        "cp file :/tmp/file",
        "cp :/tmp/file .",
        "image ls",
        "image load file",
        "logs --component etcd",
        "logs --component etcd --problems",
        "logs --component qemu --problems",
    ] {
        let refused = coracle.run(command).done();
        refused
            .fails(33, "CORACLE_MACHINE_NOT_RUNNING")
            .advises("coracle start -p coracle");
    }
    coracle.run("stop").ok().says("stopped already");
    assert_eq!(
        coracle.run("status -o json").done().code_is(7).json()["Host"],
        "Stopped"
    );
    // What is on disk can be told without a machine.
    coracle.run("ip").ok();
    let key = coracle.run("ssh-key").ok().text().to_owned();
    assert!(Path::new(&key).is_file());
    coracle.run("ssh-host").ok().says("ssh-ed25519");
    coracle
        .run("cp relative :tmp/file")
        .done()
        .fails(14, "CORACLE_USAGE");
    coracle
        .run("cp file elsewhere")
        .done()
        .fails(14, "CORACLE_USAGE");
    coracle
        .run("cp nosuch :/tmp/")
        .done()
        .fails(14, "CORACLE_USAGE")
        .says("nosuch");
}

#[test]
fn state_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let coracle = sandbox();
    // The folder is made by the program, not by the sandbox.
    let home = coracle.work().join("state");
    small_image(&home);
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
    let start = coracle
        .run("start")
        .env("CORACLE_HOME", &home)
        .env("CORACLE_FAULT", "interrupt:boot")
        .done();
    start.fails(130, "CORACLE_INTERRUPTED");
    let machine = home.join("machines/coracle");
    let mut stack = vec![machine.clone()];
    let mut files = 0;
    while let Some(path) = stack.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let mode = meta.permissions().mode() & 0o777;
        if meta.is_dir() {
            assert_eq!(mode, 0o700, "{}", path.display());
            stack.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else {
            files += 1;
            assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
        }
    }
    assert!(files > 15, "only {files} files in {}", machine.display());
    coracle.run("delete").env("CORACLE_HOME", &home).ok();
}
