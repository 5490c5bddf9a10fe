//! The promises of the store: whole or not at all, one at a time, broken is listed.

use std::sync::Arc;

use serde_json::json;
use time::OffsetDateTime;

use super::*;
use crate::accelerator::AcceleratorChoice;
use crate::driver::DriverKind;
use crate::size::Size;
use crate::spec::{Architecture, Boot, MachineSpec, UserNetwork, cpus};

const LIMIT: Duration = Duration::from_secs(10);

fn name(text: &str) -> MachineName {
    MachineName::new(text).unwrap()
}

fn store(home: &tempfile::TempDir) -> Store {
    Store::new(home.path(), home.path().join("run"))
}

fn record(store: &Store, text: &str) -> Record {
    let spec = MachineSpec {
        name: name(text),
        id: Uuid::from_u128(1),
        architecture: Architecture::X86_64,
        cpus: cpus(2).unwrap(),
        memory: Size::from_gib(3),
        boot: Boot::Firmware,
        disks: Vec::new(),
        network: UserNetwork::default(),
        generation_id: Uuid::from_u128(2),
        accelerator: AcceleratorChoice::Auto,
        console: store.machine_dir(&name(text)).serial_log(),
    };
    let created = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    Record::new(
        DriverKind::ALL[0],
        spec,
        json!({"kubernetes": "1.37.2"}),
        created,
    )
}

async fn create(store: &Store, text: &str) -> MachineDir {
    let lock = store.lock(&name(text), "test", LIMIT).await.unwrap();
    store.create(&lock, &record(store, text)).unwrap()
}

#[tokio::test]
async fn a_record_is_read_back_as_it_was_written() {
    let home = tempfile::tempdir().unwrap();
    let store = store(&home);
    assert!(store.list().unwrap().is_empty() && !home.path().join("machines").exists());
    create(&store, "dev").await;
    assert_eq!(store.get(&name("dev")).unwrap(), record(&store, "dev"));

    let mut changed = record(&store, "dev");
    changed.cluster = json!({"kubernetes": "1.38.0"});
    let lock = store.lock(&name("dev"), "test", LIMIT).await.unwrap();
    store.save(&lock, &changed).unwrap();
    assert_eq!(store.get(&name("dev")).unwrap(), changed);
    assert!(matches!(
        store.save(&lock, &record(&store, "x")),
        Err(StoreError::WrongLock { .. })
    ));
}

#[cfg(unix)]
#[tokio::test]
async fn others_can_read_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let dir = create(&store(&home), "dev").await;
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir.path()), 0o700);
    assert_eq!(mode(&dir.identity()), 0o700);
    assert_eq!(mode(&dir.record()), 0o600);
    assert_eq!(mode(&home.path().join("machines")), 0o700);
}

#[tokio::test]
async fn a_name_that_differs_in_case_only_is_taken() {
    let home = tempfile::tempdir().unwrap();
    let store = store(&home);
    create(&store, "Dev").await;
    let lock = store.lock(&name("dev"), "test", LIMIT).await.unwrap();
    let error = store.create(&lock, &record(&store, "dev")).unwrap_err();
    assert_eq!(error.to_string(), "there is a machine \"Dev\" already");
}

#[tokio::test]
async fn damaged_machines_are_listed_as_broken_and_can_be_deleted() {
    let home = tempfile::tempdir().unwrap();
    let store = store(&home);
    for (text, content, reason) in [
        (
            "a",
            Some("{\"format\": 1, \"driver\"".to_owned()),
            "machine.json is damaged: EOF while parsing",
        ),
        (
            "b",
            Some("{\"format\": 1}".to_owned()),
            "machine.json is damaged: missing field",
        ),
        (
            "c",
            Some("{\"format\": 9, \"new\": true}".to_owned()),
            "has format 9, and this version knows 1",
        ),
        ("d", None, "machine.json is missing"),
        ("e", Some(String::new()), "machine.json is damaged: EOF"),
        (
            "f",
            Some(serde_json::to_string(&record(&store, "other")).unwrap()),
            "is of the machine \"other\"",
        ),
    ] {
        let dir = create(&store, text).await;
        match content {
            Some(content) => atomic::write(&dir.record(), content.as_bytes()).unwrap(),
            None => std::fs::remove_file(dir.record()).unwrap(),
        }
        let Some(Entry::Broken { reason: found, .. }) = store.find(&name(text)).unwrap() else {
            panic!("{text} is not broken")
        };
        assert!(found.contains(reason), "{found} does not contain {reason}");
    }
    create(&store, "whole").await;
    let list = store.list().unwrap();
    let broken = list
        .iter()
        .filter(|entry| matches!(entry, Entry::Broken { .. }))
        .count();
    assert_eq!((list.len(), broken), (7, 6));
    for entry in list {
        let lock = store.lock(entry.name(), "test", LIMIT).await.unwrap();
        store.delete(lock).unwrap();
    }
    assert!(store.list().unwrap().is_empty());
}

