//! QEMU's command line, as a pure function of what is to be run.
//!
//! Every device stands at a fixed place of the bus, so that a saved machine fits the same command
//! line later. The options are those of QEMU 7.2 and newer (qemu(1)).

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::accelerator::Accelerator;
use crate::qmp::QmpEndpoint;
use crate::spec::{Architecture, Boot, Disk, MachineSpec};

/// Where disks begin on the guest's first bus; one slot a disk.
const FIRST_DISK_SLOT: usize = 0x4;
/// Empty ports into which devices can be plugged while the guest runs.
const SPARE_PORTS: usize = 4;
/// Where the empty ports begin on the guest's first bus.
const FIRST_SPARE_SLOT: usize = 0x10;
/// The guest's only network card. QEMU's user network gives every machine a network of its own.
pub(crate) const MAC_ADDRESS: &str = "52:54:00:c0:ac:1e";

/// What holds the guest's memory on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory<'a> {
    /// QEMU's own anonymous memory.
    Anonymous,
    /// A file. What the guest writes goes to it if `share`, else to private copies of its pages.
    File {
        /// The file.
        path: &'a Path,
        /// Whether the guest's writes reach the file.
        share: bool,
    },
}

/// All that a command line is made from.
#[derive(Debug, Clone, Copy)]
pub struct Invocation<'a> {
    /// The machine.
    pub spec: &'a MachineSpec,
    /// What runs the guest's instructions.
    pub accelerator: Accelerator,
    /// What holds the guest's memory.
    pub memory: Memory<'a>,
    /// Where the monitor listens.
    pub monitor: &'a QmpEndpoint,
    /// Where QEMU writes its process identifier.
    pub pid_file: &'a Path,
    /// Whether this QEMU can give up system calls that it does not need (Linux, seccomp).
    pub sandbox: bool,
    /// Whether the guest waits for a state to be restored instead of booting.
    pub incoming: bool,
}

/// The arguments for QEMU's system emulator of the guest's architecture.
///
/// A reset or a reboot inside the guest starts it again in the same process, so that ports and
/// disks stay as they are; a power-off ends the process.
pub fn arguments(invocation: &Invocation<'_>) -> Vec<OsString> {
    let mut line = Line::default();
    let spec = invocation.spec;
    line.add(
        "-name",
        format!("guest=coracle-{},debug-threads=on", spec.name),
    );
    line.add("-uuid", spec.id.to_string());
    line.flag("-no-user-config");
    line.flag("-nodefaults");
    line.add("-display", "none");
    line.add("-msg", "timestamp=on");
    if invocation.sandbox {
        line.add(
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        );
    }
    line.add("-pidfile", invocation.pid_file);
    processor(&mut line, invocation);
    line.add("-rtc", "base=utc,clock=host");
    line.add("-action", "reboot=reset,shutdown=poweroff,panic=pause");
    boot(&mut line, invocation);
    monitor(&mut line, invocation.monitor);
    let console = Properties::new("file,id=console,append=on").with("path", &spec.console);
    line.add("-chardev", console.0);
    line.add("-serial", "chardev:console");
    if spec.architecture == Architecture::X86_64 {
        line.add("-device", format!("vmgenid,guid={}", spec.generation_id));
    }
    network(&mut line, spec);
    line.add("-object", "rng-builtin,id=random");
    line.add(
        "-device",
        "virtio-rng-pci,id=rng,rng=random,bus=pcie.0,addr=0x3",
    );
    // A kernel that panics tells through this, and the machine is seen to be broken.
    line.add("-device", "pvpanic-pci,id=panic,bus=pcie.0,addr=0x1");
    if invocation.incoming {
        // Whoever restores says when the guest goes on.
        line.flag("-S");
        line.add("-incoming", "defer");
    }
    for (index, spare) in spec.disks.iter().enumerate() {
        disk(&mut line, spare, FIRST_DISK_SLOT + index);
    }
    for index in 0..SPARE_PORTS {
        let (number, slot) = (index + 1, FIRST_SPARE_SLOT + index);
        line.add(
            "-device",
            format!("pcie-root-port,id=spare{number},bus=pcie.0,addr={slot:#x},chassis={number},slot={number}"),
        );
    }
    line.0
}

/// How many disks the bus has room for.
pub const MOST_DISKS: usize = FIRST_SPARE_SLOT - FIRST_DISK_SLOT;

/// Accelerator, processors, machine type and memory.
fn processor(line: &mut Line, invocation: &Invocation<'_>) {
    let spec = invocation.spec;
    line.add(
        "-accel",
        match invocation.accelerator {
            Accelerator::Kvm => "kvm",
            Accelerator::Hvf => "hvf",
            Accelerator::Whpx => "whpx,kernel-irqchip=off",
            // A copy does not boot: less translated code is enough for it, and each has its own.
            Accelerator::Tcg if invocation.incoming => "tcg,thread=multi,tb-size=128",
            // QEMU is given no native one (`accelerator::decide`).
            Accelerator::Tcg | Accelerator::Native => "tcg,thread=multi",
        },
    );
    let machine = match spec.architecture {
        Architecture::X86_64 => "q35",
        Architecture::Aarch64 => "virt,gic-version=max",
    };
    line.add(
        "-machine",
        format!("{machine},memory-backend=mem,suppress-vmdesc=on"),
    );
    line.add(
        "-cpu",
        match (invocation.accelerator, spec.architecture) {
            (Accelerator::Kvm | Accelerator::Hvf, _) => "host",
            // Pointer authentication is costly to emulate by the book; this way is as good for guests.
            // Without vectors of variable length Linux boots in two thirds of the time.
            (Accelerator::Tcg, Architecture::Aarch64) => "max,pauth-impdef=on,sve=off,sme=off",
            (Accelerator::Whpx | Accelerator::Tcg | Accelerator::Native, _) => "max",
        },
    );
    line.add(
        "-smp",
        format!("cpus={0},sockets=1,cores={0},threads=1", spec.cpus),
    );
    let size = spec.memory.mib();
    line.add("-m", format!("size={size}M"));
    let memory = match invocation.memory {
        Memory::Anonymous => Properties::new("memory-backend-ram,id=mem"),
        Memory::File { path, share } => {
            let share = if share { "on" } else { "off" };
            Properties::new("memory-backend-file,id=mem")
                .with("share", share)
                .with("mem-path", path)
        }
    };
    line.add("-object", memory.with("size", format!("{size}M")).0);
}

