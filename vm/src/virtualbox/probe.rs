//! What VirtualBox on this host can do.
//!
//! `--version` tells whether its kernel module is there as well: the script that stands before VBoxManage
//! on Linux warns of that, on one output or the other. `list hostinfo` tells of the processor.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::failure::{no_module, no_virtualisation};
use super::manage::{Manage, QUESTION, words};
use super::unable;
use crate::accelerator::{Accelerator, HostSystem, Verdict};
use crate::driver::DriverError;
use crate::program::Output;

/// The oldest version whose options and answers this driver knows.
const OLDEST: Version = Version::new(6, 1);
/// What the kernel module is opened by.
const DEVICE: &str = "/dev/vboxdrv";
/// How long Windows may take to say whether a hypervisor is on.
const SYSTEM_LIMIT: Duration = Duration::from_secs(20);

/// A version of VirtualBox, as far as options differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    pub(super) const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Whether it is this one or a later one.
    pub(super) fn is_at_least(self, major: u32, minor: u32) -> bool {
        self >= Self::new(major, minor)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        Some(Self { major, minor })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What VirtualBox said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// As it writes it, for example `7.0.20r163906`.
    pub(super) text: String,
    pub(super) version: Version,
    trouble: Option<Trouble>,
}

/// Why no machine would start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    NoModule,
    Denied,
}

/// Asks VirtualBox for its version. An older one than is needed is an error.
pub(super) async fn version(manage: &Manage) -> Result<Found, DriverError> {
    let output = manage.once(&words(["--version"]), QUESTION).await?;
    Found::read(&output)
}

impl Found {
    /// The version is the last line that begins with a digit; warnings come before it.
    fn read(output: &Output) -> Result<Self, DriverError> {
        let said = format!("{}\n{}", output.stderr, output.stdout);
        let mut lines = said.lines().rev().map(str::trim);
        let text = lines.find(|line| line.starts_with(|first: char| first.is_ascii_digit()));
        let found = text.and_then(|text| Some((text, Version::parse(text)?)));
        let Some((text, version)) = found else {
            return Err(unable(format!("it tells no version ({})", said.trim())));
        };
        if version < OLDEST {
            return Err(unable(format!(
                "VirtualBox {text} is too old, and {OLDEST} or newer is needed"
            )));
        }
        Ok(Self {
            text: text.to_owned(),
            version,
            trouble: Trouble::told(&said),
        })
    }

    /// That machines can be started, as far as it says.
    pub(super) fn check(&self) -> Result<(), DriverError> {
        match self.trouble {
            None => Ok(()),
            Some(Trouble::NoModule) => Err(no_module()),
            Some(Trouble::Denied) => Err(no_virtualisation(
                "this user may not use VirtualBox's device (usually the group vboxusers may)"
                    .to_owned(),
            )),
        }
    }
}

impl Trouble {
    /// Warnings of the scripts of VirtualBox's own packages and of Debian's.
    fn told(said: &str) -> Option<Self> {
        if !said.contains("WARNING") || !said.contains("vbox") {
            return None;
        }
        let is_denied = said.contains("not a member of") || said.contains("not writable");
        Some(if is_denied {
            Self::Denied
        } else {
            Self::NoModule
        })
    }
}

/// What runs the guest's instructions.
pub(super) async fn verdict(manage: &Manage) -> Result<Verdict, DriverError> {
    let text = manage.run(&words(["list", "hostinfo"]), QUESTION).await?;
    let has_virtualisation = has_virtualisation(&text);
    if has_virtualisation == Some(false) && is_without_module() {
        // It sees the processor through its module.
        return Err(no_module());
    }
    let beside = match has_virtualisation {
        Some(false) => hypervisor_is_on().await,
        _ => false,
    };
    decide(HostSystem::current(), has_virtualisation, beside)
}

/// Whether the processor's virtualisation can be used; `None` where it does not say.
fn has_virtualisation(hostinfo: &str) -> Option<bool> {
    let line = |line: &str| {
        let value = line.strip_prefix("Processor supports HW virtualization:")?;
        Some(value.trim() == "yes")
    };
    hostinfo.lines().find_map(line)
}

