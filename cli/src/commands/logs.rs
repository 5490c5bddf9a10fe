//! `coracle logs`.

use super::App;
use crate::cluster::Cluster;
use crate::error::{Error, ErrorId, Result};
use std::io::Write as _;

/// Print what the machine and its components say
///
/// Without --component, every line is led by its source.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Go on with what is written later
    #[arg(short, long)]
    follow: bool,
    /// One component, `agent`, `kernel`, or `console` for the serial console
    #[arg(long, value_name = "NAME", default_value = "")]
    component: String,
    /// Only the last lines of each
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 60)]
    length: u32,
}

impl Args {
    pub async fn run(self, app: &App) -> Result<u8> {
        let cluster = Cluster::find(&app.settings)?;
        if self.component == "console" {
            return console(&cluster.serial_log(), self.length as usize);
        }
        let agent = match cluster.agent().await {
            Ok(agent) => agent,
            // A machine that is off or stuck still has its console.
            Err(error) if self.component.is_empty() && cluster.serial_log().exists() => {
                app.progress.warning(&format!(
                    "{}: showing the last words of its console",
                    error.message()
                ));
                return console(&cluster.serial_log(), self.length as usize);
            }
            Err(error) => return Err(error),
        };
        let mut lines = agent
            .logs(&self.component, self.follow, self.length)
            .await?;
        let mut out = std::io::stdout();
        while let Some(chunk) = lines.next().await? {
            let text = String::from_utf8_lossy(&chunk.data);
            for line in text.lines() {
                let written = if self.component.is_empty() {
                    writeln!(out, "{}: {line}", chunk.component)
                } else {
                    writeln!(out, "{line}")
                };
                if written.is_err() {
                    return Ok(0);
                }
            }
        }
        Ok(0)
    }
}

fn console(file: &std::path::Path, lines: usize) -> Result<u8> {
    let text = std::fs::read(file).map_err(|error| {
        Error::caused_by(
            ErrorId::MachineNotRunning,
            "the machine has said nothing yet",
            &error,
        )
    })?;
    let text = String::from_utf8_lossy(&text);
    let all: Vec<_> = text.lines().collect();
    for line in &all[all.len().saturating_sub(lines)..] {
        crate::print::line(line.trim_end_matches('\r'));
    }
    Ok(0)
}
