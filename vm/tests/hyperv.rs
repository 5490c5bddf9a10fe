//! The Hyper-V driver against a PowerShell that is none: `fakes/powershell.rs`. The real one cannot run
//! here; the fake checks that it is sent the repository's own scripts and nothing but data for them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

mod fake;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coracle_vm::program::Programs;
use coracle_vm::spec::{Architecture, DiskFormat, Protocol, cpus};
use coracle_vm::{
    Accelerator, AcceleratorChoice, AnyDriver, Boot, Disk, DiskRole, Driver, DriverError,
    DriverKind, GuestAddress, GuestPort, Kept, MachineDir, MachineName, MachineSpec, MachineState,
    Origin, PortForward, Saved, SavedError, Saves, Size, Store, UserNetwork,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

/// For what takes a moment, on a host that may be busy.
const LIMIT: Duration = Duration::from_secs(60);

/// A home folder whose name would break every kind of quoting; of what Windows allows in a name, there.
const NASTY: &str = if cfg!(windows) {
    "a'; Remove-VM dev; '$(calc) `n [x] Grün 日本 "
} else {
    "a'; Remove-VM *; '$(calc) `n \"q\" [x] Grün 日本 "
};

/// The program in PowerShell's place.
const FAKE: &str = env!("CARGO_BIN_EXE_fake-powershell");

/// A host with a fake PowerShell, and one machine of it.
struct Host {
    driver: AnyDriver,
    dir: MachineDir,
    spec: MachineSpec,
    programs: Programs,
    fake: PathBuf,
    _folders: (TempDir, TempDir),
}

impl Host {
    fn new() -> Self {
        Self::named("dev", "vm-test-")
    }

    fn named(name: &str, home: &str) -> Self {
        let home = tempfile::Builder::new().prefix(home).tempdir().unwrap();
        let runtime = tempfile::Builder::new().prefix("vm-").tempdir().unwrap();
        let fake = home.path().join("fake");
        std::fs::create_dir(&fake).unwrap();
        let program = fake::install(FAKE, &fake, "powershell");
        let programs = Programs {
            powershell: Some(program),
            ..Programs::default()
        };
        let store = Store::new(home.path(), runtime.path());
        let name = MachineName::new(name).unwrap();
        let dir = store.machine_dir(&name);
        std::fs::create_dir_all(dir.path()).unwrap();
        let spec = spec(&dir, home.path(), name);
        Self {
            driver: AnyDriver::new(DriverKind::Hyperv, programs.clone()).unwrap(),
            dir,
            spec,
            programs,
            fake,
            _folders: (home, runtime),
        }
    }

    /// How the fake behaves from the next call on.
    fn behave(&self, settings: &Value) {
        let new = self.fake.join("fake.json.new");
        std::fs::write(&new, settings.to_string()).unwrap();
        std::fs::rename(new, self.fake.join("fake.json")).unwrap();
    }

    /// A driver with a PowerShell of its own.
    fn another_driver(&self) -> AnyDriver {
        AnyDriver::new(DriverKind::Hyperv, self.programs.clone()).unwrap()
    }

    fn vms(&self) -> Vec<Value> {
        let bytes = std::fs::read(self.fake.join("vms.json")).unwrap_or_else(|_| b"[]".to_vec());
        serde_json::from_slice(&bytes).unwrap()
    }

    /// The only virtual machine.
    fn vm(&self) -> Value {
        let vms = self.vms();
        assert_eq!(vms.len(), 1, "{vms:?}");
        vms[0].clone()
    }

    /// What a user does in Hyper-V Manager.
    fn change(&self, change: impl FnOnce(&mut Vec<Value>)) {
        let mut vms = self.vms();
        change(&mut vms);
        std::fs::write(self.fake.join("vms.json"), json!(vms).to_string()).unwrap();
    }

    fn set(&self, name: &str, value: Value) {
        self.change(|vms| vms[0][name] = value);
    }

    fn calls(&self, call: &str) -> usize {
        let log = std::fs::read_to_string(self.fake.join("log")).unwrap_or_default();
        log.lines()
            .filter(|line| line.starts_with(&format!("{call} ")))
            .count()
    }

    async fn launch(&self) -> Result<(), DriverError> {
        self.launch_from(&Origin::Boot).await
    }

    async fn launch_from(&self, origin: &Origin) -> Result<(), DriverError> {
        let launched = self.driver.launch(&self.dir, &self.spec, origin).await?;
        assert!(launched.is_none(), "a service of the host runs it");
        Ok(())
    }

    /// Prepared and launched.
    async fn started() -> Self {
        let host = Self::new();
        host.start().await;
        host
    }

    async fn start(&self) {
        self.driver.prepare(&self.dir, &self.spec).await.unwrap();
        self.launch().await.unwrap();
    }

    async fn state(&self) -> MachineState {
        self.driver.observe(&self.dir).await
    }

    /// As `stop` does.
    async fn save(&self) -> Saved {
        let saves = Saves::new(&self.dir);
        let host = self.driver.fingerprint(&self.spec).await.unwrap();
        let saving = saves.begin().unwrap();
        let kept = self.driver.save(&self.dir, &saving.files()).await.unwrap();
        assert_eq!(kept, Kept::Held);
        let record = saving.record(kept, host).unwrap();
        saving.reserve().unwrap();
        self.driver.quit(&self.dir, LIMIT).await.unwrap();
        saves.publish(saving, record, &self.spec).unwrap()
    }

    /// What a stopped machine can go on from.
    async fn saved(&self) -> Result<Option<Saved>, SavedError> {
        let host = self.driver.fingerprint(&self.spec).await.unwrap();
        Saves::new(&self.dir).find(&host)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let violation = std::fs::read_to_string(self.fake.join("violation"));
        if let Ok(what) = violation
            && !std::thread::panicking()
        {
            panic!("{what}");
        }
    }
}

fn spec(dir: &MachineDir, home: &Path, name: MachineName) -> MachineSpec {
    let image = home.join("image");
    std::fs::create_dir_all(&image).unwrap();
    std::fs::write(image.join("coracle.iso"), "an ISO").unwrap();
    std::fs::write(dir.seed_disk(), "a seed").unwrap();
    let read_only = |role, path| Disk {
        role,
        path,
        format: DiskFormat::Raw,
        read_only: true,
        create: None,
        base: None,
    };
    let data = Disk {
        role: DiskRole::Data,
        path: dir.data_disk(DiskFormat::Vhdx),
        format: DiskFormat::Vhdx,
        read_only: false,
        create: Some(Size::from_gib(20)),
        base: None,
    };
    MachineSpec {
        name,
        id: Uuid::new_v4(),
        architecture: Architecture::of_host(),
        cpus: cpus(2).unwrap(),
        memory: Size::from_mib(3001),
        boot: Boot::Firmware,
        disks: vec![
            data,
            read_only(DiskRole::Seed, dir.seed_disk()),
            read_only(DiskRole::Root, image.join("coracle.iso")),
        ],
        network: UserNetwork {
            forwards: vec![PortForward::tcp("127.0.0.1:16443".parse().unwrap(), 6443)],
        },
        generation_id: Uuid::new_v4(),
        accelerator: AcceleratorChoice::Auto,
        console: dir.serial_log(),
    }
}

async fn probed(host: &Host) -> Result<coracle_vm::DriverFacts, DriverError> {
    let guest = Architecture::of_host();
    host.driver.probe(AcceleratorChoice::Auto, guest).await
}

/// What the fake does with a command line and the lines of its input, from a folder of its own.
fn fake(arguments: &[&str], input: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let program = fake::install(FAKE, folder.path(), "powershell");
    let mut child = std::process::Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // One that refuses its command line does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let status = child.wait().unwrap();
    let violation = std::fs::read_to_string(folder.path().join("violation"));
    (status.code(), violation.unwrap_or_default())
}

/// The command line and the scripts of the driver, as the fake hears them.
async fn heard() -> (Vec<String>, String) {
    let host = Host::new();
    std::fs::write(host.fake.join("spy"), "").unwrap();
    probed(&host).await.unwrap_err();
    let read = |name| std::fs::read_to_string(host.fake.join(name)).unwrap();
    (
        serde_json::from_str(&read("arguments")).unwrap(),
        read("scripts"),
    )
}

#[tokio::test]
async fn the_fake_refuses_whatever_is_not_the_drivers() {
    let (arguments, scripts) = heard().await;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    assert_eq!(fake(&arguments, &scripts), (Some(0), String::new()));
    let (status, violation) = fake(&arguments[1..], &scripts);
    assert!(
        status == Some(9) && violation.contains("command line"),
        "{violation}"
    );
    let (status, violation) = fake(&arguments, "eA==\n");
    assert!(
        status == Some(9) && violation.contains("scripts"),
        "{violation}"
    );
    let good = json!({"number": 1, "call": "Get-CoraclePlatform", "with": {}});
    assert_eq!(fake(&arguments, &format!("{scripts}{good}\n")).0, Some(0));
    for (request, word) in [
        (
            json!({"number": 1, "call": "Get-CoraclePlatform", "with": {}, "script": ""}),
            "a request with",
        ),
        (
            json!({"number": 1, "call": "Remove-VM", "with": {}}),
            "no script declares",
        ),
        (
            json!({"number": 1, "call": "Select-CoracleMachine", "with": {}}),
            "no script declares",
        ),
        (
            json!({"number": 1, "call": "Get-CoracleHost", "with": {"Name": ""}}),
            "no parameter",
        ),
        (
            json!({"number": 1, "call": "Get-CoracleHost", "with": {}}),
            "not all",
        ),
        (
            json!({"number": 1, "call": "Get-CoracleHost", "with": {"Switch": "plain text"}}),
            "is no [string]",
        ),
        (
            json!({"number": 1, "call": "New-CoracleDisk", "with": {"Path": "eA==", "Bytes": "eA=="}}),
            "is no [long]",
        ),
    ] {
        let (status, violation) = fake(&arguments, &format!("{scripts}{request}\n"));
        assert!(
            status == Some(9) && violation.contains(word),
            "{word}: {violation}"
        );
    }
}

#[tokio::test]
async fn a_host_where_all_is_well() {
    let host = Host::new();
    let facts = probed(&host).await.unwrap();
    assert_eq!(facts.kind, DriverKind::Hyperv);
    assert_eq!(facts.version, "10.0.22631");
    assert_eq!(Path::new(&facts.place).parent(), Some(host.fake.as_path()));
    assert_eq!(facts.verdict.accelerator, Accelerator::Whpx);
    let capabilities = host.driver.capabilities();
    assert!(capabilities.can_pause && capabilities.can_hibernate);
    assert!(!capabilities.can_clone && !capabilities.boots_kernel);
    assert_eq!(capabilities.data_format, DiskFormat::Vhdx);
    assert_eq!(capabilities.guest_address, GuestAddress::Direct);
}

#[tokio::test]
async fn a_probe_says_what_is_missing_and_what_mends_it() {
    let host = Host::new();
    let probed = async |facts: Value| {
        host.behave(&json!({"host": facts}));
        probed(&host).await.unwrap_err()
    };
    let off = json!({"module": false, "service": "Missing", "feature": "disabled"});
    assert!(matches!(
        probed(off).await,
        DriverError::NotInstalled { program, install }
            if program == "Hyper-V" && install.contains("Enable-WindowsOptionalFeature")
    ));
    assert!(matches!(
        probed(json!({"module": false, "feature": "enabled"})).await,
        DriverError::NotInstalled { install, .. } if install.contains("Management-PowerShell")
    ));
    assert!(matches!(
        probed(json!({"allowed": false, "switch": null})).await,
        DriverError::Forbidden { mend, .. } if mend.contains("S-1-5-32-578")
    ));
    assert!(matches!(
        probed(json!({"edition": "Core"})).await,
        DriverError::Unable { reason, .. } if reason.contains("Windows Home")
    ));
    assert!(matches!(
        probed(json!({"service": "Stopped"})).await,
        DriverError::Unready { mend, .. } if mend.contains("Start-Service vmms")
    ));
    assert!(matches!(
        probed(json!({"hypervisor": false})).await,
        DriverError::Unready { mend, .. } if mend.contains("hypervisorlaunchtype")
    ));
    assert!(matches!(
        probed(json!({"switch": false})).await,
        DriverError::Unable { reason, .. } if reason.contains("CORACLE_HYPERV_SWITCH")
    ));
    assert!(matches!(
        probed(json!({"system": "Unix"})).await,
        DriverError::Unable { reason, .. } if reason.contains("part of Windows")
    ));
    let tcg = AcceleratorChoice::Only(Accelerator::Tcg);
    let refused = host.driver.probe(tcg, Architecture::of_host()).await;
    assert!(matches!(refused, Err(DriverError::Accelerator(_))));
}

#[tokio::test]
async fn another_system_has_no_hyper_v_and_nothing_to_end() {
    let host = Host::new();
    let driver = AnyDriver::new(DriverKind::Hyperv, Programs::default()).unwrap();
    if cfg!(windows) {
        return;
    }
    let error = driver
        .probe(AcceleratorChoice::Auto, Architecture::of_host())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("a part of Windows"), "{error}");
    // Of a machine that no Hyper-V ever ran, as `delete` asks every driver.
    assert_eq!(driver.observe(&host.dir).await, MachineState::Off);
    driver.quit(&host.dir, LIMIT).await.unwrap();
    driver.wait_off(&host.dir, LIMIT).await.unwrap();
    driver.forget(&host.dir).await.unwrap();
    // A program that is named and not there.
    let named = Programs {
        powershell: Some("/nowhere/pwsh".into()),
        ..Programs::default()
    };
    let driver = AnyDriver::new(DriverKind::Hyperv, named).unwrap();
    let error = driver.prepare(&host.dir, &host.spec).await.unwrap_err();
    assert!(
        matches!(&error, DriverError::NotInstalled { program, .. } if program == "/nowhere/pwsh"),
        "{error}"
    );
}

