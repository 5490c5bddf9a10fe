//! The driver for libvirt against a real daemon that the tests start, which has a real QEMU emulate.
#![cfg(all(target_os = "linux", feature = "libvirt"))]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

mod machine;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use coracle_tests::Libvirtd as Daemon;
use coracle_vm::address::check_free;
use coracle_vm::program::Programs;
use coracle_vm::spec::{DiskFormat, Protocol};
use coracle_vm::store::qcow2;
use coracle_vm::{
    Accelerator, AcceleratorChoice, AnyDriver, Disk, DiskRole, Driver as _, DriverError,
    DriverKind, GuestPort, Kept, MachineState, Origin, Saved, Saves, Size,
};
use machine::{LIMIT, TestMachine, WRITER, signal};
use rustix::process::Signal;
use virt::connect::Connect;
use virt::domain::Domain;

/// What the folders of the machines begin with: all that a document has to escape.
const FOLDER: &str = "vm test Täler 'n' <Hügel>, \"& Co\" ";

/// Says `*` on the serial console when it boots, and `.` with each tick of the timer after that.
#[rustfmt::skip]
const TICKER: [u8; 13] = [
    0xfb,             // sti
    0xba, 0xf8, 0x03, // mov dx, 0x3f8: the first serial port
    0xb0, 0x2a,       // mov al, '*'
    0xee,             // out dx, al
    0xf4,             // again: hlt
    0xb0, 0x2e,       // mov al, '.'
    0xee,             // out dx, al
    0xeb, 0xfa,       // jmp again
];

/// Powers off when the power button is pressed: the fixed registers of ACPI, where the firmware puts them
/// on the machine q35.
#[rustfmt::skip]
const OBEDIENT: [u8; 25] = [
    0xfa,             // cli
    0xba, 0x02, 0x06, // mov dx, 0x602: what is told
    0xb8, 0x00, 0x01, // mov ax, 0x100: the power button
    0xef,             // out dx, ax
    0xb2, 0x00,       // mov dl, 0: what was told
    0xed,             // again: in ax, dx
    0xf6, 0xc4, 0x01, // test ah, 1
    0x74, 0xfa,       // jz again
    0xb2, 0x04,       // mov dl, 4: control
    0xb8, 0x00, 0x20, // mov ax, 0x2000: off
    0xef,             // out dx, ax
    0xf4,             // hlt
    0xeb, 0xfd,       // jmp: hlt
];

/// Tells a panic through the device for that, as a kernel does.
#[rustfmt::skip]
const PANIC: [u8; 9] = [
    0xba, 0x05, 0x05, // mov dx, 0x505
    0xb0, 0x01,       // mov al, 1
    0xee,             // out dx, al
    0xf4,             // hlt
    0xeb, 0xfd,       // jmp: hlt
];

/// A machine of a daemon's.
struct Guest(TestMachine);

impl std::ops::Deref for Guest {
    type Target = TestMachine;

    fn deref(&self) -> &TestMachine {
        &self.0
    }
}

/// The programs of this host, with a daemon.
fn programs(daemon: &Daemon) -> Programs {
    Programs {
        libvirt_uri: Some(daemon.uri().to_owned()),
        ..machine::programs()
    }
}

impl Guest {
    fn new(programs: Programs) -> Self {
        Self(TestMachine::of(DriverKind::Libvirt, programs, FOLDER))
    }

    /// One with a disk that the firmware boots, and one that it could write.
    async fn booting(daemon: &Daemon, code: &[u8]) -> Self {
        let mut guest = Self::new(programs(daemon));
        let root = guest.home().join("root.img");
        write_boot_sector(&root, code);
        guest.0.spec.disks.push(Disk {
            role: DiskRole::Root,
            path: root,
            format: DiskFormat::Raw,
            read_only: true,
            create: None,
            base: None,
        });
        let guest = Self(guest.0.with_data_disk(DiskFormat::Qcow2));
        guest.driver.prepare(&guest.dir, &guest.spec).await.unwrap();
        guest
    }

    async fn start(&self) -> Result<(), DriverError> {
        self.start_from(&Origin::Boot).await
    }

    async fn start_from(&self, origin: &Origin) -> Result<(), DriverError> {
        let launched = self.driver.launch(&self.dir, &self.spec, origin).await?;
        assert!(launched.is_none(), "a service runs it");
        Ok(())
    }

