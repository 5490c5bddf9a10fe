//! Why VBoxManage failed, read from what it wrote.
//!
//! It ends with 1 whatever is wrong. The cause is in its text, as a status code of VirtualBox's own
//! (`VERR_DISK_FULL`, in `include/iprt/err.h` and `include/VBox/err.h` of its source) or as a result
//! code of its interface (`VBOX_E_OBJECT_NOT_FOUND`, in `src/VBox/Main/idl/VirtualBox.xidl`). Those are
//! the same in every language and version; the sentences around them are not.

use super::{probe, unable};
use crate::accelerator::{Accelerator, AcceleratorError, HostSystem};
use crate::address::{AddressError, check_free};
use crate::driver::DriverError;
use crate::program::{Output, ProgramError};
use crate::spec::MachineSpec;

/// How many lines of what it wrote an error carries.
const LINES: usize = 12;

/// What was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// What was named is not there.
    NotFound,
    /// The machine's settings are gone, and VirtualBox only knows that it was there.
    Inaccessible,
    /// Another session holds the machine.
    Locked,
    /// Another machine or program uses a disk.
    MediumInUse,
    /// The machine is in a state in which it does not do that.
    WrongState,
    /// The host's disk is full.
    NoSpace,
    /// The host does not give the memory.
    NoMemory,
    /// The processor's virtualisation cannot be used; what to do about it.
    NoVirtualisation(&'static str),
    /// VirtualBox's kernel module is not there.
    NoModule,
    /// This user may not use the kernel module.
    ModuleDenied,
    /// A file is there already.
    Exists,
    /// Another program listens where a port is to be forwarded from.
    PortTaken,
    /// Anything else.
    Unknown,
}

const NESTED: &str = "the processor offers no VT-x or AMD-V; inside a virtual machine, its hypervisor has to hand them on";
const SWITCHED_OFF: &str = "VT-x or AMD-V is switched off in the firmware of this machine";
const TAKEN: &str =
    "another hypervisor, such as KVM, uses the processor: end its machines, or unload it";
const HYPER_V: &str = "Hyper-V has the processor: switch Windows's feature \"Windows Hypervisor Platform\" on, so that VirtualBox can run on it, or Hyper-V off";
const PLATFORM: &str =
    "the system's own hypervisor platform, which VirtualBox runs on here, did not take the machine";

/// What its text holds, and what that means. The first that fits counts: a status code says more than
/// the result code that follows it.
const CODES: &[(&str, Cause)] = &[
    ("VERR_VM_DRIVER_NOT_ACCESSIBLE", Cause::ModuleDenied),
    ("VERR_VM_DRIVER_", Cause::NoModule),
    ("rc=-1908", Cause::NoModule),
    (
        "VERR_SUPDRV_NO_RAW_MODE_HYPER_V_ROOT",
        Cause::NoVirtualisation(HYPER_V),
    ),
    ("VERR_NEM_", Cause::NoVirtualisation(PLATFORM)),
    ("VERR_VMX_NO_VMX", Cause::NoVirtualisation(NESTED)),
    ("VERR_SVM_NO_SVM", Cause::NoVirtualisation(NESTED)),
    ("VERR_VMX_IN_VMX_ROOT_MODE", Cause::NoVirtualisation(TAKEN)),
    ("VERR_SVM_IN_USE", Cause::NoVirtualisation(TAKEN)),
    ("VERR_VMX_MSR_", Cause::NoVirtualisation(SWITCHED_OFF)),
    ("VERR_SVM_DISABLED", Cause::NoVirtualisation(SWITCHED_OFF)),
    ("VERR_DISK_FULL", Cause::NoSpace),
    ("No space left on device", Cause::NoSpace),
    ("VERR_NO_MEMORY", Cause::NoMemory),
    ("VERR_NO_PAGE_MEMORY", Cause::NoMemory),
    ("VERR_NO_PHYS_MEMORY", Cause::NoMemory),
    ("VERR_GMM_", Cause::NoMemory),
    ("E_OUTOFMEMORY", Cause::NoMemory),
    ("VERR_NAT_REDIR_SETUP", Cause::PortTaken),
    ("failed to set up redirection", Cause::PortTaken),
    ("VERR_SHARING_VIOLATION", Cause::MediumInUse),
    ("VBOX_E_OBJECT_IN_USE", Cause::MediumInUse),
    ("VERR_ALREADY_EXISTS", Cause::Exists),
    ("VBOX_E_INVALID_VM_STATE", Cause::WrongState),
    ("VBOX_E_OBJECT_NOT_FOUND", Cause::NotFound),
    (
        "E_ACCESSDENIED (0x80070005), component MachineWrap",
        Cause::Inaccessible,
    ),
];
/// This one is said of machines and of disks.
const HELD: &str = "VBOX_E_INVALID_OBJECT_STATE";
const OF_A_DISK: &str = "component MediumWrap";