#[tokio::test]
async fn a_machine_lives_through_its_states() {
    let host = Host::new();
    let (driver, dir) = (&host.driver, &host.dir);
    assert_eq!(host.state().await, MachineState::Off);
    let missing = host.launch().await.unwrap_err();
    assert!(matches!(missing, DriverError::MissingFile { .. }));
    host.start().await;
    assert_eq!(host.state().await, MachineState::Running);

    let vm = host.vm();
    assert_eq!(vm["name"], "dev");
    assert_eq!(vm["processors"], 2);
    assert_eq!(vm["memory"], 3002_u64 << 20);
    assert_eq!(vm["switch"], "Default Switch");
    assert_eq!(vm["disks"], json!([dir.data_disk(DiskFormat::Vhdx)]));
    let dvds = [
        dir.path().join("hyperv-root.iso"),
        dir.path().join("hyperv-seed.iso"),
    ];
    assert_eq!(vm["dvds"], json!(dvds));
    assert_eq!(std::fs::read_to_string(&dvds[0]).unwrap(), "an ISO");
    let notes = vm["notes"].as_str().unwrap();
    assert!(notes.contains(&host.spec.id.to_string()) && notes.contains("machines/dev"));

    let again = host.launch().await.unwrap_err();
    assert!(matches!(
        again,
        DriverError::AlreadyRunning {
            state: MachineState::Running
        }
    ));
    for _ in 0..2 {
        driver.pause(dir).await.unwrap();
        assert_eq!(host.state().await, MachineState::Paused);
    }
    for _ in 0..2 {
        driver.resume(dir).await.unwrap();
        assert_eq!(host.state().await, MachineState::Running);
    }
    driver.power_button(dir).await.unwrap();
    driver.wait_off(dir, LIMIT).await.unwrap();
    assert_eq!(host.state().await, MachineState::Off);
    for refused in [driver.pause(dir).await, driver.resume(dir).await] {
        assert!(matches!(refused, Err(DriverError::NotRunning)));
    }

    host.behave(&json!({"deaf": true}));
    host.launch().await.unwrap();
    assert_eq!(host.vm()["id"], vm["id"], "it is the same one");
    let deaf = driver.power_button(dir).await.unwrap_err();
    assert!(matches!(deaf, DriverError::Hypervisor { .. }), "{deaf}");
    let late = driver.wait_off(dir, Duration::from_millis(50)).await;
    assert!(matches!(late, Err(DriverError::TimedOut { .. })));
    for _ in 0..2 {
        driver.quit(dir, LIMIT).await.unwrap();
        assert_eq!(host.state().await, MachineState::Off);
    }
    for _ in 0..2 {
        driver.forget(dir).await.unwrap();
    }
    assert!(host.vms().is_empty() && dir.data_disk(DiskFormat::Vhdx).is_file());
    assert_eq!(host.state().await, MachineState::Off);
}

