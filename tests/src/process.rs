//! The host's process table: who belongs to a sandbox, and ending one by its number.

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// A process as /proc shows it.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its command line, separated by blanks.
    pub command: String,
}

/// All processes but this one that name `folder` in their arguments or their environment. Zombies
/// have neither.
pub fn processes_naming(folder: &Path) -> Vec<Process> {
    let needle = folder.as_os_str().as_bytes();
    let holds = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    let entries = fs::read_dir("/proc").expect("/proc is there");
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter_map(|pid| {
            // A process that ended meanwhile is none.
            let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let names_it = holds(&command) || holds(&environment);
            let text = String::from_utf8_lossy(&command).replace('\0', " ");
            names_it.then(|| Process {
                pid,
                command: text.trim().to_owned(),
            })
        })
        .collect()
}

fn number(pid: u32) -> Pid {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.expect("a process has a positive number")
}

/// Ends one process, which this test started, with SIGKILL. One that is gone is no error.
pub fn kill_pid(pid: u32) {
    let _ = kill_process(number(pid), Signal::KILL);
}

/// Sends one signal to one process, which this test started.
#[track_caller]
pub fn signal_pid(pid: u32, signal: Signal) {
    kill_process(number(pid), signal).expect("the process is there");
}

/// Whether a process of this number is there and no zombie.
pub fn alive(pid: u32) -> bool {
    test_kill_process(number(pid)).is_ok()
        && fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
            !stat
                .rsplit(')')
                .next()
                .is_some_and(|rest| rest.trim_start().starts_with('Z'))
        })
}

/// Seconds of processor time that a process has used with all its threads (proc(5), stat).
#[track_caller]
pub fn cpu_seconds(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, rest) = text.rsplit_once(") ").expect("a name in parentheses");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |index: usize| -> f64 { fields[index].parse().expect("a number") };
    (ticks(11) + ticks(12)) / rustix::param::clock_ticks_per_second() as f64
}