/// All that is said of a machine whose process found no kernel module.
const DIED: &str = "terminated unexpectedly during startup";
/// What VBoxManage writes of an error even where it ends as if there were none, as `discardstate` does.
const DETAILS: &str = "error: Details: code ";

/// A call that came to no good end.
#[derive(Debug)]
pub(super) struct Failure {
    /// What was wrong.
    pub(super) cause: Cause,
    source: ProgramError,
}

impl From<ProgramError> for Failure {
    fn from(source: ProgramError) -> Self {
        let cause = match &source {
            ProgramError::Failed { stderr, .. } => recognise(stderr),
            _ => Cause::Unknown,
        };
        Self { cause, source }
    }
}

fn recognise(text: &str) -> Cause {
    let known = CODES.iter().find(|(code, _)| text.contains(code));
    match known {
        Some((_, cause)) => *cause,
        None if !text.contains(HELD) => Cause::Unknown,
        None if text.contains(OF_A_DISK) => Cause::MediumInUse,
        None => Cause::Locked,
    }
}

impl Failure {
    /// What was written by a program that ended well: an error all the same, or not.
    pub(super) fn check(output: Output, command: impl FnOnce() -> String) -> Result<Output, Self> {
        if !output.stderr.contains(DETAILS) {
            return Ok(output);
        }
        Err(Self::from(ProgramError::Failed {
            command: command(),
            status: "exit status: 0".to_owned(),
            stderr: output.stderr.trim().to_owned(),
        }))
    }

    /// What VirtualBox said, in one line.
    pub(super) fn detail(&self) -> String {
        match &self.source {
            ProgramError::Failed { stderr, .. } => {
                first_sentence(stderr).unwrap_or_else(|| self.source.to_string())
            }
            other => other.to_string(),
        }
    }

    /// Whether there was no answer at all in time.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self.source, ProgramError::TimedOut { .. })
    }

    /// As an error of a machine that was to begin to run.
    pub(super) fn of_launch(self, spec: &MachineSpec, log: std::path::PathBuf) -> DriverError {
        let detail = self.detail();
        if detail.contains(DIED) && probe::is_without_module() {
            return no_module();
        }
        match (self.cause, self.source) {
            (Cause::NoMemory, _) => DriverError::NoMemory {
                asked: spec.memory,
                detail,
            },
            (Cause::PortTaken, _) => port_taken(spec, detail),
            (
                Cause::Unknown | Cause::WrongState,
                ProgramError::Failed {
                    command,
                    status,
                    stderr,
                },
            ) => DriverError::LaunchFailed {
                status,
                command,
                last_lines: last_lines(&stderr),
                log,
            },
            (cause, source) => Self { cause, source }.into(),
        }
    }

    /// As an error of a machine that was to go on from where it was saved: whatever is wrong with that,
    /// there is another way to begin.
    pub(super) fn of_restore(self, spec: &MachineSpec, log: std::path::PathBuf) -> DriverError {
        match self.of_launch(spec, log) {
            DriverError::LaunchFailed {
                status, last_lines, ..
            } => DriverError::RestoreFailed { status, last_lines },
            other => other,
        }
    }
}

