//! Whole command lines, as they are handed to QEMU.

use std::path::PathBuf;

use super::*;
use crate::spec::sample::{disk, machine};
use crate::spec::{DiskFormat, DiskRole, PortForward, Protocol, UserNetwork};

fn spec() -> MachineSpec {
    MachineSpec {
        disks: vec![
            disk(DiskRole::Root, "/i/root.erofs", DiskFormat::Raw, true),
            disk(
                DiskRole::Data,
                "/m/dev/data.qcow2",
                DiskFormat::Qcow2,
                false,
            ),
        ],
        network: UserNetwork {
            forwards: vec![
                PortForward::tcp("127.88.0.1:6443".parse().unwrap(), 6443),
                PortForward {
                    host: "127.88.0.1:53".parse().unwrap(),
                    guest_port: 5353,
                    protocol: Protocol::Udp,
                },
            ],
        },
        ..machine()
    }
}

/// The command line, an option and its value on a line.
fn lines(
    spec: &MachineSpec,
    accelerator: Accelerator,
    memory: Memory<'_>,
    sandbox: bool,
) -> String {
    let monitor = QmpEndpoint::Unix("/run/dev-0.qmp".into());
    let pid_file = PathBuf::from("/m/dev/qemu.pid");
    let words = arguments(&Invocation {
        spec,
        accelerator,
        memory,
        monitor: &monitor,
        pid_file: &pid_file,
        sandbox,
        incoming: false,
    });
    let mut text = String::new();
    for word in words {
        let word = word.into_string().unwrap();
        text.push_str(if word.starts_with('-') { "\n" } else { " " });
        text.push_str(&word);
    }
    text.trim_start().to_owned()
}

#[test]
fn software_emulation_on_x86() {
    let expected = "\
-name guest=coracle-dev,debug-threads=on
-uuid 00000000-0000-0000-0000-000000000011
-no-user-config
-nodefaults
-display none
-msg timestamp=on
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
-pidfile /m/dev/qemu.pid
-accel tcg,thread=multi
-machine q35,memory-backend=mem,suppress-vmdesc=on
-cpu max
-smp cpus=2,sockets=1,cores=2,threads=1
-m size=3072M
-object memory-backend-ram,id=mem,size=3072M
-rtc base=utc,clock=host
-action reboot=reset,shutdown=poweroff,panic=pause
-kernel /i/vmlinuz
-initrd /i/initrd
-append console=ttyS0 tsc=reliable maxcpus=1 quiet random.trust_cpu=on
-chardev socket,id=qmp,server=on,wait=off,path=/run/dev-0.qmp
-mon chardev=qmp,mode=control
-chardev file,id=console,append=on,path=/m/dev/serial.log
-serial chardev:console
-device vmgenid,guid=00000000-0000-0000-0000-000000000022
-netdev user,id=net,hostfwd=tcp:127.88.0.1:6443-:6443,hostfwd=udp:127.88.0.1:53-:5353
-device virtio-net-pci,id=nic,netdev=net,mac=52:54:00:c0:ac:1e,bus=pcie.0,addr=0x2
-object rng-builtin,id=random
-device virtio-rng-pci,id=rng,rng=random,bus=pcie.0,addr=0x3
-device pvpanic-pci,id=panic,bus=pcie.0,addr=0x1
-blockdev driver=file,node-name=root-file,read-only=on,filename=/i/root.erofs
-blockdev driver=raw,node-name=root,file=root-file,read-only=on
-device virtio-blk-pci,id=disk-root,drive=root,serial=root,bus=pcie.0,addr=0x4
-blockdev driver=file,node-name=data-file,read-only=off,discard=unmap,filename=/m/dev/data.qcow2
-blockdev driver=qcow2,node-name=data,file=data-file,read-only=off,discard=unmap,detect-zeroes=unmap
-device virtio-blk-pci,id=disk-data,drive=data,serial=data,bus=pcie.0,addr=0x5,werror=enospc,rerror=report
-device pcie-root-port,id=spare1,bus=pcie.0,addr=0x10,chassis=1,slot=1
-device pcie-root-port,id=spare2,bus=pcie.0,addr=0x11,chassis=2,slot=2
-device pcie-root-port,id=spare3,bus=pcie.0,addr=0x12,chassis=3,slot=3
-device pcie-root-port,id=spare4,bus=pcie.0,addr=0x13,chassis=4,slot=4";
    assert_eq!(
        lines(&spec(), Accelerator::Tcg, Memory::Anonymous, true),
        expected
    );
}

/// The lines of `text` that are not in `base`.
fn added(text: &str, base: &str) -> Vec<String> {
    text.lines()
        .filter(|line| !base.lines().any(|other| other == *line))
        .map(str::to_owned)
        .collect()
}

/// What is made up for under software emulation only.
const HARDWARE: [&str; 1] = ["-append console=ttyS0 quiet random.trust_cpu=on"];

