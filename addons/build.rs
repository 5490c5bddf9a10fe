//! Embeds `catalogue/` into the library: one constant that lists every file and includes its text.
//! Cargo watches the whole folder, so a file added to it is embedded by the next build.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("catalogue");
    println!("cargo::rerun-if-changed={}", root.display());
    println!("cargo::rerun-if-changed=build.rs");

    let mut code = String::from("&[\n");
    for folder in sorted(&root)?.iter().filter(|path| path.is_dir()) {
        writeln!(code, "    ({:?}, &[", name(folder)?)?;
        embed(&mut code, folder, "")?;
        code.push_str("    ]),\n");
    }
    code.push_str("]\n");
    let out = PathBuf::from(env::var("OUT_DIR")?).join("builtin.rs");
    File::create(out)?.write_all(code.as_bytes())?;
    Ok(())
}

/// Adds every file below `folder`; `prefix` is its path inside the add-on, with a slash at the end.
fn embed(code: &mut String, folder: &Path, prefix: &str) -> Result<(), Box<dyn std::error::Error>> {
    for path in sorted(folder)? {
        let relative = format!("{prefix}{}", name(&path)?);
        if path.is_dir() {
            embed(code, &path, &format!("{relative}/"))?;
        } else {
            writeln!(code, "        ({relative:?}, include_str!({path:?})),")?;
        }
    }
    Ok(())
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> io::Result<&str> {
    path.file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| io::Error::other(format!("{} is not a UTF-8 name", path.display())))
}