#[tokio::test]
async fn one_powershell_serves_all_calls_of_a_driver() {
    let host = Host::started().await;
    for _ in 0..5 {
        assert_eq!(host.state().await, MachineState::Running);
    }
    let started = std::fs::read_to_string(host.fake.join("started")).unwrap();
    assert_eq!(started.lines().count(), 1);
    // Whoever asks while another call takes its time need not wait.
    host.behave(&json!({"hang": "Suspend-CoracleMachine"}));
    let pause = host.driver.pause(&host.dir);
    let look = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        host.state().await
    };
    tokio::select! {
        done = pause => panic!("{done:?}"),
        state = look => assert_eq!(state, MachineState::Running),
    }
}

#[tokio::test]
async fn the_guest_is_reached_at_its_own_address() {
    let host = Host::new();
    let (driver, dir) = (&host.driver, &host.dir);
    let anywhere: IpAddr = "127.0.0.1".parse().unwrap();
    let port = |protocol, port| GuestPort { protocol, port };
    let ports = [port(Protocol::Tcp, 22), port(Protocol::Udp, 53)];
    let off = driver.expose(dir, anywhere, &ports).await;
    assert!(matches!(off, Err(DriverError::NotRunning)));
    host.start().await;
    let early = driver.expose(dir, anywhere, &ports).await;
    assert!(matches!(early, Err(DriverError::NoAddress)));
    assert!(driver.exposed(dir).await.unwrap().is_empty());

    let mac = host.vm()["mac"].as_str().unwrap().to_owned();
    let neighbours = json!([
        [mac, "Stale", "172.20.1.2"],
        [mac, "Reachable", "172.20.1.3"],
        ["020000000000", "Reachable", "172.20.9.9"]
    ]);
    for (settings, address) in [
        (json!({"neighbours": neighbours}), "172.20.1.3"),
        (json!({"neighbours": neighbours, "old": true}), "172.20.1.3"),
        (
            json!({"neighbours": neighbours, "reported": ["fe80::1", "172.20.1.4"]}),
            "172.20.1.4",
        ),
    ] {
        host.behave(&settings);
        let exposed = driver.expose(dir, anywhere, &ports).await.unwrap();
        let places: Vec<String> = exposed.iter().map(|e| e.host.to_string()).collect();
        assert_eq!(places, [format!("{address}:22"), format!("{address}:53")]);
        assert_eq!(exposed[1].guest, ports[1]);
        let forwards = driver.exposed(dir).await.unwrap();
        assert_eq!(forwards.len(), 1);
        assert_eq!(forwards[0].host.to_string(), format!("{address}:6443"));
        driver.conceal(dir, &exposed).await.unwrap();
    }
    driver.quit(dir, LIMIT).await.unwrap();
    let off = driver.expose(dir, anywhere, &ports).await;
    assert!(matches!(off, Err(DriverError::NotRunning)));
}

