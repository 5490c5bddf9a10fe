//! What is shipped beside the program: completions and man pages, of every command that people see.

use coracle_tests::Coracle;
use std::collections::BTreeSet;
use std::fs;

/// The commands below one, as its help lists them.
fn below(coracle: &Coracle, command: &[String]) -> Vec<String> {
    let help = coracle.coracle(command).args(["--help"]).ok().stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| line.starts_with("  "));
    let names = listed.filter_map(|line| {
        let line = line.strip_prefix("  ")?;
        // A description that goes on is indented further.
        let name = line.split(' ').next().filter(|name| !name.is_empty())?;
        (name != "help").then(|| name.to_owned())
    });
    names.collect()
}

/// Every command with all that are above it.
fn commands(coracle: &Coracle) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut waiting = vec![Vec::new()];
    while let Some(command) = waiting.pop() {
        for name in below(coracle, &command) {
            waiting.push([command.clone(), vec![name]].concat());
        }
        found.push(command);
    }
    found
}

#[test]
fn every_command_is_completed_and_has_a_man_page() {
    let coracle = Coracle::new();
    let folder = coracle.work().join("shipped");
    coracle.coracle(["package-files"]).args([&folder]).ok();
    let commands = commands(&coracle);
    assert!(commands.len() > 40, "{commands:?}");

    let mut pages = BTreeSet::new();
    for command in &commands {
        let name = [&["coracle".to_owned()], &command[..]].concat().join("-");
        let page = fs::read_to_string(folder.join(format!("man/{name}.1")))
            .unwrap_or_else(|error| panic!("no man page of {command:?}: {error}"));
        assert!(page.contains(".SH SYNOPSIS"), "{name}: {page}");
        pages.insert(format!("{name}.1"));
    }
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(coracle.work().join("shipped").join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    };
    assert_eq!(names("man"), pages, "and of nothing that is hidden");

    let shells = [
        "_coracle",
        "_coracle.ps1",
        "coracle.bash",
        "coracle.elv",
        "coracle.fish",
    ];
    assert_eq!(names("completions"), shells.map(str::to_owned).into());
    for shell in shells {
        let script = fs::read_to_string(folder.join("completions").join(shell)).unwrap();
        for command in commands.iter().filter_map(|command| command.last()) {
            assert!(script.contains(command.as_str()), "{shell}: {command}");
        }
    }
}