/// The kernel, if QEMU loads it.
fn boot(line: &mut Line, invocation: &Invocation<'_>) {
    let Boot::DirectKernel { kernel, initrd, .. } = &invocation.spec.boot else {
        return;
    };
    line.add("-kernel", kernel);
    line.add("-initrd", initrd);
    let words = kernel_words(invocation.spec, invocation.accelerator);
    line.add("-append", words);
}

/// The command line of the kernel that QEMU loads, with the serial console unless it names one; empty
/// where the firmware boots.
pub(crate) fn kernel_words(spec: &MachineSpec, accelerator: Accelerator) -> String {
    let Boot::DirectKernel {
        command_line,
        emulated,
        ..
    } = &spec.boot
    else {
        return String::new();
    };
    let has_console = command_line
        .split_whitespace()
        .any(|word| word.starts_with("console="));
    let console = match spec.architecture {
        _ if has_console => "",
        Architecture::X86_64 => "console=ttyS0",
        Architecture::Aarch64 => "console=ttyAMA0",
    };
    let clock = match (accelerator, spec.architecture) {
        // Emulated processors read one and the same counter. Linux does not believe that of several
        // processors that are not Intel's, and would ask an emulated timer for each look at the time.
        (Accelerator::Tcg, Architecture::X86_64) => "tsc=reliable",
        _ => "",
    };
    let emulated = match accelerator {
        Accelerator::Tcg => emulated,
        _ => "",
    };
    let words = [console, clock, emulated, command_line].map(str::trim);
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

/// The monitor's endpoint.
fn monitor(line: &mut Line, endpoint: &QmpEndpoint) {
    let socket = Properties::new("socket,id=qmp,server=on,wait=off");
    let properties = match endpoint {
        QmpEndpoint::Unix(path) => socket.with("path", path),
        QmpEndpoint::Pipe(name) => Properties::new("pipe,id=qmp").with("path", name),
        QmpEndpoint::Tcp(address) => socket
            .with("host", address.ip().to_string())
            .with("port", address.port().to_string()),
    };
    line.add("-chardev", properties.0);
    line.add("-mon", "chardev=qmp,mode=control");
}

/// The guest's own network and what the host forwards into it.
fn network(line: &mut Line, spec: &MachineSpec) {
    let mut user = Properties::new("user,id=net");
    for forward in &spec.network.forwards {
        let (protocol, host, guest) = (forward.protocol.as_str(), forward.host, forward.guest_port);
        user = user.with("hostfwd", format!("{protocol}:{host}-:{guest}"));
    }
    line.add("-netdev", user.0);
    line.add(
        "-device",
        format!("virtio-net-pci,id=nic,netdev=net,mac={MAC_ADDRESS},bus=pcie.0,addr=0x2"),
    );
}

/// One disk: its file, its format, its device. A write that finds the host full stops the guest.
fn disk(line: &mut Line, disk: &Disk, slot: usize) {
    let name = disk.role.as_str();
    let access = if disk.read_only {
        "read-only=on"
    } else {
        "read-only=off,discard=unmap"
    };
    let zeroes = if disk.read_only {
        ""
    } else {
        ",detect-zeroes=unmap"
    };
    let file = Properties::new(format!("driver=file,node-name={name}-file,{access}"));
    line.add("-blockdev", file.with("filename", &disk.path).0);
    let driver = disk.format.as_str();
    line.add(
        "-blockdev",
        format!("driver={driver},node-name={name},file={name}-file,{access}{zeroes}"),
    );
    let errors = if disk.read_only {
        ""
    } else {
        ",werror=enospc,rerror=report"
    };
    line.add(
        "-device",
        format!("virtio-blk-pci,id=disk-{name},drive={name},serial={name},bus=pcie.0,addr={slot:#x}{errors}"),
    );
}

/// A command line under construction.
#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    /// An option with its value.
    fn add(&mut self, option: &str, value: impl AsRef<OsStr>) {
        self.0.push(option.into());
        self.0.push(value.as_ref().to_owned());
    }

    /// An option that takes no value.
    fn flag(&mut self, option: &str) {
        self.0.push(option.into());
    }
}

/// A value made of comma-separated properties.
struct Properties(OsString);

impl Properties {
    /// Begins with text that needs no escaping.
    fn new(text: impl Into<OsString>) -> Self {
        Self(text.into())
    }

    /// Adds a property; commas in its value are doubled, as QEMU's option parser wants.
    fn with(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.push(format!(",{key}="));
        self.0.push(double_commas(value.as_ref()));
        self
    }
}

/// Doubles each comma, whatever else the bytes are.
fn double_commas(value: &OsStr) -> OsString {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::{OsStrExt, OsStringExt};
        let double = |&byte: &u8| std::iter::repeat_n(byte, if byte == b',' { 2 } else { 1 });
        OsString::from_vec(value.as_bytes().iter().flat_map(double).collect())
    }
    #[cfg(not(unix))]
    OsString::from(value.to_string_lossy().replace(',', ",,"))
}

#[cfg(test)]
mod tests;
