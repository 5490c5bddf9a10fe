//! `coracle delete`.

use super::App;
use crate::autostart::Unit;
use crate::cluster::{Cluster, delete::delete};
use crate::error::{Context as _, Error, ErrorId, Result};
use coracle_vm::MachineName;

/// Delete the cluster: its machine, its data and its kubeconfig context
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The clusters; the current one when none is named
    names: Vec<MachineName>,
    /// Delete all clusters
    #[arg(long, conflicts_with_all = ["names", "profile"])]
    all: bool,
    /// With --all: remove the whole state folder too, images and settings included
    #[arg(long, requires = "all")]
    purge: bool,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        let names = if self.all {
            Cluster::all(&app.settings)?
                .into_iter()
                .map(|found| found.name().clone())
                .collect()
        } else if self.names.is_empty() {
            vec![app.settings.profile.clone()]
        } else {
            self.names
        };
        for name in &names {
            app.progress
                .step("delete", &format!("Deleting {name}"), 1, 1);
            delete(app, name).await?;
            no_autostart(app, name).await;
            app.progress.finish_step();
            app.progress.info(&format!(
                "{name} is deleted: machine, data and kubeconfig context"
            ));
        }
        if self.purge {
            purge(app)?;
        }
        Ok(0)
    }
}

/// A login would make it anew.
async fn no_autostart(app: &App, name: &MachineName) {
    let Ok(unit) = Unit::of(&app.settings, name) else {
        return;
    };
    if let Err(error) = unit.disable(&app.settings).await {
        app.progress.warning(&format!(
            "{} is left behind, and makes it anew at a login: {}",
            unit.file().display(),
            error.message()
        ));
    }
}

/// Removes the state folder, but only one that Coracle made.
fn purge(app: &App) -> Result<()> {
    let home = &app.settings.home;
    if !home.exists() {
        return Ok(());
    }
    let known = [
        "machines",
        "images",
        "cache",
        "run",
        "config.yaml",
        "profile",
        "disks",
        "templates",
        "kept-images",
    ];
    let failed = || format!("cannot remove {}", home.display());
    for entry in std::fs::read_dir(home).context(ErrorId::Write, failed)? {
        let name = entry.context(ErrorId::Write, failed)?.file_name();
        if !known.iter().any(|known| name == *known) && !name.to_string_lossy().starts_with('.') {
            return Err(Error::new(ErrorId::Write, failed())
                .because(format!(
                    "it holds {}, which Coracle did not put there",
                    name.display()
                ))
                .help("move that elsewhere, or remove the folder by hand"));
        }
    }
    std::fs::remove_dir_all(home).context(ErrorId::Write, failed)?;
    // With a long CORACLE_HOME the sockets are elsewhere; without machines the folder is empty.
    let sockets = &app.settings.runtime_dir;
    if sockets.exists() {
        std::fs::remove_dir_all(sockets).context(ErrorId::Write, || {
            format!("cannot remove {}", sockets.display())
        })?;
    }
    app.progress.info(&format!("{} is removed", home.display()));
    Ok(())
}
