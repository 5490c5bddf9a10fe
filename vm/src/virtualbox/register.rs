//! Makes VirtualBox know a machine, whatever became of it since it last did.
//!
//! ```text
//! known, with its settings                    as it is, whatever people call it now
//! known, its settings are gone                unregistered, then made
//! unknown, its settings are in its folder     registered: they may hold snapshots that people took
//! unknown                                     made, unless another machine has its name
//! ```

use std::path::{Path, PathBuf};

use super::configure;
use super::info::{self, Info};
use super::manage::{CHANGE, Manage, QUESTION, words};
use super::note::Note;
use super::unable;
use crate::driver::{DriverError, failed};
use crate::store::{MachineDir, atomic};

/// What the file of a machine's settings ends with.
const SETTINGS: &str = "vbox";
/// The folder beside it for the disks of snapshots and for saved memory.
const SNAPSHOTS: &str = "Snapshots";

/// The machine as VirtualBox knows it, made known where it is not.
pub(super) async fn registered(
    manage: &Manage,
    dir: &MachineDir,
    note: &Note,
    there: Option<Info>,
) -> Result<Info, DriverError> {
    match there {
        Some(info) if info.is_accessible => {
            note.keep(dir)?;
            Ok(info)
        }
        Some(_) => {
            tracing::warn!(machine = %dir.name(), "VirtualBox has lost the machine's settings: it is made anew");
            unregister(manage, &note.id()).await?;
            make(manage, dir, note).await
        }
        None => match register_again(manage, dir, note).await? {
            Some(info) => Ok(info),
            None => make(manage, dir, note).await,
        },
    }
}

/// Has VirtualBox forget a machine. Its files stay.
pub(super) async fn unregister(manage: &Manage, id: &str) -> Result<(), DriverError> {
    let done = manage.run(&words(["unregistervm", id]), CHANGE).await;
    done.map(drop).map_err(DriverError::from)
}

/// Registers settings that are in the machine's folder. `None` where there are none, or none that can be
/// read, which are removed then.
async fn register_again(
    manage: &Manage,
    dir: &MachineDir,
    note: &Note,
) -> Result<Option<Info>, DriverError> {
    let Some(settings) = left_settings(dir, &note.id()) else {
        return Ok(None);
    };
    note.keep(dir)?;
    let mut all = words(["registervm"]);
    all.push(settings.as_os_str().to_owned());
    let refused = match manage.run(&all, CHANGE).await {
        Ok(_) => match info::find(manage, &note.id(), QUESTION).await? {
            Some(info) if info.is_accessible => return Ok(Some(info)),
            _ => "it does not know the machine then".to_owned(),
        },
        Err(failure) => failure.detail(),
    };
    if has_snapshots(&settings) {
        return Err(unable(format!(
            "{} cannot be registered again ({refused}), and there are snapshots beside it that only it tells of",
            settings.display()
        )));
    }
    tracing::warn!(
        refused,
        "the machine's settings cannot be used: it is made anew"
    );
    atomic::remove(&settings).map_err(failed("remove", &settings))?;
    Ok(None)
}

/// The settings of a machine in a folder below its own, whatever they are called now.
fn left_settings(dir: &MachineDir, id: &str) -> Option<PathBuf> {
    let folders = std::fs::read_dir(dir.path()).ok()?.flatten();
    let files = folders.filter_map(|folder| std::fs::read_dir(folder.path()).ok());
    let mut files = files.flatten().flatten().map(|file| file.path());
    files.find(|path| {
        path.extension().is_some_and(|ending| ending == SETTINGS)
            && std::fs::read_to_string(path).is_ok_and(|text| text.contains(id))
    })
}

fn has_snapshots(settings: &Path) -> bool {
    let beside = settings.with_file_name(SNAPSHOTS);
    let files = std::fs::read_dir(beside).into_iter().flatten().flatten();
    files
        .map(|file| file.path())
        .any(|path| path.extension().is_some_and(|ending| ending != "sav"))
}

/// Makes the machine. The note is there before VirtualBox hears of it, so that whatever is cut off can be
/// found again.
async fn make(manage: &Manage, dir: &MachineDir, note: &Note) -> Result<Info, DriverError> {
    refuse_namesake(manage, note).await?;
    note.keep(dir)?;
    // What is left of the settings of a machine that had another identifier.
    let settings = note.settings(dir);
    if settings.exists() && !has_snapshots(&settings) {
        atomic::remove(&settings).map_err(failed("remove", &settings))?;
    }
    manage
        .run(&configure::create_words(note, dir), CHANGE)
        .await?;
    let made = info::find(manage, &note.id(), QUESTION).await?;
    made.ok_or_else(|| unable("VirtualBox does not know the machine that it just made".to_owned()))
}

/// Another machine of this name is somebody else's: it would be confused with this one by people, and by
/// every program that goes by names.
async fn refuse_namesake(manage: &Manage, note: &Note) -> Result<(), DriverError> {
    let list = manage.run(&words(["list", "vms"]), QUESTION).await?;
    match info::of_name(&list, &note.name) {
        Some(id) if id != note.id() => Err(unable(format!(
            "VirtualBox has another machine \"{}\", with the id {id}: rename or remove that one in VirtualBox, or \
             choose another name for this one",
            note.name
        ))),
        _ => Ok(()),
    }
}
