//! Templates with real QEMU: a machine is frozen, and others begin as copies of it.
#![cfg(target_os = "linux")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

mod machine;

use coracle_vm::spec::DiskFormat;
use coracle_vm::{Disks, Driver as _, DriverError, MachineState, Origin, TemplateFiles};
use machine::{LIMIT, TestMachine};
use std::path::Path;

/// A machine that ran, frozen into a folder; its disk is the base of clones.
async fn frozen(machine: &TestMachine, folder: &Path) -> TemplateFiles {
    let (driver, dir) = (&machine.driver, &machine.dir);
    driver.prepare(dir, &machine.spec).await.unwrap();
    let _process = machine.launch_from(&Origin::Boot).await.unwrap();
    std::fs::create_dir(folder).unwrap();
    let files = TemplateFiles::in_folder(folder);
    driver.freeze(dir, &files).await.unwrap();
    assert_eq!(machine.state().await, MachineState::Paused);
    machine.quit().await;
    files
}

/// A machine like `other`, whose disk begins with that one's frozen disk.
fn clone_of(other: &TestMachine, base: &Path) -> TestMachine {
    let mut clone = TestMachine::new().with_data_disk(DiskFormat::Qcow2);
    clone.spec.disks[0].base = Some(base.to_owned());
    clone.spec.id = other.spec.id;
    clone
}

#[tokio::test]
async fn clones_go_on_from_a_frozen_machine_side_by_side() {
    let first = TestMachine::new().with_data_disk(DiskFormat::Qcow2);
    let files = frozen(&first, &first.home().join("template")).await;
    let base = Disks::new(first.home()).freeze(&first.data_disk()).unwrap();
    let before = std::fs::read(&base).unwrap();
    let clones = [clone_of(&first, &base), clone_of(&first, &base)];
    let origin = Origin::Template(files.clone());
    for clone in &clones {
        clone.driver.prepare(&clone.dir, &clone.spec).await.unwrap();
        let _process = clone.launch_from(&origin).await.unwrap();
        assert_eq!(clone.state().await, MachineState::Running);
    }
    // The template may go while they run.
    std::fs::remove_file(&files.ram).unwrap();
    for clone in &clones {
        assert_eq!(clone.state().await, MachineState::Running);
        clone.quit().await;
    }
    assert!(
        std::fs::read(&base).unwrap() == before,
        "the frozen disk was written"
    );
}

#[tokio::test]
async fn a_damaged_template_is_an_error_of_its_own_and_a_boot_still_works() {
    let machine = TestMachine::new().with_data_disk(DiskFormat::Qcow2);
    let files = frozen(&machine, &machine.home().join("template")).await;
    let devices = std::fs::read(&files.devices).unwrap();
    for content in [&devices[..devices.len() / 2], b"", b"not a machine's state"] {
        coracle_vm::store::atomic::write(&files.devices, content).unwrap();
        let error = machine
            .launch_from(&Origin::Template(files.clone()))
            .await
            .unwrap_err();
        assert!(
            matches!(error, DriverError::RestoreFailed { .. }),
            "{error:?}"
        );
        assert_eq!(machine.state().await, MachineState::Off);
    }
    let _process = machine.launch_from(&Origin::Boot).await.unwrap();
    machine.quit().await;
}

#[tokio::test]
async fn a_machine_that_went_on_from_a_template_is_not_frozen_and_runs_on() {
    let machine = TestMachine::new();
    let files = frozen(&machine, &machine.home().join("template")).await;
    let _process = machine.launch_from(&Origin::Template(files)).await.unwrap();
    let again = TemplateFiles::in_folder(machine.home());
    let error = machine
        .driver
        .freeze(&machine.dir, &again)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("not one that a template can be made of"),
        "{error:?}"
    );
    assert_eq!(machine.state().await, MachineState::Running);
    machine.driver.quit(&machine.dir, LIMIT).await.unwrap();
}

#[tokio::test]
async fn what_a_restore_depends_on_is_named() {
    let machine = TestMachine::new();
    let facts = machine.driver.fingerprint(&machine.spec).await.unwrap();
    assert_eq!(
        facts,
        machine.driver.fingerprint(&machine.spec).await.unwrap()
    );
    for name in [
        "accelerator",
        "devices",
        "firmware",
        "kernel",
        "libslirp",
        "memory",
        "processor",
        "qemu",
    ] {
        assert!(!facts[name].is_empty(), "{name}: {facts:#?}");
    }
}