impl From<Failure> for DriverError {
    fn from(failure: Failure) -> Self {
        let detail = failure.detail();
        match failure.cause {
            Cause::NoSpace => Self::NoSpace { detail },
            Cause::MediumInUse => Self::DiskInUse { detail },
            Cause::NoVirtualisation(reason) => no_virtualisation(reason.to_owned()),
            Cause::ModuleDenied => no_virtualisation(
                "this user may not use VirtualBox's device (usually the group vboxusers may)"
                    .to_owned(),
            ),
            Cause::NoModule => no_module(),
            Cause::Locked => unable(format!(
                "VirtualBox has it open elsewhere, which has to be closed first ({detail})"
            )),
            _ => Self::Program(failure.source),
        }
    }
}

/// The processor's virtualisation does not work.
pub(super) fn no_virtualisation(reason: String) -> DriverError {
    DriverError::Accelerator(AcceleratorError {
        wanted: Accelerator::Native,
        reason,
        permission: false,
    })
}

/// Without its kernel module VirtualBox runs nothing.
pub(super) fn no_module() -> DriverError {
    let install = match HostSystem::current() {
        HostSystem::Linux => {
            "Debian and Ubuntu: sudo apt-get install virtualbox-dkms linux-headers-$(uname -r); Fedora: sudo akmods; \
             a package of virtualbox.org: sudo /sbin/vboxconfig"
        }
        HostSystem::MacOs => {
            "allow Oracle's system software in the settings under Privacy & Security, and restart"
        }
        _ => "install VirtualBox again, as an administrator",
    };
    DriverError::NotInstalled {
        program: "VirtualBox's kernel module (vboxdrv)".to_owned(),
        install: install.to_owned(),
    }
}

/// VirtualBox names the port of the host and not its address, so each forward with it is tried again.
fn port_taken(spec: &MachineSpec, detail: String) -> DriverError {
    let forwards = spec.network.forwards.iter();
    let named = |port: u16| detail.contains(&format!(" {port} "));
    let refused = forwards
        .filter(|forward| named(forward.host.port()))
        .find_map(|forward| {
            let tried = check_free(forward.host, forward.protocol);
            tried.err().map(|error| (forward.host, error))
        });
    match refused {
        Some((address, AddressError::Forbidden { .. })) => {
            DriverError::PortForbidden { address, detail }
        }
        Some((address, _)) => DriverError::PortTaken { address, detail },
        None => unable(format!("a port cannot be forwarded ({detail})")),
    }
}

/// The first line that tells of an error, without the program's name before it.
fn first_sentence(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.contains("error: "))?;
    let (_, sentence) = line.split_once("error: ")?;
    Some(sentence.trim().to_owned())
}