#[tokio::test]
async fn another_switch_can_be_named() {
    let mut host = Host::new();
    let name = "Straße 'x'; $(calc)";
    host.programs.hyperv_switch = Some(name.to_owned());
    host.driver = host.another_driver();
    host.driver.prepare(&host.dir, &host.spec).await.unwrap();
    let missing = host.launch().await.unwrap_err();
    assert!(
        matches!(missing, DriverError::Unable { reason, .. } if reason.contains("Get-VMSwitch"))
    );
    host.behave(&json!({"switches": [name]}));
    probed(&host).await.unwrap();
    host.launch().await.unwrap();
    assert_eq!(host.vm()["switch"], name);
}

#[tokio::test]
async fn a_saved_machine_goes_on_once() {
    let host = Host::started().await;
    let saved = host.save().await;
    assert_eq!(saved.record.kept, Kept::Held);
    assert_eq!(host.state().await, MachineState::Off);
    assert_eq!(host.vm()["state"], "Saved");
    assert_eq!(host.saved().await.unwrap().as_ref(), Some(&saved));

    let origin = Origin::Saved(Box::new(saved));
    host.launch_from(&origin).await.unwrap();
    assert_eq!(host.state().await, MachineState::Running);
    assert_eq!(host.saved().await.unwrap(), None);
    host.driver.quit(&host.dir, LIMIT).await.unwrap();
    let again = host.launch_from(&origin).await.unwrap_err();
    assert!(
        matches!(again, DriverError::RestoreFailed { .. }),
        "{again}"
    );
    assert_eq!(host.state().await, MachineState::Off);
    host.launch().await.unwrap();
}

