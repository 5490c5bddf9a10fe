//! What the host gives, through the API to processes that reach outward.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod support;

use coracle_protocol::api::ComponentState;
use coracle_protocol::given::{Parcel, Proxy};
use support::{TestAgent, until};

/// Two components that write down which proxy they see, once for each start.
fn rows(folder: &str) -> String {
    let row = |name: &str, more: &str| {
        format!(
            "[[component]]\nname = \"{name}\"\nready = {{ probe = \"started\" }}\nstop_order = 20\n\
             command = [\"/bin/sh\", \"-c\", 'echo \"$HTTP_PROXY|$no_proxy\" >> {folder}/{name}; exec sleep 1000']\n\
             {more}\n"
        )
    };
    row("inward", "") + &row("outward", "outward = true")
}

fn proxy(http: &str) -> Parcel {
    let proxy = Proxy {
        http: Some(http.into()),
        https: None,
        exceptions: "localhost,.svc".into(),
    };
    Parcel::new(Some(proxy), Vec::new(), None)
}

#[tokio::test]
async fn who_reaches_outward_starts_anew_with_another_proxy_and_only_then() {
    let seen = tempfile::tempdir().unwrap();
    let agent = TestAgent::start(&rows(&seen.path().display().to_string())).await;
    let read = |name: &str| std::fs::read_to_string(seen.path().join(name)).unwrap_or_default();
    until("both run", || {
        read("inward") == "|\n" && read("outward") == "|\n"
    })
    .await;
    let client = agent.client().await;

    client.give(&Parcel::default()).await.unwrap();
    assert_eq!(agent.agent.given.digest(), "");
    client.give(&proxy("http://one:1")).await.unwrap();
    until("it sees the first", || {
        read("outward") == "|\nhttp://one:1|localhost,.svc\n"
    })
    .await;
    let digest = proxy("http://one:1").given().digest().unwrap();
    assert_eq!(agent.agent.given.digest(), digest);
    client.give(&proxy("http://one:1")).await.unwrap();
    client.give(&Parcel::default()).await.unwrap();
    until("it sees none", || {
        read("outward") == "|\nhttp://one:1|localhost,.svc\n|\n"
    })
    .await;
    assert_eq!(read("inward"), "|\n");
    let table = client.components().await.unwrap();
    assert!(
        table
            .components
            .iter()
            .all(|one| one.state() == ComponentState::Ready)
    );
}

#[tokio::test]
async fn files_are_placed_once() {
    let agent = TestAgent::start("").await;
    let client = agent.client().await;
    let content = vec![7_u8; 300_000];
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o640);
    header.set_size(content.len() as u64);
    archive
        .append_data(&mut header, "opt/big", content.as_slice())
        .unwrap();
    let parcel = Parcel::new(None, Vec::new(), Some(archive.into_inner().unwrap()));
    client.give(&parcel).await.unwrap();
    let placed = agent.folder.path().join("root/opt/big");
    assert_eq!(std::fs::read(&placed).unwrap(), content);
    std::fs::remove_file(&placed).unwrap();
    client.give(&parcel).await.unwrap();
    assert!(!placed.exists(), "it was the machine's own by then");
    let broken = Parcel::new(None, Vec::new(), Some(vec![1; 2000]));
    client.give(&broken).await.unwrap_err();
    assert_eq!(agent.agent.given.digest(), parcel.given().digest().unwrap());
}
