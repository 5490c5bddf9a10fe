//! A machine of VirtualBox's for tests, in folders whose names a shell would read as something else.
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
use coracle_vm::store::atomic;
use coracle_vm::{
    AcceleratorChoice, Boot, Disk, DiskRole, Driver as _, DriverError, MachineDir, MachineName,
    MachineSpec, MachineState, Origin, PortForward, Saved, Saves, Size, Store, UserNetwork,
    virtualbox::VirtualboxDriver,
};
use tempfile::TempDir;

/// For what takes a moment, on a host that may be busy.
pub const LIMIT: Duration = Duration::from_secs(60);
/// What a shell would run, split, or not be able to write.
const ODD: &str = "ünï ço∂é $(touch pwned) `touch pwned`; touch pwned & 'x' -rf";
/// A disc of zeros: VirtualBox goes by name and size.
const DISC: usize = 40 << 10;

/// One machine with its folder.
pub struct TestMachine {
    pub driver: VirtualboxDriver,
    pub dir: MachineDir,
    pub spec: MachineSpec,
    home: TempDir,
}

impl TestMachine {
    /// A machine that is not prepared, with the programs of `folder`.
    pub fn new(programs: Programs, home: TempDir) -> Self {
        let odd = home.path().join(ODD);
        let store = Store::new(&odd, home.path().join("run"));
        let name = MachineName::new("dev").unwrap();
        let dir = store.machine_dir(&name);
        std::fs::create_dir_all(dir.path()).unwrap();
        let root = odd.join("root.iso");
        let seed = dir.path().join("seed.iso");
        for disc in [&root, &seed] {
            atomic::write(disc, &vec![0; DISC]).unwrap();
        }
        let disk = |role, path, format, read_only, create| Disk {
            role,
            path,
            format,
            read_only,
            create,
            base: None,
        };
        let (raw, vdi) = (DiskFormat::Raw, DiskFormat::Vdi);
        let data = dir.data_disk(vdi);
        let spec = MachineSpec {
            name,
            id: uuid::Uuid::new_v4(),
            architecture: Architecture::X86_64,
            cpus: cpus(2).unwrap(),
            memory: Size::from_mib(512),
            boot: Boot::Firmware,
            disks: vec![
                disk(DiskRole::Root, root, raw, true, None),
                disk(DiskRole::Data, data, vdi, false, Some(Size::from_mib(64))),
                disk(DiskRole::Seed, seed, raw, true, None),
            ],
            network: UserNetwork::default(),
            generation_id: uuid::Uuid::new_v4(),
            accelerator: AcceleratorChoice::Auto,
            console: dir.serial_log(),
        };
        let driver = VirtualboxDriver::new(programs);
        Self {
            driver,
            dir,
            spec,
            home,
        }
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The data disk's file.
    pub fn data_disk(&self) -> PathBuf {
        self.spec.disk(DiskRole::Data).unwrap().path.clone()
    }

    /// The file of VirtualBox's settings.
    pub fn settings(&self) -> PathBuf {
        self.dir.path().join("coracle-dev/coracle-dev.vbox")
    }

    pub fn id(&self) -> String {
        self.spec.id.hyphenated().to_string()
    }

    /// Forwards a port of the host.
    pub fn forwarding(mut self, host: std::net::SocketAddr) -> Self {
        self.spec.network.forwards.push(PortForward::tcp(host, 22));
        self
    }

    /// With another size of the data disk.
    pub fn larger(&self, size: Size) -> MachineSpec {
        let mut spec = self.spec.clone();
        let data = spec.disks.iter_mut();
        for disk in data.filter(|disk| disk.role == DiskRole::Data) {
            disk.create = Some(size);
        }
        spec
    }

    pub async fn prepare(&self) {
        self.driver.prepare(&self.dir, &self.spec).await.unwrap();
    }

    pub async fn launch(&self) -> Result<(), DriverError> {
        self.launch_from(&Origin::Boot).await
    }

    pub async fn launch_from(&self, origin: &Origin) -> Result<(), DriverError> {
        let launched = self.driver.launch(&self.dir, &self.spec, origin).await?;
        assert!(launched.is_none(), "a service of the host runs it");
        Ok(())
    }

    pub async fn state(&self) -> MachineState {
        self.driver.observe(&self.dir).await
    }

    pub async fn quit(&self) {
        self.driver.quit(&self.dir, LIMIT).await.unwrap();
    }

    /// Saves it and keeps that, as the host agent does.
    pub async fn save(&self) -> Result<Saved, DriverError> {
        let saves = Saves::new(&self.dir);
        let host = self.driver.fingerprint(&self.spec).await?;
        let saving = saves.begin()?;
        let kept = self.driver.save(&self.dir, &saving.files()).await?;
        let record = saving.record(kept, host)?;
        saving.reserve()?;
        self.driver.quit(&self.dir, LIMIT).await?;
        Ok(saves.publish(saving, record, &self.spec)?)
    }

    /// Nothing that stands in a name was run.
    pub fn assert_nothing_ran(&self) {
        let mut folders = vec![self.home.path().to_owned(), PathBuf::from(".")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap().flatten() {
                assert_ne!(entry.file_name(), "pwned", "in {}", folder.display());
                if entry.file_type().unwrap().is_dir() && folder.starts_with(self.home.path()) {
                    folders.push(entry.path());
                }
            }
        }
    }
}

/// A folder for one test.
pub fn home() -> TempDir {
    tempfile::Builder::new()
        .prefix("vm-test-")
        .tempdir()
        .unwrap()
}
