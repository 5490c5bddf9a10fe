//! The driver over a fake VBoxManage (`vm/tests/fakes/vboxmanage.rs`): all that needs VirtualBox's kernel
//! module, and all that people do behind its back. The real one is in `virtualbox_real.rs`.
#![cfg(target_arch = "x86_64")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

mod fake;
mod vbox;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coracle_vm::program::Programs;
use coracle_vm::spec::{Architecture, Protocol};
use coracle_vm::{
    Accelerator, AcceleratorChoice, Driver as _, DriverError, GuestPort, Kept, MachineState,
    Origin, Saves, Size,
};
use serde_json::{Value, json};
use vbox::{LIMIT, TestMachine};

/// A machine over a VBoxManage of its own.
struct Fake {
    machine: TestMachine,
    folder: PathBuf,
}

impl std::ops::Deref for Fake {
    type Target = TestMachine;

    fn deref(&self) -> &TestMachine {
        &self.machine
    }
}

impl Fake {
    fn new() -> Self {
        let home = vbox::home();
        let folder = home.path().join("bin");
        std::fs::create_dir(&folder).unwrap();
        let program = env!("CARGO_BIN_EXE_fake-vboxmanage");
        fake::install(program, &folder, "VBoxManage");
        let programs = Programs {
            search_path: vec![folder.clone()],
            ..Programs::default()
        };
        let machine = TestMachine::new(programs, home);
        Self { machine, folder }
    }

    fn with(change: impl FnOnce(TestMachine) -> TestMachine) -> Self {
        let Self { machine, folder } = Self::new();
        Self {
            machine: change(machine),
            folder,
        }
    }

    async fn running() -> Self {
        let fake = Self::new();
        fake.prepare().await;
        fake.launch().await.unwrap();
        fake
    }

    fn set(&self, file: &str, content: &str) {
        std::fs::write(self.folder.join(file), content).unwrap();
    }

    fn fail(&self, command: &str, text: &str) {
        self.set("fail.json", &json!({ command: text }).to_string());
    }

    fn books(&self) -> Value {
        let bytes = std::fs::read(self.folder.join("vbox.json"));
        bytes.map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap())
    }

    /// What VirtualBox knows of the machine.
    fn known(&self) -> Value {
        self.books()["machines"][&self.id()].clone()
    }

    /// Changes VirtualBox's books, as people do with its window.
    fn change(&self, change: impl FnOnce(&mut Value)) {
        let mut books = self.books();
        change(&mut books["machines"]);
        self.set("vbox.json", &books.to_string());
    }

    /// All calls so far, oldest first.
    fn calls(&self) -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(self.folder.join("calls")).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn count(&self, command: &str) -> usize {
        let calls = self.calls();
        calls.iter().filter(|call| call[0] == command).count()
    }

    fn console(&self) -> String {
        std::fs::read_to_string(&self.spec.console).unwrap()
    }
}

