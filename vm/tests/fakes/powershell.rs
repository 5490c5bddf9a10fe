//! A PowerShell that is none: it speaks the protocol of the Hyper-V driver, and keeps virtual machines in
//! a file beside itself.
//!
//! It stands for what cannot run here. It refuses, by a file `violation` and its end, whatever is not
//! exactly what the driver is to send: another command line, scripts that differ by a byte from those of
//! the repository, a request that is more than data, a call or a parameter that the scripts do not
//! declare, a value that is not of the declared type.
//!
//! ```text
//! FOLDER/powershell   a link to this program, or a copy: its folder is where everything else is
//!        spy          if there, it only writes down what it hears: `arguments` as JSON, and `scripts`
//!        fake.json    how it behaves, see [`Settings`]; read for each request
//!        vms.json     the virtual machines
//!        started      the processes that there were, a line each
//!        log          the calls with their parameters, a line each
//!        violation    what was wrong
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a program for tests"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

const COMMAND_LINE: [&str; 7] = [
    "-NoLogo",
    "-NoProfile",
    "-NonInteractive",
    "-OutputFormat",
    "Text",
    "-Command",
    "$ErrorActionPreference = 'Stop'; $coracle = [Console]::In.ReadLine(); if ($null -eq $coracle) { exit 3 }; & ([ScriptBlock]::Create([Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($coracle))))",
];

const SCRIPTS: [&str; 6] = [
    include_str!("../../src/hyperv/prologue.ps1"),
    include_str!("../../src/hyperv/host.ps1"),
    include_str!("../../src/hyperv/machine.ps1"),
    include_str!("../../src/hyperv/disk.ps1"),
    include_str!("../../src/hyperv/network.ps1"),
    include_str!("../../src/hyperv/loop.ps1"),
];

const DEFAULT_SWITCH: &str = "Default Switch";

/// How it behaves. All of it may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// What differs from a host where all is well, as `Get-CoracleHost` tells it.
    host: BTreeMap<String, Value>,
    /// Lines before everything else.
    banner: Vec<String>,
    /// Noise before each answer, one of them without an end of line.
    noise: bool,
    /// Lists as Windows PowerShell 5.1 may write them.
    old: bool,
    /// The call that never answers; `start` for one that does not even begin.
    hang: Option<String>,
    /// The call at which it dies: after it was carried out and before it is answered.
    die: Option<String>,
    /// The call that fails, and how.
    fail: BTreeMap<String, Value>,
    /// What the guest says of its addresses.
    reported: Vec<String>,
    /// What the host knows of network cards: MAC, state, address.
    neighbours: Vec<(String, String, String)>,
    /// Switches beside the default one.
    switches: Vec<String>,
    /// The guest has no integration services.
    deaf: bool,
    /// The state after a start, instead of `Running`.
    started: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Vm {
    id: String,
    name: String,
    notes: String,
    state: String,
    folder: String,
    processors: u64,
    memory: u64,
    disks: Vec<String>,
    dvds: Vec<String>,
    switch: String,
    mac: String,
    pipe: String,
    checkpoints: u64,
}

struct Fake {
    folder: PathBuf,
}

/// A call that failed.
struct Failure(Value);

type Answer = Result<Value, Failure>;

fn failure(category: &str, id: &str, message: &str) -> Failure {
    Failure(json!({"category": category, "id": id, "message": message, "code": "0x80131500"}))
}

fn main() {
    let mut arguments = std::env::args_os();
    let program = PathBuf::from(arguments.next().unwrap());
    let fake = Fake {
        folder: program.parent().unwrap().to_owned(),
    };
    let arguments: Vec<String> = arguments.map(|word| word.into_string().unwrap()).collect();
    let started = File::options()
        .create(true)
        .append(true)
        .open(fake.folder.join("started"));
    writeln!(started.unwrap(), "{}", std::process::id()).unwrap();
    if fake.folder.join("spy").exists() {
        fake.listen(&arguments);
        return;
    }
    if arguments != COMMAND_LINE {
        fake.violation(&format!("the command line is {arguments:?}"));
    }
    let settings = fake.settings();
    for line in &settings.banner {
        println!("{line}");
    }
    if settings.hang.as_deref() == Some("start") {
        fake.hang();
    }
    let mut lines = std::io::stdin().lock().lines();
    let Some(Ok(first)) = lines.next() else {
        std::process::exit(3);
    };
    let scripts = STANDARD.decode(first).unwrap_or_default();
    if scripts != SCRIPTS.concat().as_bytes() {
        fake.violation("the scripts are not those of the repository");
    }
    fake.answer(0, &Ok(json!({"powershell": "5.1.22621.4391"})), &settings);
    for line in lines {
        fake.request(&line.unwrap());
    }
}

