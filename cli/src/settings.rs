//! Where things are and how to talk, resolved once from argv and the environment.
//!
//! This is the only place that reads the environment, except for the `CORACLE_*` variables that
//! stand beside a flag (clap reads those) and `CORACLE_LOG`, which is needed before any setting.

use crate::error::{Context as _, Error, ErrorId, Result};
use crate::progress::Style;
use coracle_vm::MachineName;
use coracle_vm::program::Programs;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::{IsTerminal as _, PipeReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Longest folder in which the sockets of a machine still fit into 104 bytes.
const LONGEST_SOCKET_FOLDER: usize = 60;

/// How the result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// For a person.
    #[default]
    Text,
    /// For a program.
    Json,
    /// For a program that prefers YAML.
    Yaml,
}

/// Flags that every command takes.
#[derive(Debug, Clone, clap::Args)]
pub struct GlobalOptions {
    /// The cluster to act on
    #[arg(
        short,
        long,
        global = true,
        value_name = "NAME",
        env = "CORACLE_PROFILE"
    )]
    pub profile: Option<MachineName>,
    /// Say less: no progress on stderr
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// Everything about the surroundings that a command may want to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// State folder: `CORACLE_HOME`, or the platform's data folder.
    pub home: PathBuf,
    /// Folder of the sockets; short enough for a socket's path.
    pub runtime_dir: PathBuf,
    /// The user's own home folder.
    pub user_home: PathBuf,
    /// Where the user's programs keep their settings.
    pub user_config: PathBuf,
    /// Where the docker command keeps its settings.
    pub docker_config: PathBuf,
    /// The user's shell, as the environment names it.
    pub shell: Option<String>,
    /// The environment is PowerShell's.
    pub is_powershell: bool,
    /// The cluster to act on.
    pub profile: MachineName,
    /// `$KUBECONFIG`, unparsed.
    pub kubeconfig: Option<OsString>,
    /// The proxy of the environment.
    pub proxy: ProxyVariables,
    /// `CORACLE_IMAGE_MIRROR`: where images are fetched from, URLs and folders, separated by commas.
    pub image_mirror: Option<String>,
    /// `CORACLE_IMAGE_DIGEST`: the image that new clusters use.
    pub image_digest: Option<String>,
    /// How progress is shown.
    pub style: Style,
    /// Where to stop on purpose, for tests of the next start.
    pub fault: Option<Fault>,
    /// What a machine's clock is set ahead of the host's, for tests of a long sleep.
    pub clock_ahead: Duration,
    /// This program.
    pub executable: PathBuf,
    /// When the other end of this pipe is closed, machines that were started with these settings are
    /// deleted: how `coracle run` makes sure that its cluster goes when it does.
    pub tether: Option<Arc<PipeReader>>,
}

/// `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` as they were found, in either case; None when unset or
/// empty. They may hold a password.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProxyVariables {
    /// For HTTP.
    pub http: Option<String>,
    /// For HTTPS.
    pub https: Option<String>,
    /// What is reached without a proxy.
    pub exceptions: Option<String>,
}

impl ProxyVariables {
    /// Whether there is a proxy.
    pub fn is_set(&self) -> bool {
        self.http.is_some() || self.https.is_some()
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let either = |name: &str| {
            let cases = [name.to_owned(), name.to_ascii_lowercase()];
            let mut values = cases.iter().filter_map(|name| variable(name));
            values.find(|value| !value.trim().is_empty())
        };
        Self {
            http: either("HTTP_PROXY"),
            https: either("HTTPS_PROXY"),
            exceptions: either("NO_PROXY"),
        }
    }
}

impl std::fmt::Debug for ProxyVariables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyVariables").finish_non_exhaustive()
    }
}

/// `CORACLE_FAULT=kill:STEP` or `interrupt:STEP`: what tests do to a command at a named step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What happens.
    pub kind: FaultKind,
    /// The id of the step at which it happens.
    pub step: String,
}

/// The ways in which a command can be ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// As `kill -9` does: nothing is cleaned up.
    Kill,
    /// As Ctrl-C does.
    Interrupt,
}