#[tokio::test]
async fn a_boot_throws_away_what_was_saved() {
    let host = Host::started().await;
    host.save().await;
    host.launch().await.unwrap();
    assert_eq!(host.state().await, MachineState::Running);
    assert_eq!(host.saved().await.unwrap(), None);
    host.driver.quit(&host.dir, LIMIT).await.unwrap();
    assert_eq!(host.vm()["state"], "Off");
}

#[tokio::test]
async fn a_save_that_is_not_kept_lets_the_machine_go_on() {
    let host = Host::started().await;
    let saving = Saves::new(&host.dir).begin().unwrap();
    host.driver.save(&host.dir, &saving.files()).await.unwrap();
    drop(saving);
    host.driver.resume(&host.dir).await.unwrap();
    assert_eq!(host.state().await, MachineState::Running);
}

#[tokio::test]
async fn a_start_that_lacks_memory_keeps_what_was_saved() {
    let host = Host::started().await;
    let saved = host.save().await;
    let error = json!({
        "category": "NotSpecified", "code": "0x8007000E",
        "id": "OutOfMemory,Microsoft.HyperV.PowerShell.Commands.StartVM",
        "message": "Nicht genügend Arbeitsspeicher im System",
    });
    host.behave(&json!({"fail": {"Start-CoracleMachine": error}}));
    let origin = Origin::Saved(Box::new(saved.clone()));
    let refused = host.launch_from(&origin).await.unwrap_err();
    assert!(
        matches!(&refused, DriverError::NoMemory { asked, .. } if *asked == host.spec.memory),
        "{refused}"
    );
    assert_eq!(host.saved().await.unwrap(), Some(saved));
    host.behave(&json!({}));
    host.launch_from(&origin).await.unwrap();
}

#[tokio::test]
async fn machines_are_not_cloned_and_other_saves_are_refused() {
    let host = Host::started().await;
    let saved = host.save().await;
    let other = Host::new();
    let adopted = Saves::new(&other.dir).adopt(&saved, &other.spec);
    assert!(matches!(adopted, Err(SavedError::Unusable { .. })));
    let mut foreign = saved;
    foreign.record.kept = Kept::Whole;
    let refused = host
        .launch_from(&Origin::Saved(Box::new(foreign)))
        .await
        .unwrap_err();
    assert!(matches!(refused, DriverError::RestoreFailed { .. }));
    let files = coracle_vm::TemplateFiles::in_folder(host.dir.path());
    assert!(matches!(
        host.driver.freeze(&host.dir, &files).await,
        Err(DriverError::Unable { .. })
    ));
    assert!(matches!(
        host.launch_from(&Origin::Template(files)).await,
        Err(DriverError::Unable { .. })
    ));
}