impl Fake {
    fn listen(&self, arguments: &[String]) {
        std::fs::write(self.folder.join("arguments"), json!(arguments).to_string()).unwrap();
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).unwrap();
        std::fs::write(self.folder.join("scripts"), line).unwrap();
    }

    fn violation(&self, what: &str) -> ! {
        std::fs::write(self.folder.join("violation"), what).unwrap();
        eprintln!("violation: {what}");
        std::process::exit(9);
    }

    fn hang(&self) -> ! {
        loop {
            std::thread::sleep(Duration::from_secs(60));
        }
    }

    fn settings(&self) -> Settings {
        match std::fs::read(self.folder.join("fake.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
            Err(_) => Settings::default(),
        }
    }

    fn vms(&self) -> Vec<Vm> {
        match std::fs::read(self.folder.join("vms.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
            Err(_) => Vec::new(),
        }
    }

    fn keep(&self, vms: &[Vm]) {
        let new = self.folder.join("vms.json.new");
        std::fs::write(&new, serde_json::to_vec_pretty(vms).unwrap()).unwrap();
        std::fs::rename(new, self.folder.join("vms.json")).unwrap();
    }

    fn request(&self, line: &str) {
        let settings = self.settings();
        let (number, call, with) = self.parse(line);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"));
        writeln!(log.unwrap(), "{call} {}", json!(with)).unwrap();
        if settings.hang.as_deref() == Some(&call) {
            self.hang();
        }
        let lock = File::create(self.folder.join("lock")).unwrap();
        lock.lock().unwrap();
        let answer = match settings.fail.get(&call) {
            Some(error) => Err(Failure(error.clone())),
            None => self.carry_out(&call, &with, &settings),
        };
        drop(lock);
        if settings.die.as_deref() == Some(&call) {
            eprintln!("the sky falls down");
            std::process::exit(7);
        }
        self.answer(number, &answer, &settings);
    }

    /// Reads a request and checks that it is data for a call that the scripts declare.
    fn parse(&self, line: &str) -> (u64, String, BTreeMap<String, Value>) {
        let request: Value = serde_json::from_str(line)
            .unwrap_or_else(|error| self.violation(&format!("{line} is no request: {error}")));
        let object = request.as_object().unwrap();
        let mut keys: Vec<&String> = object.keys().collect();
        keys.sort();
        if keys != ["call", "number", "with"] {
            self.violation(&format!("a request with {keys:?}"));
        }
        let call = object["call"].as_str().unwrap().to_owned();
        let declared = declared(&call)
            .unwrap_or_else(|| self.violation(&format!("no script declares {call}")));
        let text = |value: &Value| {
            let bytes = STANDARD.decode(value.as_str().unwrap_or("?"));
            bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok())
        };
        let mut with = BTreeMap::new();
        for (name, value) in object["with"].as_object().unwrap() {
            let kind = declared
                .get(name.as_str())
                .unwrap_or_else(|| self.violation(&format!("{call} has no parameter {name}")));
            let decoded = match value {
                Value::Array(values) => {
                    let values: Option<Vec<String>> = values.iter().map(text).collect();
                    values.map(|values| json!(values))
                }
                value => text(value).map(Value::String),
            };
            let fits = match (*kind, &decoded) {
                ("string[]", Some(Value::Array(_))) | ("string", Some(Value::String(_))) => true,
                ("guid", Some(Value::String(text))) => Uuid::parse_str(text).is_ok(),
                ("int", Some(Value::String(text))) => text.parse::<i32>().is_ok(),
                ("long", Some(Value::String(text))) => text.parse::<i64>().is_ok(),
                _ => false,
            };
            if !fits {
                self.violation(&format!("{call} -{name} is no [{kind}]: {value}"));
            }
            with.insert(name.clone(), decoded.unwrap());
        }
        if with.len() != declared.len() {
            self.violation(&format!("{call} has not all of its parameters"));
        }
        (object["number"].as_u64().unwrap(), call, with)
    }

    fn answer(&self, number: u64, answer: &Answer, settings: &Settings) {
        if settings.noise {
            println!("WARNING: a policy of this computer has words to say");
            print!("PS C:\\> ");
        }
        let answer = match answer {
            Ok(result) if settings.old => json!({"ok": true, "result": old(result)}),
            Ok(result) => json!({"ok": true, "result": result}),
            Err(Failure(error)) => json!({"ok": false, "error": error}),
        };
        let text = STANDARD.encode(answer.to_string());
        print!("\ncoracle-answer {number} {text}\n");
        std::io::stdout().flush().unwrap();
    }

    fn carry_out(&self, call: &str, with: &BTreeMap<String, Value>, settings: &Settings) -> Answer {
        let text = |name: &str| with[name].as_str().unwrap();
        let number = |name: &str| text(name).parse::<u64>().unwrap();
        let list =
            |name: &str| -> Vec<String> { serde_json::from_value(with[name].clone()).unwrap() };
        let allowed = settings.host.get("allowed") != Some(&json!(false));
        let mut vms = if allowed { self.vms() } else { Vec::new() };
        let place = match with.get("Machine") {
            Some(_) => find(&vms, text("Machine"), text("Vm")),
            None => None,
        };
        if place.is_none() && with.contains_key("Machine") && !allowed {
            return Err(failure(
                "InvalidOperation",
                "CoracleNotAllowed",
                "this user is not a member of Hyper-V Administrators",
            ));
        }
        let gone = || failure("InvalidOperation", "CoracleGone", "gone");
        match call {
            "Get-CoracleHost" => Ok(host(settings, text("Switch"))),
            "Get-CoraclePlatform" => {
                Ok(json!({"windows": "10.0.22631", "processor": "Intel64 Family 6"}))
            }
            "Find-CoracleMachine" => {
                let mut answer = match place {
                    Some(place) => facts(&vms[place]),
                    None => json!({}),
                };
                answer["found"] = json!(place.is_some());
                if !text("Name").is_empty() {
                    let others = vms.iter().filter(|vm| {
                        vm.name.eq_ignore_ascii_case(text("Name")) && !marked(vm, text("Machine"))
                    });
                    answer["others"] = others.map(|vm| json!(vm.id)).collect();
                }
                Ok(answer)
            }
            "Set-CoracleMachine" => {
                let switch = match text("Switch") {
                    "" => DEFAULT_SWITCH,
                    switch if settings.switches.iter().any(|known| known == switch) => switch,
                    _ => return Err(failure("InvalidOperation", "CoracleNoSwitch", "none")),
                };
                let place = place.unwrap_or_else(|| {
                    vms.push(Vm {
                        id: Uuid::new_v4().to_string(),
                        name: text("Name").to_owned(),
                        notes: format!("coracle-machine {} {}", text("Machine"), text("Folder")),
                        state: "Off".to_owned(),
                        folder: text("Folder").to_owned(),
                        ..Vm::default()
                    });
                    vms.len() - 1
                });
                let vm = &mut vms[place];
                if vm.checkpoints > 0 {
                    return Err(failure("InvalidOperation", "CoracleCheckpoints", "some"));
                }
                if !is_off(vm) {
                    return Err(failure(
                        "InvalidOperation",
                        "InvalidState,Microsoft.HyperV.PowerShell.Commands.SetVM",
                        "it runs",
                    ));
                }
                vm.state = "Off".to_owned();
                vm.processors = number("Processors");
                vm.memory = number("Memory");
                assert!(vm.memory.is_multiple_of(2 << 20));
                vm.disks = list("Disks");
                vm.dvds = list("Dvds");
                for file in vm.disks.iter().chain(&vm.dvds) {
                    if !Path::new(file).is_file() {
                        return Err(failure("ObjectNotFound", "ObjectNotFound,X", file));
                    }
                }
                vm.switch = switch.to_owned();
                vm.mac = text("Mac").to_owned();
                vm.pipe = text("Pipe").to_owned();
                let told = facts(vm);
                self.keep(&vms);
                Ok(told)
            }
            "New-CoracleDisk" => {
                let path = Path::new(text("Path"));
                assert!(path.extension().is_some_and(|end| end == "vhdx"));
                if path.exists() {
                    return Err(failure("ResourceExists", "X", "it is there"));
                }
                std::fs::write(path, format!("vhdxfile {}", number("Bytes"))).unwrap();
                Ok(json!({"made": true}))
            }
            "Resize-CoracleDisk" => {
                if place.is_some_and(|place| vms[place].checkpoints > 0) {
                    return Err(failure("InvalidOperation", "CoracleCheckpoints", "some"));
                }
                let content = std::fs::read_to_string(text("Path")).unwrap();
                let size: u64 = content.strip_prefix("vhdxfile ").unwrap().parse().unwrap();
                let grown = size < number("Bytes");
                if grown {
                    std::fs::write(text("Path"), format!("vhdxfile {}", number("Bytes"))).unwrap();
                }
                Ok(json!({"grown": grown}))
            }
            "Remove-CoracleMachine" => {
                if let Some(place) = place {
                    if !is_off(&vms[place]) {
                        return Err(failure("InvalidOperation", "InvalidState,X", "it runs"));
                    }
                    vms.remove(place);
                    self.keep(&vms);
                }
                Ok(json!({"removed": place.is_some()}))
            }
            "Get-CoracleAddress" => {
                let vm = &vms[place.ok_or_else(gone)?];
                let mut answer = facts(vm);
                answer["reported"] = json!(settings.reported);
                let neighbours = settings.neighbours.iter();
                let neighbours = neighbours.filter(|(mac, ..)| *mac == vm.mac);
                answer["neighbours"] = neighbours
                    .map(|(_, state, address)| json!(format!("{state} {address}")))
                    .collect();
                Ok(answer)
            }
            "Request-CoracleShutdown" => {
                let vm = &mut vms[place.ok_or_else(gone)?];
                if settings.deaf {
                    return Err(failure(
                        "InvalidOperation",
                        "OperationFailed,Microsoft.HyperV.PowerShell.Commands.StopVM",
                        "the guest cannot be asked",
                    ));
                }
                vm.state = "Off".to_owned();
                self.keep(&vms);
                Ok(json!({"asked": true}))
            }
            call => {
                let vm = &mut vms[place.ok_or_else(gone)?];
                change(vm, call, with, settings)?;
                let told = facts(vm);
                self.keep(&vms);
                Ok(told)
            }
        }
    }
}

