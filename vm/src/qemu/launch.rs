//! From a specification to a QEMU that answers.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use super::command_line::{self, Invocation, Memory, arguments};
#[cfg(target_os = "linux")]
use super::freeze::MEMORY_NAME;
use super::{GREETING_LIMIT, clear, failure, probe};
use crate::driver::{DriverError, DriverKind, Origin, RunningProcess};
use crate::log_file;
use crate::program::{self, ProgramError, Programs};
use crate::qmp::{
    MigrateIncoming, MigrateSetCapabilities, QmpClient, QmpEndpoint, QueryStatus,
    migration_capability,
};
use crate::size::Size;
use crate::spec::{Boot, Disk, DiskFormat, MachineSpec};
use crate::store::{MachineDir, atomic};

/// How long QEMU may take from its start to its monitor's greeting, on a busy host.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long the disk tool may take.
const DISK_LIMIT: Duration = Duration::from_secs(60);
/// The first pause between two attempts to connect; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// How many lines of QEMU's log an error carries.
const LOG_LINES: usize = 12;

/// Makes the disks that are to be created and are not there.
pub(super) async fn create_disks(
    programs: &Programs,
    dir: &MachineDir,
    spec: &MachineSpec,
) -> Result<(), DriverError> {
    spec.check()?;
    for disk in &spec.disks {
        let Some(size) = disk.create.filter(|_| !disk.path.exists()) else {
            continue;
        };
        // Made beside its place and then moved: a disk that is there is whole.
        let mut unfinished = disk.path.clone().into_os_string();
        unfinished.push(".creating");
        let unfinished = Path::new(&unfinished);
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DriverError::NoSpace {
                detail: format!("{}: {source}", disk.path.display()),
            },
            _ => DriverError::Io {
                what: "create",
                path: disk.path.clone(),
                source,
            },
        };
        atomic::remove(unfinished).map_err(failed)?;
        create_disk(programs, disk, unfinished, size).await?;
        let file = File::open(unfinished).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(unfinished, &disk.path).map_err(failed)?;
        atomic::sync_dir(dir.path()).map_err(failed)?;
    }
    Ok(())
}

/// Makes one disk, thin, for its owner only.
async fn create_disk(
    programs: &Programs,
    disk: &Disk,
    path: &Path,
    size: Size,
) -> Result<(), DriverError> {
    let failed = |source| DriverError::Io {
        what: "create",
        path: disk.path.clone(),
        source,
    };
    let file = log_file::create(path).map_err(failed)?;
    if disk.format == DiskFormat::Raw {
        return file.set_len(size.bytes()).map_err(failed);
    }
    drop(file);
    let tool = probe::qemu_img(programs)?;
    let words = ["create", "-q", "-f", disk.format.as_str()].map(OsString::from);
    let mut words = words.to_vec();
    if let Some(base) = &disk.base {
        // A frozen disk was a machine's own, and those have this format.
        words.extend(["-F", DiskFormat::Qcow2.as_str(), "-b"].map(OsString::from));
        words.push(base.as_os_str().to_owned());
    }
    words.extend([
        path.as_os_str().to_owned(),
        OsString::from(size.bytes().to_string()),
    ]);
    match program::run(&tool, &words, DISK_LIMIT).await {
        Ok(_) => Ok(()),
        Err(ProgramError::Failed { stderr, .. }) if stderr.contains("No space left") => {
            Err(DriverError::NoSpace { detail: stderr })
        }
        Err(error) => Err(error.into()),
    }
}

