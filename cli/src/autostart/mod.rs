//! A cluster that is started when its user logs in: a unit of systemd's user manager on Linux, an agent of
//! launchd on macOS.
//!
//! ```text
//! Unit::of(settings, profile) --enable()--> its file with text(), and the system is told
//!                             <--disable()--
//! ```

mod launchd;
mod systemd;

use crate::error::{Context as _, Error, ErrorId, Result};
use crate::settings::Settings;
use coracle_vm::MachineName;
use coracle_vm::program::ProgramError;
use coracle_vm::store::atomic;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the system may take to be told.
const LIMIT: Duration = Duration::from_secs(30);

/// The variable by which a unit tells whose it is.
const STATE_FOLDER: &str = "CORACLE_HOME";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    None,
    Own,
    Others,
}

/// What starts a cluster.
#[derive(Debug)]
pub struct Unit {
    system: System,
    name: String,
    file: PathBuf,
    profile: String,
}

/// Who reads it.
#[derive(Debug, Clone, Copy)]
enum System {
    Systemd,
    Launchd,
}

/// What it has to do.
#[derive(Debug)]
struct Job {
    /// The cluster.
    profile: String,
    /// This program.
    program: PathBuf,
    /// What the program needs of the environment that it was made in: a login has less.
    environment: Vec<(&'static str, String)>,
}

impl Job {
    fn start(&self) -> Vec<String> {
        self.command(&["start", "--keep-context", "--unattended"])
    }

    fn stop(&self) -> Vec<String> {
        self.command(&["stop"])
    }

    /// The program with a command for the cluster.
    fn command(&self, words: &[&str]) -> Vec<String> {
        let program = self.program.display().to_string();
        let rest = ["--quiet", "-p", &self.profile];
        std::iter::once(program.as_str())
            .chain(words.iter().copied())
            .chain(rest)
            .map(str::to_owned)
            .collect()
    }
}

impl Unit {
    /// The one of a cluster on this kind of host.
    ///
    /// # Errors
    /// There is neither systemd nor launchd on this kind.
    pub fn of(settings: &Settings, profile: &MachineName) -> Result<Self> {
        let profile = profile.to_string();
        if cfg!(target_os = "linux") {
            let name = format!("coracle-{profile}.service");
            Ok(Self {
                system: System::Systemd,
                file: settings.user_config.join("systemd/user").join(&name),
                name,
                profile,
            })
        } else if cfg!(target_os = "macos") {
            let name = format!("coracle.{profile}");
            let folder = settings.user_home.join("Library/LaunchAgents");
            Ok(Self {
                system: System::Launchd,
                file: folder.join(format!("{name}.plist")),
                name,
                profile,
            })
        } else {
            Err(Error::new(
                ErrorId::Unsupported,
                "only systemd and launchd are known; this system has neither",
            )
            .help("let its own task scheduler run `coracle start --keep-context --unattended` at your login"))
        }
    }

    /// What the system reads.
    ///
    /// # Errors
    /// The environment that it is to have is not text.
    pub fn text(&self, settings: &Settings) -> Result<String> {
        Ok(self.text_with(settings, settings.lasting_environment()?))
    }

    fn text_with(&self, settings: &Settings, environment: Vec<(&'static str, String)>) -> String {
        let job = Job {
            profile: self.profile.clone(),
            program: settings.executable.clone(),
            environment,
        };
        match self.system {
            System::Systemd => systemd::unit(&job),
            System::Launchd => launchd::agent(&self.name, &job),
        }
    }

    /// Where it reads it.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether it is there: for the cluster of this name in another state folder, or for this one.
    fn presence(&self, settings: &Settings) -> Result<Presence> {
        let file = &self.file;
        let there = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Presence::None);
            }
            Err(error) => {
                let message = format!("cannot read {}", file.display());
                return Err(Error::caused_by(ErrorId::Write, message, &error));
            }
        };
        let home = settings.home.display().to_string();
        let text = self.text_with(settings, vec![(STATE_FOLDER, home)]);
        let mut home = text.lines().filter(|line| line.contains(STATE_FOLDER));
        match home.all(|home| there.lines().any(|line| line == home)) {
            true => Ok(Presence::Own),
            false => Ok(Presence::Others),
        }
    }

    /// Writes it, in place of an earlier one, and has the system use it from the next login on.
    pub async fn enable(&self, settings: &Settings) -> Result<()> {
        let before = self.presence(settings)?;
        if before == Presence::Others {
            let message = format!(
                "{} starts a cluster of this name in another state folder",
                self.file.display()
            );
            return Err(Error::new(ErrorId::Write, message).help(
                "`coracle autostart disable` with that one's CORACLE_HOME removes it, or choose another name",
            ));
        }
        let written = || format!("cannot write {}", self.file.display());
        if let Some(folder) = self.file.parent() {
            std::fs::create_dir_all(folder).context(ErrorId::Write, written)?;
        }
        atomic::write(&self.file, self.text(settings)?.as_bytes())
            .context(ErrorId::Write, written)?;
        match self.system {
            System::Systemd => {
                let done = self
                    .tell(settings, "systemctl", &["--user", "enable", &self.name])
                    .await;
                if done.is_err() && before == Presence::None {
                    // Without the other half it is nothing.
                    self.remove()?;
                }
                done
            }
            // launchd reads the folder at each login; to load it now would start the cluster now.
            System::Launchd => Ok(()),
        }
    }

    /// Takes it away again; whether it was there.
    pub async fn disable(&self, settings: &Settings) -> Result<bool> {
        if self.presence(settings)? != Presence::Own {
            return Ok(false);
        }
        if let System::Systemd = self.system {
            // Without its file it starts nothing, whether systemd could be told now or not.
            let arguments = ["--user", "disable", &self.name];
            if let Err(error) = self.tell(settings, "systemctl", &arguments).await {
                tracing::debug!(error = error.message(), "systemd was not told");
            }
        }
        self.remove()?;
        Ok(true)
    }

    fn remove(&self) -> Result<()> {
        atomic::remove(&self.file).context(ErrorId::Write, || {
            format!("cannot remove {}", self.file.display())
        })
    }

    async fn tell(&self, settings: &Settings, program: &str, arguments: &[&str]) -> Result<()> {
        let failed = || format!("the system could not be told about {}", self.file.display());
        let path = settings.find_program(program).ok_or_else(|| {
            Error::new(ErrorId::Unsupported, format!("there is no {program} here")).help(
                "`coracle autostart print` shows what to start, for whatever starts programs here",
            )
        })?;
        let arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
        let told = coracle_vm::program::run(&path, &arguments, LIMIT).await;
        told.map(drop).map_err(|error: ProgramError| {
            Error::caused_by(ErrorId::Unsupported, failed(), &error)
                .help("try it in a login session of this user: systemd's user manager runs there")
        })
    }
}