#[tokio::test]
async fn delete_leaves_no_file_and_touches_no_other_machine() {
    let home = tempfile::tempdir().unwrap();
    let store = store(&home);
    let dir = create(&store, "dev").await;
    let other = create(&store, "dev2").await;
    std::fs::create_dir(dir.runtime_dir()).unwrap();
    for machine in [&dir, &other] {
        std::fs::File::create(machine.socket("qmp").unwrap()).unwrap();
        std::fs::File::create(machine.socket("agent").unwrap()).unwrap();
        std::fs::File::create(machine.identity().join("key")).unwrap();
    }
    store
        .delete(store.lock(&name("dev"), "test", LIMIT).await.unwrap())
        .unwrap();
    // What is left has nothing of the name, and the other machine is whole.
    let mut left: Vec<String> = Vec::new();
    for folder in [
        store.machines_dir(),
        store.machines_dir().join(".locks"),
        dir.runtime_dir().to_owned(),
    ] {
        left.extend(
            std::fs::read_dir(folder)
                .unwrap()
                .map(|file| file.unwrap().file_name().into_string().unwrap()),
        );
    }
    // Windows does not let go of a file that is open: the lock stays.
    let stays = |file: &str| file == "dev" && cfg!(windows);
    assert!(
        left.iter()
            .all(|file| file == ".locks" || file.starts_with("dev2") || stays(file)),
        "{left:?}"
    );
    assert!(other.identity().join("key").exists() && other.socket("qmp").unwrap().exists());
    // Again is no error.
    store
        .delete(store.lock(&name("dev"), "test", LIMIT).await.unwrap())
        .unwrap();
}

#[tokio::test]
async fn a_removal_that_was_cut_off_is_finished_by_the_next_sweep() {
    let home = tempfile::tempdir().unwrap();
    let store = store(&home);
    create(&store, "dev").await;
    let half = store.machines_dir().join(format!(
        ".deleting-my-old-vm-{}",
        Uuid::from_u128(7).simple()
    ));
    std::fs::create_dir_all(half.join("identity")).unwrap();
    assert_eq!(store.list().unwrap().len(), 1);

    let busy = store.lock(&name("my-old-vm"), "test", LIMIT).await.unwrap();
    assert_eq!(store.sweep().await.unwrap(), 0, "somebody is working on it");
    drop(busy);
    assert_eq!(store.sweep().await.unwrap(), 1);
    assert!(!half.exists() && store.exists(&name("dev")));
}

#[tokio::test]
async fn a_lock_that_is_held_is_refused_with_its_holders_name() {
    let home = tempfile::tempdir().unwrap();
    let store = store(&home);
    let held = store
        .lock(&name("dev"), "coracle start", LIMIT)
        .await
        .unwrap();
    let error = store
        .lock(&name("dev"), "coracle stop", Duration::from_millis(60))
        .await
        .unwrap_err();
    let StoreError::Locked { holder, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(
        (holder.pid, holder.command.as_str()),
        (std::process::id(), "coracle start")
    );
    assert!(
        error
            .to_string()
            .contains("is being changed by \"coracle start\" (process "),
        "{error}"
    );
    // Another machine's lock is free, and this one is as soon as its holder is gone.
    store
        .lock(&name("dev2"), "test", Duration::ZERO)
        .await
        .unwrap();
    drop(held);
    store
        .lock(&name("dev"), "coracle stop", Duration::ZERO)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_one_of_many_has_the_lock_even_while_machines_come_and_go() {
    let home = tempfile::tempdir().unwrap();
    let store = Arc::new(store(&home));
    let inside = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let (store, inside) = (Arc::clone(&store), Arc::clone(&inside));
        tasks.push(tokio::spawn(async move {
            for _ in 0..10 {
                let lock = store
                    .lock(&name("dev"), "test", Duration::from_secs(60))
                    .await
                    .unwrap();
                assert_eq!(
                    inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst),
                    0,
                    "two hold the lock"
                );
                store.create(&lock, &record(&store, "dev")).unwrap();
                tokio::task::yield_now().await;
                inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                store.delete(lock).unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[test]
fn socket_paths_are_short_and_belong_to_one_home() {
    let long = name(&"n".repeat(63));
    let one = Store::new("/home/a", "/run/user/1000/coracle").machine_dir(&long);
    let other = Store::new("/home/b", "/run/user/1000/coracle").machine_dir(&long);
    let socket = one.socket("qmp").unwrap();
    assert!(socket.as_os_str().len() < 60, "{}", socket.display());
    assert_ne!(socket, other.socket("qmp").unwrap());
    let deep = Store::new("/home/a", format!("/{}", "d".repeat(90))).machine_dir(&long);
    let error = deep.socket("qmp").unwrap_err();
    assert_eq!(error.length, 91 + 1 + 12 + 1 + 8 + 4);
    assert!(error.to_string().contains("103 are allowed"), "{error}");
}
