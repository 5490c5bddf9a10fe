//! Images as archives: in, without the layers that the machine has already, and out.

use super::super::App;
use crate::cluster::Cluster;
use crate::error::{Context as _, ErrorId, Result};
use crate::images;
use crate::progress::mebibytes;
use std::path::Path;
use tokio::io::AsyncWriteExt as _;

pub(super) async fn load(app: &App, path: &Path, name: &str) -> Result<()> {
    // A wrong path is said before anything is asked of the machine.
    let archive = match path.as_os_str() == "-" {
        true => None,
        false => Some(images::open(path).await?),
    };
    let agent = Cluster::find(&app.settings)?.agent().await?;
    app.progress.step("load", "Loading the images", 1, 1);
    let meter = app.progress.meter();
    let names = match archive {
        None => images::load_stream(&agent, std::io::stdin(), name, meter).await?,
        Some(archive) => {
            let loaded = images::load(&agent, archive, name, &meter).await?;
            if loaded.known > 0 {
                app.progress.info(&format!(
                    "the machine has {} of {} parts; {} are sent",
                    loaded.known,
                    loaded.known + loaded.sent.parts,
                    mebibytes(loaded.sent.bytes)
                ));
            }
            loaded.names
        }
    };
    app.progress.finish_step();
    for name in names {
        crate::print::line(name);
    }
    Ok(())
}

pub(super) async fn save(app: &App, names: &[String], output: &Path) -> Result<()> {
    let agent = Cluster::find(&app.settings)?.agent().await?;
    if output.as_os_str() == "-" {
        let mut archive = agent.export_images(names).await?;
        let mut stdout = tokio::io::stdout();
        tokio::io::copy(&mut archive, &mut stdout)
            .await
            .context(ErrorId::Runtime, || {
                "cannot get the images out of the machine".into()
            })?;
        let flushed = stdout.flush().await;
        return flushed.context(ErrorId::Write, || "cannot write".into());
    }
    app.progress.step("save", "Saving the images", 1, 1);
    let meter = app.progress.meter();
    let bytes = images::save(&agent, names, output, &meter).await?;
    app.progress.finish_step();
    let shown = output.display();
    app.progress.info(&format!("{shown}: {}", mebibytes(bytes)));
    Ok(())
}
