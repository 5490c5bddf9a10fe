//! What README.md and docs/ show is what happens: the tour is typed as it stands there.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

use coracle_tests::{
    Block, Coracle, Done, Sections, Session, binary, blocks, repository, sessions, wildcard_match,
};
use std::collections::BTreeSet;
use std::fs;

/// The two commands at the top, which build and test: they are what runs this test.
const FIRST: [&str; 2] = ["make start", "make test"];

fn readme() -> Vec<(Block, Vec<Session>)> {
    let text = fs::read_to_string(repository().join("README.md")).expect("there is a README.md");
    let commands = blocks(&text)
        .into_iter()
        .filter(|block| ["sh", "console"].contains(&block.language.as_str()));
    commands
        .map(|block| (block.clone(), sessions(&block)))
        .collect()
}

#[test]
fn the_readme_begins_with_its_two_commands() {
    let commands: Vec<_> = readme()
        .into_iter()
        .flat_map(|(_, sessions)| sessions)
        .map(|one| one.command)
        .collect();
    assert_eq!(commands[..2], FIRST, "the first two commands of README.md");
    assert!(
        commands[2..]
            .iter()
            .all(|command| !command.starts_with("make ")),
        "{commands:?}"
    );
    let makefile = fs::read_to_string(repository().join("Makefile")).expect("there is a Makefile");
    for command in FIRST {
        let target = format!("\n{}:", command.strip_prefix("make ").unwrap());
        assert!(
            makefile.contains(&target),
            "{command} is no target of the Makefile"
        );
    }
}

/// The last line of a command's output, by which the runner tells the end and the exit status.
const END: &str = "the-end-of-the-command:";

#[test]
fn the_tour_of_the_readme_does_what_it_shows() {
    let mut coracle = Coracle::with_template();
    let mut tour = Sections::new("readme");
    // `make start` ends with this command.
    tour.must("make start's cluster", || coracle.run("start").ok());
    // The tour stands in the folder of the sources, with the program built there.
    let work = coracle.work();
    fs::create_dir_all(work.join("target/release")).unwrap();
    fs::copy(binary(), work.join("target/release/coracle")).unwrap();
    fs::copy(repository().join("README.md"), work.join("README.md")).unwrap();
    // What one command sets, the next one has: exports are kept, as in a person's shell.
    let mut exports = String::new();
    for (block, sessions) in readme() {
        for session in sessions {
            if FIRST.contains(&session.command.as_str()) {
                continue;
            }
            let name = format!("line {}: {}", session.line, session.command);
            tour.run(&name, || {
                let done = typed(&coracle, &exports, &session.command);
                if session.command.starts_with("export ") || session.command.starts_with("cd ") {
                    exports.push_str(&session.command);
                    exports.push('\n');
                }
                if block.language == "console" {
                    let (said, _) = done.stdout.rsplit_once(END).unwrap();
                    assert!(
                        wildcard_match(&session.output, said),
                        "README.md shows\n{}and it printed\n{said}",
                        session.output
                    );
                }
            });
        }
    }
    assert_eq!(
        coracle.machines(),
        Vec::<String>::new(),
        "the tour ends by taking its cluster away"
    );
    coracle.delete_all();
    tour.finish();
}

/// Runs one command as a person types it, both streams on one screen.
fn typed(coracle: &Coracle, exports: &str, command: &str) -> Done {
    let script = format!("exec 2>&1\n{exports}{command}\nprintf '%s%d\\n' '{END}' $?\n");
    let done = coracle.program("bash").args(["-c", &script]).ok();
    let status = done
        .stdout
        .rsplit_once(END)
        .map(|(_, status)| status.trim().to_owned());
    assert_eq!(status.as_deref(), Some("0"), "exit status: {done}");
    done
}

/// The commands of this program that a document names, in blocks and between backquotes.
fn mentioned(markdown: &str) -> BTreeSet<String> {
    let quoted = markdown.split('`').skip(1).step_by(2);
    let typed: Vec<String> = blocks(markdown)
        .iter()
        .flat_map(sessions)
        .map(|session| session.command)
        .collect();
    let texts = quoted.map(str::to_owned).chain(typed);
    texts
        .filter_map(|text| {
            let rest = text.trim().strip_prefix("coracle ")?.to_owned();
            let words = rest.split_whitespace().take_while(|word| {
                word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !word.starts_with('-')
            });
            let words: Vec<_> = words.collect();
            (!words.is_empty()).then(|| words.join(" "))
        })
        .collect()
}

#[test]
fn every_command_that_the_documents_name_is_one() {
    let coracle = Coracle::new();
    let mut documents = vec![repository().join("README.md")];
    let folder = fs::read_dir(repository().join("docs")).expect("there is a folder docs");
    documents.extend(
        folder
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "md")),
    );
    assert!(documents.len() > 2, "{documents:?}");
    let mut count = 0;
    let mut wrong = Vec::new();
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for words in mentioned(&text) {
            // The first word is a command; the second one may be one too, or an argument.
            let words: Vec<_> = words.split(' ').collect();
            let help = match words[0] {
                "help" => coracle.run("help").done(),
                command => coracle.coracle([command, "--help"]).done(),
            };
            count += 1;
            let takes_arguments = help.stdout.lines().any(|line| line == "Arguments:");
            let only_commands = help.stdout.contains("<COMMAND>") && !takes_arguments;
            let is_one = |word: &&str| {
                help.stdout
                    .lines()
                    .any(|line| line.trim_start().starts_with(*word))
            };
            let second_is_wrong = only_commands && words.get(1).is_some_and(|word| !is_one(word));
            if help.code() != Some(0) || second_is_wrong {
                wrong.push(format!(
                    "{}: coracle {}",
                    document.display(),
                    words.join(" ")
                ));
            }
        }
    }
    assert!(count > 10, "only {count} commands were found");
    assert!(
        wrong.is_empty(),
        "documents name commands that are none: {wrong:#?}"
    );
}

/// Links between the documents lead somewhere.
#[test]
fn links_between_the_documents_lead_to_files() {
    let root = repository();
    let mut documents = vec![root.join("README.md")];
    documents.extend(
        fs::read_dir(root.join("docs"))
            .unwrap()
            .map(|entry| entry.unwrap().path()),
    );
    let mut wrong = Vec::new();
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let path = link.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            if !document.parent().unwrap().join(path).exists() {
                wrong.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