#[tokio::test]
async fn a_disk_grows_while_the_machine_runs() {
    let mut host = Host::started().await;
    let size = |host: &Host| std::fs::read_to_string(host.dir.data_disk(DiskFormat::Vhdx)).unwrap();
    assert_eq!(size(&host), format!("vhdxfile {}", 20_u64 << 30));
    host.spec.disks[0].create = Some(Size::from_gib(30));
    host.driver.grow(&host.dir, &host.spec).await.unwrap();
    assert_eq!(size(&host), format!("vhdxfile {}", 30_u64 << 30));
    // Never smaller, and at a launch too.
    host.spec.disks[0].create = Some(Size::from_gib(25));
    host.driver.grow(&host.dir, &host.spec).await.unwrap();
    assert_eq!(size(&host), format!("vhdxfile {}", 30_u64 << 30));
    host.driver.quit(&host.dir, LIMIT).await.unwrap();
    host.spec.disks[0].create = Some(Size::from_gib(40));
    host.launch().await.unwrap();
    assert_eq!(size(&host), format!("vhdxfile {}", 40_u64 << 30));
    // A disk below a checkpoint must not change.
    host.set("checkpoints", json!(1));
    let refused = host.driver.grow(&host.dir, &host.spec).await.unwrap_err();
    assert!(
        matches!(refused, DriverError::Unable { reason, .. } if reason.contains("checkpoints"))
    );
    host.driver.quit(&host.dir, LIMIT).await.unwrap();
    let refused = host.launch().await.unwrap_err();
    assert!(matches!(refused, DriverError::Unable { .. }));
}

#[tokio::test]
async fn a_machine_that_was_renamed_is_found_and_one_that_was_deleted_is_made_again() {
    let host = Host::started().await;
    host.set("name", json!("My favourite"));
    assert_eq!(host.state().await, MachineState::Running);
    host.driver.quit(&host.dir, LIMIT).await.unwrap();
    host.launch().await.unwrap();
    assert_eq!(host.vm()["name"], "My favourite");

    // Exported and imported again: another identifier, the same notes.
    host.set("id", json!(Uuid::new_v4().to_string()));
    assert_eq!(
        host.another_driver().observe(&host.dir).await,
        MachineState::Running
    );

    let before = host.vm();
    host.change(Vec::clear);
    assert_eq!(host.state().await, MachineState::Off);
    host.driver.quit(&host.dir, LIMIT).await.unwrap();
    assert!(matches!(
        host.driver.pause(&host.dir).await,
        Err(DriverError::NotRunning)
    ));
    host.launch().await.unwrap();
    let after = host.vm();
    assert_ne!(before["id"], after["id"]);
    assert_eq!(before["mac"], after["mac"]);
    assert_eq!(before["disks"], after["disks"]);

    // Its files were moved away.
    host.set("state", json!("OffCritical"));
    assert_eq!(host.state().await, MachineState::Off);
    host.launch().await.unwrap();
    assert_ne!(host.vm()["id"], after["id"]);
}

#[tokio::test]
async fn a_machine_that_was_cut_off_while_it_was_made_is_found() {
    let host = Host::new();
    host.driver.prepare(&host.dir, &host.spec).await.unwrap();
    host.behave(&json!({"die": "Set-CoracleMachine"}));
    let died = host.launch().await.unwrap_err();
    assert!(matches!(died, DriverError::Program(_)), "{died}");
    assert!(died.to_string().contains("the sky falls down"), "{died}");
    host.behave(&json!({}));
    let first = host.vm()["id"].clone();
    host.launch().await.unwrap();
    assert_eq!(host.vm()["id"], first);
}

#[tokio::test]
async fn a_machine_of_somebody_else_is_left_alone() {
    let host = Host::new();
    host.driver.prepare(&host.dir, &host.spec).await.unwrap();
    let theirs = json!({
        "id": Uuid::new_v4().to_string(), "name": "DEV", "state": "Running",
        "notes": format!("coracle-machine {} C:\\other", Uuid::new_v4()),
    });
    host.change(|vms| vms.push(theirs.clone()));
    let before = host.vm();
    let refused = host.launch().await.unwrap_err();
    assert!(
        matches!(&refused, DriverError::Foreign { name, .. } if name == "dev"),
        "{refused}"
    );
    assert_eq!(host.state().await, MachineState::Off);
    host.driver.quit(&host.dir, LIMIT).await.unwrap();
    host.driver.forget(&host.dir).await.unwrap();
    assert_eq!(host.vm(), before);
    // Renamed, it is in nobody's way.
    host.set("name", json!("other"));
    host.launch().await.unwrap();
    assert_eq!(host.vms().len(), 2);
    // The other way round: ours was renamed and somebody took its name.
    host.driver.quit(&host.dir, LIMIT).await.unwrap();
    host.change(|vms| {
        vms[0]["name"] = json!("dev");
        vms[1]["name"] = json!("ours");
    });
    host.launch().await.unwrap();
    assert_eq!(host.vms()[1]["state"], "Running");
}

#[tokio::test]
async fn paths_that_would_break_quoting_stay_data() {
    let long = "x".repeat(60);
    for (name, home) in [
        ("dev", NASTY.to_owned()),
        ("a.b-c_D", format!("{NASTY}{long}")),
        (&"n".repeat(63), "-Force ; exit #".to_owned()),
    ] {
        let host = Host::named(name, &home);
        host.start().await;
        assert_eq!(host.state().await, MachineState::Running);
        let vm = host.vm();
        assert_eq!(vm["name"], name);
        assert_eq!(vm["folder"], json!(host.dir.path()));
        assert!(Path::new(vm["dvds"][0].as_str().unwrap()).is_file());
        host.save().await;
        host.launch().await.unwrap();
        host.driver.quit(&host.dir, LIMIT).await.unwrap();
        host.driver.forget(&host.dir).await.unwrap();
        assert!(host.vms().is_empty());
    }
}

