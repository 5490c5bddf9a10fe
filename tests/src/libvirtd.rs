//! A real daemon of libvirt's for one test, with all its files in folders of its own, ended when dropped.
//!
//! Root gets the daemon of a whole host, in a mount namespace in which its usual folders are the test's;
//! others get the daemon of a user.

use crate::{Coracle, build, installed, kept_folder, repository, signal_pid, until};
use rustix::process::Signal;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Where daemons are that are not on every user's search path.
const DAEMON_FOLDERS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/sbin"];
/// The folders that a daemon of the whole host cannot be told.
const FOLDERS: [&str; 5] = [
    "/etc/libvirt",
    "/run/libvirt",
    "/var/lib/libvirt",
    "/var/log/libvirt",
    CACHE,
];
/// Where a daemon keeps what each QEMU can do. It takes many seconds to find that out, so all of them
/// have the same.
const CACHE: &str = "/var/cache/libvirt";
/// How long it may take to listen, on a busy host.
const LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to end.
const END_LIMIT: Duration = Duration::from_secs(10);
/// A new hypervisor's word for who may use it, and for what a container does not have. QEMU's user is not
/// set: machines have to name their own.
const QEMU_CONF: &str = "security_driver = \"none\"\ncgroup_controllers = []\nnamespaces = []\n\
                         stdio_handler = \"file\"\n";

/// A daemon that runs.
#[derive(Debug)]
pub struct Libvirtd {
    child: Child,
    home: TempDir,
    uri: String,
}

impl Libvirtd {
    /// Runs a test in a sandbox whose clusters are machines of a daemon of its own, which has to know none of
    /// them in the end.
    pub fn with_sandbox(test: impl FnOnce(Coracle)) {
        let libvirtd = Self::start().expect("scripts/setup --full installs it");
        test(libvirtd.sandbox());
        let left = libvirtd.machines();
        assert!(left.is_empty(), "libvirt still knows {left:?}");
    }

    /// Starts one; nothing where libvirt is not installed, which is said.
    pub fn start() -> Option<Self> {
        Self::start_with(None)
    }

    /// The same with a file system of 256 MiB over a folder, seen by it and its machines alone. A file in
    /// it takes nearly all of the space.
    pub fn start_with(small: Option<&Path>) -> Option<Self> {
        let Some(program) = program() else {
            eprintln!("skipped: libvirtd is not installed");
            return None;
        };
        let home = tempfile::Builder::new()
            .prefix("libvirtd-")
            .tempdir()
            .unwrap();
        let path = home.path();
        let socket = path.join("run/libvirt-sock");
        for folder in ["run", "etc", "user"] {
            std::fs::create_dir(path.join(folder)).unwrap();
        }
        write(
            &path.join("libvirtd.conf"),
            &format!(
                "unix_sock_dir = \"{0}/run\"\nauth_unix_ro = \"none\"\nauth_unix_rw = \"none\"\n\
                 log_outputs = \"2:file:{0}/libvirtd.log\"\n",
                path.display()
            ),
        );
        let is_root = rustix::process::geteuid().is_root();
        let mut command = if is_root {
            of_host(path, small)
        } else {
            of_user(path)
        };
        command
            .arg(&program)
            .arg("--config")
            .arg(path.join("libvirtd.conf"))
            .arg("--pid-file")
            .arg(path.join("libvirtd.pid"))
            .stdin(Stdio::null());
        let kind = if is_root { "system" } else { "session" };
        let uri = format!("qemu+unix:///{kind}?socket={}", socket.display());
        let child = command.spawn().unwrap();
        let mut daemon = Self { child, home, uri };
        daemon.wait_for(&socket);
        Some(daemon)
    }

