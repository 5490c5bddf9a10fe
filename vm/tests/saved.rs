//! Saved machines with real QEMU: one is saved, ended, and goes on.
#![cfg(target_os = "linux")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

mod machine;

use coracle_vm::saved::SavedFiles;
use coracle_vm::spec::DiskFormat;
use coracle_vm::store::qcow2;
use coracle_vm::{
    Captured, Disks, Driver as _, DriverError, Kept, MachineState, Origin, RunningProcess, Saved,
    SavedError, Saves, Size,
};
use machine::{LIMIT, TestMachine};
use std::collections::BTreeMap;

async fn ready() -> TestMachine {
    let machine = TestMachine::new().with_data_disk(DiskFormat::Qcow2);
    let (driver, dir) = (&machine.driver, &machine.dir);
    driver.prepare(dir, &machine.spec).await.unwrap();
    machine
}

async fn facts(machine: &TestMachine) -> BTreeMap<String, String> {
    machine.driver.fingerprint(&machine.spec).await.unwrap()
}

/// Saves a running machine and ends it, as a stop does.
async fn stop(machine: &TestMachine) -> Saved {
    let saves = Saves::new(&machine.dir);
    let saving = saves.begin().unwrap();
    let kept = machine
        .driver
        .save(&machine.dir, &saving.files())
        .await
        .unwrap();
    assert_eq!(machine.state().await, MachineState::Paused);
    machine.quit().await;
    let record = saving.record(kept, facts(machine).await).unwrap();
    saves.publish(saving, record, &machine.spec).unwrap()
}

async fn go_on(machine: &TestMachine, saved: Saved) -> Result<RunningProcess, DriverError> {
    let origin = Origin::Saved(Box::new(saved));
    machine.launch_from(&origin).await
}

#[tokio::test]
async fn a_saved_machine_goes_on_once_and_can_be_saved_again() {
    let machine = ready().await;
    let saves = Saves::new(&machine.dir);
    let mut process = machine.launch().await.unwrap();
    // All memory at first, then what differs from that.
    for kept in [Kept::Whole, Kept::Pages, Kept::Pages] {
        let saved = stop(&machine).await;
        process.wait().await.unwrap();
        assert_eq!(saved.record.kept, kept);
        let found = saves.find(&facts(&machine).await).unwrap().unwrap();
        assert_eq!(found, saved);
        found.make_durable().unwrap();
        process = go_on(&machine, found).await.unwrap();
        assert_eq!(machine.state().await, MachineState::Running);
        assert!(!saves.is_there(), "it could be used again");
        assert!(saves.base().is_some());
    }
    // A machine without the files that its memory went on from writes all of it.
    std::fs::remove_dir_all(machine.dir.path().join("base")).unwrap();
    let saved = stop(&machine).await;
    process.wait().await.unwrap();
    let kept = saved.record.kept;
    assert!(
        matches!(kept, Kept::Stream | Kept::MappedStream),
        "{kept:?}"
    );
    process = go_on(&machine, saved).await.unwrap();
    assert_eq!(machine.state().await, MachineState::Running);
    assert!(saves.base().is_none() && !saves.is_there());
    let saved = stop(&machine).await;
    process.wait().await.unwrap();
    process = go_on(&machine, saved).await.unwrap();
    assert_eq!(machine.state().await, MachineState::Running);
    machine.quit().await;
    process.wait().await.unwrap();
    let mut process = machine.launch().await.unwrap();
    assert_eq!(stop(&machine).await.record.kept, Kept::Whole);
    process.wait().await.unwrap();
}

#[tokio::test]
async fn saving_takes_nothing_from_a_machine_that_runs_on() {
    let machine = ready().await;
    let process = machine.launch().await.unwrap();
    let saves = Saves::new(&machine.dir);
    let saving = saves.begin().unwrap();
    let files = saving.files();
    machine.driver.save(&machine.dir, &files).await.unwrap();
    machine.driver.resume(&machine.dir).await.unwrap();
    assert_eq!(machine.state().await, MachineState::Running);
    drop(saving);
    assert!(!saves.is_there());
    // Where it cannot be written, the machine may go on too.
    let saving = saves.begin().unwrap();
    std::fs::create_dir(saving.files().whole().ram).unwrap();
    let error = machine
        .driver
        .save(&machine.dir, &saving.files())
        .await
        .unwrap_err();
    assert!(matches!(error, DriverError::Io { .. }), "{error:?}");
    machine.driver.resume(&machine.dir).await.unwrap();
    assert_eq!(machine.state().await, MachineState::Running);
    machine.driver.quit(&machine.dir, LIMIT).await.unwrap();
    drop(process);
}

