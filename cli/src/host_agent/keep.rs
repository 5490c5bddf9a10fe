//! What a host agent keeps beside its machine: on the disk what was only written, and short what grows.

use super::control::LaunchFrom;
use super::log;
use crate::cluster;
use crate::error::{Context as _, ErrorId, Result};
use crate::settings::Settings;
use coracle_vm::{MachineDir, Saves, TemplateError, TemplateKey, Templates, log_file};
use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

/// When the first things that are done with a new cluster are over.
const QUIET: Duration = Duration::from_secs(60);
/// How often the sizes of a running machine's logs are looked at.
const LOG_PAUSE: Duration = Duration::from_secs(60);
/// A log is begun anew when it has grown beyond this many bytes.
pub const LONGEST_LOG: u64 = 1 << 20;

/// Writes a state that was just saved to the disk: nobody has to wait for that. A start that comes
/// meanwhile takes it away, and that is as good.
pub async fn saves(dir: &MachineDir) {
    let Ok(Some(saved)) = Saves::new(dir).present() else {
        return;
    };
    let written = tokio::task::spawn_blocking(move || saved.make_durable()).await;
    if let Ok(Err(error)) = written {
        log(&format!(
            "the saved state will not outlive a loss of power: {error}"
        ));
    }
}

/// Writes a template that was just made to the disk, beside the machine that began with it, and notes
/// later what its files hash to.
pub async fn template(settings: Settings, from: LaunchFrom) {
    let LaunchFrom::Template(folder) = from else {
        return;
    };
    let kept = async {
        let name = folder.file_name();
        let key = name.and_then(|name| TemplateKey::from_name(name.to_str()?));
        let templates = cluster::template::templates(&settings);
        let now = time::OffsetDateTime::now_utc();
        let Some(template) = key.and_then(|key| templates.find(&key, now).ok().flatten()) else {
            return Ok(());
        };
        let made = template.clone();
        blocking(move || Templates::make_durable(&made)).await?;
        tokio::time::sleep(QUIET).await;
        blocking(move || template.note_digests()).await
    };
    let kept: Result<()> = kept.await;
    if let Err(error) = kept {
        log(&format!(
            "the template may not outlive a loss of power, or cannot be checked: {}",
            error.render(settings.profile.as_str())
        ));
    }
}

async fn blocking(work: impl FnOnce() -> Result<(), TemplateError> + Send + 'static) -> Result<()> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.context(ErrorId::Internal, || "a task ended early".into())??)
}

/// Keeps what a machine says in months of running from filling the disk.
pub async fn logs_short(dir: &MachineDir) -> Infallible {
    loop {
        tokio::time::sleep(LOG_PAUSE).await;
        let logs = [
            dir.serial_log(),
            dir.qemu_log(),
            cluster::host_agent_log(dir),
        ];
        for path in logs {
            bound(&path);
        }
    }
}

fn bound(path: &Path) {
    if let Err(error) = log_file::bound(path, LONGEST_LOG) {
        log(&format!("cannot shorten {}: {error}", path.display()));
    }
}
