//! Drivers whose hypervisors cannot run here, over programs that answer as those do (`vm/tests/fakes`). A
//! fake boots nothing: a start comes as far as the guest's agent, for which it waits in vain.

use coracle_tests::{Coracle, build, iso_image, repository, write};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// A start that waits for the agent no longer than this.
const START: &str = "start --wait-timeout 8s";
/// What it says then.
const NO_ANSWER: (i32, &str) = (82, "CORACLE_GUEST_TIMEOUT");

/// A hypervisor that is none.
pub(super) struct Fake {
    driver: &'static str,
    coracle: Coracle,
    /// The file that it keeps its machines in.
    books: PathBuf,
    words: Words,
}

/// What it calls a machine's states.
struct Words {
    running: &'static str,
    off: &'static str,
    /// Off, because its process was killed.
    lost: &'static str,
}

impl Fake {
    /// VirtualBox's command, in a folder of its own.
    pub(super) fn virtualbox() -> Self {
        let words = Words {
            running: "running",
            off: "poweroff",
            lost: "aborted",
        };
        let variable = |program: PathBuf| {
            let folder = program.parent().unwrap();
            ("VBOX_MSI_INSTALL_PATH", folder.display().to_string())
        };
        let program = ("fake-vboxmanage", "VBoxManage");
        Self::new("virtualbox", program, variable, "vbox.json", words)
    }

    /// PowerShell with Hyper-V's calls.
    pub(super) fn hyperv() -> Self {
        let words = Words {
            running: "Running",
            off: "Off",
            lost: "Off",
        };
        let variable = |program: PathBuf| ("CORACLE_POWERSHELL", program.display().to_string());
        let program = ("fake-powershell", "powershell");
        Self::new("hyperv", program, variable, "vms.json", words)
    }

    fn new(
        driver: &'static str,
        (fake, name): (&str, &str),
        variable: impl FnOnce(PathBuf) -> (&'static str, String),
        books: &str,
        words: Words,
    ) -> Self {
        let arguments = ["-p", "coracle-vm", "--bin", fake];
        let built = build(fake, &repository(), &arguments, fake);
        let mut coracle = Coracle::new();
        iso_image(&coracle.home());
        let folder = coracle.folder().join(driver);
        fs::create_dir(&folder).unwrap();
        symlink(built, folder.join(name)).unwrap();
        coracle.set("CORACLE_DRIVER", driver);
        let (name, value) = variable(folder.join(name));
        coracle.set(name, value);
        Self {
            driver,
            coracle,
            books: folder.join(books),
            words,
        }
    }

    fn read(&self) -> Value {
        let bytes = fs::read(&self.books).unwrap_or_else(|_| b"[]".to_vec());
        serde_json::from_slice(&bytes).unwrap()
    }

    /// Its machines in what it keeps: a list, or one by identifiers.
    fn list(books: &mut Value) -> Vec<(String, &mut Value)> {
        let books = match books.get("machines").is_some() {
            true => &mut books["machines"],
            false => books,
        };
        match books {
            Value::Object(machines) => machines
                .iter_mut()
                .map(|(id, machine)| (id.clone(), &mut machine["state"]))
                .collect(),
            Value::Array(machines) => machines
                .iter_mut()
                .map(|machine| (machine["id"].to_string(), &mut machine["state"]))
                .collect(),
            other => panic!("{other}"),
        }
    }

    /// Identifier and state of each machine.
    fn machines(&self) -> Vec<(String, String)> {
        let mut books = self.read();
        let machines = Self::list(&mut books).into_iter();
        machines
            .map(|(id, state)| (id, state.as_str().unwrap().to_owned()))
            .collect()
    }

    /// The identifier of the only one, which has to be in this state.
    #[track_caller]
    fn is(&self, state: &str) -> String {
        let machines = self.machines();
        assert_eq!(machines.len(), 1, "{machines:?}");
        assert_eq!(machines[0].1, state);
        machines[0].0.clone()
    }

    /// As where the process of its machine was killed.
    fn lose(&self) {
        let mut books = self.read();
        for (_, state) in Self::list(&mut books) {
            *state = self.words.lost.into();
        }
        write(&self.books, books.to_string());
    }

    /// A start that waits in vain; gives the identifier of the machine that runs then.
    #[track_caller]
    fn start(&self) -> String {
        let start = self.coracle.run(START).done();
        start.fails(NO_ANSWER.0, NO_ANSWER.1);
        self.is(self.words.running)
    }

    /// What the program says of it.
    #[track_caller]
    fn host_is(&self, state: &str) {
        let status = self.coracle.run("status").done();
        assert!(status.code().is_some_and(|code| code < 8), "{status}");
        status.says(&format!("host: {state}"));
        let rows = self.coracle.run("list -o json").ok().json();
        assert_eq!(rows[0]["Driver"], self.driver, "{rows}");
    }
}

/// A cluster is made, found, stopped, recovered and deleted.
pub(super) fn life(mut fake: Fake) {
    let coracle = &fake.coracle;
    let can = coracle.abilities();
    assert_eq!(can.driver, fake.driver);

    // Cut off before its machine is there, and when that runs.
    coracle.run(START).killed_at("boot");
    assert_eq!(fake.machines(), []);
    fake.host_is("Stopped");
    coracle.run(START).killed_at("agent");
    let id = fake.is(fake.words.running);
    fake.host_is("Running");

    // The next one goes on with the same.
    assert_eq!(fake.start(), id);
    fake.host_is("Running");
    assert!(can.can_pause && !can.can_copy, "{can:?}");
    coracle.run("pause").ok();
    fake.host_is("Paused");
    let clone = coracle.run("clone other").done();
    clone
        .fails(56, "CORACLE_DRIVER_UNSUPPORTED")
        .says(&format!("the driver {} cannot copy", fake.driver));

    // Somebody kills its process.
    fake.lose();
    fake.host_is("Stopped");
    assert_eq!(fake.start(), id);

    // Nobody inside ends it.
    let stop = coracle.run("stop").ok();
    stop.says("switched off").says("coracle stopped after");
    assert_eq!(fake.is(fake.words.off), id);
    fake.host_is("Stopped");
    coracle.no_process_is_left();

    // Deleted while it runs.
    assert_eq!(fake.start(), id);
    coracle.run("delete").ok();
    assert_eq!(fake.machines(), []);
    let disks = fake.read().get("media").cloned().unwrap_or(json!([]));
    assert_eq!(disks, json!([]), "disks that it still knows");
    coracle.nothing_is_left();
    let violation = fs::read_to_string(fake.books.with_file_name("violation"));
    assert_eq!(
        violation.unwrap_or_default(),
        "",
        "what it was never to be asked"
    );
    fake.coracle.delete_all();
}