#[tokio::test]
async fn what_does_not_fit_any_more_is_refused_with_the_reason() {
    let machine = ready().await;
    let saves = Saves::new(&machine.dir);
    let _first = machine.launch().await.unwrap();
    let saved = stop(&machine).await;
    let _second = go_on(&machine, saved).await.unwrap();
    let saved = stop(&machine).await;
    assert_eq!(saved.record.kept, Kept::Pages);
    let host = facts(&machine).await;
    assert!(saves.find(&host).unwrap().is_some());
    let refused = |host: &BTreeMap<String, String>| match saves.find(host) {
        Err(SavedError::Unusable { reason }) => reason,
        other => panic!("{other:?}"),
    };

    let mut other_host = host.clone();
    other_host.insert("qemu".to_owned(), "another".to_owned());
    assert!(refused(&other_host).contains("qemu"));

    let record = saved.folder.join("save.json");
    let text = std::fs::read_to_string(&record).unwrap();
    let write = |text: &str| coracle_vm::store::atomic::write(&record, text.as_bytes()).unwrap();
    write(&text.replace("\"format\": 1", "\"format\": 2"));
    assert!(refused(&host).contains("format 2"));
    write(&text[..text.len() / 2]);
    assert!(refused(&host).contains("damaged"));
    write(&text.replace(&saved.record.boot_id, "an earlier boot"));
    assert!(refused(&host).contains("written whole"));
    write(&text);

    let data = machine.data_disk();
    let former = std::fs::metadata(&data).unwrap().modified().unwrap();
    let file = std::fs::File::options().write(true).open(&data).unwrap();
    file.set_modified(former + std::time::Duration::from_secs(1))
        .unwrap();
    assert!(refused(&host).contains("was changed after it"));
    file.set_modified(former).unwrap();

    let pages = saved.files().pages();
    let bytes = std::fs::read(&pages).unwrap();
    coracle_vm::store::atomic::write(&pages, &bytes[..bytes.len() - 1]).unwrap();
    assert!(refused(&host).contains("pages has"));
    // Of the right length, and wrong: only a restore finds that, and the machine is off again.
    let mut wrong = bytes.clone();
    wrong[bytes.len() / 2] ^= 0xff;
    coracle_vm::store::atomic::write(&pages, &wrong).unwrap();
    let found = saves.find(&host).unwrap().unwrap();
    let error = go_on(&machine, found).await.unwrap_err();
    assert!(
        matches!(error, DriverError::RestoreFailed { .. }),
        "{error:?}"
    );
    assert_eq!(machine.state().await, MachineState::Off);

    coracle_vm::store::atomic::write(&pages, &bytes).unwrap();
    let found = saves.find(&host).unwrap().unwrap();
    let _third = go_on(&machine, found).await.unwrap();
    machine.quit().await;
    let _fourth = machine.launch().await.unwrap();
    assert!(saves.base().is_none(), "a boot goes on from nothing");
    machine.quit().await;
}

#[tokio::test]
async fn another_machine_can_go_on_from_the_same_state() {
    let machine = ready().await;
    let _process = machine.launch().await.unwrap();
    let saved = stop(&machine).await;
    let other = ready().await;
    let adopted = Saves::new(&other.dir).adopt(&saved, &other.spec).unwrap();
    assert_eq!(adopted.record.disks.len(), 1);
    assert_eq!(adopted.record.disks[0].path, other.data_disk());
    let _other = go_on(&other, adopted).await.unwrap();
    let _this = go_on(&machine, saved).await.unwrap();
    for machine in [&machine, &other] {
        assert_eq!(machine.state().await, MachineState::Running);
        machine.quit().await;
    }
}

/// The disks below a machine's own, from the next to the lowest.
fn layers(machine: &TestMachine) -> Vec<std::path::PathBuf> {
    Disks::new(machine.home())
        .chain(&machine.data_disk())
        .unwrap()
}

