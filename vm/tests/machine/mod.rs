//! A machine for tests: a real hypervisor with its firmware, in folders of its own, ended when dropped.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "each test program uses a part of it"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_vm::program::Programs;
use coracle_vm::spec::{Architecture, DiskFormat, cpus};
use coracle_vm::{
    AcceleratorChoice, AnyDriver, Boot, Disk, DiskRole, Driver, DriverError, DriverKind,
    MachineDir, MachineName, MachineSpec, MachineState, Origin, PortForward, RunningProcess, Size,
    Store, UserNetwork,
};
use tempfile::TempDir;

/// For what takes a moment, on a host that may be busy.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A boot sector that writes itself to every eighth sector of its disk until it is stopped:
/// BIOS service 13h, function 43h (extended write), as the Enhanced Disk Drive specification has it.
#[rustfmt::skip]
pub const WRITER: [u8; 42] = [
    0xfa,                         // cli
    0x31, 0xc0,                   // xor ax, ax
    0x8e, 0xd8,                   // mov ds, ax
    0x8e, 0xd0,                   // mov ss, ax
    0xbc, 0x00, 0x7c,             // mov sp, 0x7c00
    0xfb,                         // sti
    0xbe, 0x1a, 0x7c,             // again: mov si, packet
    0xb8, 0x00, 0x43,             // mov ax, 0x4300
    0xcd, 0x13,                   // int 0x13
    0x83, 0x06, 0x22, 0x7c, 0x08, // add word [packet + 8], 8
    0xeb, 0xf1,                   // jmp again
    0x10, 0x00, 0x08, 0x00,       // packet: its size, 8 sectors
    0x00, 0x7c, 0x00, 0x00,       // from 0000:7c00
    0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // to sector 8
];

/// One machine with its folder.
pub struct TestMachine {
    pub driver: AnyDriver,
    pub dir: MachineDir,
    pub spec: MachineSpec,
    pub store: Store,
    home: TempDir,
}

/// The programs of this host.
pub fn programs() -> Programs {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Programs {
        search_path: std::env::split_paths(&path).collect(),
        ..Programs::default()
    }
}

impl TestMachine {
    /// A machine without disks, not launched.
    pub fn new() -> Self {
        Self::with_programs(programs())
    }

    /// The same with other programs.
    pub fn with_programs(programs: Programs) -> Self {
        Self::of(DriverKind::Qemu, programs, "vm-test-")
    }

    /// The same of another driver, in a folder whose name begins so.
    pub fn of(kind: DriverKind, programs: Programs, prefix: &str) -> Self {
        let home = tempfile::Builder::new().prefix(prefix).tempdir().unwrap();
        let store = Store::new(home.path(), home.path().join("run"));
        let name = MachineName::new("dev").unwrap();
        let dir = store.machine_dir(&name);
        std::fs::create_dir_all(dir.path()).unwrap();
        let spec = MachineSpec {
            name,
            id: uuid::Uuid::new_v4(),
            architecture: Architecture::X86_64,
            cpus: cpus(1).unwrap(),
            memory: Size::from_mib(64),
            boot: Boot::Firmware,
            disks: Vec::new(),
            network: UserNetwork::default(),
            generation_id: uuid::Uuid::new_v4(),
            accelerator: AcceleratorChoice::Auto,
            console: dir.serial_log(),
        };
        let driver = AnyDriver::new(kind, programs).unwrap();
        Self {
            driver,
            dir,
            spec,
            store,
            home,
        }
    }

    /// Where the test may put files of its own.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The data disk's file.
    pub fn data_disk(&self) -> PathBuf {
        let disk = self.spec.disk(DiskRole::Data);
        disk.expect("it has one").path.clone()
    }

    /// Adds the data disk, to be made by `prepare`.
    pub fn with_data_disk(mut self, format: DiskFormat) -> Self {
        self.spec.disks.push(Disk {
            role: DiskRole::Data,
            path: self.dir.data_disk(format),
            format,
            read_only: false,
            create: Some(Size::from_mib(64)),
            base: None,
        });
        self
    }

    /// Forwards a port of the host.
    pub fn forwarding(mut self, host: std::net::SocketAddr) -> Self {
        self.spec.network.forwards.push(PortForward::tcp(host, 22));
        self
    }

    pub async fn launch(&self) -> Result<RunningProcess, DriverError> {
        self.launch_from(&Origin::Boot).await
    }

    pub async fn launch_from(&self, origin: &Origin) -> Result<RunningProcess, DriverError> {
        let launched = self.driver.launch(&self.dir, &self.spec, origin).await?;
        Ok(launched.expect("QEMU is a child of this process"))
    }

    /// While it runs: it is not launched twice, pauses and goes on as often as it is told to, and its guest
    /// does not listen to the button.
    pub async fn obeys(&self) {
        let (driver, dir) = (&self.driver, &self.dir);
        let again = driver.launch(dir, &self.spec, &Origin::Boot).await;
        let again = again.unwrap_err();
        assert!(
            matches!(
                again,
                DriverError::AlreadyRunning {
                    state: MachineState::Running
                }
            ),
            "{again}"
        );
        for _ in 0..2 {
            driver.pause(dir).await.unwrap();
            assert_eq!(self.state().await, MachineState::Paused);
        }
        for _ in 0..2 {
            driver.resume(dir).await.unwrap();
            assert_eq!(self.state().await, MachineState::Running);
        }
        driver.power_button(dir).await.unwrap();
        let late = driver.wait_off(dir, Duration::from_millis(50)).await;
        let late = late.unwrap_err();
        assert!(matches!(late, DriverError::TimedOut { .. }), "{late}");
    }

    pub async fn state(&self) -> MachineState {
        self.driver.observe(&self.dir).await
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.socket("qmp").unwrap()
    }

    /// Every process that has on its command line what only this machine's has: QEMU's pid file, or,
    /// where libvirt keeps that, the machine's identifier.
    pub fn processes(&self) -> Vec<u32> {
        let word = match self.driver.kind() {
            DriverKind::Qemu => self.dir.qemu_pid().into_os_string(),
            _ => self.spec.id.to_string().into(),
        };
        let mut found = Vec::new();
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let name = process.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let arguments = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let mut arguments = arguments.split(|byte| *byte == 0);
            if arguments.any(|argument| argument == word.as_encoded_bytes()) {
                found.push(pid);
            }
        }
        found
    }

    pub async fn quit(&self) {
        self.driver.quit(&self.dir, LIMIT).await.unwrap();
    }
}

/// A failed test leaves no QEMU behind.
impl Drop for TestMachine {
    fn drop(&mut self) {
        for pid in self.processes() {
            signal(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Sends a signal to a process of this test.
pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}