/// What moves a virtual machine from one state to another.
fn change(
    vm: &mut Vm,
    call: &str,
    with: &BTreeMap<String, Value>,
    settings: &Settings,
) -> Result<(), Failure> {
    let wrong = || {
        failure(
            "InvalidOperation",
            "InvalidState,Microsoft.HyperV.PowerShell.Commands.X",
            &format!("{call} of a machine that is {}", vm.state),
        )
    };
    let state = vm.state.as_str();
    let next = match (call, state) {
        ("Start-CoracleMachine", "Off") if with["From"] == "held" => {
            return Err(failure("InvalidOperation", "CoracleNothingHeld", "nothing"));
        }
        ("Start-CoracleMachine", "Off" | "Saved") => {
            settings.started.as_deref().unwrap_or("Running")
        }
        ("Suspend-CoracleMachine", "Running") => "Paused",
        ("Resume-CoracleMachine", "Paused" | "PausedCritical") => "Running",
        ("Save-CoracleMachine", "Running" | "Paused") => "Saved",
        ("Stop-CoracleMachine", "Running" | "Paused" | "PausedCritical" | "RunningCritical") => {
            "Off"
        }
        _ => return Err(wrong()),
    };
    vm.state = next.to_owned();
    Ok(())
}

/// The parameters of a function of the scripts with their types, if it is one that can be called.
fn declared(call: &str) -> Option<BTreeMap<&'static str, &'static str>> {
    let text: &'static str = Box::leak(SCRIPTS.concat().into_boxed_str());
    if !text.contains(&format!("\n    '{call}'")) {
        return None;
    }
    let (_, body) = text.split_once(&format!("\nfunction {call} {{\n"))?;
    let Some(parameters) = body.trim_start().strip_prefix("param(") else {
        return Some(BTreeMap::new());
    };
    let (parameters, _) = parameters.split_once(")\n")?;
    let declared = parameters.split(',').map(|parameter| {
        let (kind, name) = parameter.trim().split_once("] $").unwrap();
        (name, kind.strip_prefix('[').unwrap())
    });
    Some(declared.collect())
}

