//! Processors that join only when the kernel has changed its own code.
//!
//! The kernel patches its instructions while it runs: as modules are loaded, and as features are used
//! for the first time. The software emulation of QEMU before 8.1 can go on with the old instructions
//! on one processor when another patches them at the very moment that they are translated, and the
//! kernel panics. Under software emulation the host therefore boots a machine with one processor
//! (`maxcpus=1`), and the others join here: after the modules, and after a first use of what every
//! cluster uses.
//!
//! ```text
//! modules loaded --hold hooks, controllers--> code patched, for good --join--> all processors run
//! ```

use crate::kernel;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Chains for the hooks of the packet filter that clusters use; as long as there is one, a hook's code stays as it is.
const HOOKS: &str = "/usr/lib/coracle/hooks.nft";
/// A control group that stays: the first one with these controllers switches their code on.
const GROUP: &str = "coracle";
/// What the kubelet asks for in its groups.
const CONTROLLERS: &str = "+cpuset +cpu +io +memory +hugetlb +pids";

/// Lets the processors join that were held back; before them, uses what would patch the kernel later.
/// Without such processors there is nothing to do. Returns what went wrong: the machine works all the
/// same.
pub fn join_all(sys: &Path) -> Vec<String> {
    let held = held_back(&sys.join("devices/system/cpu"));
    if held.is_empty() {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    let mut note = |what: &str, done: io::Result<()>| {
        if let Err(error) = done {
            complaints.push(format!("{what}: {error}"));
        }
    };
    note("packet filter hooks", hold_hooks());
    note("control groups", hold_controllers(&sys.join("fs/cgroup")));
    for switch in held {
        note("processor", kernel::set(&switch, "1"));
    }
    complaints
}

/// The switches of the processors that are present and do not run.
fn held_back(processors: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(processors).into_iter().flatten().flatten();
    let mut held: Vec<_> = entries
        .map(|entry| entry.path().join("online"))
        .filter(|switch| fs::read_to_string(switch).is_ok_and(|state| state.trim() == "0"))
        .collect();
    held.sort();
    held
}

fn hold_hooks() -> io::Result<()> {
    let output = Command::new("nft")
        .args(["-f", HOOKS])
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}

fn hold_controllers(groups: &Path) -> io::Result<()> {
    kernel::set(&groups.join("cgroup.subtree_control"), CONTROLLERS)?;
    fs::create_dir_all(groups.join(GROUP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_processors_that_are_switched_off_are_held_back() {
        let dir = tempfile::tempdir().unwrap();
        for (name, state) in [("cpu1", Some("0\n")), ("cpu2", Some("1\n")), ("cpu0", None)] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
            if let Some(state) = state {
                let switch = dir.path().join(name).join("online");
                fs::File::create(&switch).unwrap();
                kernel::set(&switch, state).unwrap();
            }
        }
        assert_eq!(held_back(dir.path()), [dir.path().join("cpu1/online")]);
    }

    #[test]
    fn a_machine_with_all_its_processors_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(join_all(dir.path()), [""; 0]);
        assert!(!dir.path().join("fs").exists());
    }
}