/// The last lines that are not about progress.
fn last_lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim_end);
    let lines: Vec<&str> = lines
        .filter(|line| !line.is_empty() && !line.starts_with("0%"))
        .collect();
    let skipped = lines.len().saturating_sub(LINES);
    lines.into_iter().skip(skipped).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What VirtualBox 6.1 to 7.2 writes, as people quote it in reports of problems.
    #[test]
    fn causes_are_told_apart_by_their_codes() {
        let not_found = "VBoxManage: error: Could not find a registered machine named 'x'\n\
             VBoxManage: error: Details: code VBOX_E_OBJECT_NOT_FOUND (0x80bb0001), component VirtualBoxWrap, \
             interface IVirtualBox, callee nsISupports";
        let inaccessible = "VBoxManage: error: The object functionality is limited\n\
             VBoxManage: error: Details: code E_ACCESSDENIED (0x80070005), component MachineWrap, interface IMachine, \
             callee nsISupports";
        let locked = "VBoxManage: error: The machine 'dev' is already locked for a session (or being unlocked)\n\
             VBoxManage: error: Details: code VBOX_E_INVALID_OBJECT_STATE (0x80bb0007), component MachineWrap, \
             interface IMachine, callee nsISupports";
        let medium = "VBoxManage: error: Locking of attached media failed\n\
             VBoxManage: error: Details: code VBOX_E_INVALID_OBJECT_STATE (0x80bb0007), component MediumWrap";
        let no_vmx = "VBoxManage: error: VT-x is not available (VERR_VMX_NO_VMX)\n\
             VBoxManage: error: Details: code NS_ERROR_FAILURE (0x80004005), component ConsoleWrap, interface IConsole";
        let hyper_v = "VBoxManage.exe: error: Raw-mode is unavailable courtesy of Hyper-V. (VERR_SUPDRV_NO_RAW_MODE_HYPER_V_ROOT)\n\
             VBoxManage.exe: error: Details: code E_FAIL (0x80004005), component ConsoleWrap, interface IConsole";
        let nem = "VBoxManage.exe: error: Call to WHvSetupPartition failed: ERROR_SUCCESS (Last=0xc000000d/87) (VERR_NEM_VM_CREATE_FAILED)";
        let module = "VBoxManage: error: The virtual machine 'dev' has terminated unexpectedly during startup with exit code 1 (0x1)\n\
             Kernel driver not installed (rc=-1908)";
        let full = "VBoxManage: error: VDI: disk would overflow (VERR_DISK_FULL)";
        let redirection = "VBoxManage: error: NAT#0: configuration error: failed to set up redirection of 2222 to 22. \
             Probably a conflict with existing services or other rules";
        for (text, cause) in [
            (not_found, Cause::NotFound),
            (inaccessible, Cause::Inaccessible),
            (locked, Cause::Locked),
            (medium, Cause::MediumInUse),
            (no_vmx, Cause::NoVirtualisation(NESTED)),
            (hyper_v, Cause::NoVirtualisation(HYPER_V)),
            (nem, Cause::NoVirtualisation(PLATFORM)),
            (module, Cause::NoModule),
            (full, Cause::NoSpace),
            (redirection, Cause::PortTaken),
            ("VBoxManage: error: Invalid parameter", Cause::Unknown),
        ] {
            assert_eq!(recognise(text), cause, "{text}");
        }
    }

    #[test]
    fn an_error_counts_where_the_program_ends_well() {
        // As 7.2.22 answers `discardstate` of a machine that is not saved.
        let stderr = "VBoxManage: error: Cannot discard the saved state as the machine is not in the Saved or \
             Aborted-Saved state (machine state: PoweredOff)\nVBoxManage: error: Details: code \
             VBOX_E_INVALID_VM_STATE (0x80bb0002), component SessionMachine, interface IMachine\n";
        let check = |stderr: &str| {
            let output = Output {
                stdout: String::new(),
                stderr: stderr.to_owned(),
            };
            Failure::check(output, String::new)
        };
        assert_eq!(check(stderr).unwrap_err().cause, Cause::WrongState);
        check("0%...10%...100%\nWARNING: something else\n").unwrap();
    }

    #[test]
    fn an_error_says_what_virtualbox_said() {
        let failure = |stderr: &str| {
            Failure::from(ProgramError::Failed {
                command: "VBoxManage startvm".to_owned(),
                status: "exit status: 1".to_owned(),
                stderr: stderr.to_owned(),
            })
        };
        let full = DriverError::from(failure(
            "0%...10%...\nVBoxManage: error: VDI: no room (VERR_DISK_FULL)\nVBoxManage: error: Details: x",
        ));
        assert!(
            matches!(&full, DriverError::NoSpace { detail } if detail == "VDI: no room (VERR_DISK_FULL)"),
            "{full}"
        );
        let module = DriverError::from(failure("VERR_VM_DRIVER_NOT_INSTALLED"));
        assert!(matches!(module, DriverError::NotInstalled { .. }));
        let no_vmx = DriverError::from(failure("VERR_VMX_NO_VMX"));
        assert!(no_vmx.to_string().contains("VT-x"), "{no_vmx}");
    }
}
