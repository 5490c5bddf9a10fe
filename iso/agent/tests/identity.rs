//! Who may call the agent, and how a caller learns why it may not.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod support;

use coracle_protocol::client::{AgentClient, AgentEndpoint, ConnectError};
use std::time::{Duration, Instant};
use support::{LIMIT_OF_A_TEST, TestAgent, credentials, identity::authority, server_identity};
use tokio::net::TcpListener;

#[tokio::test]
async fn a_known_caller_gets_an_answer() {
    let agent = TestAgent::start("").await;
    let info = agent.client().await.info().await.unwrap();
    assert_eq!(info.image_digest, "sha256:test");
    assert!(info.memory_total_bytes > info.memory_used_bytes && info.memory_used_bytes > 0);
    assert!(info.disk_total_bytes > 0 && info.clock_millis > 1_700_000_000_000);
}

#[tokio::test]
async fn strangers_on_either_side_are_refused_as_such() {
    let agent = TestAgent::start("").await;
    let other = authority("other").unwrap();
    let ours = agent.authority.pem.as_str();
    for wrong in [
        credentials(&other, ours),
        credentials(&agent.authority, &other.pem),
    ] {
        let refused = AgentClient::connect(&agent.endpoint, &wrong, LIMIT_OF_A_TEST).await;
        let error = refused.unwrap_err();
        assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
        assert!(!error.nobody_answers());
    }
}

#[tokio::test]
async fn a_new_identity_is_used_for_new_connections() {
    let agent = TestAgent::start("").await;
    let before = agent.client().await;
    let new = authority("new").unwrap();
    agent.identity.replace(&server_identity(&new)).unwrap();
    before.info().await.unwrap();
    let old = credentials(&agent.authority, &agent.authority.pem);
    assert!(
        AgentClient::connect(&agent.endpoint, &old, LIMIT_OF_A_TEST)
            .await
            .is_err()
    );
    let fresh = credentials(&new, &new.pem);
    AgentClient::connect(&agent.endpoint, &fresh, LIMIT_OF_A_TEST)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_port_that_is_not_an_agents_is_told_apart() {
    let authority = authority("a").unwrap();
    let credentials = credentials(&authority, &authority.pem);
    let limit = Duration::from_millis(300);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = AgentEndpoint::Tcp(listener.local_addr().unwrap());
    let silent = AgentClient::connect(&endpoint, &credentials, limit)
        .await
        .unwrap_err();
    assert!(
        matches!(silent, ConnectError::TimedOut { .. }),
        "{silent:?}"
    );

    let closing = tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    let closed = AgentClient::connect(&endpoint, &credentials, LIMIT_OF_A_TEST)
        .await
        .unwrap_err();
    assert!(matches!(closed, ConnectError::Closed { .. }), "{closed:?}");
    let began = Instant::now();
    let gave_up = AgentClient::connect_when_up(&endpoint, &credentials, limit)
        .await
        .unwrap_err();
    assert!(gave_up.nobody_answers() && began.elapsed() < Duration::from_secs(5));

    closing.abort();
    let _ = closing.await;
    let refused = AgentClient::connect(&endpoint, &credentials, LIMIT_OF_A_TEST)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, ConnectError::Refused { .. }),
        "{refused:?}"
    );
}

#[tokio::test]
async fn waiting_for_an_agent_ends_when_it_comes() {
    let agent = TestAgent::start("").await;
    let authority = &agent.authority;
    // A port that nobody has yet.
    let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let identity = agent.identity.clone();
    let served = std::sync::Arc::clone(&agent.agent);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let listener = TcpListener::bind(address).await.unwrap();
        coracle_agent::api::serve(listener, identity, served).await
    });
    let credentials = credentials(authority, &authority.pem);
    let endpoint = AgentEndpoint::Tcp(address);
    AgentClient::connect_when_up(&endpoint, &credentials, LIMIT_OF_A_TEST)
        .await
        .unwrap();
}
