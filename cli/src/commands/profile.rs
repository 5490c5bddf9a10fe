//! `coracle profile`.

use super::{App, list};
use crate::cluster::{prepare_home, store};
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::settings::DEFAULT_PROFILE;
use coracle_vm::MachineName;

/// Show or choose the cluster that commands act on
///
/// Without a name the current one is printed. `coracle profile list` lists all clusters.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The cluster that commands act on from now on
    name: Option<MachineName>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List all clusters
    List(list::Args),
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        if let Some(Command::List(list)) = self.command {
            return list.run(app).await;
        }
        let Some(name) = self.name else {
            crate::print::line(app.settings.profile.as_str());
            return Ok(0);
        };
        let known = store(&app.settings).exists(&name);
        if !known && name.as_str() != DEFAULT_PROFILE {
            return Err(Error::new(
                ErrorId::MachineNotFound,
                format!("there is no cluster {name:?}", name = name.as_str()),
            )
            .help(format!(
                "`coracle start -p {name}` makes it; `coracle list` shows those there are"
            )));
        }
        prepare_home(&app.settings)?;
        let file = app.settings.current_profile_file();
        coracle_vm::store::atomic::write(&file, format!("{name}\n").as_bytes())
            .context(ErrorId::Write, || {
                format!("cannot write {}", file.display())
            })?;
        app.progress.info(&format!("commands now act on {name}"));
        Ok(0)
    }
}
