//! Programs run through the agent.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod support;

use coracle_protocol::api::{ExecStart, TerminalSize};
use coracle_protocol::client::{AgentError, ExecEvent, ExecSession};
use support::{TestAgent, until};

fn shell(script: &str) -> ExecStart {
    let argv = vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()];
    ExecStart {
        argv,
        ..ExecStart::default()
    }
}

fn in_terminal(script: &str) -> ExecStart {
    ExecStart {
        terminal: Some(TerminalSize {
            rows: 30,
            columns: 100,
        }),
        ..shell(script)
    }
}

/// Reads until a text has come, or the program has ended.
async fn read_until(session: &mut ExecSession, text: &str) -> String {
    let mut all = String::new();
    while !all.contains(text) {
        match session.output.next().await.unwrap() {
            ExecEvent::Stdout(bytes) | ExecEvent::Stderr(bytes) => {
                all.push_str(&String::from_utf8_lossy(&bytes));
            }
            ExecEvent::Exit { code, .. } => panic!("ended with {code} after {all:?}"),
        }
    }
    all
}

async fn exit(session: &mut ExecSession) -> (i32, Option<i32>) {
    loop {
        if let ExecEvent::Exit { code, signal } = session.output.next().await.unwrap() {
            return (code, signal);
        }
    }
}

#[tokio::test]
async fn output_error_and_status_come_apart() {
    let client = TestAgent::start("").await.client_and_keep().await;
    let (code, stdout, stderr) = client
        .0
        .run(shell("echo out; echo err >&2; exit 42"))
        .await
        .unwrap();
    assert_eq!(
        (code, stdout, stderr),
        (42, b"out\n".to_vec(), b"err\n".to_vec())
    );
}

#[tokio::test]
async fn environment_and_folder_are_set_and_nothing_leaks() {
    let agent = TestAgent::start("").await;
    let client = agent.client().await;
    let mut start = shell("echo $A:$HOME:$CARGO_MANIFEST_DIR; pwd");
    start.environment.insert("A".into(), "b c".into());
    start.working_directory = "/tmp".into();
    let (_, stdout, _) = client.run(start).await.unwrap();
    let home = agent.folder.path().display();
    assert_eq!(
        String::from_utf8(stdout).unwrap(),
        format!("b c:{home}:\n/tmp\n")
    );
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let agent = TestAgent::start("").await;
    let client = agent.client().await;
    let program = ExecStart {
        argv: vec!["no-such-program".into()],
        ..ExecStart::default()
    };
    let user = ExecStart {
        user: "nobody-here".into(),
        ..shell("true")
    };
    let folder = ExecStart {
        working_directory: "/no/such/folder".into(),
        ..shell("true")
    };
    let missing = [
        (program, "no-such-program"),
        (user, "nobody-here"),
        (folder, "/no/such/folder"),
    ];
    for (start, name) in missing {
        match client.run(start).await {
            Err(AgentError::NotFound(text)) => assert!(text.contains(name), "{text}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn large_input_and_output_flow_both_ways() {
    let agent = TestAgent::start("").await;
    let mut session = agent.client().await.exec(shell("cat")).await.unwrap();
    let sent: Vec<u8> = (0..3_000_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    let (input, bytes) = (session.input.clone(), sent.clone());
    tokio::spawn(async move {
        input.write(&bytes).await.unwrap();
        input.end().await.unwrap();
    });
    let mut received = Vec::new();
    loop {
        match session.output.next().await.unwrap() {
            ExecEvent::Stdout(bytes) => received.extend(bytes),
            ExecEvent::Stderr(_) => panic!(),
            ExecEvent::Exit { code, .. } => break assert_eq!(code, 0),
        }
    }
    assert!(received == sent);
}

#[tokio::test]
async fn a_terminal_has_a_size_that_follows() {
    let agent = TestAgent::start("").await;
    let script = "trap 'stty size' WINCH; stty size; echo ready; while :; do sleep 0.05; done";
    let mut session = agent
        .client()
        .await
        .exec(in_terminal(script))
        .await
        .unwrap();
    let text = read_until(&mut session, "ready").await;
    assert!(text.starts_with("30 100\r\n"), "{text:?}");
    session.input.resize(40, 120).await.unwrap();
    read_until(&mut session, "40 120").await;
    // Ctrl-C, as typed.
    session.input.write(&[3]).await.unwrap();
    assert_eq!(exit(&mut session).await, (130, Some(2)));
}

#[tokio::test]
async fn signals_reach_the_program() {
    let agent = TestAgent::start("").await;
    let script = "trap 'echo got it; exit 3' USR1; echo ready; while :; do sleep 0.05; done";
    let mut session = agent.client().await.exec(shell(script)).await.unwrap();
    read_until(&mut session, "ready").await;
    session.input.signal(10).await.unwrap();
    read_until(&mut session, "got it").await;
    assert_eq!(exit(&mut session).await, (3, None));
}

#[tokio::test]
async fn a_caller_that_vanishes_takes_its_programs_with_it() {
    let agent = TestAgent::start("").await;
    let script = "sleep 1000 & echo $! $$; wait";
    let mut session = agent.client().await.exec(shell(script)).await.unwrap();
    let text = read_until(&mut session, "\n").await;
    let pids: Vec<i32> = text
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect();
    assert_eq!(pids.len(), 2);
    drop(session);
    let gone = |pid: i32| {
        // The orphan is reaped by whoever is PID 1 here, perhaps late.
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    };
    until("the end of both processes", || {
        pids.iter().all(|pid| gone(*pid))
    })
    .await;
}

#[tokio::test]
async fn what_a_program_leaves_behind_does_not_hold_its_end_up() {
    let agent = TestAgent::start("").await;
    let began = std::time::Instant::now();
    let (code, stdout, _) = agent
        .client()
        .await
        .run(shell("sleep 20 & echo done"))
        .await
        .unwrap();
    assert_eq!((code, stdout), (0, b"done\n".to_vec()));
    assert!(began.elapsed() < std::time::Duration::from_secs(15));
}

#[tokio::test]
async fn another_user_has_its_groups_and_not_roots_rights() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let agent = TestAgent::start("").await;
    let start = ExecStart {
        user: "tester".into(),
        ..shell("id -u; id -g; id -G; echo $USER")
    };
    let (_, stdout, _) = agent.client().await.run(start).await.unwrap();
    assert_eq!(
        String::from_utf8(stdout).unwrap(),
        "4321\n4322\n4322 4323\ntester\n"
    );
}

impl TestAgent {
    async fn client_and_keep(self) -> (coracle_protocol::client::AgentClient, Self) {
        (self.client().await, self)
    }
}
