//! Who counts as talking to the machine.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code: a panic is a failed test"
)]

mod support;

use coracle_protocol::client::AgentClient;
use support::{LIMIT_OF_A_TEST, TestAgent};

/// Waits until the agent counts so many connections.
async fn counted(client: &AgentClient, wanted: u32) {
    let counts = async {
        while client.info().await.unwrap().callers != wanted {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let counted = tokio::time::timeout(LIMIT_OF_A_TEST, counts).await;
    assert!(counted.is_ok(), "there are never {wanted}");
}

#[tokio::test]
async fn a_connection_that_waits_is_not_counted_however_many_streams_it_has() {
    let agent = TestAgent::start("").await;
    let (waiting, other) = (agent.client().await, agent.client().await);
    counted(&other, 2).await;
    let ports = waiting.watch_container_ports().await.unwrap();
    let questions = waiting.home_questions().await.unwrap();
    counted(&other, 1).await;
    // Whoever comes now is counted all the same.
    let third = agent.client().await;
    counted(&other, 2).await;
    drop(third);
    drop(ports);
    counted(&other, 1).await;
    drop(questions);
    counted(&other, 2).await;
    drop(waiting);
    counted(&other, 1).await;
}
