//! Supervision of real processes, seen through the API.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod support;

use coracle_agent::supervise::RestartError;
use coracle_protocol::api::{Component, ComponentState, PowerAction};
use coracle_protocol::client::{AgentClient, AgentError};
use std::time::Duration;
use support::{LIMIT_OF_A_TEST, TestAgent, until};

/// A component that runs a shell script.
fn row(name: &str, script: &str, ready: &str, more: &str) -> String {
    format!(
        "[[component]]\nname = \"{name}\"\ncommand = [\"/bin/sh\", \"-c\", '''{script}''']\n\
         ready = {ready}\nstop_order = 20\n{more}\n"
    )
}

fn component(agent: &TestAgent, name: &str) -> Component {
    let table = agent.agent.supervisor.watch();
    let table = table.borrow();
    table.iter().find(|one| one.name == name).unwrap().clone()
}

#[tokio::test]
async fn components_come_up_in_order_and_one_shots_end() {
    let mark = tempfile::NamedTempFile::new().unwrap();
    let path = mark.path().display().to_string();
    std::fs::remove_file(&path).unwrap();
    let first = row(
        "first",
        &format!("sleep 0.3; touch {path}; exec sleep 1000"),
        &format!("{{ probe = \"exec\", command = [\"test\", \"-e\", \"{path}\"] }}"),
        "",
    );
    let task = row(
        "task",
        &format!("test -e {path} && echo it was there"),
        "{ probe = \"ended\" }",
        "after = [\"first\"]\none_shot = true",
    );
    let last = row(
        "last",
        "exec sleep 1000",
        "{ probe = \"started\" }",
        "after = [\"task\"]",
    );
    let agent = TestAgent::start(&(first + &task + &last)).await;
    let mut seen = Vec::new();
    let client = agent.client().await;
    let table = client
        .wait_ready(|table| seen.push(table.clone()), LIMIT_OF_A_TEST)
        .await
        .unwrap();
    let states: Vec<_> = table.components.iter().map(Component::state).collect();
    assert_eq!(
        states,
        [
            ComponentState::Ready,
            ComponentState::Done,
            ComponentState::Ready
        ]
    );
    assert!(
        table
            .components
            .iter()
            .all(|one| one.restarts == 0 && one.ready_at_uptime_millis > 0)
    );
    // As long as the first was not ready, the others had not begun.
    for table in seen {
        if table.components[0].state() != ComponentState::Ready {
            assert_eq!(table.components[1].state(), ComponentState::Waiting);
        }
    }
    let mut lines = client.logs("task", false, 0).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap().data, b"it was there\n");
}

