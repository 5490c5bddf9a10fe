//! The driver against the real VBoxManage, for all that needs no kernel module: machines are made, changed,
//! found and forgotten, but not run. `scripts/virtualbox` brings it. What runs is in `virtualbox.rs`.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

mod vbox;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use coracle_vm::program::Programs;
use coracle_vm::spec::Architecture;
use coracle_vm::{AcceleratorChoice, Driver as _, DriverError, MachineState, Origin, Size};
use tokio::sync::{Mutex, MutexGuard};
use vbox::{LIMIT, TestMachine};

/// A VirtualBox of the test's own: its service with its books, ended when dropped.
struct Real {
    machine: TestMachine,
    folder: PathBuf,
    service: Option<Child>,
    /// One at a time: a program that was just written cannot be run while another thread forks.
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::const_new(());

impl std::ops::Deref for Real {
    type Target = TestMachine;

    fn deref(&self) -> &TestMachine {
        &self.machine
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        self.end();
    }
}

/// Where VirtualBox's programs find each other.
fn sockets(name: &str) -> PathBuf {
    Path::new("/tmp").join(format!(".vbox-{name}-ipc"))
}

impl Real {
    async fn new() -> Self {
        Self::with(|machine| machine).await
    }

    async fn with(change: impl FnOnce(TestMachine) -> TestMachine) -> Self {
        let turn = TURN.lock().await;
        let home = vbox::home();
        let folder = home.path().join("bin");
        std::fs::create_dir(&folder).unwrap();
        let programs = Programs {
            search_path: vec![folder.clone()],
            ..Programs::default()
        };
        let machine = change(TestMachine::new(programs, home));
        let mut real = Self {
            machine,
            folder,
            service: None,
            _turn: turn,
        };
        real.write_program("VBoxManage");
        real.write_program("VBoxSVC");
        real.serve();
        real
    }

