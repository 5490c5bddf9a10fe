//! Kernel modules, kernel parameters, and messages into the kernel's log.

use nix::kmod::{ModuleInitFlags, finit_module};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Loads one module file; one that is loaded already is fine.
pub fn load_file(path: &Path) -> io::Result<()> {
    use nix::errno::Errno;
    match finit_module(&File::open(path)?, c"", ModuleInitFlags::empty()) {
        // Some refuse to load where their hardware is missing (ENODEV), and those that need them lack
        // their symbols then (ENOENT): not a reason to stop.
        Ok(()) | Err(Errno::EEXIST | Errno::ENODEV | Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Loads the drivers for all devices that are there, and the modules named, with one run of
/// modprobe. There is no udev in the machine. A name that does not exist is not an error of
/// modprobe's `-a`; what it prints is returned.
pub fn load_drivers(sys: &Path, named: &[String]) -> io::Result<String> {
    let mut wanted = BTreeSet::new();
    for bus in [
        "pci", "virtio", "vmbus", "hid", "usb", "scsi", "platform", "acpi",
    ] {
        let Ok(devices) = fs::read_dir(sys.join("bus").join(bus).join("devices")) else {
            continue;
        };
        for device in devices.flatten() {
            // A device with a driver needs nothing.
            let path = device.path();
            if !path.join("driver").exists()
                && let Ok(alias) = fs::read_to_string(path.join("modalias"))
            {
                wanted.insert(alias.trim().to_owned());
            }
        }
    }
    let output = Command::new("modprobe")
        .args(["-a", "-b", "-q", "--"])
        .args(named)
        .args(wanted.iter().filter(|alias| !alias.is_empty()))
        .stdin(Stdio::null())
        .output()?;
    Ok(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// Writes a value into a file of the kernel's.
pub fn set(file: &Path, value: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(file)?;
    file.write_all(value.as_bytes())
}

/// Sets kernel parameters, given by their names in `sysctl`'s form. Returns those that failed.
pub fn set_parameters(proc_sys: &Path, parameters: &BTreeMap<String, String>) -> Vec<String> {
    let mut failed = Vec::new();
    for (name, value) in parameters {
        let path = proc_sys.join(name.replace('.', "/"));
        if let Err(error) = set(&path, value) {
            failed.push(format!("{name}: {error}"));
        }
    }
    failed
}

/// Writes a complaint to the kernel's log, and so to the serial console, also of a quiet
/// kernel.
pub fn complain(text: &str) {
    // Priority "error" of the facility "daemon".
    write_message(27, text);
}

/// Writes a note to the kernel's log, and to the serial console when the kernel is not quiet.
pub fn say(text: &str) {
    // Priority "notice".
    write_message(29, text);
}

fn write_message(priority: u8, text: &str) {
    if let Ok(mut kmsg) = OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = kmsg.write_all(format!("<{priority}>coracle: {text}\n").as_bytes());
    }
}

/// Asks until there is an answer, with pauses that grow from 2 to 100 ms, at most `limit`.
pub fn wait_for<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "a back-off with a limit, before any runtime"
        )]
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Milliseconds since the kernel started.
#[must_use]
pub fn uptime_millis() -> u64 {
    let since = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    since.map_or(0, |time| {
        u64::try_from(Duration::from(time).as_millis()).unwrap_or(u64::MAX)
    })
}

/// The size of a block device in bytes.
pub fn device_size(device: &Path) -> io::Result<u64> {
    let name = device.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let path = PathBuf::from("/sys/class/block").join(name).join("size");
    let sectors: u64 = fs::read_to_string(path)?
        .trim()
        .parse()
        .map_err(|_| io::ErrorKind::InvalidData)?;
    Ok(sectors * 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_do_not_exist_are_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("net/ipv4")).unwrap();
        File::create(dir.path().join("net/ipv4/ip_forward")).unwrap();
        let parameters = [("net.ipv4.ip_forward", "1"), ("vm.none", "2")];
        let parameters = parameters
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let failed = set_parameters(dir.path(), &parameters.collect());
        assert_eq!(failed.len(), 1);
        assert!(failed[0].starts_with("vm.none"));
        assert_eq!(
            fs::read_to_string(dir.path().join("net/ipv4/ip_forward")).unwrap(),
            "1"
        );
    }

    #[test]
    fn waiting_has_an_end() {
        let mut left = 3;
        let answer = wait_for(Duration::from_secs(5), || {
            left -= 1;
            (left == 0).then_some(7)
        });
        assert_eq!(answer, Some(7));
        assert_eq!(wait_for(Duration::from_millis(5), || None::<()>), None);
    }
}
