//! The lock of a machine between processes.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use coracle_vm::{MachineName, Store, StoreError};

/// The variable that tells [`holder`] which home to use.
const HOME: &str = "CORACLE_VM_TEST_HOME";

fn name() -> MachineName {
    MachineName::new("dev").unwrap()
}

/// Not a test of its own: the process that holds the lock until it is killed.
#[tokio::test]
#[ignore = "run by the other test, in a process of its own"]
async fn holder() {
    let Some(home) = std::env::var_os(HOME) else {
        return;
    };
    let store = Store::new(home, "/nowhere");
    let _lock = store
        .lock(&name(), "coracle start", Duration::ZERO)
        .await
        .unwrap();
    println!("\nlocked");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Starts the holder and waits until it has the lock.
fn start_holder(home: &std::path::Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holder", "--ignored", "--nocapture"])
        .env(HOME, home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    assert!(
        lines.any(|line| line.unwrap() == "locked"),
        "the holder did not get the lock"
    );
    child
}

#[tokio::test]
async fn the_error_names_the_other_process_and_its_death_frees_the_lock() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::new(home.path(), "/nowhere");
    let mut child = start_holder(home.path());
    let error = store
        .lock(&name(), "coracle stop", Duration::from_millis(50))
        .await
        .unwrap_err();
    let StoreError::Locked { holder, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(
        (holder.pid, holder.command.as_str()),
        (child.id(), "coracle start")
    );
    assert!(holder.since.is_some());
    let text = error.to_string();
    assert!(
        text.contains(&format!(
            "\"coracle start\" (process {}, since 20",
            child.id()
        )),
        "{text}"
    );

    child.kill().unwrap();
    child.wait().unwrap();
    let lock = store
        .lock(&name(), "coracle stop", Duration::ZERO)
        .await
        .unwrap();
    store.delete(lock).unwrap();
}
