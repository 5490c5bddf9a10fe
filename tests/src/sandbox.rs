//! [`Coracle`]: the program in a sandbox, which proves at its end that nothing is left.
//!
//! ```text
//! /tmp/coracle-test-XXXXXX/
//!   home/            CORACLE_HOME; images -> the shared image store
//!     templates/     with a template: hard links to the shared one
//!   user/            HOME
//!   work/            the working folder of every command
//! ```

use crate::{Account, Process, Run, SmallDisk, process, repository, template, until};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;

/// How long processes may take to vanish after a deletion.
const VANISHING: Duration = Duration::from_secs(20);

/// The program under test.
pub fn binary() -> PathBuf {
    if let Some(given) = std::env::var_os("CORACLE_BIN") {
        return std::path::absolute(given).expect("CORACLE_BIN is a path");
    }
    let target = target();
    let built = ["release/coracle", "debug/coracle"].map(|name| target.join(name));
    let found = built.iter().find(|path| path.is_file());
    found
        .unwrap_or_else(|| panic!("build the program first: none of {built:?} is there"))
        .clone()
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// A folder that is kept between runs, for what takes long to make.
#[track_caller]
pub fn kept_folder(name: &str) -> PathBuf {
    let folder = std::path::absolute(target().join("tmp").join(name)).expect("it has a path");
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    folder
}

/// The state folder whose image and templates the sandboxes begin with.
pub fn shared_home() -> PathBuf {
    std::env::var_os("CORACLE_TEST_HOME").map_or_else(|| target().join("test-home"), PathBuf::from)
}

/// The program with its own state, home folder and kubeconfig.
#[derive(Debug)]
pub struct Coracle {
    /// What its commands run.
    program: PathBuf,
    /// Under the state folder, where it has one of its own: unmounted before the folder is removed.
    disk: Option<SmallDisk>,
    folder: TempDir,
    variables: Vec<(String, String)>,
    account: Option<Account>,
    /// What was taken from the shared state folder: at the end it has to be as it was.
    shared: Option<BTreeMap<PathBuf, (u64, SystemTime)>>,
    /// Whether everything was deleted and checked already.
    finished: bool,
    _turn: Option<File>,
}

impl Coracle {
    /// A sandbox without an image.
    pub fn new() -> Self {
        Self::make(None, None)
    }

    /// A sandbox with the built image, for real machines. Waits for its turn: two machines on two
    /// processors make each other slow.
    pub fn with_machine() -> Self {
        let coracle = Self::make(None, Some(turn()));
        coracle.take_images();
        coracle
    }

    /// As [`Self::with_machine`], where clusters with the usual settings begin as clones of one that
    /// all sandboxes share: for whatever is not about a cold start.
    pub fn with_template() -> Self {
        let mut coracle = Self::with_machine();
        coracle.take_template();
        coracle
    }

    /// As [`Self::with_template`], with a state folder on a file system of its own, and that. None,
    /// with the reason printed, where this process is not root.
    pub fn with_small_disk() -> Option<Self> {
        let mut coracle = Self::make(None, Some(turn()));
        coracle.disk = Some(SmallDisk::mount(&coracle.home())?);
        coracle.take_images();
        coracle.take_template();
        Some(coracle)
    }

    fn take_images(&self) {
        std::os::unix::fs::symlink(images(), self.home().join("images"))
            .expect("the sandbox is ours");
    }

    /// While it is this sandbox's turn: only one makes the template.
    fn take_template(&mut self) {
        let work = tempfile::tempdir_in(self.folder()).expect("the sandbox is ours");
        template::make(&binary(), &shared_home(), work.path());
        template::link(&shared_home(), &self.home());
        self.shared = Some(template::shared(&shared_home()));
    }

    /// The file system of a sandbox that was made with one.
    #[track_caller]
    pub fn disk(&self) -> &SmallDisk {
        self.disk.as_ref().expect("made with a small disk")
    }

    /// As [`Self::with_machine`], run by an ordinary user, who gets a copy of the image.
    pub fn with_machine_as(account: Account) -> Self {
        let turn = turn();
        let coracle = Self::make(Some(account), Some(turn));
        let copied = coracle.home().join("images");
        copy_folder(&images(), &copied);
        coracle.give_to_account(&coracle.home());
        coracle
    }

    /// A sandbox without an image, run by an ordinary user.
    pub fn as_user(account: Account) -> Self {
        Self::make(Some(account), None)
    }

    fn make(account: Option<Account>, turn: Option<File>) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("coracle-test-")
            .tempdir()
            .expect("a temporary folder");
        let coracle = Self {
            program: binary(),
            disk: None,
            folder,
            variables: Vec::new(),
            account,
            shared: None,
            finished: false,
            _turn: turn,
        };
        for folder in [coracle.home(), coracle.user_home(), coracle.work()] {
            fs::create_dir(&folder).expect("the sandbox is ours");
        }
        if coracle.account.is_some() {
            // The checkout may be in a folder that an ordinary user may not enter.
            fs::copy(binary(), coracle.folder().join("coracle")).expect("the program is built");
        }
        coracle.give_to_account(coracle.folder());
        coracle
    }

    /// As it is, with another program than the one under test: one that a test has built.
    #[must_use]
    pub fn with_program(mut self, program: impl Into<PathBuf>) -> Self {
        assert!(self.account.is_none(), "the user has a copy of another");
        self.program = program.into();
        self
    }

    /// The program that its commands run, where the user who runs it can reach it.
    pub fn binary(&self) -> PathBuf {
        match self.account {
            Some(_) => self.folder().join("coracle"),
            None => self.program.clone(),
        }
    }

    /// Gives a path to the user who runs the commands, where there is one.
    pub fn give_to_account(&self, path: &Path) {
        if let Some(account) = &self.account {
            account.own(path);
        }
    }

    /// The sandbox.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The state folder.
    pub fn home(&self) -> PathBuf {
        self.folder().join("home")
    }

    /// The user's home folder.
    pub fn user_home(&self) -> PathBuf {
        self.folder().join("user")
    }

    /// Where commands run.
    pub fn work(&self) -> PathBuf {
        self.folder().join("work")
    }

    /// The default kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.user_home().join(".kube/config")
    }

    /// A machine's folder.
    pub fn machine(&self, name: &str) -> PathBuf {
        self.home().join("machines").join(name)
    }

    /// Sets a variable for every later command.
    pub fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        let value = value
            .as_ref()
            .to_str()
            .expect("variables of the tests are text")
            .to_owned();
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value));
    }

    /// A variable that was set for every command.
    pub fn variable(&self, name: &str) -> Option<&str> {
        let mut variables = self.variables.iter();
        let found = variables.find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The folders of all templates.
    pub fn templates(&self) -> Vec<PathBuf> {
        template::folders(&self.home().join("templates"))
    }

    /// Any program in the sandbox's environment.
    pub fn program(&self, program: impl Into<PathBuf>) -> Run {
        let mut run = Run::new(program)
            .env("CORACLE_HOME", self.home())
            .env("HOME", self.user_home())
            .env("TERM", "dumb")
            // Below the limit of a command, so that a start that hangs says where.
            .env("CORACLE_WAIT_TIMEOUT", "13m")
            .folder(self.work());
        if let Some(account) = &self.account {
            run = run.account(account).env("USER", account.name());
        }
        for name in ["CORACLE_LOG", "LANG", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                run = run.env(name, value);
            }
        }
        run.envs(self.variables.iter().map(|(name, value)| (name, value)))
    }

    /// `coracle ARGUMENTS`.
    pub fn coracle<T: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = T>) -> Run {
        self.program(self.binary()).args(arguments)
    }

    /// `coracle` with arguments written as a shell would take them, without quotes.
    pub fn run(&self, arguments: &str) -> Run {
        self.coracle(arguments.split_whitespace())
    }

    /// `coracle kubectl -- ARGUMENTS`, to be run.
    pub fn kubectl_run<T: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = T>) -> Run {
        self.coracle(["kubectl", "--"]).args(arguments)
    }

    /// `coracle kubectl -- ARGUMENTS`, run to a good end; gives its output.
    #[track_caller]
    pub fn kubectl(&self, arguments: &str) -> String {
        self.kubectl_run(arguments.split_whitespace())
            .ok()
            .text()
            .to_owned()
    }

    /// Applies manifests.
    #[track_caller]
    pub fn apply(&self, manifests: &str) {
        self.kubectl_run(["apply", "-f", "-"]).stdin(manifests).ok();
    }

    /// The kubectl of the cluster's own version, as the image has it.
    #[track_caller]
    pub fn own_kubectl(&self) -> PathBuf {
        let images = self.home().join("images");
        let digest = fs::read_to_string(images.join("current")).expect("an image is chosen");
        let folder = images.join(digest.trim().replace(':', "-"));
        let entries =
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut paths = entries.flatten().map(|entry| entry.path());
        let is_kubectl = |path: &PathBuf| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("kubectl"))
        };
        paths
            .find(is_kubectl)
            .unwrap_or_else(|| panic!("no kubectl in {}", folder.display()))
    }

    /// What a command inside the machine prints.
    #[track_caller]
    pub fn inside(&self, command: &str) -> String {
        self.coracle(["ssh", "--", command]).ok().text().to_owned()
    }

    /// Which boot of the machine's kernel this is.
    #[track_caller]
    pub fn boot_id(&self) -> String {
        self.inside("cat /proc/sys/kernel/random/boot_id")
    }

    /// The names of all machines there are.
    #[track_caller]
    pub fn machines(&self) -> Vec<String> {
        let rows = self.run("list -o json").ok().json();
        let name =
            |row: &serde_json::Value| row["Name"].as_str().expect("a row has a name").to_owned();
        rows.as_array().expect("a list").iter().map(name).collect()
    }

    /// The processes of this sandbox.
    pub fn processes(&self) -> Vec<Process> {
        process::processes_naming(self.folder())
    }

    /// The hypervisor of a machine.
    #[track_caller]
    pub fn hypervisor(&self, name: &str) -> Process {
        let folder = self.machine(name).display().to_string();
        let processes = self.processes();
        let mut found = processes
            .iter()
            .filter(|one| one.command.contains("qemu-system") && one.command.contains(&folder));
        let first = found
            .next()
            .unwrap_or_else(|| panic!("no hypervisor of {name} among {processes:#?}"));
        assert!(
            found.next().is_none(),
            "two hypervisors of {name}: {processes:#?}"
        );
        first.clone()
    }

    /// Fails the test unless all processes end: the host agent ends a moment after its machine.
    #[track_caller]
    pub fn no_process_is_left(&self) {
        let what = "processes of machines that do not run end";
        let gone =
            std::panic::catch_unwind(|| until(what, VANISHING, || self.processes().is_empty()));
        assert!(gone.is_ok(), "{what}: {:#?}", self.processes());
    }

    /// Fails the test unless no process and no file of any machine is left.
    #[track_caller]
    pub fn nothing_is_left(&self) {
        self.no_process_is_left();
        let mut left: Vec<PathBuf> = files_below(&self.home().join("machines"));
        // A lock is no machine's file while there is no machine; `delete` looks at it.
        left.retain(|file| !file.starts_with(self.home().join("machines/.locks")));
        left.extend(files_below(&self.home().join("run")));
        assert!(
            left.is_empty(),
            "files of deleted machines are left: {left:#?}"
        );
    }

    /// Deletes one machine and fails the test unless nothing with its name is left.
    #[track_caller]
    pub fn delete(&self, name: &str) {
        let pid = self
            .processes()
            .iter()
            .find(|one| one.command.contains(&format!("machines/{name}/")))
            .map(|one| one.pid);
        self.run(&format!("delete -p {name}")).ok();
        assert!(
            pid.is_none_or(|pid| !process::alive(pid)),
            "the hypervisor of {name} outlived the deletion"
        );
        let mut left = files_below(&self.home().join("machines"));
        left.extend(files_below(&self.home().join("run")));
        left.retain(|file| {
            file.strip_prefix(self.home())
                .is_ok_and(|path| path.to_string_lossy().contains(name))
        });
        assert!(left.is_empty(), "files of {name} are left: {left:#?}");
    }

    /// Deletes everything and fails the test unless nothing is left.
    #[track_caller]
    pub fn delete_all(&mut self) {
        self.run("delete --all").ok();
        self.nothing_is_left();
        if let Some(before) = &self.shared {
            let now = template::shared(&shared_home());
            assert_eq!(now, *before, "what all sandboxes share was changed");
        }
        self.finished = true;
    }

    /// What the machines said last, for a failed test.
    fn last_words(&self) {
        for file in files_below(&self.home().join("machines")) {
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if ["serial.log", "qemu.log", "host-agent.log"].contains(&name.as_str()) {
                let text = fs::read(&file).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                let lines: Vec<_> = text.lines().collect();
                eprintln!("--- the end of {}", file.display());
                for line in &lines[lines.len().saturating_sub(25)..] {
                    eprintln!("{line}");
                }
            }
        }
    }
}

