//! From a specification to arguments of VBoxManage. Nothing is run here.
//!
//! Options are written as 6.1 has them; 7.x takes them too, but for sound. What the guest sees: an ICH9
//! AHCI controller with the disks in the order of the specification, one virtio network card behind
//! VirtualBox's own network, which has the addresses of QEMU's (10.0.2.15 behind 10.0.2.2, names at
//! 10.0.2.3), and a serial console.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::manage::words;
use super::note::Note;
use super::probe::Version;
use super::unable;
use crate::accelerator::{Accelerator, AcceleratorChoice, AcceleratorError};
use crate::driver::DriverError;
use crate::spec::{Architecture, Boot, Disk, DiskFormat, MachineSpec};
use crate::store::MachineDir;

/// The disk controller's name.
pub(super) const CONTROLLER: &str = "SATA";
/// How many disks the controller takes.
const MOST_DISKS: usize = 30;
/// The kind of guest: a Linux of 64 bits.
const GUEST: &str = "Linux26_64";
/// The first serial port of a PC.
const SERIAL_PORT: [&str; 2] = ["0x3F8", "4"];
/// What VirtualBox takes for a disc: less than the first sector that says what it is would be none.
const LEAST_DISC: u64 = 32 * 1024;
const SECTOR_OF_A_DISC: u64 = 2048;

/// How a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drive {
    /// A disk that the guest writes.
    Disk,
    /// A disc in a drive.
    Dvd,
}

/// A disk at its place of the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Which port.
    pub(super) port: usize,
    pub(super) drive: Drive,
    /// The file.
    pub(super) path: PathBuf,
}

/// Checks what only this driver cannot do.
pub(super) fn check(spec: &MachineSpec) -> Result<(), DriverError> {
    spec.check()?;
    check_accelerator(spec.accelerator)?;
    check_architecture(spec.architecture)?;
    if spec.boot != Boot::Firmware {
        let reason = "it loads no kernel itself: the machine has to begin with a boot loader";
        return Err(unable(reason.to_owned()));
    }
    let mut forwards = spec.network.forwards.iter();
    if let Some(forward) = forwards.find(|forward| forward.host.is_ipv6()) {
        let host = forward.host;
        return Err(unable(format!(
            "its network forwards only IPv4 addresses, not {host}"
        )));
    }
    places(spec).map(drop)
}

/// VirtualBox uses the processor itself, or is told by the system how: there is nothing to choose.
pub(super) fn check_accelerator(choice: AcceleratorChoice) -> Result<(), DriverError> {
    match choice {
        AcceleratorChoice::Auto | AcceleratorChoice::Only(Accelerator::Native) => Ok(()),
        AcceleratorChoice::Only(wanted) => Err(DriverError::Accelerator(AcceleratorError {
            wanted,
            reason: "VirtualBox brings its own".to_owned(),
            permission: false,
        })),
    }
}

/// On Arm, VirtualBox has another kind of machine, without BIOS and without these devices.
pub(super) fn check_architecture(guest: Architecture) -> Result<(), DriverError> {
    if guest == Architecture::X86_64 && Architecture::of_host() == Architecture::X86_64 {
        return Ok(());
    }
    let reason = "it runs only x86-64 guests on x86-64 hosts";
    Err(unable(reason.to_owned()))
}

/// The disks at their places.
pub(super) fn places(spec: &MachineSpec) -> Result<Vec<Place>, DriverError> {
    if spec.disks.len() > MOST_DISKS {
        let count = spec.disks.len();
        return Err(unable(format!(
            "it has {count} disks, and {MOST_DISKS} are possible"
        )));
    }
    let place = |(port, disk): (usize, &Disk)| {
        Ok(Place {
            port,
            drive: drive(disk)?,
            path: disk.path.clone(),
        })
    };
    spec.disks.iter().enumerate().map(place).collect()
}

fn drive(disk: &Disk) -> Result<Drive, DriverError> {
    let role = disk.role.as_str();
    match (disk.format, disk.read_only) {
        _ if disk.base.is_some() => Err(unable(format!(
            "the disk {role} begins with a frozen disk, which VirtualBox keeps account of by itself"
        ))),
        (DiskFormat::Vdi, false) => Ok(Drive::Disk),
        (DiskFormat::Raw, true) if is_named_as_disc(&disk.path) => Ok(Drive::Dvd),
        (DiskFormat::Raw, true) => Err(unable(format!(
            "the disk {role} is to be a disc, and VirtualBox takes only files that end with .iso for one"
        ))),
        (format, _) => Err(unable(format!(
            "the disk {role} is {}: it writes only vdi, and reads only discs (raw)",
            format.as_str()
        ))),
    }
}

fn is_named_as_disc(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default();
    ending.eq_ignore_ascii_case("iso")
}

