//! The machine from inside: ssh, files, logs, memory.

use coracle_tests::{Coracle, Run, Terminal, until, write};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

/// Beyond what a shell under software emulation needs; it only catches what hangs.
const LIMIT: Duration = Duration::from_secs(300);
/// Far beyond what a ready cluster has in use; the promised figure is measured by `make bench`.
const MOST_MEMORY: u64 = 1_200_000_000;

pub(super) fn memory_in_use(coracle: &Coracle) {
    let meminfo = coracle.inside("cat /proc/meminfo");
    let kib = |name: &str| -> u64 {
        let line = meminfo
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_else(|| panic!("{meminfo}"));
        line.trim_matches(|c: char| !c.is_ascii_digit())
            .parse()
            .unwrap()
    };
    let used = (kib("MemTotal:") - kib("MemAvailable:")) * 1024;
    eprintln!(
        "guest memory in use after the start: {} MB",
        used / 1_000_000
    );
    assert!(used <= MOST_MEMORY, "{used} bytes are in use:\n{meminfo}");
}

pub(super) fn ssh(coracle: &Coracle) {
    let uname = coracle.run("ssh -- uname -a").ok();
    assert!(uname.text().starts_with("Linux coracle "), "{uname}");
    coracle.coracle(["ssh", "--", "exit 7"]).done().code_is(7);
    coracle.run("ssh -- false").done().code_is(1);
    let both = coracle
        .coracle(["ssh", "--", "echo to-out; echo to-err >&2"])
        .ok();
    assert_eq!(
        (both.stdout.as_str(), both.stderr.as_str()),
        ("to-out\n", "to-err\n")
    );
    let piped = coracle.run("ssh -- wc -c").stdin(vec![0_u8; 100_000]).ok();
    assert_eq!(piped.text(), "100000");
}

pub(super) fn interactive_ssh(coracle: &Coracle) {
    let mut shell = Terminal::start(&coracle.run("ssh"));
    shell.send("echo sum=$((40+2)); tty\r");
    shell.expect("sum=42", LIMIT);
    shell.expect("/dev/pts/", LIMIT);
    shell.send("stty size\r");
    shell.expect("24 80", LIMIT);
    shell.resize(40, 101);
    // What is typed may overtake the news of the size, so the question is repeated by the shell.
    shell.send("until stty size | grep '40 101'; do sleep 1; done\r");
    shell.expect("40 101\r\n", LIMIT);
    // Ctrl-C ends the program inside, not the shell. The program itself says that it runs: what the
    // shell says comes before the terminal is the program's. What is typed before the shell reads
    // again may be thrown away with the interrupted line, so the next prompt is waited for.
    shell.send("sh -c 'echo run''ning; exec sleep 1000'\r");
    shell.expect("running\r\n", LIMIT);
    shell.send("\u{3}");
    shell.expect("^C", LIMIT);
    shell.expect("$ ", LIMIT);
    shell.send("echo still=$((1+1))\r");
    shell.expect("still=2", LIMIT);
    shell.send("exit 5\r");
    assert_eq!(shell.exit_code(LIMIT), Some(5), "{}", shell.shown());
}

/// The options of a plain client that trusts `known_hosts` and nothing else.
fn plain_client(coracle: &Coracle, known_hosts: &Path, key: &str) -> Run {
    let host = coracle.run("ssh-host").ok();
    let port = host
        .text()
        .split_once("]:")
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .unwrap_or("22")
        .to_owned();
    let ip = coracle.run("ip").ok().text().to_owned();
    coracle
        .program("ssh")
        .args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "GlobalKnownHostsFile=none",
        ])
        .args([
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            &format!("UserKnownHostsFile={}", known_hosts.display()),
        ])
        .args(["-i", key, "-p", &port, &format!("coracle@{ip}")])
}

