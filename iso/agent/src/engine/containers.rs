//! How containers of dockerd's end with the machine: as dockerd would end them, which is gone by then and has
//! left them running (live-restore), so that those with a restart policy are not begun anew meanwhile.

use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One folder a container, named by its id.
pub(super) const CGROUPS: &str = "/sys/fs/cgroup/docker";
/// Pauses between two looks whether they have ended.
const LOOK: Duration = Duration::from_millis(100);

/// Asks each to end, by the signal that its image wants, and kills those that have not within the grace.
pub(super) async fn end(cgroups: &Path, settings: &Path, grace: Duration) {
    let containers = || {
        let folders = fs::read_dir(cgroups).into_iter().flatten().flatten();
        folders
            .map(|folder| folder.path())
            .filter(|folder| !processes(folder).is_empty())
    };
    for folder in containers() {
        if let (Some(first), Some(id)) = (first_process(&folder), folder.file_name()) {
            let signal = stop_signal(&settings.join(id).join("config.v2.json"));
            // SAFETY: a plain system call.
            let _ = unsafe { libc::kill(first.as_raw(), signal) };
        }
    }
    let limit = Instant::now() + grace;
    while containers().next().is_some() && Instant::now() < limit {
        tokio::time::sleep(LOOK).await;
    }
    for folder in containers() {
        // cgroups(7): all of them at once.
        let file = fs::OpenOptions::new()
            .write(true)
            .open(folder.join("cgroup.kill"));
        let _ = file.and_then(|mut file| std::io::Write::write_all(&mut file, b"1"));
    }
}

/// Those of a cgroup and of all below it: a container may have its own.
fn processes(cgroup: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    let own = text.lines().filter_map(|line| line.parse().ok());
    let mut all: Vec<Pid> = own.map(Pid::from_raw).collect();
    for below in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if below.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(processes(&below.path()));
        }
    }
    all
}

/// The one that is process 1 of its namespace; of a container in the machine's own, the first.
fn first_process(cgroup: &Path) -> Option<Pid> {
    let all = processes(cgroup);
    let is_first = |pid: &&Pid| {
        let path = PathBuf::from(format!("/proc/{pid}/status"));
        let status = fs::read_to_string(path).unwrap_or_default();
        let mut lines = status.lines();
        let inside = lines.find_map(|line| line.strip_prefix("NSpid:"));
        inside.and_then(|ids| ids.split_whitespace().last()) == Some("1")
    };
    all.iter().find(is_first).or(all.first()).copied()
}

/// What a container's settings say: a number, or a name with or without SIG, also of a real-time signal.
fn stop_signal(file: &Path) -> i32 {
    let read = || {
        let settings: serde_json::Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
        let said = settings["Config"]["StopSignal"].as_str()?.to_uppercase();
        let name = said.trim_start_matches("SIG");
        if let Ok(number) = name.parse::<i32>() {
            return (1..=libc::SIGRTMAX()).contains(&number).then_some(number);
        }
        let offset = |rest: &str| {
            if rest.is_empty() {
                Some(0)
            } else {
                rest.parse().ok()
            }
        };
        if let Some(rest) = name.strip_prefix("RTMIN") {
            return Some(libc::SIGRTMIN() + offset(rest)?);
        }
        if let Some(rest) = name.strip_prefix("RTMAX") {
            return Some(libc::SIGRTMAX() + offset(rest)?);
        }
        format!("SIG{name}")
            .parse()
            .ok()
            .map(|signal: Signal| signal as i32)
    };
    read().unwrap_or(Signal::SIGTERM as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::{self, Access};

    #[test]
    fn the_signal_is_the_images() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.v2.json");
        for (settings, signal) in [
            (r#"{"Config":{"StopSignal":"SIGQUIT"}}"#, libc::SIGQUIT),
            (r#"{"Config":{"StopSignal":"int"}}"#, libc::SIGINT),
            (r#"{"Config":{"StopSignal":"3"}}"#, libc::SIGQUIT),
            (
                r#"{"Config":{"StopSignal":"SIGRTMIN+3"}}"#,
                libc::SIGRTMIN() + 3,
            ),
            (
                r#"{"Config":{"StopSignal":"RTMAX-1"}}"#,
                libc::SIGRTMAX() - 1,
            ),
            (r#"{"Config":{"StopSignal":"nonsense"}}"#, libc::SIGTERM),
            (r#"{"Config":{}}"#, libc::SIGTERM),
        ] {
            place::file(&file, settings.as_bytes(), Access::PUBLIC).unwrap();
            assert_eq!(stop_signal(&file), signal, "{settings}");
        }
        assert_eq!(stop_signal(&folder.path().join("none")), libc::SIGTERM);
    }

    #[tokio::test]
    async fn a_container_is_asked_to_end_by_its_first_process() {
        let folder = tempfile::tempdir().unwrap();
        let cgroup = folder.path().join("docker/id/below");
        fs::create_dir_all(&cgroup).unwrap();
        let mut process = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let ids = format!("{}\n", process.id());
        place::file(&cgroup.join("cgroup.procs"), ids.as_bytes(), Access::PUBLIC).unwrap();
        end(&folder.path().join("docker"), folder.path(), Duration::ZERO).await;
        use std::os::unix::process::ExitStatusExt as _;
        let ended = process.wait().unwrap();
        assert_eq!(ended.signal(), Some(Signal::SIGTERM as i32));
    }
}
