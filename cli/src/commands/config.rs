//! `coracle config`.

use super::App;
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::options::ClusterOptions;
use crate::settings::Output;

/// Keep settings that every later start of a new cluster takes
///
/// A flag, an environment variable (CORACLE_CPUS and so on) and a cluster file win over them.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print one setting
    Get { name: String },
    /// Keep a setting
    Set { name: String, value: String },
    /// Forget a setting
    Unset { name: String },
    /// Print all settings that were set
    View {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Print all settings there are, with the values they have when nothing is set
    Defaults,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        let file = app.settings.config_file();
        let kept = ClusterOptions::read(&file, false)?;
        match self.command {
            Command::Get { name } => {
                known(&name)?;
                let map = kept.to_map()?;
                let value = map.get(&name).ok_or_else(|| {
                    Error::new(ErrorId::ConfigNotFound, format!("{name} is not set"))
                        .help(format!("`coracle config set {name} VALUE` sets it"))
                })?;
                crate::print::line(text(value));
            }
            Command::Set { name, value } => {
                let set = ClusterOptions::from_name_and_text(&name, &value)?;
                // Whether the value makes sense is known only to the checked form.
                crate::cluster::spec::ClusterSpec::new(&set, coracle_vm::Size::from_mib(8192))?;
                crate::cluster::spec::StartOptions::new(&set)?;
                write(app, &set.or(kept))?;
                app.progress
                    .info(&format!("{name} is {value} for clusters made from now on"));
            }
            Command::Unset { name } => {
                known(&name)?;
                let mut map = kept.to_map()?;
                map.remove(&name);
                let rest = serde_json::to_value(map)
                    .and_then(serde_json::from_value)
                    .context(ErrorId::Internal, || "cannot write the settings".into())?;
                write(app, &rest)?;
            }
            Command::View { output } => {
                crate::print::value(output, &kept.to_map()?, |map| {
                    map.iter()
                        .map(|(name, value)| format!("{name}: {}\n", text(value)))
                        .collect()
                })?;
            }
            Command::Defaults => {
                let defaults =
                    crate::cluster::spec::defaults(crate::cluster::host_memory(&app.settings)?)?
                        .to_map()?;
                for name in ClusterOptions::names() {
                    crate::print::line(format!(
                        "{name}: {}",
                        defaults.get(&name).map(text).unwrap_or_default()
                    ));
                }
            }
        }
        Ok(0)
    }
}

fn known(name: &str) -> Result<()> {
    if ClusterOptions::names().iter().any(|known| known == name) {
        return Ok(());
    }
    Err(Error::new(
        ErrorId::ConfigNotFound,
        format!("there is no setting {name:?}"),
    ))
}

fn text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

fn write(app: &App, options: &ClusterOptions) -> Result<()> {
    crate::cluster::prepare_home(&app.settings)?;
    let file = app.settings.config_file();
    let text = serde_yaml::to_string(options)
        .context(ErrorId::Internal, || "cannot write the settings".into())?;
    coracle_vm::store::atomic::write(&file, text.as_bytes()).context(ErrorId::Write, || {
        format!("cannot write {}", file.display())
    })
}
