//! `coracle image-export`.

use super::App;
use crate::cluster;
use crate::error::{Context as _, ErrorId, Result};
use coracle_iso::images::{ExportObserver, export};
use std::path::PathBuf;

/// Write the VM image of new clusters to a folder, as it is passed on to others
///
/// The folder, or a web server of it, is what CORACLE_IMAGE_MIRROR may name. The same image and the same
/// level give the same bytes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder that is empty, or has the same image already; it is made when it is missing
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// zstd's level of compression: 19 takes minutes
    #[arg(long, value_name = "N", default_value_t = 19, value_parser = clap::value_parser!(i32).range(1..=22))]
    level: i32,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        let folder = std::path::absolute(&self.folder)
            .context(ErrorId::Usage, || "FOLDER is not a path".into())?;
        let image = cluster::image::current(&app.settings)?;
        let digest = *image.digest();
        app.progress.step("export", "Exporting the image", 1, 1);
        let (sender, mut files) = tokio::sync::mpsc::unbounded_channel();
        let (level, to) = (self.level, folder.clone());
        let exporting = tokio::task::spawn_blocking(move || {
            let observer = Observer(sender);
            export(&image, &to, level, &observer)
        });
        while let Some(file) = files.recv().await {
            app.progress.detail(&file);
        }
        exporting
            .await
            .context(ErrorId::Internal, || "the export ended early".into())??;
        app.progress.finish_step();
        app.progress
            .info(&format!("{} holds the image", folder.display()));
        crate::print::line(digest.to_string());
        Ok(0)
    }
}

/// Carries what the thread that compresses says to the one renderer.
struct Observer(tokio::sync::mpsc::UnboundedSender<String>);

impl ExportObserver for Observer {
    fn file(&self, name: &str, done: u64, total: u64) {
        let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0);
        let _ = self.0.send(format!("{percent} %, {name}"));
    }
}
