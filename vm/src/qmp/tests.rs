//! The protocol against a peer that says exactly what each test wants.

use std::net::SocketAddr;

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::*;

const HELLO: &str = r#"{"QMP":{"version":{"qemu":{"micro":0,"minor":2,"major":7},"package":""},"capabilities":["oob"]}}"#;

/// A peer that greets, answers the negotiation, and then writes `lines` and stays open.
async fn peer(lines: &'static [&'static str]) -> QmpEndpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let text = [HELLO, r#"{"return":{},"id":1}"#]
            .iter()
            .chain(lines)
            .map(|line| format!("{line}\n"));
        stream
            .write_all(text.collect::<String>().as_bytes())
            .await
            .unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
    });
    QmpEndpoint::Tcp(address)
}

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn unknown_events_and_late_answers_are_passed_over() {
    let endpoint = peer(&[
        r#"{"event":"NEVER_HEARD_OF","data":{"x":1},"timestamp":{"seconds":1,"microseconds":2}}"#,
        r#"{"event":"STOP","timestamp":{"seconds":1,"microseconds":2}}"#,
        r#"{"return":{"status":"late"},"id":77}"#,
        r#"{"return":{"status":"running","running":true,"singlestep":false},"id":2}"#,
    ])
    .await;
    let mut client = QmpClient::connect(&endpoint, LIMIT).await.unwrap();
    assert_eq!(
        client.execute(QueryStatus {}).await.unwrap().status,
        "running"
    );
    let event = client.next_event().await.unwrap();
    assert!(event.name == "NEVER_HEARD_OF" && event.known.is_none());
    let event = client.next_event().await.unwrap();
    assert!(
        matches!(event.known, Some(qapi::qmp::Event::STOP { .. })),
        "{event:?}"
    );
}

#[tokio::test]
async fn a_refusal_carries_qemus_words() {
    let endpoint = peer(&[r#"{"id":2,"error":{"class":"GenericError","desc":"not now"}}"#]).await;
    let mut client = QmpClient::connect(&endpoint, LIMIT).await.unwrap();
    let error = client.execute(qapi::qmp::cont {}).await.unwrap_err();
    assert_eq!(error.to_string(), "QEMU refused cont: not now");
}

#[tokio::test]
async fn silence_is_an_error_in_time() {
    let endpoint = peer(&[]).await;
    let mut client = QmpClient::connect(&endpoint, LIMIT).await.unwrap();
    client.set_limit(Duration::from_millis(30));
    assert!(matches!(
        client.execute(QueryStatus {}).await,
        Err(QmpError::TimedOut {
            command: "query-status",
            ..
        })
    ));
}

#[tokio::test]
async fn a_peer_that_is_no_monitor_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = QmpEndpoint::Tcp(listener.local_addr().unwrap());
    let silent = QmpClient::connect(&endpoint, Duration::from_millis(30))
        .await
        .err()
        .unwrap();
    assert!(matches!(silent, QmpError::TimedOut { .. }) && !silent.is_absence());
    drop(listener);
    let absent = QmpClient::connect(&endpoint, LIMIT).await.err().unwrap();
    assert!(absent.is_absence(), "{absent:?}");
}

#[test]
fn a_full_host_disk_is_read_from_query_block() {
    let answer = r#"[{"io-status":"nospace","device":"","locked":false,"removable":false,
        "qdev":"/machine/peripheral/data/virtio-backend","type":"unknown"},{"device":"x","type":"unknown"}]"#;
    let disks: Vec<BlockStatus> = serde_json::from_str(answer).unwrap();
    assert_eq!(disks[0].io_status, IoStatus::NoSpace);
    assert_eq!(disks[1].io_status, IoStatus::Ok);
}