fn port(port: u16) -> GuestPort {
    GuestPort {
        protocol: Protocol::Tcp,
        port,
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn a_machine_lives_through_its_states() {
    let fake = Fake::new();
    let (driver, dir) = (&fake.driver, &fake.dir);
    assert_eq!(fake.state().await, MachineState::Off);
    driver.quit(dir, LIMIT).await.unwrap();
    assert_eq!(fake.calls().len(), 0, "VirtualBox was never told of it");
    fake.prepare().await;
    fake.launch().await.unwrap();
    assert_eq!(fake.state().await, MachineState::Running);
    assert_eq!(fake.console(), "boots\n");

    let again = fake.launch().await.unwrap_err();
    let state = MachineState::Running;
    assert!(
        matches!(&again, DriverError::AlreadyRunning { state: told } if *told == state),
        "{again}"
    );
    for _ in 0..2 {
        driver.pause(dir).await.unwrap();
        assert_eq!(fake.state().await, MachineState::Paused);
    }
    for _ in 0..2 {
        driver.resume(dir).await.unwrap();
        assert_eq!(fake.state().await, MachineState::Running);
    }
    let late = driver.wait_off(dir, Duration::from_millis(50)).await;
    assert!(matches!(late, Err(DriverError::TimedOut { .. })));
    driver.power_button(dir).await.unwrap();
    driver.wait_off(dir, LIMIT).await.unwrap();
    assert_eq!(fake.state().await, MachineState::Off);

    fake.launch().await.unwrap();
    fake.quit().await;
    assert_eq!(fake.state().await, MachineState::Off);
    fake.quit().await;
    driver.wait_off(dir, LIMIT).await.unwrap();
    for refused in [
        driver.pause(dir).await,
        driver.resume(dir).await,
        driver.power_button(dir).await,
        driver.exposed(dir).await.map(drop),
    ] {
        assert!(matches!(refused, Err(DriverError::NotRunning)));
    }
    assert_eq!(fake.count("createvm"), 1);
}

#[tokio::test]
async fn every_word_arrives_as_it_is_and_nothing_is_run() {
    let fake = Fake::running().await;
    let calls = fake.calls();
    let words: Vec<&String> = calls.iter().flatten().collect();
    for path in [
        fake.data_disk(),
        fake.spec.console.clone(),
        fake.dir.path().to_owned(),
        fake.spec.disks[0].path.clone(),
    ] {
        let path = path.display().to_string();
        assert!(words.iter().any(|word| **word == path), "{path}");
    }
    let values = &fake.known()["values"];
    for (key, value) in [
        ("cpus", "2"),
        ("memory", "512"),
        ("nic1", "nat"),
        ("nictype1", "virtio"),
        ("boot1", "dvd"),
        ("firmware", "bios"),
        ("natlocalhostreachable1", "on"),
    ] {
        assert_eq!(values[key], value, "{key}");
    }
    fake.assert_nothing_ran();
}

#[tokio::test]
async fn saved_memory_is_gone_on_from_once() {
    let fake = Fake::running().await;
    let saved = fake.save().await.unwrap();
    assert_eq!(saved.record.kept, Kept::Held);
    assert_eq!(fake.state().await, MachineState::Off);
    let host = fake.driver.fingerprint(&fake.spec).await.unwrap();
    let saves = Saves::new(&fake.dir);
    assert_eq!(saves.find(&host).unwrap(), Some(saved.clone()));

    let origin = Origin::Saved(Box::new(saved));
    fake.launch_from(&origin).await.unwrap();
    assert_eq!(fake.console(), "goes on\n");
    assert_eq!(fake.state().await, MachineState::Running);
    assert!(!saves.is_there());
    fake.quit().await;

    let again = fake.launch_from(&origin).await.unwrap_err();
    assert!(
        matches!(again, DriverError::RestoreFailed { .. }),
        "{again}"
    );
    assert_eq!(fake.state().await, MachineState::Off);
}

#[tokio::test]
async fn a_boot_throws_saved_memory_away() {
    let fake = Fake::running().await;
    let saved = fake.save().await.unwrap();
    fake.launch().await.unwrap();
    assert_eq!(fake.console(), "boots\n");
    assert_eq!(fake.count("discardstate"), 1);
    fake.quit().await;
    let again = fake.launch_from(&Origin::Saved(Box::new(saved))).await;
    assert!(matches!(again, Err(DriverError::RestoreFailed { .. })));
}

#[tokio::test]
async fn a_restore_that_fails_keeps_what_was_saved() {
    let fake = Fake::running().await;
    let saved = Origin::Saved(Box::new(fake.save().await.unwrap()));
    fake.fail(
        "startvm",
        "VBoxManage: error: Failed to load unit 'cpum' (VERR_SSM_LOAD_CPUID_MISMATCH)",
    );
    let failed = fake.launch_from(&saved).await.unwrap_err();
    assert!(
        matches!(&failed, DriverError::RestoreFailed { last_lines, .. } if last_lines[0].contains("CPUID")),
        "{failed}"
    );
    fake.launch_from(&saved).await.unwrap();
    assert_eq!(fake.console(), "goes on\n");
}

#[tokio::test]
async fn a_save_that_is_given_up_goes_on() {
    let fake = Fake::running().await;
    fake.fail(
        "controlvm savestate",
        "VBoxManage: error: Failed to save the machine state (VERR_DISK_FULL)",
    );
    let full = fake.save().await.unwrap_err();
    assert!(matches!(full, DriverError::NoSpace { .. }), "{full}");
    fake.driver.resume(&fake.dir).await.unwrap();
    assert_eq!(fake.state().await, MachineState::Running);

    // VirtualBox has saved it, and only then something else fails.
    let saving = Saves::new(&fake.dir).begin().unwrap();
    fake.driver.save(&fake.dir, &saving.files()).await.unwrap();
    drop(saving);
    fake.driver.resume(&fake.dir).await.unwrap();
    assert_eq!(fake.state().await, MachineState::Running);
    assert_eq!(fake.console(), "goes on\n");
}

#[tokio::test]
async fn ports_are_opened_and_closed_while_it_runs() {
    let host = free_address();
    let fake = Fake::with(|machine| machine.forwarding(host));
    fake.prepare().await;
    fake.launch().await.unwrap();
    let (driver, dir) = (&fake.driver, &fake.dir);
    let of_spec = driver.exposed(dir).await.unwrap();
    assert_eq!(of_spec.len(), 1);
    assert_eq!((of_spec[0].guest, of_spec[0].host), (port(22), host));

    let address = Ipv4Addr::LOCALHOST.into();
    let wanted = [port(30080), port(22), port(30081)];
    let exposed = driver.expose(dir, address, &wanted).await.unwrap();
    let guests: Vec<_> = exposed.iter().map(|one| one.guest).collect();
    assert_eq!(guests, wanted);
    assert_eq!(exposed[1].host, host);
    let again = driver.expose(dir, address, &wanted).await.unwrap();
    assert_eq!(again, exposed);
    assert_eq!(driver.exposed(dir).await.unwrap().len(), 3);

    fake.change(|machines| {
        machines[fake.id()]["rules"]["mine"] = json!("mine,tcp,127.0.0.1,1,,80");
    });
    driver.conceal(dir, &exposed[..1]).await.unwrap();
    driver.conceal(dir, &exposed[..1]).await.unwrap();
    assert_eq!(driver.exposed(dir).await.unwrap().len(), 2);

    fake.quit().await;
    fake.launch().await.unwrap();
    assert_eq!(
        driver.exposed(dir).await.unwrap(),
        of_spec,
        "until the machine ends"
    );
    assert!(
        fake.known()["rules"]["mine"].is_string(),
        "it is people's own"
    );

    let v6 = driver.expose(dir, "::1".parse().unwrap(), &wanted).await;
    assert!(matches!(v6, Err(DriverError::Unable { .. })));
}

#[tokio::test]
async fn ports_of_before_a_save_are_settled_after_it() {
    let fake = Fake::running().await;
    let (driver, dir) = (&fake.driver, &fake.dir);
    let address = Ipv4Addr::LOCALHOST.into();
    driver.expose(dir, address, &[port(30080)]).await.unwrap();
    let saved = fake.save().await.unwrap();
    let mut spec = fake.spec.clone();
    let host = free_address();
    spec.network.forwards = vec![coracle_vm::PortForward::tcp(host, 7443)];
    let origin = Origin::Saved(Box::new(saved));
    driver.launch(dir, &spec, &origin).await.unwrap();
    let exposed = driver.exposed(dir).await.unwrap();
    assert_eq!(exposed.len(), 1);
    assert_eq!((exposed[0].guest, exposed[0].host), (port(7443), host));
}

#[tokio::test]
async fn a_port_that_somebody_has_is_named() {
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = held.local_addr().unwrap();
    let fake = Fake::with(|machine| machine.forwarding(taken));
    fake.prepare().await;
    let error = fake.launch().await.unwrap_err();
    assert!(
        matches!(error, DriverError::PortTaken { address, .. } if address == taken),
        "{error}"
    );
    assert_eq!(fake.count("startvm"), 0);
}

#[tokio::test]
async fn a_disk_grows_while_its_machine_is_off() {
    let fake = Fake::running().await;
    let (driver, dir) = (&fake.driver, &fake.dir);
    let larger = fake.larger(Size::from_mib(128));
    driver.grow(dir, &fake.spec).await.unwrap();
    let running = driver.grow(dir, &larger).await.unwrap_err();
    assert!(running.to_string().contains("next launch"), "{running}");
    fake.quit().await;
    driver.grow(dir, &larger).await.unwrap();
    driver.grow(dir, &larger).await.unwrap();
    assert_eq!(fake.count("modifymedium"), 1);
    let largest = fake.larger(Size::from_mib(256));
    driver.launch(dir, &largest, &Origin::Boot).await.unwrap();
    assert_eq!(fake.count("modifymedium"), 2);
    driver.grow(dir, &largest).await.unwrap();
}

#[tokio::test]
async fn a_machine_that_was_renamed_is_found_by_its_id() {
    let fake = Fake::running().await;
    let folder = fake.dir.path().join("my own name");
    std::fs::rename(fake.dir.path().join("coracle-dev"), &folder).unwrap();
    std::fs::rename(folder.join("coracle-dev.vbox"), folder.join("mine.vbox")).unwrap();
    fake.change(|machines| {
        machines[fake.id()]["name"] = json!("my own name");
        machines[fake.id()]["settings"] = json!(folder.join("mine.vbox"));
    });
    assert_eq!(fake.state().await, MachineState::Running);
    fake.quit().await;
    fake.launch().await.unwrap();
    assert_eq!(fake.known()["name"], "my own name");
    assert_eq!(fake.count("createvm"), 1);
    fake.quit().await;

    // Unregistered as well, it is found in its folder.
    fake.change(|machines| *machines = json!({}));
    assert_eq!(fake.state().await, MachineState::Off);
    fake.launch().await.unwrap();
    assert_eq!(fake.count("createvm"), 1);
    assert_eq!(fake.count("registervm"), 1);
}

#[tokio::test]
async fn a_machine_that_was_deleted_is_made_anew_from_its_disks() {
    let fake = Fake::running().await;
    let (driver, dir) = (&fake.driver, &fake.dir);
    let disk = std::fs::read(fake.data_disk()).unwrap();
    // With its files, but for the disks; then only its settings; then all that VirtualBox knows.
    for round in 0..3 {
        fake.change(|machines| match round {
            0 | 2 => *machines = json!({}),
            _ => machines[fake.id()]["state"] = json!("poweroff"),
        });
        if round < 2 {
            std::fs::remove_dir_all(dir.path().join("coracle-dev")).unwrap();
        } else {
            fake.set(
                "fail.json",
                r#"{"registervm": "VBoxManage: error: Document is empty."}"#,
            );
        }
        assert_eq!(fake.state().await, MachineState::Off, "{round}");
        for refused in [driver.pause(dir).await, driver.power_button(dir).await] {
            assert!(matches!(refused, Err(DriverError::NotRunning)), "{round}");
        }
        driver.wait_off(dir, LIMIT).await.unwrap();
        driver.quit(dir, LIMIT).await.unwrap();
        fake.launch().await.unwrap();
        assert_eq!(fake.state().await, MachineState::Running);
        assert_eq!(fake.known()["media"]["1"][0], json!(fake.data_disk()));
    }
    assert_eq!(fake.count("createvm"), 4);
    assert_eq!(std::fs::read(fake.data_disk()).unwrap(), disk);
}

#[tokio::test]
async fn settings_that_snapshots_need_are_not_thrown_away() {
    let fake = Fake::running().await;
    fake.quit().await;
    let snapshots = fake.settings().with_file_name("Snapshots");
    std::fs::create_dir(&snapshots).unwrap();
    std::fs::write(snapshots.join("{1}.vdi"), "written since").unwrap();
    fake.change(|machines| *machines = json!({}));
    fake.fail("registervm", "VBoxManage: error: Document is empty.");
    let refused = fake.launch().await.unwrap_err().to_string();
    assert!(refused.contains("snapshots"), "{refused}");
    assert!(fake.settings().exists());
}

#[tokio::test]
async fn what_people_took_a_snapshot_of_stays_attached() {
    let fake = Fake::running().await;
    fake.quit().await;
    let snapshots = fake.settings().with_file_name("Snapshots");
    std::fs::create_dir(&snapshots).unwrap();
    let newest = snapshots.join("{1}.vdi");
    std::fs::write(&newest, "written since").unwrap();
    fake.change(|machines| machines[fake.id()]["media"]["1"][0] = json!(newest));
    fake.launch().await.unwrap();
    assert_eq!(fake.known()["media"]["1"][0], json!(newest));
}

#[tokio::test]
async fn a_disk_that_was_made_anew_takes_the_place_of_the_old_one() {
    let fake = Fake::running().await;
    fake.quit().await;
    let before = fake.known()["media"]["1"][1].clone();
    std::fs::remove_file(fake.data_disk()).unwrap();
    let missing = fake.launch().await.unwrap_err();
    assert!(
        matches!(missing, DriverError::MissingFile { .. }),
        "{missing}"
    );
    fake.prepare().await;
    fake.launch().await.unwrap();
    assert_ne!(fake.known()["media"]["1"][1], before);
}

#[tokio::test]
async fn a_machine_of_our_name_that_is_not_ours_is_not_touched() {
    let fake = Fake::new();
    fake.prepare().await;
    let settings = fake.home().join("theirs.vbox");
    std::fs::write(&settings, "").unwrap();
    let theirs = json!({
        "name": "coracle-dev", "settings": settings, "state": "poweroff",
        "values": {}, "rules": {}, "controller": false, "media": {}, "console": null,
    });
    let books = json!({ "machines": { "11111111-2222-3333-4444-555555555555": theirs },
        "media": [], "extra": {} });
    fake.set("vbox.json", &books.to_string());
    let refused = fake.launch().await.unwrap_err().to_string();
    assert!(
        refused.contains("coracle-dev") && refused.contains("11111111-2222-3333-4444-555555555555"),
        "{refused}"
    );
    fake.driver.forget(&fake.dir).await.unwrap();
    fake.quit().await;
    assert_eq!(fake.books()["machines"], books["machines"]);

    // Under another name it is in nobody's way.
    fake.change(|machines| machines["11111111-2222-3333-4444-555555555555"]["name"] = json!("x"));
    fake.launch().await.unwrap();
    fake.quit().await;
    fake.driver.forget(&fake.dir).await.unwrap();
    let left = fake.books()["machines"].as_object().unwrap().clone();
    assert_eq!(
        left.keys().collect::<Vec<_>>(),
        ["11111111-2222-3333-4444-555555555555"]
    );
}

#[tokio::test]
async fn a_machine_is_forgotten_and_its_files_stay() {
    let fake = Fake::running().await;
    let (driver, dir) = (&fake.driver, &fake.dir);
    let running = driver.forget(dir).await.unwrap_err();
    assert!(
        matches!(running, DriverError::AlreadyRunning { .. }),
        "{running}"
    );
    fake.save().await.unwrap();
    driver.forget(dir).await.unwrap();
    assert!(fake.known().is_null());
    assert!(fake.data_disk().exists());
    let calls = fake.calls();
    let deleting = calls.iter().flatten().any(|word| word.contains("--delete"));
    assert!(!deleting);
    let before = calls.len();
    driver.forget(dir).await.unwrap();
    assert_eq!(fake.calls().len(), before, "nothing is left to ask about");
}

#[tokio::test]
async fn a_machine_that_another_session_holds_for_a_moment_is_waited_for() {
    let fake = Fake::new();
    fake.prepare().await;
    fake.set("locked", "3");
    fake.launch().await.unwrap();
    assert_eq!(fake.count("modifyvm"), 4);
}

#[tokio::test]
async fn a_machine_that_does_not_end_is_killed() {
    let fake = Fake::running().await;
    fake.set("stuck", "");
    let limit = Duration::from_millis(300);
    fake.driver.quit(&fake.dir, limit).await.unwrap();
    assert_eq!(fake.state().await, MachineState::Off);
    let calls = fake.calls();
    assert!(calls.iter().flatten().any(|word| word == "emergencystop"));
}

#[tokio::test]
async fn a_virtualbox_that_does_not_answer_is_told_in_time() {
    let fake = Fake::running().await;
    fake.set("silent", "");
    let begun = Instant::now();
    let state = fake.state().await;
    let told =
        matches!(&state, MachineState::Broken { reason } if reason.contains("does not answer"));
    assert!(told, "{state}");
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    std::fs::remove_file(fake.folder.join("silent")).unwrap();
}

#[tokio::test]
async fn what_keeps_a_machine_from_starting_has_a_name() {
    let fake = Fake::new();
    fake.prepare().await;
    for (text, check) in [
        (
            "VBoxManage: error: VT-x is not available (VERR_VMX_NO_VMX)",
            (|error| matches!(error, DriverError::Accelerator(_))) as fn(&DriverError) -> bool,
        ),
        (
            "VBoxManage: error: The virtual machine 'x' has terminated unexpectedly\nVERR_VM_DRIVER_NOT_INSTALLED",
            |error| matches!(error, DriverError::NotInstalled { .. }),
        ),
        (
            "VBoxManage: error: Out of memory condition when allocating memory (VERR_NO_MEMORY)",
            |error| matches!(error, DriverError::NoMemory { .. }),
        ),
        (
            "VBoxManage: error: VDI: write failed (VERR_DISK_FULL)",
            |error| matches!(error, DriverError::NoSpace { .. }),
        ),
        (
            "VBoxManage: error: Something else\nVBoxManage: error: Details: code NS_ERROR_FAILURE (0x80004005)",
            |error| matches!(error, DriverError::LaunchFailed { last_lines, .. } if last_lines.len() == 2),
        ),
    ] {
        fake.fail("startvm", text);
        let error = fake.launch().await.unwrap_err();
        assert!(check(&error), "{text}: {error}");
        assert_eq!(fake.state().await, MachineState::Off);
    }
    fake.fail(
        "createmedium",
        "VBoxManage: error: VDI: no room (VERR_DISK_FULL)",
    );
    std::fs::remove_file(fake.data_disk()).unwrap();
    let full = fake
        .driver
        .prepare(&fake.dir, &fake.spec)
        .await
        .unwrap_err();
    assert!(matches!(full, DriverError::NoSpace { .. }), "{full}");
    assert!(!fake.data_disk().exists());
}

#[tokio::test]
async fn the_probe_tells_what_is_there_and_what_is_missing() {
    let fake = Fake::new();
    let probe = || {
        fake.driver
            .probe(AcceleratorChoice::Auto, Architecture::X86_64)
    };
    let facts = probe().await.unwrap();
    assert_eq!(facts.version, "7.0.20r163906");
    let program = Path::new("bin").join(format!("VBoxManage{}", std::env::consts::EXE_SUFFIX));
    assert!(Path::new(&facts.place).ends_with(program), "{facts:?}");
    assert_eq!(facts.verdict.accelerator, Accelerator::Native);

    fake.set("hostinfo", "Processor supports HW virtualization: no\n");
    let off = probe().await.unwrap_err();
    let told = matches!(
        off,
        DriverError::Accelerator(_) | DriverError::NotInstalled { .. }
    );
    assert!(told, "{off}");
    fake.set(
        "version",
        "WARNING: The vboxdrv kernel module is not loaded.\n7.0.20r163906\n",
    );
    let module = probe().await.unwrap_err();
    assert!(module.to_string().contains("vboxdrv"), "{module}");
    fake.set("version", "6.0.24r139119\n");
    let old = probe().await.unwrap_err();
    assert!(old.to_string().contains("6.1 or newer"), "{old}");

    let arm = fake
        .driver
        .probe(AcceleratorChoice::Auto, Architecture::Aarch64)
        .await;
    assert!(arm.is_err());
    let tcg = AcceleratorChoice::Only(Accelerator::Tcg);
    fake.set("version", "7.2.4r170995\n");
    let tcg = fake.driver.probe(tcg, Architecture::X86_64).await;
    assert!(matches!(tcg, Err(DriverError::Accelerator(_))));
}

#[tokio::test]
async fn old_options_are_used_with_an_old_version() {
    let fake = Fake::new();
    fake.set("version", "6.1.50r161033\n");
    fake.prepare().await;
    fake.launch().await.unwrap();
    let values = &fake.known()["values"];
    assert_eq!(values["audio"], "none");
    assert!(values["natlocalhostreachable1"].is_null());
}

#[tokio::test]
async fn preparing_twice_changes_nothing() {
    let fake = Fake::new();
    fake.prepare().await;
    let disk = std::fs::read(fake.data_disk()).unwrap();
    fake.prepare().await;
    assert_eq!(std::fs::read(fake.data_disk()).unwrap(), disk);
    assert_eq!(fake.count("createmedium"), 1);
    assert_eq!(
        fake.books()["media"],
        json!([]),
        "VirtualBox knows no unfinished disk"
    );
    let left: Vec<_> = std::fs::read_dir(fake.dir.path())
        .unwrap()
        .flatten()
        .collect();
    assert!(left.iter().all(|file| !is_unfinished(&file.path())));
}

fn is_unfinished(path: &Path) -> bool {
    path.to_string_lossy().contains(".creating.")
}