    /// Looks until the machine is in a state, and gives the last one seen.
    async fn wait_for(&self, wanted: MachineState) -> MachineState {
        let begun = Instant::now();
        loop {
            let state = self.state().await;
            if state == wanted || begun.elapsed() > LIMIT {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the console has said something.
    async fn wait_for_console(&self, text: &str) -> String {
        let begun = Instant::now();
        loop {
            let said = std::fs::read_to_string(&self.spec.console).unwrap_or_default();
            if said.contains(text) || begun.elapsed() > LIMIT {
                return said;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn facts(&self) -> BTreeMap<String, String> {
        self.driver.fingerprint(&self.spec).await.unwrap()
    }

    /// Saves a running machine, as a stop does.
    async fn hibernate(&self) -> Saved {
        let saves = Saves::new(&self.dir);
        let saving = saves.begin().unwrap();
        let host = self.facts().await;
        let kept = self.driver.save(&self.dir, &saving.files()).await.unwrap();
        assert_eq!(kept, Kept::Held);
        assert_eq!(self.state().await, MachineState::Off);
        let record = saving.record(kept, host).unwrap();
        saving.reserve().unwrap();
        self.quit().await;
        saves.publish(saving, record, &self.spec).unwrap()
    }

    /// The process that runs it.
    fn process(&self) -> Option<u32> {
        self.processes().first().copied()
    }
}

fn write_boot_sector(path: &Path, code: &[u8]) {
    let mut sector = [0; 512];
    sector[..code.len()].copy_from_slice(code);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    let mut options = std::fs::OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(path).unwrap();
    file.write_all(&sector).unwrap();
    let length = file.metadata().unwrap().len();
    // The firmware reads no disk of less than a cylinder.
    file.set_len(length.max(4 << 20)).unwrap();
}

#[tokio::test]
async fn the_probe_tells_place_version_and_accelerator() {
    let Some(daemon) = Daemon::start() else {
        return;
    };
    let guest = Guest::new(programs(&daemon));
    let facts = guest
        .driver
        .probe(AcceleratorChoice::Auto, guest.spec.architecture)
        .await
        .unwrap();
    println!("{facts:?}");
    assert_eq!(facts.kind, DriverKind::Libvirt);
    assert_eq!(facts.place, daemon.uri());
    assert!(facts.version.contains(" with QEMU "), "{facts:?}");
    let tcg = facts.verdict.accelerator == Accelerator::Tcg;
    assert_eq!(
        facts.verdict.reason.contains("software emulation"),
        tcg,
        "{facts:?}"
    );
}

#[tokio::test]
async fn nobody_to_ask_is_told_with_what_to_do() {
    let programs = Programs {
        libvirt_uri: Some("qemu+unix:///system?socket=/nowhere/libvirt-sock".to_owned()),
        ..machine::programs()
    };
    let guest = Guest::new(programs);
    let error = guest
        .driver
        .probe(AcceleratorChoice::Auto, guest.spec.architecture)
        .await
        .unwrap_err();
    let told = match &error {
        DriverError::Unreachable { help, .. } => help,
        DriverError::NotInstalled { install, .. } => install,
        other => panic!("{other:?}"),
    };
    assert!(told.contains("sudo "), "{error}: {told}");
    // Nothing was ever launched there.
    assert_eq!(guest.state().await, MachineState::Off);
    guest.quit().await;
    guest.driver.forget(&guest.dir).await.unwrap();
}

#[tokio::test]
async fn a_machine_lives_through_its_states() {
    let Some(daemon) = Daemon::start() else {
        return;
    };
    let guest = Guest::booting(&daemon, &TICKER).await;
    let (driver, dir) = (&guest.driver, &guest.dir);
    assert_eq!(guest.state().await, MachineState::Off);
    guest.start().await.unwrap();
    assert_eq!(guest.state().await, MachineState::Running);
    assert!(guest.wait_for_console("*..").await.contains("*.."));
    let mode = guest.spec.console.metadata().unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
    for disk in &guest.spec.disks {
        let owner = disk.path.metadata().unwrap().uid();
        assert_eq!(owner, rustix::process::geteuid().as_raw(), "{disk:?}");
    }

    guest.obeys().await;
    guest.quit().await;
    assert_eq!(guest.state().await, MachineState::Off);
    assert_eq!(guest.process(), None);
    guest.quit().await;
    driver.wait_off(dir, LIMIT).await.unwrap();
    for off in [
        driver.pause(dir).await,
        driver.resume(dir).await,
        driver.power_button(dir).await,
    ] {
        assert!(matches!(off, Err(DriverError::NotRunning)), "{off:?}");
    }

    guest.start().await.unwrap();
    assert!(coracle_vm::log_file::former(&guest.spec.console).exists());
    let runs = driver.forget(dir).await.unwrap_err();
    assert!(matches!(runs, DriverError::Refused { .. }), "{runs}");
    guest.quit().await;
    for _ in 0..2 {
        driver.forget(dir).await.unwrap();
    }
    let connect = Connect::open(Some(daemon.uri())).unwrap();
    assert_eq!(connect.list_all_domains(0).unwrap().len(), 0);
    assert!(!dir.path().join("libvirt.json").exists());
}

#[tokio::test]
async fn a_guest_that_powers_off_or_panics_is_seen() {
    let Some(daemon) = Daemon::start() else {
        return;
    };
    let guest = Guest::booting(&daemon, &OBEDIENT).await;
    guest.start().await.unwrap();
    // The firmware needs a moment before the guest can listen.
    let begun = Instant::now();
    while guest.state().await != MachineState::Off && begun.elapsed() < LIMIT {
        match guest.driver.power_button(&guest.dir).await {
            Ok(()) | Err(DriverError::NotRunning) => {}
            Err(error) => panic!("{error}"),
        }
        let _ = guest
            .driver
            .wait_off(&guest.dir, Duration::from_millis(500))
            .await;
    }
    assert_eq!(guest.state().await, MachineState::Off);

    write_boot_sector(&guest.home().join("root.img"), &PANIC);
    let connect = Connect::open(Some(daemon.uri())).unwrap();
    guest.start().await.unwrap();
    if connect.get_lib_version().unwrap() < 9_001_000 {
        assert_eq!(
            guest.wait_for(MachineState::Panicked).await,
            MachineState::Panicked
        );
    } else {
        println!("skipped: this libvirt has the panic device on the PCI bus");
    }
    guest.quit().await;
    assert_eq!(guest.state().await, MachineState::Off);
}

#[tokio::test]
async fn ports_are_forwarded_exposed_and_concealed() {
    let Some(daemon) = Daemon::start() else {
        return;
    };
    let held = TcpListener::bind("127.88.9.10:0").unwrap();
    let address = held.local_addr().unwrap();
    let guest = Guest(Guest::new(programs(&daemon)).0.forwarding(address));
    let (driver, dir) = (&guest.driver, &guest.dir);
    let taken = guest.start().await.unwrap_err();
    assert!(
        matches!(&taken, DriverError::PortTaken { address: named, .. } if *named == address),
        "{taken:?}"
    );
    assert_eq!(guest.state().await, MachineState::Off);
    drop(held);

    let tcp = GuestPort {
        protocol: Protocol::Tcp,
        port: 30_080,
    };
    let udp = GuestPort {
        protocol: Protocol::Udp,
        port: 30_053,
    };
    let off = driver.expose(dir, address.ip(), &[tcp]).await.unwrap_err();
    assert!(matches!(off, DriverError::NotRunning), "{off}");

    guest.start().await.unwrap();
    let specified = driver.exposed(dir).await.unwrap();
    let [only] = specified[..] else {
        panic!("{specified:?}");
    };
    assert_eq!((only.host, only.guest.port), (address, 22));
    std::net::TcpStream::connect(address).unwrap();

    let exposed = driver.expose(dir, address.ip(), &[tcp, udp]).await.unwrap();
    assert_eq!([exposed[0].guest, exposed[1].guest], [tcp, udp]);
    assert!(exposed.iter().all(|one| one.host.ip() == address.ip()));
    std::net::TcpStream::connect(exposed[0].host).unwrap();
    assert!(check_free(exposed[1].host, Protocol::Udp).is_err());
    // Whoever asks again is told the same.
    let again = driver.expose(dir, address.ip(), &[udp, tcp]).await.unwrap();
    assert_eq!(again, exposed.iter().rev().copied().collect::<Vec<_>>());
    assert_eq!(driver.exposed(dir).await.unwrap().len(), 3);

    for _ in 0..2 {
        driver.conceal(dir, &exposed).await.unwrap();
        assert_eq!(driver.exposed(dir).await.unwrap(), specified);
    }
    check_free(exposed[0].host, Protocol::Tcp).unwrap();
    guest.quit().await;
    check_free(address, Protocol::Tcp).unwrap();
}

#[tokio::test]
async fn a_saved_machine_goes_on_once() {
    let Some(daemon) = Daemon::start() else {
        return;
    };
    let spoken_for = TcpListener::bind("127.88.9.11:0").unwrap();
    let address = spoken_for.local_addr().unwrap();
    drop(spoken_for);
    let guest = Guest::booting(&daemon, &TICKER).await;
    let guest = Guest(guest.0.forwarding(address));
    let saves = Saves::new(&guest.dir);
    guest.start().await.unwrap();
    assert!(guest.wait_for_console("*..").await.contains("*.."));
    // Twice: what went on can be saved again.
    let mut spent = None;
    for _ in 0..2 {
        let saved = guest.hibernate().await;
        let found = saves.find(&guest.facts().await).unwrap().unwrap();
        assert_eq!(found, saved);
        let origin = Origin::Saved(Box::new(found));
        guest.start_from(&origin).await.unwrap();
        assert_eq!(guest.state().await, MachineState::Running);
        assert!(!saves.is_there(), "it could be used again");
        let said = guest.wait_for_console("..").await;
        assert!(said.contains("..") && !said.contains('*'), "{said}");
        let exposed = guest.driver.exposed(&guest.dir).await.unwrap();
        assert!(exposed.iter().any(|one| one.host == address), "{exposed:?}");
        spent = Some(origin);
    }
    guest.quit().await;
    let again = guest.start_from(&spent.unwrap()).await.unwrap_err();
    assert!(
        matches!(again, DriverError::RestoreFailed { .. }),
        "{again}"
    );

    // A boot throws away what was saved.
    guest.start().await.unwrap();
    let saved = guest.hibernate().await;
    guest.start().await.unwrap();
    assert!(guest.wait_for_console("*").await.contains('*'));
    guest.quit().await;
    assert!(!saves.is_there());
    let gone = guest
        .start_from(&Origin::Saved(Box::new(saved)))
        .await
        .unwrap_err();
    assert!(matches!(gone, DriverError::RestoreFailed { .. }), "{gone}");

    // So does whoever has it forgotten.
    guest.start().await.unwrap();
    let saved = guest.hibernate().await;
    guest.driver.forget(&guest.dir).await.unwrap();
    let gone = guest
        .start_from(&Origin::Saved(Box::new(saved)))
        .await
        .unwrap_err();
    assert!(matches!(gone, DriverError::RestoreFailed { .. }), "{gone}");
    guest.start().await.unwrap();
    guest.quit().await;
}

#[tokio::test]
async fn a_launch_that_was_cut_off_has_not_run_yet() {
    let Some(daemon) = Daemon::start() else {
        return;
    };
    let guest = Guest::booting(&daemon, &TICKER).await;
    guest.start().await.unwrap();
    let connect = Connect::open(Some(daemon.uri())).unwrap();
    let domain = Domain::lookup_by_uuid_string(&connect, &guest.spec.id.to_string()).unwrap();
    let paused = virt::sys::VIR_DOMAIN_START_PAUSED;
    for is_saved in [false, true] {
        if is_saved {
            domain.managed_save(0).unwrap();
        } else {
            guest.quit().await;
        }
        domain.create_with_flags(paused).unwrap();
        assert_eq!(guest.state().await, MachineState::Starting, "{is_saved}");
        guest.driver.resume(&guest.dir).await.unwrap();
        assert_eq!(guest.state().await, MachineState::Running, "{is_saved}");
        guest.driver.pause(&guest.dir).await.unwrap();
        assert_eq!(guest.state().await, MachineState::Paused, "{is_saved}");
        guest.driver.resume(&guest.dir).await.unwrap();
    }
    guest.quit().await;
}

#[tokio::test]
async fn a_killed_qemu_is_seen_and_can_be_launched_again() {
    let Some(daemon) = Daemon::start() else {
        return;
    };
    let guest = Guest::booting(&daemon, &TICKER).await;
    guest.start().await.unwrap();
    for _ in 0..3 {
        signal(guest.process().unwrap(), Signal::KILL);
        guest.driver.wait_off(&guest.dir, LIMIT).await.unwrap();
        assert_eq!(guest.state().await, MachineState::Off);
        guest.start().await.unwrap();
        assert_eq!(guest.state().await, MachineState::Running);
    }
    guest.quit().await;
}

#[tokio::test]
async fn a_daemon_that_hangs_or_is_away_is_told_in_time() {
    let Some(mut daemon) = Daemon::start() else {
        return;
    };
    let guest = Guest::booting(&daemon, &TICKER).await;
    guest.start().await.unwrap();
    daemon.signal(Signal::STOP);
    let begun = Instant::now();
    let state = guest.state().await.to_string();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(state, "broken: libvirt does not answer");
    daemon.signal(Signal::CONT);
    assert_eq!(
        guest.wait_for(MachineState::Running).await,
        MachineState::Running
    );

    let pid = guest.process().unwrap();
    daemon.end();
    let state = guest.state().await.to_string();
    assert!(state.contains("cannot be used"), "{state}");
    // Its machine goes on without it.
    assert_eq!(guest.process(), Some(pid));
}

#[tokio::test]
async fn a_machine_of_somebody_else_is_never_touched() {
    let Some(daemon) = Daemon::start() else {
        return;
    };
    let guest = Guest::booting(&daemon, &TICKER).await;
    let connect = Connect::open(Some(daemon.uri())).unwrap();
    let (beginning, ..) = guest.spec.id.as_fields();
    let name = format!("coracle-dev-{beginning:08x}");
    let foreign = |id: uuid::Uuid, name: &str| {
        let xml = format!(
            "<domain type='qemu'><name>{name}</name><uuid>{id}</uuid><memory unit='MiB'>64</memory>\
             <os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
        );
        Domain::define_xml(&connect, &xml).unwrap()
    };
    // Of its name.
    let other = foreign(uuid::Uuid::new_v4(), &name);
    let before = other.get_xml_desc(0).unwrap();
    let error = guest.start().await.unwrap_err().to_string();
    assert!(
        error.contains(&name) && error.contains("not touched"),
        "{error}"
    );
    assert_eq!(guest.state().await, MachineState::Off);
    guest.quit().await;
    guest.driver.forget(&guest.dir).await.unwrap();
    assert_eq!(other.get_xml_desc(0).unwrap(), before);
    assert!(!other.is_active().unwrap());
    other.undefine().unwrap();

    // Of its identifier, without the mark.
    guest.start().await.unwrap();
    guest.quit().await;
    Domain::lookup_by_name(&connect, &name)
        .unwrap()
        .undefine()
        .unwrap();
    let other = foreign(guest.spec.id, "somebody-elses");
    other.create().unwrap();
    let error = guest.start().await.unwrap_err().to_string();
    assert!(error.contains("did not make"), "{error}");
    let state = guest.state().await.to_string();
    assert!(state.starts_with("broken: "), "{state}");
    guest.driver.quit(&guest.dir, LIMIT).await.unwrap_err();
    assert!(other.is_active().unwrap());
    other.destroy().unwrap();
    guest.driver.forget(&guest.dir).await.unwrap();
    assert_eq!(other.get_name().unwrap(), "somebody-elses");
    other.undefine().unwrap();
}

#[tokio::test]
async fn a_machine_that_was_deleted_renamed_or_moved_is_found_or_made_anew() {
    let Some(daemon) = Daemon::start() else {
        return;
    };
    let guest = Guest::booting(&daemon, &TICKER).await;
    let connect = Connect::open(Some(daemon.uri())).unwrap();
    let domain = || Domain::lookup_by_uuid_string(&connect, &guest.spec.id.to_string()).unwrap();
    guest.start().await.unwrap();
    guest.quit().await;
    domain().undefine().unwrap();
    assert_eq!(guest.state().await, MachineState::Off);
    guest.start().await.unwrap();
    assert_eq!(guest.state().await, MachineState::Running);

    // While it runs.
    domain().undefine().unwrap();
    assert_eq!(guest.state().await, MachineState::Running);
    guest.quit().await;
    assert_eq!(guest.state().await, MachineState::Off);
    guest.start().await.unwrap();
    guest.quit().await;

    domain().rename("renamed by hand", 0).unwrap();
    assert_eq!(guest.state().await, MachineState::Off);
    guest.start().await.unwrap();
    assert_eq!(guest.state().await, MachineState::Running);
    assert_eq!(domain().get_name().unwrap(), "renamed by hand");
    guest.quit().await;

    // Two folders with one machine: the one that libvirt knows stays its own.
    let copy = guest.home().join("copy");
    std::fs::create_dir(&copy).unwrap();
    let link = "libvirt.json";
    std::fs::copy(guest.dir.path().join(link), copy.join(link)).unwrap();
    let name = guest.dir.name().clone();
    let dir = coracle_vm::MachineDir::new(name, copy, &guest.home().join("run"));
    let launched = guest.driver.launch(&dir, &guest.spec, &Origin::Boot).await;
    let error = launched.unwrap_err().to_string();
    assert!(error.contains("belongs to"), "{error}");
    guest.driver.forget(&dir).await.unwrap();
    assert!(domain().is_persistent().unwrap());
    guest.driver.forget(&guest.dir).await.unwrap();
}

#[tokio::test]
async fn a_disk_grows_at_a_launch_and_while_the_guest_runs() {
    let Some(daemon) = Daemon::start() else {
        return;
    };
    let mut guest = Guest::booting(&daemon, &TICKER).await;
    let size = |guest: &Guest| {
        let header = qcow2::Header::read(&guest.data_disk()).unwrap();
        header.unwrap().size
    };
    assert_eq!(size(&guest), Size::from_mib(64));
    guest.0.spec.disks[1].create = Some(Size::from_mib(96));
    guest.start().await.unwrap();
    assert_eq!(size(&guest), Size::from_mib(96));
    guest.0.spec.disks[1].create = Some(Size::from_mib(128));
    guest.driver.grow(&guest.dir, &guest.spec).await.unwrap();
    assert_eq!(size(&guest), Size::from_mib(128));
    guest.quit().await;
    let off = guest.driver.grow(&guest.dir, &guest.spec).await;
    assert!(matches!(off, Err(DriverError::NotRunning)), "{off:?}");
}

#[tokio::test]
async fn early_ends_are_explained() {
    let Some(daemon) = Daemon::start() else {
        return;
    };
    let mut guest = Guest::booting(&daemon, &TICKER).await;
    let kept = guest.0.spec.clone();
    guest.0.spec.memory = Size::from_gib(64 << 10);
    let error = guest.start().await.unwrap_err();
    println!("{error:?}");
    assert!(
        matches!(
            error,
            DriverError::NoMemory { .. } | DriverError::Refused { .. }
        ),
        "{error:?}"
    );
    assert_eq!(guest.state().await, MachineState::Off);

    guest.0.spec = kept;
    std::fs::remove_file(guest.data_disk()).unwrap();
    let missing = guest.start().await.unwrap_err();
    assert!(
        matches!(&missing, DriverError::MissingFile { path } if *path == guest.data_disk()),
        "{missing}"
    );
    coracle_vm::store::atomic::write(&guest.data_disk(), &[7; 70_000]).unwrap();
    let error = guest.start().await.unwrap_err();
    println!("{error:?}");
    assert!(
        matches!(&error, DriverError::Refused { detail, .. } if detail.contains("qcow2")),
        "{error:?}"
    );
    assert_eq!(guest.state().await, MachineState::Off);
}

#[tokio::test]
async fn what_libvirt_cannot_do_is_said() {
    let driver = AnyDriver::new(DriverKind::Libvirt, machine::programs()).unwrap();
    assert!(!driver.capabilities().can_clone);
    let guest = Guest::new(machine::programs());
    let files = coracle_vm::TemplateFiles::in_folder(guest.home());
    let error = driver.freeze(&guest.dir, &files).await.unwrap_err();
    assert!(matches!(error, DriverError::Unable { .. }), "{error}");
}

#[tokio::test]
async fn a_full_host_pauses_the_guest_until_space_was_made() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can give the daemon a small file system");
        return;
    }
    let folder = tempfile::Builder::new()
        .prefix("vm-test-full-")
        .tempdir()
        .unwrap();
    let disk = folder.path().join("data.img");
    write_boot_sector(&disk, &WRITER);
    let file = std::fs::OpenOptions::new().write(true).open(&disk).unwrap();
    file.set_len(64 << 20).unwrap();
    let Some(daemon) = Daemon::start_with(Some(folder.path())) else {
        return;
    };
    let guest = Guest::new(programs(&daemon));
    let mut guest = Guest(guest.0.with_data_disk(DiskFormat::Raw));
    guest.0.spec.disks[0].path = disk;
    guest.start().await.unwrap();
    // Without space it is paused again.
    for _ in 0..2 {
        assert_eq!(
            guest.wait_for(MachineState::PausedDiskFull).await,
            MachineState::PausedDiskFull
        );
        guest.driver.resume(&guest.dir).await.unwrap();
    }
    guest.wait_for(MachineState::PausedDiskFull).await;
    let inside = folder.path().strip_prefix("/").unwrap();
    std::fs::remove_file(daemon.root().join(inside).join("filler")).unwrap();
    // A write that was tried again just before the space was made pauses it once more.
    let mut state = MachineState::PausedDiskFull;
    for _ in 0..5 {
        guest.driver.resume(&guest.dir).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        state = guest.state().await;
        if state == MachineState::Running {
            break;
        }
    }
    assert_eq!(state, MachineState::Running);
    guest.quit().await;
}
