//! The ISO: machines that start by their firmware, as VirtualBox's and Hyper-V's do, reach a node that is
//! Ready. QEMU stands in for those, with other hardware than Coracle gives it.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

use coracle_tests::{Coracle, Sections, built_image, qemu_through, repository};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The package ovmf has it; the last is where other distributions do.
const UEFI: [&str; 3] = [
    "/usr/share/OVMF/OVMF_CODE_4M.fd",
    "/usr/share/OVMF/OVMF_CODE.fd",
    "/usr/share/edk2/ovmf/OVMF_CODE.fd",
];
/// Beyond any build from cached parts.
const BUILD: Duration = Duration::from_secs(3600);

/// What stands in for another hypervisor's hardware.
struct Hardware<'a> {
    name: &'a str,
    firmware: Option<&'a Path>,
    disks: &'a str,
    card: &'a str,
    /// The card's driver in the guest.
    driver: &'a str,
}

/// The image with its ISO, in the sandbox's own store.
fn build(coracle: &Coracle) -> PathBuf {
    let (_, cache) = built_image();
    fs::remove_file(coracle.home().join("images")).unwrap();
    let built = coracle
        .run("image-build --iso --source")
        .args([repository()])
        .args(["--cache".as_ref(), cache.as_os_str()])
        .limit(BUILD)
        .ok();
    let digest = built.text().replace(':', "-");
    let iso = coracle
        .home()
        .join("images")
        .join(digest)
        .join("coracle.iso");
    assert!(iso.is_file(), "{built}");
    iso
}

/// A cold start with this hardware, to the end.
fn reaches_ready(coracle: &Coracle, iso: &Path, hardware: &Hardware<'_>) {
    let variables = [
        ("ISO", iso),
        ("FIRMWARE", hardware.firmware.unwrap_or(Path::new(""))),
        ("DISKS", Path::new(hardware.disks)),
        ("CARD", Path::new(hardware.card)),
    ];
    let qemu = qemu_through(coracle, hardware.name, include_str!("qemu.sh"), &variables);
    coracle.run("start --cold").env("CORACLE_QEMU", &qemu).ok();
    let nodes = coracle.kubectl("get nodes --no-headers");
    assert!(nodes.contains(" Ready "), "{nodes}");
    let mounts = coracle.inside("cat /proc/mounts");
    let is_mounted = |what: &str| mounts.lines().any(|line| line.contains(what));
    assert!(is_mounted("/usr/lib/coracle/iso iso9660"), "{mounts}");
    assert!(is_mounted(" / erofs"), "{mounts}");
    assert!(is_mounted("/usr/lib/coracle/kubernetes erofs"), "{mounts}");
    let driver = coracle.inside("readlink /sys/class/net/e*/device/driver");
    assert!(
        driver.ends_with(&format!("/{}", hardware.driver)),
        "{driver}"
    );
    let has_uefi = coracle.inside("test -d /sys/firmware/efi && echo yes || echo no");
    assert_eq!(has_uefi == "yes", hardware.firmware.is_some());
    coracle.delete("coracle");
}

#[test]
#[ignore = "two cold starts through firmware, emulated: ten minutes"]
fn the_iso_starts_by_bios_and_by_uefi() {
    let mut coracle = Coracle::with_machine();
    let mut test = Sections::new("firmware");
    let iso = test.must("the ISO is built", || build(&coracle));
    test.run("BIOS, a CD drive and disks on SATA, e1000", || {
        let hardware = Hardware {
            name: "bios",
            firmware: None,
            disks: "sata",
            card: "e1000",
            driver: "e1000",
        };
        reaches_ready(&coracle, &iso, &hardware);
    });
    test.run("UEFI, SCSI disks, vmxnet3", || {
        let uefi = UEFI.map(Path::new).into_iter().find(|path| path.is_file());
        let uefi = uefi.expect("scripts/setup --full installs the package ovmf");
        let hardware = Hardware {
            name: "uefi",
            firmware: Some(uefi),
            disks: "scsi",
            card: "vmxnet3",
            driver: "vmxnet3",
        };
        reaches_ready(&coracle, &iso, &hardware);
    });
    coracle.delete_all();
    test.finish();
}
