//! External programs: where one is, and one run of it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// Where programs are looked for. The caller reads PATH; this crate does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Programs {
    /// Folders, the first match wins.
    pub search_path: Vec<PathBuf>,
    /// QEMU's system emulator, instead of the one in `search_path`.
    pub qemu: Option<PathBuf>,
    /// QEMU's disk tool, instead of the one beside the emulator or in `search_path`.
    pub qemu_img: Option<PathBuf>,
    /// PowerShell, instead of the one in `search_path`. Elsewhere than on Windows it is used only where it
    /// is named here.
    pub powershell: Option<PathBuf>,
    /// The virtual switch of Hyper-V that machines are connected to, instead of the one that Windows
    /// makes.
    pub hyperv_switch: Option<String>,
    /// The folder of VirtualBox's programs, looked at before `search_path`. Its installer on Windows tells
    /// it in VBOX_MSI_INSTALL_PATH and leaves PATH alone.
    pub virtualbox: Option<PathBuf>,
    /// What libvirt is reached by, instead of what this user usually takes (`LIBVIRT_DEFAULT_URI`).
    pub libvirt_uri: Option<String>,
    /// A file in which is kept what a program said of itself, for as long as it is the same program.
    /// It may be removed at any time.
    pub notes: Option<PathBuf>,
}

impl Programs {
    /// Finds a program by name. `.exe` is added on Windows.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        let file = format!("{name}{}", if cfg!(windows) { ".exe" } else { "" });
        self.search_path
            .iter()
            .map(|folder| folder.join(&file))
            .find(|path| is_executable(path))
    }
}

/// Whether a path is a file that may be executed.
pub fn is_executable(path: &Path) -> bool {
    #[cfg(unix)]
    return path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    #[cfg(not(unix))]
    return path.is_file();
}

/// A program could not be run to a good end.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It could not be started.
    #[error("cannot run {command}")]
    Start {
        /// The command line.
        command: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It ended with an error.
    #[error("{command} failed ({status}): {stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// What it wrote to its standard error.
        stderr: String,
    },
    /// It did not end in time and was killed.
    #[error("{command} did not end within {} s", limit.as_secs())]
    TimedOut {
        /// The command line.
        command: String,
        /// How long it was given.
        limit: Duration,
    },
}

/// What a program wrote before it ended well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// To its standard output.
    pub stdout: String,
    /// To its standard error.
    pub stderr: String,
}

/// Runs a program without a shell and without input, and gives its standard output.
pub async fn run(
    program: &Path,
    arguments: &[OsString],
    limit: Duration,
) -> Result<String, ProgramError> {
    let output = run_in(program, arguments, &[], limit).await?;
    Ok(output.stdout)
}

/// As [`run`], with some variables of its environment set, and with all that it wrote.
pub async fn run_in(
    program: &Path,
    arguments: &[OsString],
    environment: &[(&str, &str)],
    limit: Duration,
) -> Result<Output, ProgramError> {
    let command = || describe(program, arguments);
    let mut child = Command::new(program);
    child
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    without_window(&mut child);
    let child = child.spawn().map_err(|source| ProgramError::Start {
        command: command(),
        source,
    })?;
    let output = tokio::time::timeout(limit, child.wait_with_output())
        .await
        .map_err(|_| ProgramError::TimedOut {
            command: command(),
            limit,
        })?
        .map_err(|source| ProgramError::Start {
            command: command(),
            source,
        })?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(ProgramError::Failed {
            command: command(),
            status: output.status.to_string(),
            stderr: stderr.trim().to_owned(),
        });
    }
    Ok(Output {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: stderr.into_owned(),
    })
}

/// On Windows, keeps a window from flashing up where this process has no console, as host agents have not.
pub(crate) fn without_window(command: &mut Command) {
    #[cfg(windows)]
    {
        /// CREATE_NO_WINDOW of CreateProcess.
        const NO_WINDOW: u32 = 0x0800_0000;
        command.creation_flags(NO_WINDOW);
    }
    #[cfg(not(windows))]
    let _ = command;
}

/// A command line for people: arguments with spaces are quoted.
pub fn describe(program: &Path, arguments: &[OsString]) -> String {
    let quoted = |word: &OsStr| {
        let word = word.to_string_lossy();
        let plain = !word.is_empty()
            && !word.contains([' ', '\'', '"', '$', '\\', '*', '(', ';', '&', '|']);
        if plain {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    let words: Vec<String> = std::iter::once(program.as_os_str())
        .chain(arguments.iter().map(AsRef::as_ref))
        .map(quoted)
        .collect();
    words.join(" ")
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_failure_and_delay_are_told_apart() {
        let shell = Path::new("/bin/sh");
        let script = |text: &str| vec![OsString::from("-c"), OsString::from(text)];
        let limit = Duration::from_secs(20);
        assert_eq!(
            run(shell, &script("echo out"), limit).await.unwrap(),
            "out\n"
        );
        let error = run(shell, &script("echo why >&2; exit 3"), limit)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/bin/sh -c 'echo why >&2; exit 3' failed") && error.ends_with(": why"),
            "{error}"
        );
        let slow = run(shell, &script("exec sleep 60"), Duration::from_millis(50)).await;
        assert!(matches!(slow, Err(ProgramError::TimedOut { .. })));
        assert!(matches!(
            run(Path::new("/nowhere"), &[], limit).await,
            Err(ProgramError::Start { .. })
        ));
    }

    #[test]
    fn only_executable_files_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let programs = Programs {
            search_path: vec![folder.path().join("none"), "/bin".into()],
            ..Programs::default()
        };
        assert_eq!(programs.find("sh"), Some(PathBuf::from("/bin/sh")));
        assert_eq!(programs.find("no-such-program"), None);
    }
}
