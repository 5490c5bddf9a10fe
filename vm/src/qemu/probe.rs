//! What QEMU on this host can do.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fingerprint::stamp;
use crate::accelerator::{self, Accelerator, AcceleratorChoice, HostSystem, Verdict};
use crate::driver::DriverError;
use crate::program::{self, ProgramError, Programs, is_executable};
use crate::spec::Architecture;
use crate::store::atomic;
use serde::{Deserialize, Serialize};

/// How long QEMU may take to tell about itself.
const LIMIT: Duration = Duration::from_secs(20);

/// QEMU's system emulator for one kind of guest.
#[derive(Debug)]
pub(super) struct Emulator {
    /// Where it is.
    pub(super) program: PathBuf,
    /// Whether it can give up system calls (`-sandbox`).
    pub(super) sandbox: bool,
    /// Its version, for example `7.2.22`.
    pub(super) version: String,
    guest: Architecture,
    built_in: BTreeSet<Accelerator>,
}

/// What a program said of itself. Asking takes a tenth of a second, which a clone does not have.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// Path, size and time of the program that was asked.
    program: String,
    sandbox: bool,
    version: String,
    built_in: BTreeSet<Accelerator>,
}

impl Emulator {
    /// Finds the emulator and asks it what it was built with.
    pub(super) async fn examine(
        programs: &Programs,
        guest: Architecture,
    ) -> Result<Self, DriverError> {
        let name = format!("qemu-system-{}", guest.as_str());
        let program = match &programs.qemu {
            Some(program) => Some(program.clone()).filter(|program| is_executable(program)),
            None => programs.find(&name),
        };
        let program = program.ok_or_else(|| DriverError::NotInstalled {
            program: programs
                .qemu
                .as_ref()
                .map_or(name, |program| program.display().to_string()),
            install: install(guest),
        })?;
        let note = Note::of(&program, programs.notes.as_deref()).await?;
        Ok(Self {
            program,
            sandbox: note.sandbox,
            version: note.version,
            guest,
            built_in: note.built_in,
        })
    }

    /// Chooses the accelerator on this host.
    pub(super) async fn verdict(&self, choice: AcceleratorChoice) -> Result<Verdict, DriverError> {
        let facts = accelerator::facts(self.guest, self.built_in.clone()).await;
        Ok(accelerator::decide(choice, &facts)?)
    }
}

impl Note {
    /// What is kept of this very program, else what it says now.
    async fn of(program: &Path, notes: Option<&Path>) -> Result<Self, DriverError> {
        let stamp = stamp(program);
        let kept = notes.and_then(|file| std::fs::read(file).ok());
        let kept = kept.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        if let Some(kept) = kept.filter(|kept| kept.program == stamp) {
            return Ok(kept);
        }
        let note = Self::ask(program, stamp).await?;
        // Without a note it is asked again the next time.
        if let (Some(file), Ok(bytes)) = (notes, serde_json::to_vec_pretty(&note)) {
            let folder = file.parent().unwrap_or(file);
            let _ = atomic::create_private_dirs(folder).and_then(|()| atomic::write(file, &bytes));
        }
        Ok(note)
    }

    async fn ask(program: &Path, stamp: String) -> Result<Self, DriverError> {
        // A QEMU without seccomp refuses the option while it reads its command line.
        let help = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        let (sandbox, text) = match program::run(
            program,
            &help(&["-sandbox", "on", "-accel", "help"]),
            LIMIT,
        )
        .await
        {
            Ok(text) => (cfg!(target_os = "linux"), text),
            Err(ProgramError::Failed { .. }) => (
                false,
                program::run(program, &help(&["-accel", "help"]), LIMIT).await?,
            ),
            Err(error) => return Err(error.into()),
        };
        let built_in = text
            .lines()
            .filter_map(|line| Accelerator::from_qemu(line.trim()))
            .collect();
        let said = program::run(program, &["--version".into()], LIMIT).await?;
        Ok(Self {
            program: stamp,
            sandbox,
            version: version(&said),
            built_in,
        })
    }
}

/// The disk tool: the one given, the one beside the emulator given, or the one on the search path.
pub(crate) fn qemu_img(programs: &Programs) -> Result<PathBuf, DriverError> {
    let beside = || {
        let folder = programs.qemu.as_ref()?.parent()?;
        Programs {
            search_path: vec![folder.to_owned()],
            ..Programs::default()
        }
        .find("qemu-img")
    };
    let program = match &programs.qemu_img {
        Some(program) => Some(program.clone()).filter(|program| is_executable(program)),
        None => beside().or_else(|| programs.find("qemu-img")),
    };
    program.ok_or_else(|| DriverError::NotInstalled {
        program: "qemu-img".to_owned(),
        install: install(Architecture::of_host()),
    })
}

/// The word after `version` in QEMU's first line.
fn version(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let word = first
        .split("version ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    word.unwrap_or(first).to_owned()
}

/// How to get QEMU on this kind of host.
pub(crate) fn install(guest: Architecture) -> String {
    let (debian, fedora) = match guest {
        Architecture::X86_64 => ("qemu-system-x86", "qemu-system-x86-core"),
        Architecture::Aarch64 => ("qemu-system-arm", "qemu-system-aarch64-core"),
    };
    match HostSystem::current() {
        HostSystem::Linux => format!(
            "Debian and Ubuntu: sudo apt-get install {debian} qemu-utils; Fedora: sudo dnf install {fedora} qemu-img; \
             Arch: sudo pacman -S qemu-base"
        ),
        HostSystem::MacOs => "brew install qemu".to_owned(),
        HostSystem::Windows => "winget install SoftwareFreedomConservancy.QEMU".to_owned(),
        HostSystem::Other => "install QEMU 7.2 or newer".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(
            version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright"),
            "7.2.22"
        );
        assert_eq!(version("QEMU emulator version 10.0.2\n"), "10.0.2");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_program_is_asked_once_and_again_when_it_is_another() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (program, asked) = (folder.path().join("qemu"), folder.path().join("asked"));
        let fake = |version: &str| {
            let script = format!(
                "#!/bin/sh\necho >> {}\necho version {version}\necho tcg\n",
                asked.display()
            );
            atomic::write(&program, script.as_bytes()).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        let programs = Programs {
            qemu: Some(program.clone()),
            notes: Some(folder.path().join("notes/qemu.json")),
            ..Programs::default()
        };
        let version = || async {
            let emulator = Emulator::examine(&programs, Architecture::X86_64).await;
            emulator.unwrap().version
        };
        fake("8.1");
        assert_eq!(version().await, "8.1");
        let times = std::fs::read(&asked).unwrap().len();
        assert_eq!(version().await, "8.1");
        assert_eq!(std::fs::read(&asked).unwrap().len(), times);
        fake("8.1.12");
        assert_eq!(version().await, "8.1.12");
    }

    #[tokio::test]
    async fn a_missing_emulator_says_how_to_get_it() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = Programs {
            search_path: vec![folder.path().to_owned()],
            ..Programs::default()
        };
        let given = Programs {
            qemu: Some(folder.path().join("my-qemu")),
            ..Programs::default()
        };
        for (programs, named) in [(nowhere, "qemu-system-aarch64"), (given, "my-qemu")] {
            let error = Emulator::examine(&programs, Architecture::Aarch64)
                .await
                .unwrap_err();
            let DriverError::NotInstalled { program, install } = error else {
                panic!("{error}")
            };
            assert!(
                program.ends_with(named) && install.to_lowercase().contains("qemu"),
                "{program}: {install}"
            );
        }
    }
}
