//! `coracle completion SHELL`.

use super::{App, Cli};
use crate::error::Result;
use clap::CommandFactory as _;

/// Print a completion script for a shell
///
/// bash: `source <(coracle completion bash)`; zsh and fish likewise.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

impl Args {
    pub async fn run(self, _app: &App) -> Result<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "coracle", &mut script);
        crate::print::stdout(&String::from_utf8_lossy(&script));
        Ok(0)
    }
}
