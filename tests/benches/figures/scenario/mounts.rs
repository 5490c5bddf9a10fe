//! A folder of the host in the machine, beside the machine's own disk and QEMU's virtio-9p.

use super::Extent;
use crate::measure::start::start;
use crate::record::Record;
use coracle_tests::{Coracle, Profile, Run, installed, make_portable, write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

const NAME: &str = "mounted";
/// Where the machine has the host's folder, and its own copies.
const MOUNT: &str = "/mnt/bench";
const DISK: &str = "/home/coracle/bench";
const NINE_P: &str = "/home/coracle/9p";
/// Files of the work tree, by folder.
const FOLDERS: usize = 200;
const FILES: usize = 100;
/// After the one that fills git's index.
const STATUSES: usize = 3;
/// How often it is written and read in one go.
const BULKS: usize = 3;
/// MiB that are written and read in one go, and when there is time.
const BULK: usize = 128;
const LONG_BULK: usize = 1024;
/// Beyond what anything here takes.
const LIMIT: Duration = Duration::from_secs(1200);

pub(crate) fn measure(coracle: &Coracle, record: &mut Record, extent: Extent) {
    let folder = coracle.work().join("bench");
    let git = installed("git").expect("scripts/setup installs it");
    make_portable(&git, &folder.join("tools"));
    make_tree(&git, &folder.join("tree"));
    start(
        coracle,
        NAME,
        &format!("--mount {}:{MOUNT}", folder.display()),
    );
    let cluster = Profile {
        coracle,
        name: NAME,
    };
    cluster
        .coracle
        .coracle(["cp", "-p", NAME])
        .args([folder.display().to_string(), format!("{NAME}:{DISK}")])
        .limit(LIMIT)
        .ok();
    for (ids, place) in [
        (["mount.status", "mount.write", "mount.read"], MOUNT),
        (["disk.status", "disk.write", "disk.read"], DISK),
    ] {
        sample(cluster, ids, place, record, extent, STATUSES);
    }
    coracle.run(&format!("delete -p {NAME}")).ok();
    let cluster = with_nine_p(coracle, &folder);
    let ids = ["9p.status", "9p.write", "9p.read"];
    // Each takes minutes.
    sample(cluster, ids, NINE_P, record, extent, 1);
    coracle.run(&format!("delete -p {NAME}")).ok();
}

/// So many times `git status` in the tree at a place, and much written there and read, under these ids.
fn sample(
    cluster: Profile<'_>,
    [of_status, of_write, of_read]: [&'static str; 3],
    place: &str,
    record: &mut Record,
    extent: Extent,
    statuses: usize,
) {
    // Times and numbers of files are others than the index has: the first one reads every file.
    status(cluster, place);
    for _ in 0..extent.repeats(statuses) {
        record.sample(of_status, status(cluster, place));
    }
    let size = if extent.long { LONG_BULK } else { BULK };
    for _ in 0..extent.repeats(BULKS) {
        // By 9p, files are whoever's they are on the host.
        let dd = |what: &str| format!("sudo dd bs=1M count={size} {what} 2>/dev/null");
        let megabytes = size as f64 * 1.048_576;
        let zeros = dd(&format!("if=/dev/zero of={place}/bulk conv=fsync"));
        record.sample(of_write, megabytes / timed(cluster, &zeros));
        cluster.inside("sudo sh -c 'echo 3 > /proc/sys/vm/drop_caches'");
        let read = dd(&format!("if={place}/bulk of=/dev/null"));
        record.sample(of_read, megabytes / timed(cluster, &read));
    }
}

/// A cluster whose machine has the folder by virtio-9p. Its QEMU is told so by a program
/// in front of it: Coracle itself never does that, as such a machine cannot be saved.
fn with_nine_p<'a>(coracle: &'a Coracle, folder: &Path) -> Profile<'a> {
    let name = format!("qemu-system-{}", std::env::consts::ARCH);
    let real = installed(&name).expect("scripts/setup installs it");
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *\" -netdev \"*)\n  set -- \"$@\" -virtfs \
         local,path={},mount_tag=bench,security_model=none;;\nesac\nexec {} \"$@\"\n",
        folder.display(),
        real.display()
    );
    let program = coracle.work().join(&name);
    write(&program, script);
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&program, executable).expect("the sandbox is ours");
    let cluster = Profile {
        coracle,
        name: NAME,
    };
    let start = cluster.command("start --cold").limit(LIMIT);
    start.env("CORACLE_QEMU", &program).ok();
    // Large messages, as whoever wants speed would have it.
    cluster.inside(&format!(
        "sudo modprobe 9pnet_virtio && mkdir -p {NINE_P} && \
         sudo mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288 bench {NINE_P}"
    ));
    cluster
}

/// Seconds of `git status` in a clean tree.
fn status(cluster: Profile<'_>, place: &str) -> f64 {
    let tools = format!("{place}/tools");
    let git = format!("{tools}/loader --library-path {tools} {tools}/git");
    let options = "-c safe.directory=* -c core.fileMode=false";
    timed(
        cluster,
        &format!("test -z \"$(cd {place}/tree && {git} {options} status --short)\""),
    )
}

/// Seconds of a command inside, by the machine's clock.
fn timed(cluster: Profile<'_>, command: &str) -> f64 {
    let script = format!("export HOME=/tmp; date +%s%N; {command} || exit 1; date +%s%N");
    let said = cluster.ssh(&script).limit(LIMIT).ok();
    let times: Vec<f64> = said
        .stdout
        .lines()
        .map(|line| line.parse().expect("a time"))
        .collect();
    let [before, after] = times[..] else {
        panic!("two times: {said}");
    };
    (after - before) / 1e9
}

/// A work tree of 20,000 small files.
fn make_tree(git: &Path, tree: &Path) {
    for folder in 0..FOLDERS {
        let folder = tree
            .join(format!("part{}", folder % 20))
            .join(folder.to_string());
        for file in 0..FILES {
            write(
                folder.join(format!("file{file}.txt")),
                format!("{file} of {}\n", folder.display()),
            );
        }
    }
    let git = |arguments: &[&str]| {
        let author = [
            "-c",
            "user.name=bench",
            "-c",
            "user.email=bench@example.org",
        ];
        Run::new(git)
            .args(author)
            .args(arguments)
            .folder(tree)
            .limit(LIMIT)
            .ok();
    };
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "all"]);
}