fn decide(
    system: HostSystem,
    has_virtualisation: Option<bool>,
    beside_hyper_v: bool,
) -> Result<Verdict, DriverError> {
    if beside_hyper_v {
        return Ok(Verdict {
            accelerator: Accelerator::Whpx,
            reason:
                "Windows's hypervisor platform, since Hyper-V is on: slower than either by itself"
                    .to_owned(),
        });
    }
    match (system, has_virtualisation) {
        // It uses the system's framework there, and looks no deeper.
        (HostSystem::MacOs, _) | (_, Some(true) | None) => Ok(Verdict {
            accelerator: Accelerator::Native,
            reason: "VirtualBox's own use of the processor (VT-x or AMD-V)".to_owned(),
        }),
        (_, Some(false)) => Err(no_virtualisation(
            "the processor offers no VT-x or AMD-V, or the firmware has switched it off".to_owned(),
        )),
    }
}

/// Whether Linux has no such module loaded.
pub(super) fn is_without_module() -> bool {
    cfg!(target_os = "linux") && !Path::new(DEVICE).exists()
}

/// Whether Windows itself runs on a hypervisor, which then has the processor.
async fn hypervisor_is_on() -> bool {
    if !cfg!(windows) {
        return false;
    }
    let powershell = Path::new("powershell.exe");
    let words = words([
        "-NoProfile",
        "-NonInteractive",
        "-Command",
        "(Get-CimInstance Win32_ComputerSystem).HypervisorPresent",
    ]);
    let said = crate::program::run(powershell, &words, SYSTEM_LIMIT).await;
    said.is_ok_and(|said| said.trim() == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(stdout: &str, stderr: &str) -> Result<Found, DriverError> {
        Found::read(&Output {
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
        })
    }

    #[test]
    fn versions_are_read_and_old_ones_refused() {
        for (text, version) in [
            ("7.0.20_Debianr163906", Version::new(7, 0)),
            ("6.1.50r161033\r", Version::new(6, 1)),
            ("7.2.0_BETA1r169261", Version::new(7, 2)),
        ] {
            let found = read(&format!("{text}\n"), "").unwrap();
            assert_eq!(found.version, version);
            assert_eq!(found.text, text.trim());
            found.check().unwrap();
        }
        let old = read("5.2.44r139111\n", "").unwrap_err().to_string();
        assert!(old.contains("5.2.44") && old.contains("6.1"), "{old}");
        assert!(read("", "").is_err());
    }

    #[test]
    fn a_missing_module_is_told_on_either_output() {
        // src/VBox/Installer/linux/VBox.sh, and debian/VBox.sh of Debian's package.
        let own = "WARNING: The vboxdrv kernel module is not loaded. Either there is no module\n         \
             available for the current kernel (6.1.0) or it failed to\n         load.\n";
        let debian = "WARNING: The character device /dev/vboxdrv does not exist.\n\t Please install the \
             virtualbox-dkms package and the appropriate\n\t headers, most likely linux-headers-amd64.\n";
        for found in [
            read(&format!("{own}7.0.20r163906\n"), ""),
            read("7.0.20r163906\n", debian),
        ] {
            let error = found.unwrap().check().unwrap_err();
            assert!(matches!(error, DriverError::NotInstalled { .. }), "{error}");
        }
        let denied =
            "WARNING: You are not a member of the \"vboxusers\" group.  Please add yourself\n";
        let error = read("7.0.20r1\n", denied).unwrap().check().unwrap_err();
        assert!(error.to_string().contains("vboxusers"), "{error}");
    }

    #[test]
    fn hyper_v_takes_the_processor_and_virtualbox_runs_on_it() {
        let host = |answer: &str| {
            has_virtualisation(&format!(
                "Host Information:\n\nProcessor count: 2\nProcessor supports HW virtualization: {answer}\n"
            ))
        };
        assert_eq!(host("yes"), Some(true));
        assert_eq!(host("no"), Some(false));
        assert_eq!(has_virtualisation("Host Information:\n"), None);

        let native = decide(HostSystem::Linux, Some(true), false).unwrap();
        assert_eq!(native.accelerator, Accelerator::Native);
        let beside = decide(HostSystem::Windows, Some(false), true).unwrap();
        assert_eq!(beside.accelerator, Accelerator::Whpx);
        assert!(beside.reason.contains("slower"), "{}", beside.reason);
        assert!(decide(HostSystem::Windows, Some(false), false).is_err());
        decide(HostSystem::MacOs, Some(false), false).unwrap();
    }
}