#[tokio::test]
async fn what_ends_is_started_again_and_says_why_it_ended() {
    let rows = row(
        "flaky",
        "echo it is broken; exit 3",
        "{ probe = \"started\" }",
        "",
    );
    let agent = TestAgent::start(&rows).await;
    until("two restarts", || component(&agent, "flaky").restarts >= 2).await;
    until("a reason", || {
        component(&agent, "flaky").detail == "ended with status 3: it is broken"
    })
    .await;
    let never = row(
        "never",
        "exec sleep 1000",
        "{ probe = \"tcp\", address = \"127.0.0.1:1\" }",
        "",
    );
    let agent = TestAgent::start(&never).await;
    until("a reason", || {
        component(&agent, "never")
            .detail
            .contains("Connection refused")
    })
    .await;
    let waited = agent
        .client()
        .await
        .wait_ready(|_| (), Duration::from_secs(3))
        .await;
    match waited {
        Err(error @ AgentError::NotReady { .. }) => {
            assert!(
                error.to_string().contains("never (Connection refused"),
                "{error}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_missing_program_backs_off_and_is_named() {
    let rows = "[[component]]\nname = \"gone\"\ncommand = [\"/no/such/program\"]\n\
                ready = { probe = \"started\" }\nstop_order = 20\n";
    let agent = TestAgent::start(rows).await;
    until("a reason", || {
        component(&agent, "gone")
            .detail
            .contains("/no/such/program")
    })
    .await;
    assert_eq!(
        component(&agent, "gone").state(),
        ComponentState::BackingOff
    );
}

/// An agent with one component, "one", which is ready.
async fn one_that_runs() -> (TestAgent, AgentClient) {
    let rows = row("one", "exec sleep 1000", "{ probe = \"started\" }", "");
    let agent = TestAgent::start(&rows).await;
    let client = agent.client().await;
    client.wait_ready(|_| (), LIMIT_OF_A_TEST).await.unwrap();
    (agent, client)
}

#[tokio::test]
async fn a_restart_gives_another_process() {
    let (agent, client) = one_that_runs().await;
    let before = component(&agent, "one").pid;
    client.restart_component("one").await.unwrap();
    client.wait_ready(|_| (), LIMIT_OF_A_TEST).await.unwrap();
    let after = component(&agent, "one");
    assert!(after.pid != before && after.pid != 0 && after.restarts == 1);
    let unknown = client.restart_component("two").await;
    assert!(matches!(unknown, Err(AgentError::NotFound(_))));
}

#[tokio::test]
async fn one_that_is_held_stands_still_and_another_comes_by_itself_or_on_demand() {
    let (agent, client) = one_that_runs().await;
    let supervisor = &agent.agent.supervisor;
    let state = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.split(' ').nth(2).unwrap_or("gone").to_owned()
    };

    let before = component(&agent, "one").pid;
    let pause = Duration::from_secs(2);
    supervisor.hold("one", pause).await.unwrap();
    assert_eq!(state(before), "T");
    // Held once more meanwhile, it is from then on; and nobody need wait for it.
    supervisor.hold("one", pause).await.unwrap();
    let held = component(&agent, "one");
    assert_eq!(held.state(), ComponentState::Done);
    assert_eq!((held.pid, held.detail.as_str()), (0, "starts again in 2 s"));
    client.wait_ready(|_| (), LIMIT_OF_A_TEST).await.unwrap();
    until("it is back", || component(&agent, "one").pid != 0).await;
    assert_eq!(state(before), "gone");

    supervisor.hold("one", LIMIT_OF_A_TEST * 10).await.unwrap();
    client.restart_component("one").await.unwrap();
    let back = component(&agent, "one");
    assert!(state(back.pid) != "gone" && back.restarts == 2, "{back:?}");
    let unknown = supervisor.hold("two", pause).await;
    assert_eq!(unknown, Err(RestartError::Unknown("two".into())));
}

#[tokio::test]
async fn power_off_stops_in_order_and_insists() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log").display().to_string();
    let trap_is_set = |name: &str| {
        format!("{{ probe = \"exec\", command = [\"test\", \"-e\", \"{path}.{name}\"] }}")
    };
    let polite = |name: &str, order: u32| {
        row(
            name,
            &format!(
                "trap 'echo {name} >> {path}; exit 0' TERM; touch {path}.{name}; while :; do sleep 0.05; done"
            ),
            &trap_is_set(name),
            "",
        )
        .replace("stop_order = 20", &format!("stop_order = {order}"))
    };
    let stubborn = row(
        "stubborn",
        &format!("trap '' TERM; touch {path}.stubborn; while :; do sleep 0.05; done"),
        &trap_is_set("stubborn"),
        "stop_grace = 1",
    )
    .replace("stop_order = 20", "stop_order = 5");
    let mut agent = TestAgent::start(
        &(polite("third", 40) + &polite("second", 20) + &stubborn + &polite("first", 1)),
    )
    .await;
    let client = agent.client().await;
    client.wait_ready(|_| (), LIMIT_OF_A_TEST).await.unwrap();
    client
        .power(PowerAction::PowerOff, Duration::from_secs(1))
        .await
        .unwrap();
    client
        .power(PowerAction::Reboot, Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(agent.powered.recv().await, Some(PowerAction::PowerOff));
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        "first\nsecond\nthird\n"
    );
    let table = client.components().await.unwrap();
    assert!(
        table
            .components
            .iter()
            .all(|one| one.state() == ComponentState::Done && one.pid == 0)
    );
}

#[tokio::test]
async fn logs_are_followed_and_tailed() {
    let script =
        "for i in 1 2 3; do echo line $i; done; read x < FIFO; echo line 4; exec sleep 1000";
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = script.replace("FIFO", fifo.to_str().unwrap());
    let agent = TestAgent::start(&row("talker", &script, "{ probe = \"started\" }", "")).await;
    let client = agent.client().await;
    until("three lines", || {
        agent
            .agent
            .logs
            .existing("talker")
            .is_some_and(|log| log.last_line() == "line 3")
    })
    .await;
    let mut tail = client.logs("talker", true, 1).await.unwrap();
    assert_eq!(tail.next().await.unwrap().unwrap().data, b"line 3\n");
    support::write(&fifo, "go\n");
    assert_eq!(tail.next().await.unwrap().unwrap().data, b"line 4\n");
    let mut all = client.logs("", false, 0).await.unwrap();
    let mut text = String::new();
    while let Some(chunk) = all.next().await.unwrap() {
        text.push_str(&String::from_utf8(chunk.data).unwrap());
    }
    assert!(
        text.contains("talker: line 2\n") && text.contains("agent: "),
        "{text}"
    );
    assert!(matches!(
        client.logs("nobody", false, 0).await,
        Err(AgentError::NotFound(_))
    ));
}
