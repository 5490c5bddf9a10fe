//! `coracle options`.

use super::{App, Cli};
use crate::error::Result;
use clap::CommandFactory as _;

/// List the flags that every command takes
#[derive(Debug, clap::Args)]
pub struct Args {}

impl Args {
    pub async fn run(self, _app: &App) -> Result<u8> {
        let command = Cli::command();
        for argument in command
            .get_arguments()
            .filter(|argument| argument.is_global_set())
        {
            let short = argument
                .get_short()
                .map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
            let long = argument.get_long().unwrap_or_default();
            let help = argument
                .get_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            crate::print::line(format!("  {short}--{long:<12} {help}"));
        }
        Ok(0)
    }
}
