//! QEMU with something about it changed.

use crate::files::write;
use crate::run::installed;
use crate::sandbox::Coracle;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Runs the real QEMU as it is: another program to whoever compares.
pub const ANOTHER_QEMU: &str = "#!/bin/sh\nexec \"$REAL_QEMU\" \"$@\"\n";

/// A program in place of QEMU: `script`, a text of bash with its first line, which ends by running the
/// real one, in `$REAL_QEMU`. The variables are set for it. Programs of different names lie side by side.
pub fn qemu_through(
    coracle: &Coracle,
    name: &str,
    script: &str,
    variables: &[(&str, &Path)],
) -> PathBuf {
    let program = format!("qemu-system-{}", std::env::consts::ARCH);
    let real = installed(&program).expect("scripts/setup installs it");
    let folder = coracle.work().join(name);
    fs::create_dir_all(&folder).unwrap();
    let set = |name: &str, value: &Path| format!("export {name}='{}'\n", value.display());
    let variables = variables.iter().map(|(name, value)| set(name, value));
    let (first, script) = script.split_once('\n').unwrap();
    let path = folder.join(program);
    let head = set("REAL_QEMU", &real);
    write(
        &path,
        format!("{first}\n{head}{}{script}", variables.collect::<String>()),
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}