/// Starts QEMU for a machine that is off, and waits for its monitor; with a template, until the guest
/// runs.
pub(super) async fn launch(
    programs: &Programs,
    dir: &MachineDir,
    spec: &MachineSpec,
    origin: &Origin,
) -> Result<RunningProcess, DriverError> {
    check(spec)?;
    let endpoint = dir.qmp()?;
    let qemu = probe::Emulator::examine(programs, spec.architecture).await?;
    let verdict = qemu.verdict(spec.accelerator).await?;
    atomic::create_private_dirs(dir.runtime_dir()).map_err(|source| DriverError::Io {
        what: "create",
        path: dir.runtime_dir().to_owned(),
        source,
    })?;
    clear(dir)?;
    let inherited = Inherited::open(origin, spec)?;
    let arguments = arguments(&Invocation {
        spec,
        accelerator: verdict.accelerator,
        memory: match origin {
            Origin::Boot => Memory::Anonymous,
            Origin::BootToFreeze => Memory::File {
                path: Path::new(INHERITED_PATH),
                share: true,
            },
            Origin::Template(files) => Memory::File {
                path: &files.ram,
                share: false,
            },
        },
        monitor: &endpoint,
        pid_file: &dir.qemu_pid(),
        sandbox: qemu.sandbox,
        incoming: matches!(origin, Origin::Template(_)),
    });
    tracing::debug!(command = %program::describe(&qemu.program, &arguments), "starting QEMU");
    let mut child = spawn(&qemu.program, &arguments, dir, spec, &inherited)?;
    let mut answered = answer(&mut child, &endpoint).await;
    if let (Answer::Greeted, Origin::Template(_)) = (&answered, origin) {
        answered = restored(&mut child, &endpoint).await;
    }
    match answered {
        Answer::Greeted => {}
        Answer::Ended(status) => {
            let error = explain(&qemu.program, &arguments, dir, spec, &status);
            return Err(match (error, origin) {
                (
                    DriverError::LaunchFailed {
                        status, last_lines, ..
                    },
                    Origin::Template(_),
                ) => DriverError::RestoreFailed { status, last_lines },
                (error, _) => error,
            });
        }
        Answer::Silent => {
            let failed = |source| DriverError::Io {
                what: "end the process of",
                path: dir.qemu_pid(),
                source,
            };
            child.kill().await.map_err(failed)?;
            clear(dir)?;
            return Err(DriverError::TimedOut {
                what: "answer",
                limit: START_LIMIT,
            });
        }
    }
    let pid = child.id().ok_or(DriverError::NotRunning)?;
    Ok(RunningProcess {
        pid,
        verdict,
        child,
    })
}

/// Checks what only this driver cannot do, and that every file is there.
fn check(spec: &MachineSpec) -> Result<(), DriverError> {
    spec.check()?;
    let unable = |reason: String| DriverError::Unable {
        kind: DriverKind::Qemu,
        reason,
    };
    if let Some(forward) = spec
        .network
        .forwards
        .iter()
        .find(|forward| forward.host.is_ipv6())
    {
        return Err(unable(format!(
            "its network forwards only IPv4 addresses, not {}",
            forward.host
        )));
    }
    if spec.disks.len() > command_line::MOST_DISKS {
        return Err(unable(format!(
            "it has {} disks, and {} are possible",
            spec.disks.len(),
            command_line::MOST_DISKS
        )));
    }
    let mut files: Vec<&Path> = spec.disks.iter().map(|disk| disk.path.as_path()).collect();
    files.extend(spec.disks.iter().filter_map(|disk| disk.base.as_deref()));
    if let Boot::DirectKernel { kernel, initrd, .. } = &spec.boot {
        files.extend([kernel.as_path(), initrd.as_path()]);
    }
    match files.into_iter().find(|path| !path.is_file()) {
        Some(path) => Err(DriverError::MissingFile {
            path: path.to_owned(),
        }),
        None => Ok(()),
    }
}

/// Starts the process, with new logs, away from the caller's terminal.
fn spawn(
    program: &Path,
    arguments: &[OsString],
    dir: &MachineDir,
    spec: &MachineSpec,
    inherited: &Inherited,
) -> Result<Child, DriverError> {
    let log = dir.qemu_log();
    let failed = |source| DriverError::Io {
        what: "write",
        path: log.clone(),
        source,
    };
    for path in [&log, &spec.console] {
        log_file::rotate(path).map_err(failed)?;
    }
    // QEMU would make the console's file readable for others.
    log_file::create(&spec.console).map_err(failed)?;
    let output = log_file::create(&log).map_err(failed)?;
    let errors = output.try_clone().map_err(failed)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors);
    detach(&mut command, inherited);
    command.spawn().map_err(|source| {
        DriverError::Program(ProgramError::Start {
            command: program::describe(program, arguments),
            source,
        })
    })
}

/// The number under which QEMU inherits the one file that it is handed open: one that this process,
/// which has few files open, does not use itself.
const INHERITED: i32 = 200;
/// The same as a path that QEMU can open.
const INHERITED_PATH: &str = "/proc/self/fd/200";

/// The file that QEMU is handed open: the memory to be frozen later, or the devices to restore.
#[cfg_attr(
    not(unix),
    allow(dead_code, reason = "only Unix processes inherit descriptors")
)]
struct Inherited(Option<File>);

impl Inherited {
    fn open(origin: &Origin, spec: &MachineSpec) -> Result<Self, DriverError> {
        match origin {
            Origin::Boot => Ok(Self(None)),
            Origin::BootToFreeze => memory_file(spec.memory).map(|file| Self(Some(file))),
            Origin::Template(files) => {
                let failed = |source| DriverError::Io {
                    what: "read",
                    path: files.devices.clone(),
                    source,
                };
                File::open(&files.devices)
                    .map(|file| Self(Some(file)))
                    .map_err(failed)
            }
        }
    }
}