#[test]
fn what_differs_by_accelerator_and_memory() {
    let base = lines(&spec(), Accelerator::Tcg, Memory::Anonymous, true);
    let file = Memory::File {
        path: Path::new("/t/ram"),
        share: false,
    };
    for (accelerator, memory, expected) in [
        (
            Accelerator::Kvm,
            Memory::Anonymous,
            [&["-accel kvm", "-cpu host"], HARDWARE.as_slice()].concat(),
        ),
        (
            Accelerator::Hvf,
            Memory::Anonymous,
            [&["-accel hvf", "-cpu host"], HARDWARE.as_slice()].concat(),
        ),
        (
            Accelerator::Whpx,
            Memory::Anonymous,
            [&["-accel whpx,kernel-irqchip=off"], HARDWARE.as_slice()].concat(),
        ),
        (
            Accelerator::Tcg,
            Memory::File {
                path: Path::new("/proc/self/fd/200"),
                share: true,
            },
            vec![
                "-object memory-backend-file,id=mem,share=on,mem-path=/proc/self/fd/200,size=3072M",
            ],
        ),
        (
            Accelerator::Tcg,
            file,
            vec!["-object memory-backend-file,id=mem,share=off,mem-path=/t/ram,size=3072M"],
        ),
    ] {
        assert_eq!(
            added(&lines(&spec(), accelerator, memory, true), &base),
            expected
        );
    }
    assert!(!lines(&spec(), Accelerator::Tcg, Memory::Anonymous, false).contains("-sandbox"));
}

#[test]
fn what_differs_on_arm() {
    let base = lines(&spec(), Accelerator::Tcg, Memory::Anonymous, true);
    let arm = MachineSpec {
        architecture: Architecture::Aarch64,
        ..spec()
    };
    let text = lines(&arm, Accelerator::Tcg, Memory::Anonymous, true);
    assert_eq!(
        added(&text, &base),
        [
            "-machine virt,gic-version=max,memory-backend=mem,suppress-vmdesc=on",
            "-cpu max,pauth-impdef=on,sve=off,sme=off",
            "-append console=ttyAMA0 maxcpus=1 quiet random.trust_cpu=on",
        ]
    );
    assert!(
        !text.contains("vmgenid"),
        "QEMU has the generation device on x86 only"
    );
}

#[test]
fn firmware_boots_without_a_kernel_and_a_console_that_is_named_stays() {
    let firmware = MachineSpec {
        boot: Boot::Firmware,
        ..spec()
    };
    let text = lines(&firmware, Accelerator::Tcg, Memory::Anonymous, true);
    assert!(
        !text.contains("-kernel") && !text.contains("-append"),
        "{text}"
    );

    let mut own = spec();
    if let Boot::DirectKernel { command_line, .. } = &mut own.boot {
        *command_line = "console=hvc0 quiet".to_owned();
    }
    let text = lines(&own, Accelerator::Tcg, Memory::Anonymous, true);
    assert!(
        text.contains("-append tsc=reliable maxcpus=1 console=hvc0 quiet\n"),
        "{text}"
    );
}

#[test]
fn commas_in_paths_are_doubled_where_qemu_splits_at_them() {
    let mut odd = spec();
    odd.console = "/a,b/serial.log".into();
    odd.disks[0].path = "/a,b/root,share=on".into();
    odd.boot = Boot::DirectKernel {
        kernel: "/a,b/vmlinuz".into(),
        initrd: "/a,b/initrd".into(),
        command_line: String::new(),
        emulated: String::new(),
    };
    let text = lines(&odd, Accelerator::Tcg, Memory::Anonymous, true);
    for expected in [
        "append=on,path=/a,,b/serial.log\n",
        "filename=/a,,b/root,,share=on\n",
        "-kernel /a,b/vmlinuz\n",
        "-append console=ttyS0 tsc=reliable\n",
    ] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
}

#[cfg(unix)]
#[test]
fn a_path_that_is_not_utf8_is_passed_as_it_is() {
    use std::os::unix::ffi::OsStrExt;
    assert_eq!(
        double_commas(OsStr::from_bytes(b"/\xff,x")),
        OsStr::from_bytes(b"/\xff,,x")
    );
}

#[test]
fn the_monitor_can_be_a_pipe_or_a_port() {
    let spec = spec();
    let pid_file = PathBuf::from("/p");
    for (monitor, expected) in [
        (
            QmpEndpoint::Pipe("coracle-dev".to_owned()),
            "pipe,id=qmp,path=coracle-dev",
        ),
        (
            QmpEndpoint::Tcp("127.0.0.1:4444".parse().unwrap()),
            "socket,id=qmp,server=on,wait=off,host=127.0.0.1,port=4444",
        ),
    ] {
        let words = arguments(&Invocation {
            spec: &spec,
            accelerator: Accelerator::Tcg,
            memory: Memory::Anonymous,
            monitor: &monitor,
            pid_file: &pid_file,
            sandbox: false,
            incoming: false,
        });
        assert!(words.contains(&expected.into()), "{words:?}");
    }
}

#[test]
fn a_copy_keeps_less_translated_code() {
    let spec = spec();
    let monitor = QmpEndpoint::Pipe("p".to_owned());
    let pid_file = PathBuf::from("/p");
    for (incoming, expected) in [
        (false, "tcg,thread=multi"),
        (true, "tcg,thread=multi,tb-size=128"),
    ] {
        let words = arguments(&Invocation {
            spec: &spec,
            accelerator: Accelerator::Tcg,
            memory: Memory::Anonymous,
            monitor: &monitor,
            pid_file: &pid_file,
            sandbox: false,
            incoming,
        });
        assert!(words.contains(&expected.into()), "{words:?}");
    }
}