fn marked(vm: &Vm, machine: &str) -> bool {
    let mark = format!("coracle-machine {machine} ");
    vm.name == format!("coracle-new-{machine}")
        || vm
            .notes
            .lines()
            .any(|line| format!("{} ", line.trim()).starts_with(&mark))
}

fn find(vms: &[Vm], machine: &str, id: &str) -> Option<usize> {
    let named = vms.iter().position(|vm| vm.id == id && marked(vm, machine));
    named.or_else(|| vms.iter().position(|vm| marked(vm, machine)))
}

fn is_off(vm: &Vm) -> bool {
    ["Off", "Saved", "OffCritical", "SavedCritical"].contains(&vm.state.as_str())
}

fn facts(vm: &Vm) -> Value {
    json!({"vm": vm.id, "name": vm.name, "state": vm.state, "status": "In Ordnung"})
}

fn host(settings: &Settings, switch: &str) -> Value {
    let mut host = json!({
        "system": "Win32NT", "version": "10.0.22631", "powershell": "5.1.22621.4391", "allowed": true,
        "edition": "Professional", "installation": "Client", "service": "Running", "module": true,
        "moduleVersion": "2.0.0.0", "hypervisor": true,
        "switch": switch.is_empty() || settings.switches.iter().any(|known| known == switch),
    });
    for (name, value) in &settings.host {
        host[name] = value.clone();
    }
    host
}

/// Lists as objects of their elements and their number.
fn old(value: &Value) -> Value {
    match value {
        Value::Array(values) => json!({"value": values, "Count": values.len()}),
        Value::Object(object) => object
            .iter()
            .map(|(name, value)| (name.clone(), old(value)))
            .collect(),
        value => value.clone(),
    }
}