pub(super) fn plain_ssh(coracle: &Coracle) {
    let line = coracle.run("ssh-host").ok().stdout;
    let key = coracle.run("ssh-key").ok().text().to_owned();
    assert_eq!(
        fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let known = coracle.work().join("known_hosts");
    write(&known, &line);
    assert_eq!(
        plain_client(coracle, &known, &key)
            .args(["id", "-un"])
            .ok()
            .text(),
        "coracle"
    );

    // Another machine at this address would be noticed, and another key is not let in.
    let other = coracle.work().join("other_key");
    Run::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .args([&other])
        .ok();
    let public = fs::read_to_string(other.with_extension("pub")).unwrap();
    let address = line.split_whitespace().next().unwrap();
    write(&known, format!("{address} {public}"));
    plain_client(coracle, &known, &key)
        .args(["true"])
        .done()
        .code_is(255)
        .says("verification failed");
    write(&known, &line);
    let denied = plain_client(coracle, &known, &other.display().to_string())
        .args(["true"])
        .done()
        .code_is(255);
    denied.says("Permission denied");
}

pub(super) fn inside(coracle: &Coracle) {
    assert_eq!(coracle.inside("id -u"), "1000");
    assert_eq!(coracle.inside("sudo id -u"), "0");
    assert_eq!(coracle.inside("hostname"), "coracle");
    // All that it has, also where only one of them booted.
    assert_eq!(coracle.inside("nproc"), coracle.inside("nproc --all"));
    assert_ne!(coracle.inside("nproc"), "1");
    for kubectl in ["kubectl", "sudo kubectl"] {
        let nodes = coracle.inside(&format!("{kubectl} get nodes --no-headers"));
        assert!(nodes.starts_with("coracle "), "{kubectl}: {nodes}");
    }
    assert!(coracle.inside("sudo crictl ps").contains("coredns"));
    // The clock is the host's.
    let seconds = |text: &str| text.trim().parse::<i64>().unwrap();
    let off =
        seconds(&coracle.inside("date +%s")) - seconds(Run::new("date").args(["+%s"]).ok().text());
    assert!(off.abs() < 30, "the machine's clock is {off} s off");
}

/// A folder with what can go wrong in a copy.
fn make_tree(tree: &Path) {
    write(tree.join("a file with blanks.txt"), "blanks\n");
    write(tree.join("sub/deep/ünïcödé 'quoted'"), "names\n");
    write(tree.join("run.sh"), "#!/bin/sh\necho ran\n");
    write(tree.join("secret"), "x");
    let large: Vec<u8> = (0..6_000_000_u32)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .step_by(3)
        .collect();
    write(tree.join("large.bin"), large);
    fs::create_dir(tree.join("empty")).unwrap();
    fs::set_permissions(tree.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(tree.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink("run.sh", tree.join("link")).unwrap();
}

/// Every path with its kind, mode and content.
fn described(folder: &Path) -> Vec<(String, u32, Vec<u8>)> {
    let mut all = Vec::new();
    let mut stack = vec![folder.to_owned()];
    while let Some(path) = stack.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_symlink() {
            fs::read_link(&path)
                .unwrap()
                .into_os_string()
                .into_encoded_bytes()
        } else if meta.is_dir() {
            stack.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            Vec::new()
        } else {
            fs::read(&path).unwrap()
        };
        let name = path.strip_prefix(folder).unwrap().display().to_string();
        all.push((name, meta.permissions().mode(), content));
    }
    all.sort();
    all
}

pub(super) fn copy(coracle: &Coracle) {
    let tree = coracle.work().join("tree");
    make_tree(&tree);
    coracle.coracle(["cp", "tree", ":/home/coracle/"]).ok();
    assert_eq!(coracle.inside("/home/coracle/tree/link"), "ran");
    assert_eq!(
        coracle.inside("stat -c '%U %a' /home/coracle/tree/secret"),
        "coracle 600"
    );
    assert_eq!(
        coracle.inside("cat '/home/coracle/tree/a file with blanks.txt'"),
        "blanks"
    );
    coracle.coracle(["cp", ":/home/coracle/tree", "back"]).ok();
    let (there, back) = (described(&tree), described(&coracle.work().join("back")));
    let names = |all: &[(String, u32, Vec<u8>)]| {
        all.iter()
            .map(|(name, mode, _)| format!("{mode:o} {name}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&back), names(&there));
    assert!(back == there, "a file's content changed on its way");

    // One file: into a folder, under a new name, and back with blanks in its name.
    coracle
        .coracle([
            "cp",
            "tree/a file with blanks.txt",
            ":/home/coracle/new name",
        ])
        .ok();
    coracle
        .coracle(["cp", "coracle:/home/coracle/new name", "one more"])
        .ok();
    assert_eq!(
        fs::read_to_string(coracle.work().join("one more")).unwrap(),
        "blanks\n"
    );
    coracle.coracle(["cp", ":/etc/hostname", "."]).ok();
    assert_eq!(
        fs::read_to_string(coracle.work().join("hostname"))
            .unwrap()
            .trim(),
        "coracle"
    );
    coracle
        .coracle(["cp", ":/no/such/file", "."])
        .done()
        .fails(85, "CORACLE_GUEST_NOT_FOUND")
        .says("/no/such/file");
}

pub(super) fn logs(coracle: &Coracle) {
    for component in [
        "etcd",
        "kube-apiserver",
        "kubelet",
        "containerd",
        "agent",
        "kernel",
    ] {
        let logs = coracle
            .run(&format!("logs --component {component} -n 3"))
            .ok();
        assert!((1..=3).contains(&logs.stdout.lines().count()), "{logs}");
    }
    // A kernel that boots well says nothing there.
    coracle.run("logs --component console").ok();
    let all = coracle.run("logs -n 2").ok();
    assert!(
        all.stdout
            .lines()
            .any(|line| line.starts_with("kube-scheduler: ")),
        "{all}"
    );
    assert!(
        !all.stdout.contains("kube-scheduler: kube-scheduler: "),
        "a line is led once: {all}"
    );
    coracle
        .run("logs --component host-agent")
        .ok()
        .says("the machine runs");
    coracle
        .run("logs --component nosuch")
        .done()
        .fails(85, "CORACLE_GUEST_NOT_FOUND")
        .says("nosuch");

    // What is written later is followed, until Ctrl-C.
    let mut followed = coracle.run("logs -f --component kernel -n 1").start();
    until("the log is followed", LIMIT, || {
        !followed.stdout_so_far().is_empty()
    });
    coracle.inside("echo the-followed-line | sudo tee /dev/kmsg");
    followed.until_it_says("the-followed-line");
    coracle_tests::signal_pid(followed.pid(), Signal::INT);
    let ended = followed.done();
    assert!(
        matches!(ended.code(), Some(0 | 130)) && !ended.stderr.contains("panicked"),
        "{ended}"
    );
}
