//! Files in and out as tar streams.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod support;

use coracle_protocol::client::AgentError;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use support::{TestAgent, write};
use tokio::io::AsyncReadExt;

fn entry(kind: tar::EntryType, name: &str, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    // Written as raw bytes: the library refuses to make the names that are tested here.
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o640);
    header.set_uid(nix::unistd::geteuid().as_raw().into());
    header.set_gid(nix::unistd::getegid().as_raw().into());
    header.set_mtime(1_000_000_000);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

#[tokio::test]
async fn a_tree_goes_in_and_comes_back_as_it_was() {
    let agent = TestAgent::start("").await;
    let client = agent.client().await;
    let from = agent.folder.path().join("from/tree");
    fs::create_dir_all(from.join("empty")).unwrap();
    write(&from.join("program"), "#!/bin/sh\n");
    fs::set_permissions(from.join("program"), fs::Permissions::from_mode(0o751)).unwrap();
    symlink("program", from.join("link")).unwrap();
    symlink("/no/where", from.join("dangling")).unwrap();
    let long = from.join("n".repeat(200));
    fs::create_dir(&long).unwrap();
    write(&long.join("m".repeat(200)), "deep");

    let packed = client.get(from.to_str().unwrap()).await.unwrap();
    let to = agent.folder.path().join("to/new");
    let reply = client.put(to.to_str().unwrap(), "", packed).await.unwrap();
    assert_eq!(reply.entries, 7);
    let back = to.join("tree");
    let meta = fs::metadata(back.join("program")).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o751);
    assert_eq!(
        meta.mtime(),
        fs::metadata(from.join("program")).unwrap().mtime()
    );
    assert_eq!(
        fs::read_link(back.join("link")).unwrap().to_str(),
        Some("program")
    );
    assert_eq!(
        fs::read_link(back.join("dangling")).unwrap().to_str(),
        Some("/no/where")
    );
    assert!(back.join("empty").is_dir());
    let deep = back.join("n".repeat(200)).join("m".repeat(200));
    assert_eq!(fs::read_to_string(deep).unwrap(), "deep");
}

#[tokio::test]
async fn nothing_lands_outside_of_the_folder() {
    use tar::EntryType::{Link, Regular, Symlink};
    let agent = TestAgent::start("").await;
    let client = agent.client().await;
    let outside = agent.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let secret = agent.folder.path().join("secret");
    write(&secret, "secret");
    let out = outside.to_str().unwrap();
    let escapes = [
        archive(&[entry(Regular, "../outside/x", "", b"x")]),
        archive(&[entry(Regular, "a/../../outside/x", "", b"x")]),
        archive(&[entry(Regular, &format!("{out}/x"), "", b"x")]),
        archive(&[
            entry(Symlink, "s", out, b""),
            entry(Regular, "s/x", "", b"x"),
        ]),
        archive(&[
            entry(Link, "h", "../secret", b""),
            entry(Regular, "h", "", b"x"),
        ]),
    ];
    for (number, escape) in escapes.into_iter().enumerate() {
        let folder = agent.folder.path().join(format!("in{number}"));
        let put = client
            .put(folder.to_str().unwrap(), "", Cursor::new(escape))
            .await;
        assert!(
            matches!(put, Err(AgentError::Invalid(_))),
            "{number}: {put:?}"
        );
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{number}");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "secret", "{number}");
    }
}

#[tokio::test]
async fn an_archive_that_was_cut_off_is_an_error() {
    let agent = TestAgent::start("").await;
    let client = agent.client().await;
    let folder = agent.folder.path().join("in");
    let whole = entry(tar::EntryType::Regular, "file", "", &[7; 3000]);
    for cut in [whole.clone(), whole[..1000].to_vec(), Vec::new()] {
        let put = client
            .put(folder.to_str().unwrap(), "", Cursor::new(cut))
            .await;
        assert!(matches!(put, Err(AgentError::Invalid(_))), "{put:?}");
    }
}

#[tokio::test]
async fn what_is_missing_or_relative_is_refused() {
    let agent = TestAgent::start("").await;
    let client = agent.client().await;
    let read = async |path: &str| {
        let mut bytes = Vec::new();
        match client.get(path).await {
            Ok(mut reader) => reader
                .read_to_end(&mut bytes)
                .await
                .map(drop)
                .map_err(AgentError::Local),
            Err(error) => Err(error),
        }
    };
    assert!(matches!(
        read("/no/such/file").await,
        Err(AgentError::NotFound(_))
    ));
    assert!(matches!(
        read("relative").await,
        Err(AgentError::Invalid(_))
    ));
    assert!(matches!(
        read("/tmp/../etc").await,
        Err(AgentError::Invalid(_))
    ));
    let empty = archive(&[]);
    let put = client.put("/tmp", "nobody-here", Cursor::new(empty)).await;
    assert!(matches!(put, Err(AgentError::NotFound(_))));
}

#[tokio::test]
async fn a_large_file_is_streamed_whole() {
    let agent = TestAgent::start("").await;
    let client = agent.client().await;
    let path = agent.folder.path().join("large");
    let content: Vec<u8> = (0..40_000_000_u32)
        .map(|n| (n.wrapping_mul(n) >> 7) as u8)
        .collect();
    #[allow(clippy::disallowed_methods)]
    fs::write(&path, &content).unwrap();
    let packed = client.get(path.to_str().unwrap()).await.unwrap();
    let to = agent.folder.path().join("copy");
    client.put(to.to_str().unwrap(), "", packed).await.unwrap();
    assert!(fs::read(to.join("large")).unwrap() == content);
}

#[tokio::test]
async fn a_readers_own_failure_is_told_and_not_taken_for_an_end() {
    let agent = TestAgent::start("").await;
    let client = agent.client().await;
    let broken = tokio_util::io::StreamReader::new(tokio_stream::iter([
        Ok(bytes::Bytes::from_static(&[0; 100])),
        Err(std::io::Error::other("the disk is gone")),
    ]));
    let folder = agent.folder.path().join("in");
    let put = client
        .put(folder.to_str().unwrap(), "", Box::pin(broken))
        .await;
    assert!(matches!(put, Err(AgentError::Local(_))), "{put:?}");
}

#[tokio::test]
async fn files_can_be_given_to_a_user() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let agent = TestAgent::start("").await;
    let folder = agent.folder.path().join("home/new");
    let file = archive(&[entry(tar::EntryType::Regular, "a/b", "", b"x")]);
    let client = agent.client().await;
    client
        .put(folder.to_str().unwrap(), "tester", Cursor::new(file))
        .await
        .unwrap();
    for path in ["", "a", "a/b"] {
        let meta = fs::metadata(folder.join(path)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (4321, 4322), "{path}");
    }
}