impl Default for Coracle {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Coracle {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        if failing {
            self.last_words();
        }
        if !self.finished {
            let deleted =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.delete_all()));
            // What was started is ended, by number, however the test went.
            for process in self.processes() {
                process::kill_pid(process.pid);
            }
            if deleted.is_err() && !failing {
                self.keep_if_asked();
                panic!("the sandbox could not be emptied");
            }
        }
        self.keep_if_asked();
    }
}

impl Coracle {
    /// `CORACLE_TEST_KEEP=1` leaves the sandbox for a look.
    fn keep_if_asked(&mut self) {
        if std::env::var_os("CORACLE_TEST_KEEP").is_some() {
            self.folder.disable_cleanup(true);
            eprintln!("kept: {}", self.folder().display());
        }
    }
}

/// The shared image store; fails the test when there is none.
#[track_caller]
fn images() -> PathBuf {
    let images = shared_home().join("images");
    assert!(
        images.join("current").is_file(),
        "there is no VM image in {}: run `CORACLE_HOME={} coracle image-build`",
        images.display(),
        shared_home().display()
    );
    fs::canonicalize(images).expect("it is there")
}

/// Digest of the built image, and the cache of parts that it was made from.
#[track_caller]
pub fn built_image() -> (String, PathBuf) {
    let digest = fs::read_to_string(images().join("current")).expect("it was there");
    let cache = std::env::var_os("CORACLE_CACHE")
        .map_or_else(|| shared_home().join("cache"), PathBuf::from);
    (digest.trim().to_owned(), cache)
}

/// The right to run machines; held until the file is closed.
fn turn() -> File {
    let folder = shared_home();
    fs::create_dir_all(&folder).expect("the shared state folder can be made");
    let path = folder.join(".one-machine-at-a-time");
    let file = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.lock().expect("a lock on a file of ours");
    file
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the sandbox is ours");
    for entry in fs::read_dir(from).expect("it is there") {
        let entry = entry.expect("it can be listed");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            // Images only: what is being built has a name with a dot in front.
            if !entry.file_name().to_string_lossy().starts_with('.') {
                copy_folder(&entry.path(), &target);
            }
        } else {
            fs::copy(entry.path(), target).expect("there is space for a copy of the image");
        }
    }
}

/// All files and links below a folder, at any depth; none when it is not there.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .flat_map(|path| {
            let is_folder = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
            if is_folder {
                files_below(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}