#[tokio::test]
async fn noise_and_another_dialect_change_nothing() {
    let host = Host::new();
    host.behave(&json!({
        "banner": ["Windows PowerShell", "Copyright (C) Microsoft", "coracle-answer 0 nothing"],
        "noise": true,
        "old": true,
    }));
    // A banner that is marked as an answer and is none ends it; the next line is not tried.
    let damaged = probed(&host).await.unwrap_err();
    assert!(
        matches!(damaged, DriverError::Hypervisor { .. }),
        "{damaged}"
    );
    host.behave(&json!({"banner": ["Windows PowerShell", ""], "noise": true, "old": true}));
    probed(&host).await.unwrap();
    host.start().await;
    assert_eq!(host.state().await, MachineState::Running);
    host.driver.quit(&host.dir, LIMIT).await.unwrap();
}

#[tokio::test]
async fn a_powershell_that_hangs_is_given_up_and_replaced() {
    let host = Host::started().await;
    host.behave(&json!({"hang": "Find-CoracleMachine"}));
    let begun = Instant::now();
    let state = host.state().await;
    assert!(
        matches!(&state, MachineState::Broken { reason } if reason.contains("within 2 s")),
        "{state}"
    );
    assert!(begun.elapsed() < Duration::from_secs(10));
    host.behave(&json!({}));
    assert_eq!(host.state().await, MachineState::Running);

    host.behave(&json!({"hang": "Stop-CoracleMachine"}));
    let limit = Duration::from_millis(300);
    let late = host.driver.quit(&host.dir, limit).await.unwrap_err();
    assert!(matches!(late, DriverError::TimedOut { .. }), "{late}");
    assert_eq!(host.state().await, MachineState::Running);
}

#[tokio::test]
async fn a_powershell_that_dies_is_quoted_and_replaced() {
    let host = Host::started().await;
    host.behave(&json!({"die": "Suspend-CoracleMachine"}));
    let died = host.driver.pause(&host.dir).await.unwrap_err();
    assert!(died.to_string().contains("the sky falls down"), "{died}");
    // It was carried out all the same, and is not done twice.
    assert_eq!(host.state().await, MachineState::Paused);
    assert_eq!(host.calls("Suspend-CoracleMachine"), 1);
    host.behave(&json!({"die": "Stop-CoracleMachine"}));
    host.driver.quit(&host.dir, LIMIT).await.unwrap();
    assert_eq!(host.state().await, MachineState::Off);
}

#[tokio::test]
async fn a_full_disk_has_a_state_and_an_error_of_its_own() {
    let host = Host::started().await;
    host.set("state", json!("PausedCritical"));
    assert_eq!(host.state().await, MachineState::PausedDiskFull);
    let error = json!({
        "category": "NotSpecified", "id": "OperationFailed,X", "code": "0x80131500",
        "message": "Es steht nicht genug Speicherplatz zur Verfügung. (0x80070070)",
    });
    host.behave(&json!({"fail": {"Resume-CoracleMachine": error}}));
    let refused = host.driver.resume(&host.dir).await.unwrap_err();
    assert!(matches!(refused, DriverError::NoSpace { .. }), "{refused}");
    host.behave(&json!({}));
    host.driver.resume(&host.dir).await.unwrap();
    assert_eq!(host.state().await, MachineState::Running);
    host.set("state", json!("PausedCritical"));
    std::fs::remove_file(host.dir.data_disk(DiskFormat::Vhdx)).unwrap();
    let state = host.state().await;
    assert!(
        matches!(&state, MachineState::Broken { reason } if reason.contains("gone")),
        "{state}"
    );
    host.set("state", json!("RunningCritical"));
    assert!(matches!(host.state().await, MachineState::Broken { .. }));
    host.driver.quit(&host.dir, LIMIT).await.unwrap();
}

