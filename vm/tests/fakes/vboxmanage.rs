//! A fake: VBoxManage without VirtualBox, for what needs its kernel module.
//!
//! It keeps the machines that it was told of in `vbox.json` beside itself, and answers as VirtualBox does:
//! what `vm/tests/virtualbox_real.rs` compares is word for word what the real one says; what only happens
//! with the kernel module is worded as in its source, whose file is named there, or as people quote it.
//!
//! Files beside it change what it does:
//!
//! ```text
//! calls       is written: the arguments of each call, as a line of JSON
//! version     what `--version` prints, warnings and all
//! hostinfo    what `list hostinfo` prints
//! fail.json   command -> text: the next such call fails with it
//! locked      how many calls that change a machine find it held by another session
//! stuck       if there, machines do not end when they are switched off
//! silent      if there, no call ends by itself
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a fake program of the tests"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The head of a VDI, as `src/VBox/Storage/VDICore.h` has it.
const VDI_SIZE_AT: usize = 368;
const VDI_ID_AT: usize = 392;

type Done = Result<String, String>;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Machine {
    name: String,
    settings: PathBuf,
    state: String,
    values: BTreeMap<String, String>,
    rules: BTreeMap<String, String>,
    controller: bool,
    media: BTreeMap<usize, (PathBuf, String)>,
    console: Option<PathBuf>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Books {
    machines: BTreeMap<String, Machine>,
    /// Disks that no machine has.
    media: Vec<PathBuf>,
    extra: BTreeMap<String, String>,
}

struct Fake {
    home: PathBuf,
    books: Books,
    /// One call at a time: each reads the books and writes them.
    _turn: File,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let home = PathBuf::from(arguments.next().unwrap());
    let home = home.parent().unwrap().to_owned();
    let words: Vec<String> = arguments.collect();
    let mut fake = Fake::open(home);
    let done = fake.call(&words);
    fake.close();
    match done {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn error(text: &str) -> String {
    format!("VBoxManage: error: {text}")
}

fn coded(text: &str, code: &str, component: &str, interface: &str) -> String {
    format!(
        "{}\nVBoxManage: error: Details: code {code}, component {component}, interface {interface}, callee nsISupports",
        error(text)
    )
}

fn not_found(id: &str) -> String {
    coded(
        &format!("Could not find a registered machine with UUID {{{id}}}"),
        "VBOX_E_OBJECT_NOT_FOUND (0x80bb0001)",
        "VirtualBoxWrap",
        "IVirtualBox",
    )
}

impl Fake {
    fn open(home: PathBuf) -> Self {
        let turn = File::create(home.join("turn")).unwrap();
        turn.lock().unwrap();
        let books = std::fs::read(home.join("vbox.json"));
        let books = books.map_or_else(
            |_| Books::default(),
            |bytes| serde_json::from_slice(&bytes).unwrap(),
        );
        Self {
            home,
            books,
            _turn: turn,
        }
    }

    fn close(&self) {
        let bytes = serde_json::to_vec_pretty(&self.books).unwrap();
        std::fs::write(self.home.join("vbox.json"), bytes).unwrap();
    }

    fn given(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.home.join(file)).ok()
    }

    fn call(&mut self, words: &[String]) -> Done {
        self.note(words);
        while self.home.join("silent").exists() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if let Some(text) = self.failure(&words) {
            return Err(text);
        }
        match words[..] {
            ["--version"] => Ok(self.given("version").unwrap_or("7.0.20r163906\n".into())),
            ["list", "hostinfo"] => Ok(self.given("hostinfo").unwrap_or(HOST.into())),
            ["list", "vms"] => Ok(self.list()),
            ["createvm", ref options @ ..] => self.create(options),
            ["registervm", file] => self.register(Path::new(file)),
            ["unregistervm", id] => self.unregister(id),
            ["showvminfo", id, "--machinereadable"] => self.show(id),
            ["modifyvm", id, ref options @ ..] => self.modify(id, options),
            ["storagectl", id, ref options @ ..] => self.controller(id, options),
            ["storageattach", id, ref options @ ..] => self.attach(id, options),
            ["setextradata", id, key, value] => {
                self.machine(id)?;
                self.books
                    .extra
                    .insert(format!("{id} {key}"), value.to_owned());
                Ok(String::new())
            }
            ["createmedium", "disk", ref options @ ..] => self.create_disk(options),
            ["modifymedium", "disk", path, "--resizebyte", size] => self.resize(path, size),
            ["closemedium", "disk" | "dvd", medium] => self.forget_disk(medium),
            ["startvm", id, "--type", "emergencystop"] => self.abort(id),
            ["startvm", id, "--type", "headless"] => self.start(id),
            ["discardstate", id] => self.discard(id),
            ["controlvm", id, "natpf1", "delete", name] => {
                let machine = self.running(id)?;
                let removed = machine.rules.remove(name).map(|_| String::new());
                removed.ok_or_else(|| error("Rule not found"))
            }
            ["controlvm", id, "natpf1", rule] => add_rule(self.running(id)?, rule),
            ["controlvm", id, what] => self.control(id, what),
            _ => Err(error(&format!("Invalid command '{}'", words.join(" ")))),
        }
    }

    fn note(&self, words: &[String]) {
        let path = self.home.join("calls");
        let mut calls = std::fs::read_to_string(&path).unwrap_or_default();
        calls.push_str(&serde_json::to_string(words).unwrap());
        calls.push('\n');
        std::fs::write(path, calls).unwrap();
    }

    /// The failure that was asked for: `fail.json` names a command, or a command and what it does.
    fn failure(&self, words: &[&str]) -> Option<String> {
        let mut failures: BTreeMap<String, String> =
            serde_json::from_str(&self.given("fail.json")?).unwrap();
        let whole = words.join(" ");
        let key = failures.keys().find(|key| {
            let mut parts = key.split(' ');
            parts.next() == words.first().copied() && parts.all(|part| whole.contains(part))
        });
        let text = failures.remove(&key?.clone());
        let bytes = serde_json::to_vec(&failures).unwrap();
        std::fs::write(self.home.join("fail.json"), bytes).unwrap();
        text
    }

    fn machine(&mut self, id: &str) -> Result<&mut Machine, String> {
        self.books.machines.get_mut(id).ok_or_else(|| not_found(id))
    }

    /// A machine to be changed: nobody else has it open.
    fn held(&mut self, id: &str) -> Result<&mut Machine, String> {
        let left: u32 = self
            .given("locked")
            .map_or(0, |text| text.trim().parse().unwrap());
        let machine = self.machine(id)?;
        let is_held = left > 0 || is_online(&machine.state);
        let text = coded(
            &format!(
                "The machine '{}' is already locked for a session (or being unlocked)",
                machine.name
            ),
            "VBOX_E_INVALID_OBJECT_STATE (0x80bb0007)",
            "MachineWrap",
            "IMachine",
        );
        if left > 0 {
            std::fs::write(self.home.join("locked"), (left - 1).to_string()).unwrap();
        }
        if is_held { Err(text) } else { self.machine(id) }
    }

    /// `src/VBox/Frontends/VBoxManage/VBoxManageControlVM.cpp`.
    fn running(&mut self, id: &str) -> Result<&mut Machine, String> {
        let machine = self.machine(id)?;
        if is_online(&machine.state) {
            return Ok(machine);
        }
        Err(error(&format!("Machine '{id}' is not currently running.")))
    }

    fn list(&self) -> String {
        let line = |(id, machine): (&String, &Machine)| {
            let name = match machine.settings.exists() {
                true => &machine.name,
                false => "<inaccessible>",
            };
            format!("\"{name}\" {{{id}}}\n")
        };
        self.books.machines.iter().map(line).collect()
    }

    fn create(&mut self, options: &[&str]) -> Done {
        let named = |name| after(options, name).unwrap();
        let (name, id) = (named("--name"), named("--uuid"));
        let folder = Path::new(named("--basefolder")).join(name);
        let settings = folder.join(format!("{name}.vbox"));
        if settings.exists() {
            return Err(coded(
                &format!(
                    "Machine settings file '{}' already exists",
                    settings.display()
                ),
                "VBOX_E_FILE_ERROR (0x80bb0004)",
                "MachineWrap",
                "IMachine",
            ));
        }
        std::fs::create_dir_all(folder.join("Logs")).unwrap();
        std::fs::write(
            &settings,
            format!("<Machine uuid=\"{{{id}}}\" name=\"{name}\"/>\n"),
        )
        .unwrap();
        self.books
            .machines
            .insert(id.to_owned(), known(name, settings));
        Ok(format!(
            "Virtual machine '{name}' is created and registered.\nUUID: {id}\n"
        ))
    }

    fn register(&mut self, file: &Path) -> Done {
        let text = std::fs::read_to_string(file).unwrap();
        let attribute = |name: &str| {
            let (_, rest) = text.split_once(&format!("{name}=\""))?;
            Some(rest.split('"').next()?.trim_matches(['{', '}']).to_owned())
        };
        let (Some(id), Some(name)) = (attribute("uuid"), attribute("name")) else {
            return Err(error("Document is empty."));
        };
        self.books
            .machines
            .insert(id, known(&name, file.to_owned()));
        Ok(String::new())
    }

    fn unregister(&mut self, id: &str) -> Done {
        let machine = self.machine(id)?;
        if is_online(&machine.state) {
            return Err(coded(
                &format!(
                    "Cannot unregister the machine '{}' while it is locked",
                    machine.name
                ),
                "VBOX_E_INVALID_OBJECT_STATE (0x80bb0007)",
                "MachineWrap",
                "IMachine",
            ));
        }
        self.books.machines.remove(id);
        Ok(String::new())
    }

    fn show(&mut self, id: &str) -> Done {
        let machine = self.machine(id)?;
        let mut lines = Vec::new();
        let mut put = |key: &str, value: &str| {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"");
            lines.push(format!("{key}=\"{value}\"\n"));
        };
        if !machine.settings.exists() {
            return Err(coded(
                "The object functionality is limited",
                "E_ACCESSDENIED (0x80070005)",
                "MachineWrap",
                "IMachine",
            ));
        }
        put("name", &machine.name);
        put("UUID", id);
        put("CfgFile", &machine.settings.display().to_string());
        let folder = machine.settings.parent().unwrap();
        put("LogFldr", &folder.join("Logs").display().to_string());
        for (key, value) in &machine.values {
            put(key, value);
        }
        put("VMState", &machine.state);
        if machine.controller {
            put("storagecontrollername0", "SATA");
        }
        for (port, (path, id)) in &machine.media {
            put(&format!("\"SATA-{port}-0\""), &path.display().to_string());
            put(&format!("\"SATA-ImageUUID-{port}-0\""), id);
        }
        for (n, rule) in machine.rules.values().enumerate() {
            put(&format!("Forwarding({n})"), rule);
        }
        Ok(lines.concat())
    }

    fn modify(&mut self, id: &str, options: &[&str]) -> Done {
        let machine = self.held(id)?;
        if machine.state == "saved" {
            return Err(wrong_state(machine));
        }
        let mut words = options.iter();
        while let Some(&option) = words.next() {
            let mut value = || *words.next().unwrap();
            match option {
                "--natpf1" => match value() {
                    "delete" => drop(machine.rules.remove(value())),
                    rule => drop(add_rule(machine, rule)?),
                },
                "--uart1" => drop((value(), value())),
                "--uartmode1" => {
                    assert_eq!(value(), "file");
                    machine.console = Some(value().into());
                }
                "--name" => machine.name = value().to_owned(),
                option => {
                    let key = option.strip_prefix("--").unwrap().to_owned();
                    machine.values.insert(key, value().to_owned());
                }
            }
        }
        Ok(String::new())
    }

    fn controller(&mut self, id: &str, options: &[&str]) -> Done {
        let machine = self.held(id)?;
        let is_new = options.contains(&"--add");
        if is_new == machine.controller {
            return Err(error("storage controller"));
        }
        machine.controller = true;
        Ok(String::new())
    }

    fn attach(&mut self, id: &str, options: &[&str]) -> Done {
        let named = |name| after(options, name).unwrap();
        let (port, medium) = (named("--port").parse().unwrap(), named("--medium"));
        let is_disk = after(options, "--type") == Some("hdd");
        let machine = self.held(id)?;
        if medium == "none" {
            machine.media.remove(&port);
            return Ok(String::new());
        }
        let path = PathBuf::from(medium);
        let id = match is_disk {
            true => disk_id(&path),
            false => "4a3f2a7e-2a0f-4a6e-9f0c-7b1d3a1a0001".to_owned(),
        };
        machine.media.insert(port, (path, id));
        Ok(String::new())
    }

    fn create_disk(&mut self, options: &[&str]) -> Done {
        let path = PathBuf::from(after(options, "--filename").unwrap());
        let size = after(options, "--sizebyte").unwrap().parse().unwrap();
        if path.exists() {
            return Err(error("VDI: cannot create image (VERR_ALREADY_EXISTS)"));
        }
        write_disk(&path, size, uuid::Uuid::new_v4());
        self.books.media.push(path);
        Ok("Medium created. UUID: x\n".to_owned())
    }

    fn resize(&mut self, path: &str, size: &str) -> Done {
        let mut machines = self.books.machines.values();
        let is_used = machines.any(|machine| {
            let mut media = machine.media.values();
            is_online(&machine.state) && media.any(|(medium, _)| medium == Path::new(path))
        });
        if is_used {
            return Err(coded(
                &format!("Medium '{path}' is locked for writing"),
                "VBOX_E_INVALID_OBJECT_STATE (0x80bb0007)",
                "MediumWrap",
                "IMedium",
            ));
        }
        let id = disk_id(Path::new(path)).parse().unwrap();
        write_disk(Path::new(path), size.parse().unwrap(), id);
        Ok(String::new())
    }

    fn forget_disk(&mut self, medium: &str) -> Done {
        let before = self.books.media.len();
        self.books.media.retain(|path| path != Path::new(medium));
        match self.books.media.len() < before {
            true => Ok(String::new()),
            false => Err(coded(
                &format!("Could not find file for the medium '{medium}' (VERR_FILE_NOT_FOUND)"),
                "VBOX_E_FILE_ERROR (0x80bb0004)",
                "MediumWrap",
                "IMedium",
            )),
        }
    }

    /// What goes wrong is worded as in `src/VBox/Main/src-server/MachineImpl.cpp` and
    /// `src/VBox/Devices/Network/DrvNAT.cpp`.
    fn start(&mut self, id: &str) -> Done {
        let machine = self.held(id)?;
        for rule in machine.rules.values() {
            let fields: Vec<&str> = rule.split(',').collect();
            let host = format!("{}:{}", fields[2], fields[3]);
            if fields[1] == "tcp" && TcpListener::bind(&host).is_err() {
                machine.state = "poweroff".to_owned();
                return Err(error(&format!(
                    "NAT#0: configuration error: failed to set up redirection of {} to {}. Probably a conflict \
                     with existing services or other rules",
                    fields[3], fields[5]
                )));
            }
        }
        let says = if machine.state == "saved" {
            "goes on\n"
        } else {
            "boots\n"
        };
        machine.state = "running".to_owned();
        // RTFILE_O_CREATE_REPLACE in src/VBox/Devices/Serial/DrvRawFile.cpp.
        if let Some(console) = &machine.console {
            std::fs::write(console, says).unwrap();
        }
        Ok(format!(
            "Waiting for VM \"{id}\" to power on...\nVM \"{id}\" has been successfully started.\n"
        ))
    }

    fn abort(&mut self, id: &str) -> Done {
        self.machine(id)?.state = "aborted".to_owned();
        Ok(String::new())
    }

    fn discard(&mut self, id: &str) -> Done {
        let machine = self.held(id)?;
        if machine.state != "saved" {
            // The real one ends as if there were no error.
            let text = "Cannot discard the saved state as the machine is not in the Saved or Aborted-Saved state \
                        (machine state: PoweredOff)";
            let code = "VBOX_E_INVALID_VM_STATE (0x80bb0002)";
            eprintln!("{}", coded(text, code, "SessionMachine", "IMachine"));
            return Ok(String::new());
        }
        machine.state = "poweroff".to_owned();
        Ok(String::new())
    }

    fn control(&mut self, id: &str, what: &str) -> Done {
        let is_stuck = self.home.join("stuck").exists();
        let machine = self.running(id)?;
        let next = match (what, machine.state.as_str()) {
            ("pause", "running") => "paused",
            ("resume", "paused") => "running",
            ("savestate", "running" | "paused") => "saved",
            ("poweroff", state) if is_stuck => state,
            ("poweroff", _) => "poweroff",
            // A guest that listens to its button ends a little later: here, at once.
            ("acpipowerbutton", "running") => "poweroff",
            _ => return Err(wrong_state(machine)),
        };
        machine.state = next.to_owned();
        Ok("0%...10%...20%...30%...40%...50%...60%...70%...80%...90%...100%\n".to_owned())
    }
}

fn known(name: &str, settings: PathBuf) -> Machine {
    Machine {
        name: name.to_owned(),
        settings,
        state: "poweroff".to_owned(),
        ..Machine::default()
    }
}

fn wrong_state(machine: &Machine) -> String {
    coded(
        &format!("Invalid machine state: {}", machine.state),
        "VBOX_E_INVALID_VM_STATE (0x80bb0002)",
        "ConsoleWrap",
        "IConsole",
    )
}

fn is_online(state: &str) -> bool {
    matches!(state, "running" | "paused" | "gurumeditation")
}

fn add_rule(machine: &mut Machine, rule: &str) -> Done {
    let name = rule.split(',').next().unwrap().to_owned();
    if rule.split(',').count() != 6 || machine.rules.contains_key(&name) {
        return Err(coded(
            "A NAT rule of this name already exists",
            "E_INVALIDARG (0x80070057)",
            "NATEngineWrap",
            "INATEngine",
        ));
    }
    machine.rules.insert(name, rule.to_owned());
    Ok(String::new())
}

fn after<'a>(options: &[&'a str], name: &str) -> Option<&'a str> {
    let at = options.iter().position(|option| *option == name)?;
    options.get(at + 1).copied()
}

fn write_disk(path: &Path, size: u64, id: uuid::Uuid) {
    let mut bytes = vec![0; 512];
    bytes[64..68].copy_from_slice(&0xbeda_107f_u32.to_le_bytes());
    bytes[68..72].copy_from_slice(&0x0001_0001_u32.to_le_bytes());
    bytes[VDI_SIZE_AT..][..8].copy_from_slice(&size.to_le_bytes());
    bytes[VDI_ID_AT..][..16].copy_from_slice(&id.to_bytes_le());
    std::fs::write(path, bytes).unwrap();
}

fn disk_id(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    let id: [u8; 16] = bytes[VDI_ID_AT..][..16].try_into().unwrap();
    uuid::Uuid::from_bytes_le(id).to_string()
}

/// The beginning of what the real one says on a host that can run machines.
const HOST: &str = "Host Information:\n\nProcessor online count: 2\nProcessor count: 2\n\
    Processor supports HW virtualization: yes\nProcessor supports PAE: yes\nMemory size: 8192 MByte\n";