/// That every file is there, and that discs have the size of one.
pub(super) fn check_files(places: &[Place]) -> Result<(), DriverError> {
    for place in places {
        let Ok(meta) = place.path.metadata() else {
            let path = place.path.clone();
            return Err(DriverError::MissingFile { path });
        };
        let is_whole = meta.len() > LEAST_DISC && meta.len().is_multiple_of(SECTOR_OF_A_DISC);
        if place.drive == Drive::Dvd && !is_whole {
            let path = place.path.display();
            return Err(unable(format!(
                "{path} has {} bytes, which is not the size of a disc",
                meta.len()
            )));
        }
    }
    Ok(())
}

/// Makes the machine known, with its settings within its folder.
pub(super) fn create_words(note: &Note, dir: &MachineDir) -> Vec<OsString> {
    let mut all = words(["createvm", "--name", &note.name, "--uuid", &note.id()]);
    all.extend(words(["--ostype", GUEST, "--register", "--basefolder"]));
    all.push(dir.path().as_os_str().to_owned());
    all
}

/// Gives the machine what the specification says, whatever it had.
pub(super) fn modify_words(spec: &MachineSpec, note: &Note, version: Version) -> Vec<OsString> {
    let (cpus, memory) = (spec.cpus.to_string(), spec.memory.mib().to_string());
    let mut all = words(["modifyvm", &note.id()]);
    all.extend(words(["--ostype", GUEST, "--cpus", &cpus]));
    all.extend(words(["--memory", &memory, "--firmware", "bios"]));
    all.extend(words([
        "--acpi",
        "on",
        "--ioapic",
        "on",
        "--rtcuseutc",
        "on",
    ]));
    all.extend(words(["--paravirtprovider", "kvm"]));
    all.extend(words(["--boot1", "dvd", "--boot2", "disk"]));
    all.extend(words(["--boot3", "none", "--boot4", "none"]));
    all.extend(words(["--graphicscontroller", "vmsvga", "--vram", "16"]));
    all.extend(words([
        "--usb",
        "off",
        "--usbehci",
        "off",
        "--usbxhci",
        "off",
    ]));
    all.extend(words(["--vrde", "off"]));
    all.extend(match version.is_at_least(7, 0) {
        true => words(["--audio-driver", "none", "--audio-enabled", "off"]),
        false => words(["--audio", "none"]),
    });
    all.extend(network_words(note, version));
    all.extend(console_words(&spec.console));
    all
}

fn network_words(note: &Note, version: Version) -> Vec<OsString> {
    let mut all = words(["--nic1", "nat", "--nictype1", "virtio"]);
    all.extend(words([
        "--cableconnected1",
        "on",
        "--macaddress1",
        &note.mac,
    ]));
    // Without it, 10.0.2.3 is nobody where the host's own name server is on its loopback.
    all.extend(words([
        "--natdnsproxy1",
        "on",
        "--natdnshostresolver1",
        "off",
    ]));
    if version.is_at_least(7, 0) {
        // Before, the host's loopback was always to be reached at 10.0.2.2.
        all.extend(words(["--natlocalhostreachable1", "on"]));
    }
    all
}

/// VirtualBox empties the file whenever the machine begins to run.
fn console_words(console: &Path) -> Vec<OsString> {
    let mut all = words(["--uart1", SERIAL_PORT[0], SERIAL_PORT[1]]);
    all.extend(words(["--uartmode1", "file"]));
    all.push(console.as_os_str().to_owned());
    all
}

/// Makes the controller, or gives it as many places as there are disks.
pub(super) fn controller_words(id: &str, is_there: bool, disks: usize) -> Vec<OsString> {
    let ports = disks.max(1).to_string();
    let mut all = words(["storagectl", id, "--name", CONTROLLER]);
    if !is_there {
        all.extend(words(["--add", "sata", "--controller", "IntelAhci"]));
    }
    // What the guest wrote is the host's to keep in memory until the guest flushes it.
    all.extend(words(["--portcount", &ports, "--hostiocache", "on"]));
    all.extend(words(["--bootable", "on"]));
    all
}

/// Puts a disk at its place.
pub(super) fn attach_words(id: &str, place: &Place) -> Vec<OsString> {
    let mut all = at_words(id, place.port);
    all.extend(match place.drive {
        Drive::Disk => words(["--type", "hdd", "--nonrotational", "on", "--discard", "on"]),
        Drive::Dvd => words(["--type", "dvddrive"]),
    });
    all.push("--medium".into());
    all.push(place.path.as_os_str().to_owned());
    all
}

/// Takes away whatever is at a place.
pub(super) fn detach_words(id: &str, port: usize) -> Vec<OsString> {
    let mut all = at_words(id, port);
    all.extend(words(["--medium", "none"]));
    all
}

fn at_words(id: &str, port: usize) -> Vec<OsString> {
    let port = port.to_string();
    let mut all = words(["storageattach", id, "--storagectl", CONTROLLER]);
    all.extend(words(["--port", &port, "--device", "0"]));
    all
}

