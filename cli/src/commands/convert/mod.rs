//! `coracle convert`.

mod compose;
mod manifests;

use super::App;
use crate::error::{Context as _, Error, ErrorId, Result};
use coracle_vm::store::atomic;
use std::io::Read as _;
use std::path::{Path, PathBuf};

pub use manifests::warn_of_old;

/// Turn a Compose file, or manifests of old API versions, into current manifests
///
/// Prints them, so that `coracle convert | kubectl apply -f -` runs the project. What a Compose file says and
/// manifests cannot is a warning that names the line; variables come from the environment and from the `.env`
/// beside the file. Of manifests only what has to change is changed: comments and order stay, and each change is
/// told with its line.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file, or - for standard input; otherwise the Compose file of the current folder
    file: Option<PathBuf>,
    /// Write to a file, which must not be there yet
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    compose: compose::Options,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        let file = match self.file {
            Some(file) => file,
            None => compose::own_file(app)?,
        };
        let text = read(&file)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        // What is no YAML is best explained by who expects a Compose file.
        let is_manifest = coracle_migrate::is_manifest(&text).unwrap_or(false);
        if !is_manifest {
            let converted = compose::convert(app, &file, &text, &self.compose)?;
            put(self.output.as_deref(), &converted.manifests)?;
            for warning in &converted.warnings {
                app.progress.warning(&format!("{name}:{warning}"));
            }
            return Ok(0);
        }
        if let Some(option) = self.compose.typed() {
            let message = format!("{name} holds manifests, and {option} is for Compose files");
            return Err(Error::new(ErrorId::Usage, message));
        }
        let migrated = manifests::migrate(&name, &text)?;
        put(self.output.as_deref(), &migrated.text)?;
        manifests::tell(app, &name, &migrated);
        Ok(0)
    }
}

fn read(file: &Path) -> Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        read.context(ErrorId::Usage, || "cannot read standard input".into())?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
        .context(ErrorId::Usage, || format!("cannot read {}", file.display()))
}

fn put(output: Option<&Path>, manifests: &str) -> Result<()> {
    let Some(output) = output else {
        crate::print::stdout(manifests);
        return Ok(());
    };
    if output.exists() {
        let message = format!("{} is there already", output.display());
        return Err(Error::new(ErrorId::Usage, message).help("choose another name, or remove it"));
    }
    atomic::write(output, manifests.as_bytes()).context(ErrorId::Usage, || {
        format!("cannot write {}", output.display())
    })
}