    fn wait_for(&mut self, socket: &Path) {
        until("libvirtd listens", LIMIT, || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", self.log());
            UnixStream::connect(socket).is_ok()
        });
    }

    /// What it says of itself.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("libvirtd.log")).unwrap_or_default()
    }

    /// What it is reached by.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The root of the files that it sees.
    pub fn root(&self) -> PathBuf {
        Path::new("/proc")
            .join(self.child.id().to_string())
            .join("root")
    }

    /// The descriptions of the machines that it knows.
    fn machines(&self) -> Vec<PathBuf> {
        let is_root = rustix::process::geteuid().is_root();
        let settings = if is_root {
            "host-0"
        } else {
            "user/CONFIG/libvirt"
        };
        let folder = self.home.path().join(settings).join("qemu");
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Vec::new();
        };
        let paths = entries.flatten().map(|entry| entry.path());
        paths
            .filter(|path| path.extension().is_some_and(|end| end == "xml"))
            .collect()
    }

    /// A sandbox with the built image whose clusters are its machines. It has to be gone first.
    fn sandbox(&self) -> Coracle {
        let arguments = ["-p", "coracle-cli", "--features", "libvirt"];
        let program = build("with-libvirt", &repository(), &arguments, "coracle");
        let mut coracle = Coracle::with_machine().with_program(program);
        coracle.set("CORACLE_DRIVER", "libvirt");
        coracle.set("LIBVIRT_DEFAULT_URI", &self.uri);
        coracle
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        signal_pid(self.child.id(), signal);
    }

    /// Ends it; its machines go on.
    pub fn end(&mut self) {
        self.signal(Signal::TERM);
        self.child.wait().unwrap();
    }
}

impl Drop for Libvirtd {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        self.signal(Signal::CONT);
        self.signal(Signal::TERM);
        let ends = || {
            until("libvirtd ends", END_LIMIT, || {
                !matches!(self.child.try_wait(), Ok(None))
            });
        };
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(ends)).is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What runs the daemon of the whole host.
fn of_host(home: &Path, small: Option<&Path>) -> Command {
    let mut script = String::from("set -e\n");
    for (index, folder) in FOLDERS.iter().enumerate() {
        let own = if *folder == CACHE {
            cache()
        } else {
            home.join(format!("host-{index}"))
        };
        std::fs::create_dir_all(&own).unwrap();
        // Where only a package's service makes it.
        std::fs::create_dir_all(folder).unwrap();
        script.push_str(&format!("mount --bind '{}' {folder}\n", own.display()));
    }
    write(&home.join("host-0/qemu.conf"), QEMU_CONF);
    if Path::new("/dev/kvm").exists() {
        // One that root alone may use has libvirt ask each QEMU anew for every machine.
        let none = home.join("no-kvm");
        write(&none, "");
        std::fs::set_permissions(&none, PermissionsExt::from_mode(0o000)).unwrap();
        script.push_str(&format!("mount --bind '{}' /dev/kvm\n", none.display()));
    }
    if let Some(folder) = small {
        let (home, folder) = (home.display(), folder.display());
        script.push_str(&format!(
            "cp -r '{folder}' '{home}/kept'\nmount -t tmpfs -o size=256m none '{folder}'\n\
             cp -r --sparse=always '{home}/kept/.' '{folder}'\n\
             head -c 268000000 /dev/zero > '{folder}/filler' || true\n"
        ));
    }
    script.push_str("exec \"$0\" \"$@\"\n");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--", "sh", "-c", &script]);
    command
}

/// What runs the daemon of a user.
fn of_user(home: &Path) -> Command {
    let mut command = Command::new("env");
    command.arg(format!("XDG_CACHE_HOME={}", cache().display()));
    for name in ["CONFIG", "DATA", "RUNTIME"] {
        let suffix = if name == "RUNTIME" { "DIR" } else { "HOME" };
        let folder = home.join("user").join(name);
        std::fs::create_dir(&folder).unwrap();
        command.arg(format!("XDG_{name}_{suffix}={}", folder.display()));
    }
    let settings = home.join("user/CONFIG/libvirt");
    std::fs::create_dir(&settings).unwrap();
    write(&settings.join("qemu.conf"), QEMU_CONF);
    command
}

/// What the daemons share.
fn cache() -> PathBuf {
    kept_folder("libvirt-cache")
}

fn program() -> Option<PathBuf> {
    let elsewhere = |name: &str| {
        let mut found = DAEMON_FOLDERS
            .iter()
            .map(|folder| Path::new(folder).join(name));
        found.find(|path| path.is_file())
    };
    let mut names = ["libvirtd", "virtqemud"].into_iter();
    names.find_map(|name| installed(name).or_else(|| elsewhere(name)))
}

fn write(path: &Path, text: &str) {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