#[tokio::test]
async fn who_may_not_manage_machines_is_told_so() {
    let host = Host::started().await;
    host.behave(&json!({"host": {"allowed": false}}));
    let state = host.state().await;
    assert!(
        matches!(&state, MachineState::Broken { reason } if reason.contains("Hyper-V Administrators")),
        "{state}"
    );
    // Not taken for one that was deleted.
    let refused = host.launch().await.unwrap_err();
    assert!(
        matches!(refused, DriverError::Forbidden { .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn what_hyper_v_cannot_run_is_refused_with_a_reason() {
    let host = Host::new();
    host.driver.prepare(&host.dir, &host.spec).await.unwrap();
    let refused = async |change: &dyn Fn(&mut MachineSpec)| {
        let mut spec = host.spec.clone();
        change(&mut spec);
        let launched = host.driver.launch(&host.dir, &spec, &Origin::Boot).await;
        launched.unwrap_err().to_string()
    };
    let kernel = |spec: &mut MachineSpec| {
        spec.boot = Boot::DirectKernel {
            kernel: "/k".into(),
            initrd: "/i".into(),
            command_line: String::new(),
            emulated: String::new(),
        };
    };
    assert!(refused(&kernel).await.contains("boot loader"));
    let raw = |spec: &mut MachineSpec| spec.disks[0].format = DiskFormat::Raw;
    assert!(refused(&raw).await.contains("has to be vhdx"));
    let layer = |spec: &mut MachineSpec| spec.disks[1].format = DiskFormat::Qcow2;
    assert!(refused(&layer).await.contains("only an ISO"));
    let base = |spec: &mut MachineSpec| spec.disks[0].base = Some("/base".into());
    assert!(refused(&base).await.contains("frozen"));
    let foreign = |spec: &mut MachineSpec| {
        spec.architecture = match Architecture::of_host() {
            Architecture::X86_64 => Architecture::Aarch64,
            Architecture::Aarch64 => Architecture::X86_64,
        };
    };
    assert!(refused(&foreign).await.contains("the host is"));
    assert!(host.vms().is_empty());
}

/// The end of the guest's serial port that Hyper-V has.
struct Port(
    #[cfg(unix)] tokio::net::UnixListener,
    #[cfg(windows)] tokio::net::windows::named_pipe::NamedPipeServer,
);

impl Port {
    /// Of a machine that is not started yet, and where it is.
    fn of(host: &Host) -> (Self, PathBuf) {
        #[cfg(unix)]
        {
            let path = host.dir.socket("com1").unwrap();
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            (Self(tokio::net::UnixListener::bind(&path).unwrap()), path)
        }
        #[cfg(windows)]
        {
            let path = format!(r"\\.\pipe\coracle-{}", host.spec.id);
            let pipe = tokio::net::windows::named_pipe::ServerOptions::new().create(&path);
            (Self(pipe.unwrap()), path.into())
        }
    }

    /// What the guest says before it ends.
    async fn says(self, parts: &[&str]) {
        #[cfg(unix)]
        let (mut guest, _) = self.0.accept().await.unwrap();
        #[cfg(windows)]
        let mut guest = self.0;
        #[cfg(windows)]
        guest.connect().await.unwrap();
        for part in parts {
            guest.write_all(part.as_bytes()).await.unwrap();
            guest.flush().await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_console_is_written_by_whoever_launched() {
    let host = Host::new();
    std::fs::write(&host.spec.console, "before").unwrap();
    let (port, path) = Port::of(&host);
    host.start().await;
    assert_eq!(host.vm()["pipe"], json!(path));
    port.says(&["Linux version 6\nGrüße\n", "and on"]).await;
    let begun = Instant::now();
    loop {
        let mut text = String::new();
        let mut file = std::fs::File::open(&host.spec.console).unwrap();
        file.read_to_string(&mut text).unwrap();
        if text == "Linux version 6\nGrüße\nand on" {
            break;
        }
        assert!(begun.elapsed() < LIMIT, "{text}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let former = coracle_vm::log_file::former(&host.spec.console);
    assert_eq!(std::fs::read_to_string(former).unwrap(), "before");
}

#[tokio::test]
async fn a_seed_that_is_written_anew_reaches_the_next_boot_only() {
    let host = Host::started().await;
    let dvd = host.dir.path().join("hyperv-seed.iso");
    let saved = host.save().await;
    let new = host.dir.path().join("new");
    std::fs::write(&new, "another seed").unwrap();
    std::fs::rename(new, host.dir.seed_disk()).unwrap();
    let origin = Origin::Saved(Box::new(saved));
    host.launch_from(&origin).await.unwrap();
    assert_eq!(std::fs::read_to_string(&dvd).unwrap(), "a seed");
    host.driver.quit(&host.dir, LIMIT).await.unwrap();
    host.launch().await.unwrap();
    assert_eq!(std::fs::read_to_string(&dvd).unwrap(), "another seed");
}

#[tokio::test]
async fn a_fingerprint_tells_hosts_apart() {
    let host = Host::new();
    let first: BTreeMap<String, String> = host.driver.fingerprint(&host.spec).await.unwrap();
    assert_eq!(first["Windows"], "10.0.22631");
    let mut other = host.spec.clone();
    other.memory = Size::from_gib(4);
    assert_ne!(first, host.driver.fingerprint(&other).await.unwrap());
}

#[tokio::test]
async fn a_damaged_note_is_broken_and_says_which_file() {
    let host = Host::started().await;
    std::fs::write(host.dir.path().join("hyperv.json"), "{").unwrap();
    let state = host.state().await;
    assert!(
        matches!(&state, MachineState::Broken { reason } if reason.contains("hyperv.json")),
        "{state}"
    );
    // A launch needs none: the machine is found by its mark, and the note written anew.
    let running = host.launch().await.unwrap_err();
    assert!(matches!(running, DriverError::AlreadyRunning { .. }));
    host.set("state", json!("Off"));
    host.launch().await.unwrap();
    assert_eq!(host.state().await, MachineState::Running);
    host.vm();
}
