//! The hidden `coracle package-files`: what is shipped beside the program and follows from its command line.

use super::{App, Cli};
use crate::error::{Context as _, ErrorId, Result};
use clap::{CommandFactory as _, ValueEnum as _};
use clap_complete::{Generator as _, Shell};
use coracle_vm::store::atomic;
use std::path::{Path, PathBuf};

/// Write completions for every shell and man pages to a folder, as releases ship them
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder; it is made when it is missing
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

impl Args {
    pub async fn run(self, _app: &App) -> Result<u8> {
        let completions = self.folder.join("completions");
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "coracle", &mut script);
            write(&completions, &shell.file_name("coracle"), &script)?;
        }
        let mut program = Cli::command().disable_help_subcommand(true);
        program.build();
        pages(program, &self.folder.join("man"))?;
        Ok(0)
    }
}

/// A page for the command and for each below it that people see.
fn pages(command: clap::Command, folder: &Path) -> Result<()> {
    let below = command.get_subcommands().filter(|one| !one.is_hide_set());
    for one in below.cloned() {
        pages(one, folder)?;
    }
    let page = clap_mangen::Man::new(command);
    let mut text = Vec::new();
    page.render(&mut text)
        .context(ErrorId::Internal, || "cannot write a man page".into())?;
    write(folder, &page.get_filename(), &text)
}

fn write(folder: &Path, name: &str, content: &[u8]) -> Result<()> {
    let file = folder.join(name);
    atomic::create_private_dirs(folder)
        .and_then(|()| atomic::write(&file, content))
        .context(ErrorId::Write, || {
            format!("cannot write {}", file.display())
        })
}