    /// A program with this VirtualBox's own books and sockets.
    fn write_program(&self, name: &str) {
        let text = format!(
            "#!/bin/sh\nexport VBOX_USER_HOME='{}' VBOX_IPC_SOCKETID='{}'\nexec '{}' \"$@\"\n",
            self.home().join("books").display(),
            self.id(),
            unpacked().join(name).display()
        );
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o700);
        let mut file = options.open(self.folder.join(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Starts the service, and waits until others find it.
    fn serve(&mut self) {
        let log = std::fs::File::create(self.home().join("service.log")).unwrap();
        let child = Command::new(self.folder.join("VBoxSVC"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .env("LC_ALL", "C.UTF-8")
            .spawn()
            .unwrap();
        self.service = Some(child);
        let begun = Instant::now();
        while !sockets(&self.id()).join("ipcd").exists() {
            assert!(begun.elapsed() < LIMIT, "VBoxSVC does not begin");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the service.
    fn end(&mut self) {
        if let Some(mut service) = self.service.take() {
            let _ = service.kill();
            let _ = service.wait();
        }
        let _ = std::fs::remove_dir_all(sockets(&self.id()));
    }

    /// Asks VirtualBox itself.
    fn manage(&self, words: &[&str]) -> String {
        let output = Command::new(self.folder.join("VBoxManage"))
            .args(words)
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{words:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn shown(&self) -> String {
        self.manage(&["showvminfo", &self.id(), "--machinereadable"])
    }

    /// What the machine is doing. On a busy host one look may end before VirtualBox answers.
    async fn seen(&self) -> MachineState {
        let begun = Instant::now();
        loop {
            match self.state().await {
                MachineState::Broken { reason }
                    if reason.contains("does not answer") && begun.elapsed() < LIMIT => {}
                state => return state,
            }
        }
    }

    /// Brings the machine as far as its start, which there is no kernel module for.
    async fn make(&self) {
        self.prepare().await;
        let refused = self.launch().await.unwrap_err();
        assert!(is_about_the_module(&refused), "{refused:?}");
    }
}

fn is_about_the_module(error: &DriverError) -> bool {
    matches!(error, DriverError::NotInstalled { program, .. } if program.contains("vboxdrv"))
}

/// The folder of the programs, brought once.
fn unpacked() -> &'static Path {
    static FOLDER: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    FOLDER.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/virtualbox");
        let output = Command::new(script)
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "scripts/virtualbox failed");
        String::from_utf8(output.stdout).unwrap().trim_end().into()
    })
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
#[ignore = "fetches the real VirtualBox: a minute, and some hundred MB"]
async fn a_machine_is_made_with_all_of_its_settings() {
    let host = free_address();
    let real = Real::with(|machine| machine.forwarding(host)).await;
    real.make().await;
    let shown = real.shown();
    let disk = real.data_disk();
    for line in [
        "name=\"coracle-dev\"".to_owned(),
        format!("UUID=\"{}\"", real.id()),
        format!("CfgFile=\"{}\"", real.settings().display()),
        format!("hardwareuuid=\"{}\"", real.id()),
        "memory=512".into(),
        "cpus=2".into(),
        "firmware=\"BIOS\"".into(),
        "boot1=\"dvd\"".into(),
        "boot2=\"disk\"".into(),
        "ioapic=\"on\"".into(),
        "rtcuseutc=\"on\"".into(),
        "paravirtprovider=\"kvm\"".into(),
        "storagecontrollertype0=\"IntelAhci\"".into(),
        format!("\"SATA-0-0\"=\"{}\"", real.spec.disks[0].path.display()),
        format!("\"SATA-1-0\"=\"{}\"", disk.display()),
        format!("\"SATA-2-0\"=\"{}\"", real.spec.disks[2].path.display()),
        "nic1=\"nat\"".into(),
        "nictype1=\"virtio\"".into(),
        "uart1=\"0x03f8,4\"".into(),
        format!("uartmode1=\"file,{}\"", real.spec.console.display()),
        format!(
            "Forwarding(0)=\"coracle-tcp-127.0.0.1-{port},tcp,127.0.0.1,{port},10.0.2.15,22\"",
            port = host.port()
        ),
    ] {
        assert!(
            shown.lines().any(|shown| shown == line),
            "{line} in\n{shown}"
        );
    }
    assert!(
        shown.contains("VMState=\"poweroff\"") || shown.contains("VMState=\"aborted\""),
        "{shown}"
    );
    assert_eq!(real.seen().await, MachineState::Off);
    let flush = "VBoxInternal/Devices/ahci/0/LUN#1/Config/IgnoreFlush";
    assert_eq!(
        real.manage(&["getextradata", &real.id(), flush]),
        "Value: 0\n"
    );
    real.assert_nothing_ran();

    // A second launch finds all of it as it is.
    real.make().await;
    let kept = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with("VMState"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(kept(&real.shown()), kept(&shown));
}

#[tokio::test]
#[ignore = "fetches the real VirtualBox: a minute, and some hundred MB"]
async fn a_disk_is_sparse_private_and_as_large_as_it_was_asked_for() {
    let real = Real::new().await;
    real.prepare().await;
    let meta = real.data_disk().metadata().unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    assert!(meta.blocks() * 512 < 8 << 20, "{} blocks", meta.blocks());
    let size = || {
        let path = real.data_disk().display().to_string();
        real.manage(&["showmediuminfo", "disk", &path])
    };
    assert_eq!(
        real.manage(&["list", "hdds"]).trim(),
        "",
        "VirtualBox knows no unfinished disk"
    );
    let shown = size();
    assert!(shown.contains("Capacity:       64 MBytes"), "{shown}");

    real.make().await;
    let larger = real.larger(Size::from_mib(128));
    real.driver.grow(&real.dir, &larger).await.unwrap();
    let shown = size();
    assert!(shown.contains("Capacity:       128 MBytes"), "{shown}");
    real.driver.grow(&real.dir, &larger).await.unwrap();
}

#[tokio::test]
#[ignore = "fetches the real VirtualBox: a minute, and some hundred MB"]
async fn what_people_do_with_a_machine_is_found_out() {
    let real = Real::new().await;
    real.make().await;
    let id = real.id();
    let disk = format!("\"SATA-1-0\"=\"{}\"", real.data_disk().display());

    real.manage(&["modifyvm", &id, "--name", "my own näme"]);
    assert_eq!(real.seen().await, MachineState::Off);
    real.make().await;
    assert!(real.shown().contains("name=\"my own näme\""));

    // Unregistered: its settings are still in its folder, under the new name.
    real.manage(&["unregistervm", &id]);
    assert_eq!(real.seen().await, MachineState::Off);
    real.make().await;
    let shown = real.shown();
    assert!(
        shown.contains("name=\"my own näme\"") && shown.contains(&disk),
        "{shown}"
    );

    // Unregistered, and its settings removed: made anew from its disks.
    real.manage(&["unregistervm", &id]);
    std::fs::remove_dir_all(real.dir.path().join("my own näme")).unwrap();
    let before = std::fs::read(real.data_disk()).unwrap();
    real.make().await;
    let shown = real.shown();
    assert!(
        shown.contains("name=\"coracle-dev\"") && shown.contains(&disk),
        "{shown}"
    );
    assert_eq!(std::fs::read(real.data_disk()).unwrap(), before);

    // Its disk was made anew.
    std::fs::remove_file(real.data_disk()).unwrap();
    real.make().await;
    assert!(real.shown().contains(&disk));
}

#[tokio::test]
#[ignore = "fetches the real VirtualBox: a minute, and some hundred MB"]
async fn settings_that_are_gone_are_made_anew_when_virtualbox_has_noticed() {
    let mut real = Real::new().await;
    real.make().await;
    std::fs::remove_dir_all(real.dir.path().join("coracle-dev")).unwrap();
    // It looks at settings when it begins.
    real.end();
    real.serve();
    assert!(real.manage(&["list", "vms"]).contains("<inaccessible>"));
    assert_eq!(real.seen().await, MachineState::Off);
    real.make().await;
    assert!(real.shown().contains("name=\"coracle-dev\""));
}

#[tokio::test]
#[ignore = "fetches the real VirtualBox: a minute, and some hundred MB"]
async fn a_machine_of_our_name_that_is_not_ours_is_not_touched() {
    let real = Real::new().await;
    let folder = real.home().join("theirs").display().to_string();
    real.manage(&[
        "createvm",
        "--name",
        "coracle-dev",
        "--register",
        "--basefolder",
        &folder,
    ]);
    let before = real.manage(&["list", "--long", "vms"]);
    real.prepare().await;
    let refused = real.launch().await.unwrap_err().to_string();
    assert!(refused.contains("coracle-dev"), "{refused}");
    assert_eq!(real.manage(&["list", "--long", "vms"]), before);
}

#[tokio::test]
#[ignore = "fetches the real VirtualBox: a minute, and some hundred MB"]
async fn nothing_is_left_in_virtualboxs_books_and_files_stay() {
    let real = Real::new().await;
    real.make().await;
    real.driver.forget(&real.dir).await.unwrap();
    for list in ["vms", "hdds", "dvds"] {
        assert_eq!(real.manage(&["list", list]).trim(), "", "{list}");
    }
    assert!(real.data_disk().exists() && real.spec.disks[2].path.exists());
    real.driver.forget(&real.dir).await.unwrap();
    real.driver.quit(&real.dir, LIMIT).await.unwrap();
    // And it can be made again.
    real.make().await;
}

#[tokio::test]
#[ignore = "fetches the real VirtualBox: a minute, and some hundred MB"]
async fn the_probe_misses_only_the_kernel_module() {
    let real = Real::new().await;
    let probed = real
        .driver
        .probe(AcceleratorChoice::Auto, Architecture::X86_64)
        .await;
    match probed {
        Err(error) if is_about_the_module(&error) => {}
        // On a host that has the module loaded.
        Err(DriverError::Accelerator(_)) => {}
        Ok(facts) => assert!(
            facts
                .version
                .starts_with(|first: char| first.is_ascii_digit())
        ),
        Err(error) => panic!("{error}"),
    }
    let host = real.driver.fingerprint(&real.spec).await.unwrap();
    assert!(host["virtualbox"].contains('.'), "{host:?}");
}

#[tokio::test]
#[ignore = "fetches the real VirtualBox: a minute, and some hundred MB"]
async fn a_machine_that_is_not_saved_cannot_go_on() {
    let real = Real::new().await;
    real.make().await;
    let saved = coracle_vm::Saved {
        folder: real.home().to_owned(),
        record: coracle_vm::Saves::new(&real.dir)
            .begin()
            .unwrap()
            .record(coracle_vm::Kept::Held, std::collections::BTreeMap::new())
            .unwrap(),
    };
    let refused = real.launch_from(&Origin::Saved(Box::new(saved))).await;
    assert!(matches!(refused, Err(DriverError::RestoreFailed { .. })));
}

/// Whether a program ended well, and what it wrote of an error. Where in its source it was is left out.
fn told(program: &Path, words: &[&str]) -> (bool, Vec<String>) {
    let output = Command::new(program)
        .args(words)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stderr).unwrap();
    let lines = lines.lines().filter(|line| !line.contains("Context: "));
    (output.status.success(), lines.map(str::to_owned).collect())
}

#[tokio::test]
#[ignore = "fetches the real VirtualBox: a minute, and some hundred MB"]
async fn the_fake_says_what_the_real_one_says() {
    let real = Real::new().await;
    let fake = real.home().join("fake");
    std::fs::create_dir(&fake).unwrap();
    let fake = fake.join("VBoxManage");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_fake-vboxmanage"), &fake).unwrap();
    let id = real.id();
    let programs = [real.folder.join("VBoxManage"), fake];
    let disk = real.home().join("disk.vdi").display().to_string();
    let make = |program: &Path| {
        let folder = program.with_file_name("ünï machines").display().to_string();
        let words = [
            "createvm",
            "--name",
            "x",
            "--uuid",
            &id,
            "--register",
            "--basefolder",
            &folder,
        ];
        assert_eq!(told(program, &words), (true, Vec::new()));
    };
    for words in [
        &["showvminfo", &id, "--machinereadable"][..],
        &["modifyvm", &id, "--cpus", "2"],
        &["unregistervm", &id],
        &["make"],
        &["modifyvm", &id, "--cpus", "2"],
        &["controlvm", &id, "pause"],
        &["discardstate", &id],
        &["setextradata", &id, "key", "0"],
        &["closemedium", "disk", &disk],
        &["unregistervm", &id],
    ] {
        if words == ["make"] {
            programs.iter().for_each(|program| make(program));
            continue;
        }
        let [real, fake] = [&programs[0], &programs[1]].map(|program| told(program, words));
        assert_eq!(fake, real, "{words:?}");
    }
}