/// Has the host's disk keep what the guest flushes. VirtualBox ignores that unless it is told otherwise
/// (its manual, "Responding to guest IDE/SATA flush requests").
pub(super) fn flush_words(id: &str, port: usize) -> Vec<OsString> {
    let key = format!("VBoxInternal/Devices/ahci/0/LUN#{port}/Config/IgnoreFlush");
    words(["setextradata", id, &key, "0"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::sample::{disk, machine};
    use crate::spec::{DiskRole, PortForward};
    use uuid::Uuid;

    fn spec() -> MachineSpec {
        MachineSpec {
            id: Uuid::from_u128(7),
            boot: Boot::Firmware,
            disks: vec![
                disk(DiskRole::Root, "/i/root.ISO", DiskFormat::Raw, true),
                disk(DiskRole::Data, "/m/a b/data.vdi", DiskFormat::Vdi, false),
                disk(DiskRole::Seed, "/m/a b/seed.iso", DiskFormat::Raw, true),
            ],
            console: "/m/a b/serial.log".into(),
            ..machine()
        }
    }

    fn line(words: &[OsString]) -> String {
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        words.join("|")
    }

    fn refused(change: impl FnOnce(&mut MachineSpec)) -> String {
        let mut spec = spec();
        change(&mut spec);
        check(&spec).unwrap_err().to_string()
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn what_it_cannot_do_is_said_before_anything_is_made() {
        check(&spec()).unwrap();
        let kernel = refused(|spec| {
            spec.boot = Boot::DirectKernel {
                kernel: "/k".into(),
                initrd: "/i".into(),
                command_line: String::new(),
                emulated: String::new(),
            };
        });
        assert!(kernel.contains("boot loader"), "{kernel}");
        let arm = refused(|spec| spec.architecture = Architecture::Aarch64);
        assert!(arm.contains("x86-64"), "{arm}");
        let raw = refused(|spec| spec.disks[1].format = DiskFormat::Raw);
        assert!(raw.contains("data"), "{raw}");
        let unnamed = refused(|spec| spec.disks[2].path = "/m/seed.img".into());
        assert!(unnamed.contains(".iso"), "{unnamed}");
        let based = refused(|spec| spec.disks[1].base = Some("/f".into()));
        assert!(based.contains("frozen"), "{based}");
        let forward = PortForward::tcp("[::1]:1".parse().unwrap(), 1);
        let v6 = refused(|spec| spec.network.forwards = vec![forward]);
        assert!(v6.contains("IPv4"), "{v6}");
        let tcg = refused(|spec| spec.accelerator = AcceleratorChoice::Only(Accelerator::Tcg));
        assert!(tcg.contains("tcg"), "{tcg}");
    }

    #[test]
    fn a_machine_gets_all_of_its_settings_in_one_call() {
        let spec = spec();
        let note = Note::of(&spec);
        let new = line(&modify_words(&spec, &note, Version::new(7, 2)));
        for part in [
            "modifyvm|00000000-0000-0000-0000-000000000007|",
            "|--cpus|2|--memory|3072|",
            "|--natlocalhostreachable1|on|",
            "|--audio-driver|none|--audio-enabled|off|",
            "|--uart1|0x3F8|4|--uartmode1|file|/m/a b/serial.log",
        ] {
            assert!(new.contains(part), "{part} in {new}");
        }
        let old = line(&modify_words(&spec, &note, Version::new(6, 1)));
        assert!(old.contains("|--audio|none|"), "{old}");
        assert!(
            !old.contains("reachable") && !old.contains("audio-"),
            "{old}"
        );
    }

    #[test]
    fn disks_are_attached_in_their_order() {
        let places = places(&spec()).unwrap();
        let lines: Vec<_> = places
            .iter()
            .map(|place| line(&attach_words("ID", place)))
            .collect();
        assert_eq!(
            lines,
            [
                "storageattach|ID|--storagectl|SATA|--port|0|--device|0|--type|dvddrive|--medium|/i/root.ISO",
                "storageattach|ID|--storagectl|SATA|--port|1|--device|0|--type|hdd|--nonrotational|on|--discard|on|--medium|/m/a b/data.vdi",
                "storageattach|ID|--storagectl|SATA|--port|2|--device|0|--type|dvddrive|--medium|/m/a b/seed.iso",
            ]
        );
    }

    #[test]
    fn a_file_that_is_no_disc_is_told_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seed.iso");
        let place = Place {
            port: 0,
            drive: Drive::Dvd,
            path: path.clone(),
        };
        let places = std::slice::from_ref(&place);
        assert!(matches!(
            check_files(places),
            Err(DriverError::MissingFile { .. })
        ));
        crate::store::atomic::write(&path, &[0; 40_000]).unwrap();
        let odd = check_files(places).unwrap_err().to_string();
        assert!(odd.contains("seed.iso has 40000 bytes"), "{odd}");
        crate::store::atomic::write(&path, &[0; 40_960]).unwrap();
        check_files(places).unwrap();
    }
}
