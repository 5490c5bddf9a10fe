//! Connections through the agent.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod support;

use coracle_protocol::client::AgentError;
use support::TestAgent;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

#[tokio::test]
async fn tcp_goes_both_ways_and_closes_one_way_at_a_time() {
    let agent = TestAgent::start("").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // Answers only after it has read everything: a half-closed connection must stay open.
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all.reverse();
        stream.write_all(&all).await.unwrap();
    });
    let mut stream = agent
        .client()
        .await
        .dial_tcp("localhost", port)
        .await
        .unwrap();
    let sent: Vec<u8> = (0..500_000_u32)
        .map(|number| (number % 253) as u8)
        .collect();
    stream.write_all(&sent).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
    received.reverse();
    assert!(received == sent);
    server.await.unwrap();
}

#[tokio::test]
async fn a_dropped_connection_is_closed_inside() {
    let agent = TestAgent::start("").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = agent
        .client()
        .await
        .dial_tcp("127.0.0.1", port)
        .await
        .unwrap();
    let (mut inside, _) = listener.accept().await.unwrap();
    drop(stream);
    let mut rest = Vec::new();
    let _ = inside.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}

#[tokio::test]
async fn nobody_there_and_no_such_name_are_errors() {
    let agent = TestAgent::start("").await;
    let client = agent.client().await;
    let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = reserved.local_addr().unwrap().port();
    drop(reserved);
    let refused = client.dial_tcp("127.0.0.1", port).await.unwrap_err();
    assert!(refused.to_string().contains("refused"), "{refused}");
    let unknown = client
        .dial_tcp("no-such-name.invalid", 80)
        .await
        .unwrap_err();
    assert!(matches!(unknown, AgentError::NotFound(_)), "{unknown:?}");
}

#[tokio::test]
async fn datagrams_keep_their_edges() {
    let agent = TestAgent::start("").await;
    let echo = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = echo.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, peer)) = echo.recv_from(&mut buffer).await {
            echo.send_to(&buffer[..length], peer).await.unwrap();
        }
    });
    let (sender, mut receiver) = agent
        .client()
        .await
        .dial_udp("127.0.0.1", port)
        .await
        .unwrap();
    for datagram in [&b"one"[..], &[], &[7; 20_000]] {
        sender.send(datagram).await.unwrap();
        assert_eq!(receiver.receive().await.unwrap().as_deref(), Some(datagram));
    }
}

#[tokio::test]
async fn what_is_listened_for_inside_reaches_the_host() {
    let agent = TestAgent::start("").await;
    let client = agent.client().await;
    let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = reserved.local_addr().unwrap().port();
    drop(reserved);
    let mut listener = client.listen_tcp("127.0.0.1", port).await.unwrap();
    let taken = client.listen_tcp("127.0.0.1", port).await.unwrap_err();
    assert!(matches!(taken, AgentError::NotPossibleNow(_)), "{taken:?}");
    let mut inside = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    inside.write_all(b"hello").await.unwrap();
    let (mut outside, peer) = listener.accept().await.unwrap();
    assert_eq!(peer, inside.local_addr().unwrap().to_string());
    let mut hello = [0; 5];
    outside.read_exact(&mut hello).await.unwrap();
    outside.write_all(b"back").await.unwrap();
    outside.shutdown().await.unwrap();
    let mut back = Vec::new();
    inside.read_to_end(&mut back).await.unwrap();
    assert_eq!((&hello, back.as_slice()), (b"hello", &b"back"[..]));
    drop(listener);
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the port stays open after the listener was dropped");
}
