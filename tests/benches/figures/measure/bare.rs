//! The floor: QEMU alone restores the template and goes on, without Coracle. Its command line is the
//! very one of a clone that Coracle started, with files, sockets and ports of its own.

use super::api::Api;
use coracle_tests::{Coracle, Run, kill_pid};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long QEMU may take for anything.
const LIMIT: Duration = Duration::from_secs(120);
/// The pause between two looks, as Coracle has it.
const PAUSE: Duration = Duration::from_millis(2);
/// How a forward on the command line begins.
const FORWARD: &str = "hostfwd=tcp:";
/// The API server's port inside.
const API_PORT: &str = "6443";

/// How QEMU is to be run.
pub(crate) struct Bare {
    folder: PathBuf,
    template: PathBuf,
    /// The disk that the template froze.
    disk: PathBuf,
    command: Vec<String>,
    server: SocketAddr,
}

impl Bare {
    /// As a clone that runs.
    pub(crate) fn like(coracle: &Coracle, clone: &str) -> Self {
        let folder = coracle.folder().join("bare");
        fs::create_dir_all(&folder).expect("the sandbox is ours");
        let machine = coracle.machine(clone);
        let template = only_folder(&coracle.home().join("templates"));
        fs::copy(machine.join("seed.img"), folder.join("seed.img")).expect("a clone has a seed");
        let pid = coracle.hypervisor(clone).pid;
        let line = fs::read(format!("/proc/{pid}/cmdline")).expect("it runs");
        let line = String::from_utf8(line).expect("our paths are text");
        let mut server = None;
        let mut own = |argument: &str| {
            let argument = argument.replace(
                &text(&machine.join("base/ram")),
                &text(&template.join("ram")),
            );
            let argument = argument.replace(&text(&machine), &text(&folder));
            if argument.starts_with("socket,id=qmp,") {
                return format!(
                    "socket,id=qmp,server=on,wait=off,path={}",
                    text(&folder.join("qmp"))
                );
            }
            let options = argument
                .split(',')
                .map(|option| own_port(option, &mut server));
            options.collect::<Vec<_>>().join(",")
        };
        let command = line
            .trim_end_matches('\0')
            .split('\0')
            .map(&mut own)
            .collect();
        let disk = record(&template)["disk"].as_str().map(PathBuf::from);
        Self {
            disk: disk.expect("a template names its disk"),
            server: server.expect("a port is forwarded"),
            folder,
            template,
            command,
        }
    }

    /// Its program.
    pub(crate) fn program(&self) -> &str {
        &self.command[0]
    }

    /// What runs the guest's instructions.
    pub(crate) fn accelerator(&self) -> &str {
        let mut words = self.command.iter().skip_while(|word| *word != "-accel");
        words.nth(1).map_or("unknown", String::as_str)
    }

    /// Runs it once: the time from its start until the API server answers over TLS. Nobody gave it an
    /// identity of its own, so what it answers is not looked at.
    pub(crate) fn restore(&self) -> f64 {
        self.new_overlay();
        let authority = self.template.join("identity/cluster-ca.crt");
        let mut api = Api::anonymous(self.server, &authority);
        let begun = Instant::now();
        let qemu = Running::start(&self.command, &self.template.join("devices"));
        let mut monitor = Monitor::connect(&self.folder.join("qmp"));
        let capability = json!({"capability": "x-ignore-shared", "state": true});
        monitor.execute(
            "migrate-set-capabilities",
            &json!({"capabilities": [capability]}),
        );
        monitor.execute("migrate-incoming", &json!({"uri": "fd:0"}));
        while monitor.execute("query-status", &json!({}))["status"] == "inmigrate" {
            assert!(begun.elapsed() < LIMIT, "the template is not restored");
            std::thread::park_timeout(PAUSE);
        }
        monitor.execute("cont", &json!({}));
        api.until_it_answers("/readyz");
        let took = begun.elapsed().as_secs_f64();
        drop(qemu);
        took
    }

    fn new_overlay(&self) {
        let overlay = self.folder.join("data.qcow2");
        Run::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
            .args([&self.disk, &overlay])
            .ok();
    }
}

/// A QEMU of ours; ended when dropped.
struct Running(Child);

impl Running {
    fn start(command: &[String], state: &Path) -> Self {
        // The state is its standard input: a file that it has open is a file that its sandbox allows.
        let state = File::open(state).expect("a template has the state of its devices");
        let child = Command::new(&command[0])
            .args(&command[1..])
            .stdin(state)
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("Coracle could start it"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        kill_pid(self.0.id());
        // It is gone either way.
        let _ = self.0.wait();
    }
}

/// QEMU's monitor (QMP).
struct Monitor(BufReader<UnixStream>);

impl Monitor {
    fn connect(path: &Path) -> Self {
        let begun = Instant::now();
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(error) => assert!(begun.elapsed() < LIMIT, "no monitor: {error}"),
            }
            std::thread::park_timeout(PAUSE);
        };
        stream
            .set_read_timeout(Some(LIMIT))
            .expect("a limit above zero");
        let mut monitor = Self(BufReader::new(stream));
        assert!(monitor.line()["QMP"].is_object(), "a monitor greets");
        monitor.execute("qmp_capabilities", &json!({}));
        monitor
    }

    fn execute(&mut self, command: &str, arguments: &Value) -> Value {
        let line = json!({"execute": command, "arguments": arguments});
        writeln!(self.0.get_mut(), "{line}").expect("the monitor is open");
        loop {
            let mut answer = self.line();
            assert!(answer["error"].is_null(), "{command}: {answer}");
            // Events come in between.
            if answer["return"].is_object() {
                return answer["return"].take();
            }
        }
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("the monitor answers");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }
}

/// An option; the one that leads a port of the host to the machine's agent leads one to its API server
/// instead, which a host agent does elsewhere.
fn own_port(option: &str, server: &mut Option<SocketAddr>) -> String {
    if !option.starts_with(FORWARD) {
        return option.to_owned();
    }
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let free = free.expect("a port is free");
    *server = Some(free);
    format!("{FORWARD}{free}-:{API_PORT}")
}

fn record(template: &Path) -> Value {
    let text = fs::read(template.join("template.json")).expect("a template has a record");
    serde_json::from_slice(&text).expect("it is JSON")
}

fn only_folder(parent: &Path) -> PathBuf {
    let entries = fs::read_dir(parent).expect("the first start made a template");
    let paths = entries.flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = paths.filter(|path| path.join("ram").is_file()).collect();
    assert_eq!(found.len(), 1, "one template: {found:?}");
    found.remove(0)
}

fn text(path: &Path) -> String {
    path.to_str().expect("our paths are text").to_owned()
}