impl Settings {
    /// Reads the environment; `json` is whether the command's result is JSON events.
    pub fn resolve(global: &GlobalOptions, json_events: bool) -> Result<Self> {
        let directories = directories::BaseDirs::new().ok_or_else(|| {
            Error::new(ErrorId::ConfigInvalid, "there is no home folder: set HOME")
        })?;
        let user_home = directories.home_dir().to_owned();
        let home = match std::env::var_os("CORACLE_HOME").filter(|value| !value.is_empty()) {
            Some(value) => std::path::absolute(&value).context(ErrorId::ConfigInvalid, || {
                "CORACLE_HOME is not a usable path".into()
            })?,
            None => directories.data_dir().join("coracle"),
        };
        let runtime_dir = socket_folder(&home, directories.runtime_dir());
        let profile = match &global.profile {
            Some(profile) => profile.clone(),
            None => current_profile(&home)?,
        };
        let executable = std::env::current_exe().context(ErrorId::Internal, || {
            "cannot find the path of this program".into()
        })?;
        let given = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Ok(Self {
            runtime_dir,
            docker_config: given("DOCKER_CONFIG")
                .map_or_else(|| user_home.join(".docker"), PathBuf::from),
            shell: given("SHELL").and_then(|shell| shell.into_string().ok()),
            is_powershell: given("PSModulePath").is_some(),
            user_home,
            user_config: directories.config_dir().to_owned(),
            profile,
            kubeconfig: given("KUBECONFIG"),
            proxy: ProxyVariables::read(|name| std::env::var(name).ok()),
            image_mirror: text("CORACLE_IMAGE_MIRROR")?,
            image_digest: text("CORACLE_IMAGE_DIGEST")?,
            style: style(global.quiet, json_events),
            fault: fault(std::env::var("CORACLE_FAULT").ok().as_deref())?,
            clock_ahead: clock_ahead(std::env::var("CORACLE_TEST_CLOCK_OFFSET").ok().as_deref())?,
            executable,
            tether: None,
            home,
        })
    }

    /// The time that machines are told.
    pub fn now(&self) -> SystemTime {
        SystemTime::now() + self.clock_ahead
    }

    /// The file of the current profile's name.
    pub fn current_profile_file(&self) -> PathBuf {
        current_profile_file(&self.home)
    }

    /// The settings file of `coracle config`.
    pub fn config_file(&self) -> PathBuf {
        self.home.join("config.yaml")
    }

    /// Where the drivers look for their programs; `CORACLE_QEMU` names another QEMU,
    /// `CORACLE_POWERSHELL` another PowerShell, `CORACLE_HYPERV_SWITCH` another switch of Hyper-V, and
    /// `LIBVIRT_DEFAULT_URI` what libvirt is reached by, as for its own programs.
    pub fn programs(&self) -> Programs {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Programs {
            search_path: std::env::split_paths(&path).collect(),
            qemu: std::env::var_os("CORACLE_QEMU").map(PathBuf::from),
            powershell: std::env::var_os("CORACLE_POWERSHELL").map(PathBuf::from),
            hyperv_switch: std::env::var("CORACLE_HYPERV_SWITCH").ok(),
            virtualbox: std::env::var_os("VBOX_MSI_INSTALL_PATH").map(PathBuf::from),
            libvirt_uri: std::env::var("LIBVIRT_DEFAULT_URI")
                .ok()
                .filter(|uri| !uri.is_empty()),
            notes: Some(self.home.join("cache").join("qemu.json")),
            ..Programs::default()
        }
    }

    /// The variables without which what starts by itself, at a login or for who connects, would act on other
    /// files than a start by hand, or find another hypervisor. A proxy's may hold a password, and are not
    /// written down.
    pub fn lasting_environment(&self) -> Result<Vec<(&'static str, String)>> {
        let given = |name| Some((name, std::env::var_os(name)?));
        let files = self.kubeconfig.as_deref().map(|files| {
            let files = std::env::split_paths(files);
            std::env::join_paths(files.map(|file| std::path::absolute(&file).unwrap_or(file)))
        });
        let files = files.transpose().context(ErrorId::ConfigInvalid, || {
            "KUBECONFIG cannot be passed on".into()
        })?;
        let found = [
            given("PATH"),
            given("CORACLE_QEMU"),
            given("CORACLE_POWERSHELL"),
            given("CORACLE_HYPERV_SWITCH"),
            given("LIBVIRT_DEFAULT_URI"),
            Some(("CORACLE_HOME", self.home.clone().into_os_string())),
            files.map(|files| ("KUBECONFIG", files)),
        ];
        found
            .into_iter()
            .flatten()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| {
                let text = value.into_string().map_err(|_| {
                    Error::new(ErrorId::ConfigInvalid, format!("{name} is not text"))
                })?;
                Ok((name, text))
            })
            .collect()
    }

    /// The path of a program that the host provides, if it is on the PATH.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH")?;
        let own = std::fs::canonicalize(&self.executable).ok();
        std::env::split_paths(&path)
            .map(|folder| folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
            .filter(|file| file.is_file())
            // A link of this very program named kubectl is not the host's kubectl.
            .find(|file| own.is_none() || std::fs::canonicalize(file).ok() != own)
    }
}

/// A variable that has to be text; None when unset or empty.
fn text(name: &str) -> Result<Option<String>> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    let text = value.map(OsString::into_string).transpose();
    text.map_err(|_| Error::new(ErrorId::ConfigInvalid, format!("{name} is not text")))
}

fn current_profile_file(home: &Path) -> PathBuf {
    home.join("profile")
}