/// Memory that has a file descriptor and no place on any disk.
#[cfg(target_os = "linux")]
fn memory_file(size: Size) -> Result<File, DriverError> {
    use rustix::fs::{MemfdFlags, memfd_create};
    let made = memfd_create(MEMORY_NAME, MemfdFlags::CLOEXEC).map_err(io::Error::from);
    let made = made.map(File::from).and_then(|file| {
        file.set_len(size.bytes())?;
        Ok(file)
    });
    made.map_err(|source| DriverError::Io {
        what: "make",
        path: MEMORY_NAME.into(),
        source,
    })
}

#[cfg(not(target_os = "linux"))]
fn memory_file(_size: Size) -> Result<File, DriverError> {
    Err(super::cannot_clone())
}

/// Gives the process a session of its own, which neither Ctrl-C nor a closed terminal reaches, and the
/// file that it inherits.
#[cfg(unix)]
fn detach(command: &mut Command, inherited: &Inherited) {
    use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
    let handed = inherited.0.as_ref().map(|file| file.as_raw_fd());
    let prepare = move || {
        rustix::process::setsid()?;
        if let Some(number) = handed {
            // SAFETY: the caller keeps the file open until the process is spawned.
            let file = unsafe { BorrowedFd::borrow_raw(number) };
            // SAFETY: in the new process nobody else owns this number; it is never closed.
            let mut target =
                std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(INHERITED) });
            if number == INHERITED {
                // Only the flag that closes it at exec has to go.
                rustix::io::fcntl_setfd(file, rustix::io::FdFlags::empty())?;
            } else {
                rustix::io::dup2(file, &mut target)?;
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec only system calls run that allocate nothing and take no lock.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Gives the process no console and a group of its own: Ctrl-C does not reach it.
#[cfg(windows)]
fn detach(command: &mut Command, _inherited: &Inherited) {
    /// Process creation flags of the Windows API.
    const DETACHED_PROCESS: u32 = 0x0000_0008;
    const CREATE_NEW_PROCESS_GROUP: u32 = 0x0000_0200;
    command.creation_flags(DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP);
}

/// How a new process turned out.
enum Answer {
    Greeted,
    Ended(io::Result<ExitStatus>),
    Silent,
}

/// Waits for whichever comes first: the monitor's greeting, the process's end, or the limit.
async fn answer(child: &mut Child, endpoint: &QmpEndpoint) -> Answer {
    let greeting = async {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        while begun.elapsed() < START_LIMIT {
            if QmpClient::connect(endpoint, GREETING_LIMIT).await.is_ok() {
                return Answer::Greeted;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Answer::Silent
    };
    tokio::select! {
        status = child.wait() => Answer::Ended(status),
        answer = greeting => answer,
    }
}

/// Restores the devices from the inherited file, and waits until the guest goes on.
async fn restored(child: &mut Child, endpoint: &QmpEndpoint) -> Answer {
    let running = async {
        let begun = Instant::now();
        let Ok(mut monitor) = QmpClient::connect(endpoint, GREETING_LIMIT).await else {
            return std::future::pending().await;
        };
        // The same as when the state was saved; the memory is there already.
        let capabilities =
            MigrateSetCapabilities::of(&[(migration_capability::IGNORE_SHARED, true)]);
        let uri = format!("fd:{INHERITED}");
        if monitor.execute(capabilities).await.is_err()
            || monitor.execute(MigrateIncoming { uri }).await.is_err()
        {
            return Answer::Silent;
        }
        while begun.elapsed() < START_LIMIT {
            match monitor.execute(QueryStatus {}).await {
                Ok(answer) if answer.status == "inmigrate" => {
                    tokio::time::sleep(FIRST_PAUSE).await;
                }
                // It was frozen while it was paused, and so it is.
                Ok(_) if monitor.execute(qapi::qmp::cont {}).await.is_ok() => {
                    return Answer::Greeted;
                }
                Ok(_) => return Answer::Silent,
                // It is about to end, and how is the better answer.
                Err(_) => return std::future::pending().await,
            }
        }
        Answer::Silent
    };
    tokio::select! {
        status = child.wait() => Answer::Ended(status),
        answer = running => answer,
        () = tokio::time::sleep(START_LIMIT) => Answer::Silent,
    }
}

/// Turns an early end into an error with a cause.
fn explain(
    program: &Path,
    arguments: &[OsString],
    dir: &MachineDir,
    spec: &MachineSpec,
    status: &io::Result<ExitStatus>,
) -> DriverError {
    let log = dir.qemu_log();
    let last_lines = log_file::last_lines(&log, LOG_LINES);
    if let Some(error) = failure::recognise(&last_lines, spec) {
        return error;
    }
    let status = match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    DriverError::LaunchFailed {
        status,
        command: program::describe(program, arguments),
        last_lines,
        log,
    }
}
