//! The agent's program: which of its three lives this process is.
//!
//! ```text
//! /init                        stage 1: finds the root disk in the initramfs, becomes stage 2
//! /usr/lib/coracle/agent boot  stage 2: PID 1 of the machine
//! ... agent load-images        a one-shot component: imports the image archives
//! ```

use coracle_agent::{boot, images, stage1};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["/init", ..] => boot::or_power_off(stage1::run()),
        [_, "boot"] => boot::or_power_off(boot::run()),
        [_, "load-images"] => images::load_main(),
        _ => ExitCode::from(64),
    }
}