fn current_profile(home: &Path) -> Result<MachineName> {
    let file = current_profile_file(home);
    match std::fs::read_to_string(&file) {
        Ok(text) => text.trim().parse().map_err(|error| {
            Error::caused_by(
                ErrorId::ConfigInvalid,
                format!("{} holds no profile name", file.display()),
                &error,
            )
            .help("choose one with `coracle profile NAME`")
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => default_profile(),
        Err(error) => Err(Error::caused_by(
            ErrorId::Write,
            format!("cannot read {}", file.display()),
            &error,
        )),
    }
}

/// The profile when none was ever chosen.
pub const DEFAULT_PROFILE: &str = "coracle";

fn default_profile() -> Result<MachineName> {
    MachineName::new(DEFAULT_PROFILE).context(ErrorId::Internal, || {
        "the default profile's name is not one".into()
    })
}

/// Sockets live below the state folder where their paths fit, else in the user's runtime folder,
/// else in a folder of the user's own below /tmp, named after the state folder.
fn socket_folder(home: &Path, runtime: Option<&Path>) -> PathBuf {
    let inside = home.join("run");
    if inside.as_os_str().len() <= LONGEST_SOCKET_FOLDER || cfg!(windows) {
        return inside;
    }
    let name = format!(
        "coracle-{:016x}",
        fnv1a(home.as_os_str().as_encoded_bytes())
    );
    match runtime {
        Some(runtime) => runtime.join(name),
        None => Path::new("/tmp").join(name),
    }
}

/// A stable hash that only has to tell state folders apart (FNV-1a, 64 bits).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// Whether the user wants no colour (no-color.org).
pub fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

fn style(quiet: bool, json_events: bool) -> Style {
    if json_events {
        Style::Json
    } else if quiet {
        Style::Quiet
    } else if std::io::stderr().is_terminal() {
        Style::Terminal { color: !no_color() }
    } else {
        Style::Plain
    }
}

fn fault(text: Option<&str>) -> Result<Option<Fault>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let parsed = text.split_once(':').and_then(|(kind, step)| {
        let kind = match kind {
            "kill" => FaultKind::Kill,
            "interrupt" => FaultKind::Interrupt,
            _ => return None,
        };
        crate::cluster::steps::Step::from_id(step).map(|step| Fault {
            kind,
            step: step.id().to_owned(),
        })
    });
    parsed.map(Some).ok_or_else(|| {
        Error::new(
            ErrorId::Usage,
            format!("CORACLE_FAULT={text} names no fault and step"),
        )
        .help("write kill:STEP or interrupt:STEP with a step of `coracle start`")
    })
}

/// `CORACLE_TEST_CLOCK_OFFSET=SECONDS`: as if the host's clock had gone on so far.
fn clock_ahead(text: Option<&str>) -> Result<Duration> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(Duration::ZERO);
    };
    // Whole seconds of 32 bits: any sum with a time of today is a time.
    let seconds: u32 = text.parse().context(ErrorId::Usage, || {
        format!("CORACLE_TEST_CLOCK_OFFSET={text} is no number of seconds")
    })?;
    Ok(Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_found_in_either_case_and_never_shown() {
        let read = |variables: &[(&str, &str)]| {
            ProxyVariables::read(|name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let found = read(&[
            ("HTTP_PROXY", "upper"),
            ("http_proxy", "lower"),
            ("HTTPS_PROXY", " "),
            ("https_proxy", "secret"),
        ]);
        assert_eq!(found.http.as_deref(), Some("upper"));
        assert_eq!(found.https.as_deref(), Some("secret"));
        assert_eq!(found.exceptions, None);
        assert!(!format!("{found:?}").contains("secret"));
    }

    #[test]
    fn a_clock_is_ahead_by_seconds() {
        assert_eq!(clock_ahead(None).unwrap(), Duration::ZERO);
        assert_eq!(clock_ahead(Some("60")).unwrap(), Duration::from_secs(60));
        assert!(clock_ahead(Some("-1")).is_err());
        assert!(clock_ahead(Some("1h")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn sockets_stay_short_however_deep_the_state_folder_is() {
        let deep = PathBuf::from("/home/somebody").join("a".repeat(90));
        assert_eq!(socket_folder(Path::new("/h"), None), Path::new("/h/run"));
        assert!(socket_folder(&deep, None).as_os_str().len() <= LONGEST_SOCKET_FOLDER);
        assert!(
            socket_folder(&deep, Some(Path::new("/run/user/1000"))).starts_with("/run/user/1000")
        );
        assert_ne!(
            socket_folder(&deep, None),
            socket_folder(&deep.join("b"), None)
        );
    }

    #[test]
    fn a_fault_names_a_step_that_exists() {
        assert!(fault(Some("kill:nowhere")).is_err());
        assert!(fault(Some("boot")).is_err());
        assert_eq!(fault(None).unwrap(), None);
        assert_eq!(
            fault(Some("kill:boot")).unwrap(),
            Some(Fault {
                kind: FaultKind::Kill,
                step: "boot".into()
            })
        );
    }
}