#[tokio::test]
async fn a_machine_is_captured_while_it_runs_as_often_as_one_likes() {
    let machine = ready().await;
    let process = machine.launch().await.unwrap();
    let disks = Disks::new(machine.home());
    let folder = |number: usize| machine.home().join(format!("capture{number}"));
    let mut captured = Vec::new();
    // More often than layers are kept.
    for number in 0..20 {
        std::fs::create_dir(folder(number)).unwrap();
        let files = SavedFiles::in_folder(&folder(number));
        let done = machine
            .driver
            .capture(&machine.dir, &machine.spec, &files, &disks)
            .await
            .unwrap();
        assert_eq!(machine.state().await, MachineState::Running);
        // What was merged meanwhile is above the first one alone.
        let layers = layers(&machine);
        let lowest = captured
            .first()
            .map_or(&done.disk, |first: &Captured| &first.disk);
        assert!(
            layers.first() == Some(&done.disk) || layers == [lowest.clone()],
            "{number}: {layers:#?}"
        );
        assert!(done.disk.metadata().unwrap().permissions().readonly());
        captured.push(done);
    }
    assert!(layers(&machine).len() <= 16, "{:#?}", layers(&machine));
    let other = ready().await;
    let mut spec = other.spec.clone();
    std::fs::remove_file(other.data_disk()).unwrap();
    spec.disks[0].base = Some(captured[3].disk.clone());
    other.driver.prepare(&other.dir, &spec).await.unwrap();
    let saves = Saves::new(&other.dir);
    let saving = saves.begin().unwrap();
    for part in std::fs::read_dir(folder(3)).unwrap() {
        let part = part.unwrap().path();
        std::fs::rename(&part, saving.folder().join(part.file_name().unwrap())).unwrap();
    }
    let host = other.driver.fingerprint(&spec).await.unwrap();
    let record = saving.record(captured[3].kept, host).unwrap();
    let saved = saves.publish(saving, record, &spec).unwrap();
    let _other = go_on(&other, saved).await.unwrap();
    assert_eq!(other.state().await, MachineState::Running);
    assert_eq!(machine.state().await, MachineState::Running);
    other.quit().await;
    machine.quit().await;
    drop(process);
    let _again = machine.launch().await.unwrap();
    // Nothing is left beside the disk.
    let names = std::fs::read_dir(machine.dir.path()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    let of_disk = |name: &&std::ffi::OsString| name.to_string_lossy().starts_with("data");
    assert_eq!(names.iter().filter(of_disk).count(), 1, "{names:?}");
    machine.quit().await;
}

#[tokio::test]
async fn a_capture_that_fails_leaves_the_machine_running_on_its_disk() {
    let machine = ready().await;
    let _process = machine.launch().await.unwrap();
    let missing = SavedFiles::in_folder(&machine.home().join("missing"));
    let error = machine
        .driver
        .capture(
            &machine.dir,
            &machine.spec,
            &missing,
            &Disks::new(machine.home()),
        )
        .await
        .unwrap_err();
    assert!(matches!(error, DriverError::Io { .. }), "{error:?}");
    assert_eq!(machine.state().await, MachineState::Running);
    assert!(layers(&machine).is_empty());
    let file = std::fs::File::options()
        .write(true)
        .open(machine.data_disk());
    assert!(file.is_ok(), "{file:?}");
    machine.quit().await;
    // What was prepared and not used goes with the next launch.
    machine
        .driver
        .prepare(&machine.dir, &machine.spec)
        .await
        .unwrap();
    let _again = machine.launch().await.unwrap();
    machine.quit().await;
}

#[tokio::test]
async fn a_disk_grows_with_a_launch_and_while_its_machine_runs() {
    let mut machine = ready().await;
    let size = |machine: &TestMachine| {
        let header = qcow2::Header::read(&machine.data_disk()).unwrap();
        header.unwrap().size
    };
    assert_eq!(size(&machine), Size::from_mib(64));
    machine.spec.disks[0].create = Some(Size::from_mib(96));
    let _process = machine.launch().await.unwrap();
    machine.spec.disks[0].create = Some(Size::from_mib(128));
    for _ in 0..2 {
        machine
            .driver
            .grow(&machine.dir, &machine.spec)
            .await
            .unwrap();
    }
    machine.quit().await;
    assert_eq!(size(&machine), Size::from_mib(128));
    // It never shrinks.
    machine.spec.disks[0].create = Some(Size::from_mib(64));
    let _process = machine.launch().await.unwrap();
    machine.quit().await;
    assert_eq!(size(&machine), Size::from_mib(128));
}
