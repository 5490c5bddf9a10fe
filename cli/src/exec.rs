//! Another program in place of this one.

#[cfg(not(unix))]
use crate::error::Context as _;
#[cfg(unix)]
use crate::error::Error;
use crate::error::{ErrorId, Result};
use std::process::Command;

/// Replaces this process with the program, so that terminal, signals and exit status are its own.
#[cfg(unix)]
pub fn become_program(mut command: Command) -> Result<u8> {
    use std::os::unix::process::CommandExt as _;
    let error = command.exec();
    let name = command.get_program().to_string_lossy().into_owned();
    Err(Error::caused_by(
        ErrorId::Internal,
        format!("cannot run {name}"),
        &error,
    ))
}

/// Runs the program and passes its exit status on.
#[cfg(not(unix))]
pub fn become_program(mut command: Command) -> Result<u8> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .context(ErrorId::Internal, || format!("cannot run {name}"))?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1))
}
