//! Whole documents, as they are handed to libvirt.

use std::path::PathBuf;

use super::*;
use crate::spec::sample::{disk, machine};
use crate::spec::{DiskFormat, DiskRole, PortForward, UserNetwork};

fn spec() -> MachineSpec {
    MachineSpec {
        boot: Boot::DirectKernel {
            kernel: "/i/vmlinuz".into(),
            initrd: "/i/initrd".into(),
            command_line: "quiet a=\"<b>\" & c".to_owned(),
            emulated: "maxcpus=1".to_owned(),
        },
        disks: vec![
            disk(DiskRole::Root, "/i/root.erofs", DiskFormat::Raw, true),
            disk(
                DiskRole::Data,
                "/m/Täler 'n' <Hügel>, \"& Co\"/data.qcow2",
                DiskFormat::Qcow2,
                false,
            ),
            disk(DiskRole::Seed, "/m/dev/seed.img", DiskFormat::Raw, true),
        ],
        network: UserNetwork {
            forwards: vec![PortForward::tcp("127.88.0.1:7443".parse().unwrap(), 7443)],
        },
        ..machine()
    }
}

fn description(spec: &MachineSpec, accelerator: Accelerator) -> Description<'_> {
    Description {
        spec,
        name: "coracle-dev-00000000",
        folder: Path::new("/m/Täler & Hügel/dev"),
        accelerator,
        emulator: None,
        user: None,
        panic_device: Some("pvpanic"),
    }
}

fn xml(description: Description<'_>) -> String {
    let mut text = description.domain().unwrap().to_xml().unwrap();
    text.push('\n');
    text
}

#[test]
fn a_machine_of_the_whole_host_runs_on_kvm_as_its_owner() {
    let spec = spec();
    let found = xml(Description {
        user: Some((1000, 100)),
        emulator: Some(Path::new("/opt/qemu")),
        ..description(&spec, Accelerator::Kvm)
    });
    assert_eq!(found, include_str!("golden/kvm.xml"), "{found}");
}

#[test]
fn an_emulated_machine_is_told_so() {
    let spec = spec();
    let found = xml(Description {
        panic_device: Some("isa"),
        ..description(&spec, Accelerator::Tcg)
    });
    assert_eq!(found, include_str!("golden/tcg.xml"), "{found}");
}

#[test]
fn firmware_boots_what_is_on_the_disks() {
    let mut spec = spec();
    spec.boot = Boot::Firmware;
    spec.architecture = Architecture::Aarch64;
    spec.disks.truncate(1);
    let found = xml(Description {
        panic_device: None,
        ..description(&spec, Accelerator::Tcg)
    });
    assert_eq!(found, include_str!("golden/firmware.xml"), "{found}");
}

#[test]
fn a_path_that_a_document_cannot_hold_is_refused() {
    let mut spec = spec();
    spec.console = PathBuf::from("/m/two\nlines/serial.log");
    let error = description(&spec, Accelerator::Tcg).domain().unwrap_err();
    assert!(error.to_string().contains("control characters"), "{error}");
}

#[test]
fn disks_have_names_by_their_place() {
    assert_eq!(target(0).unwrap(), "vda");
    assert_eq!(target(25).unwrap(), "vdz");
    target(26).unwrap_err();
    target(usize::MAX).unwrap_err();
}
