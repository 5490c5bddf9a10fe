//! Builds an image from this source tree into a state folder and makes it the current one:
//! `cargo run -p coracle-iso --example build-image -- HOME [SOURCE [ARCH]]`.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use coracle_iso::{Arch, BuildObserver, BuildOptions, Builder, Step};
use std::path::{Path, PathBuf};
use std::time::Duration;

struct Lines;

impl BuildObserver for Lines {
    fn started(&self, step: &Step) {
        eprintln!("[{}] {step} ...", step.name);
    }
    fn finished(&self, step: &Step, took: Duration) {
        eprintln!("[{}] {step}: {:.1} s", step.name, took.as_secs_f32());
    }
    fn cached(&self, step: &Step) {
        eprintln!("[{}] {step}: in the cache", step.name);
    }
    fn output(&self, step: &Step, line: &str) {
        eprintln!("[{}]   {line}", step.name);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let home = PathBuf::from(
        std::env::args_os()
            .nth(1)
            .ok_or("usage: build-image HOME [SOURCE]")?,
    );
    let home = std::path::absolute(home)?;
    let here = || Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let source = std::env::args_os()
        .nth(2)
        .map_or_else(here, PathBuf::from)
        .canonicalize()?;
    let arch = match std::env::args().nth(3) {
        Some(name) => [Arch::Amd64, Arch::Arm64]
            .into_iter()
            .find(|arch| arch.name() == name),
        None => Arch::host(),
    };
    let arch = arch.ok_or("no image can be built for this processor")?;
    let options = BuildOptions::new(source, &home, arch);
    let store = options.store.clone();
    let image = Builder::new(options, &Lines).build()?;
    store.set_current(image.digest())?;
    for part in &image.index().parts {
        println!("{:>12} {}", part.size, image.path(part).display());
    }
    println!("{}", image.digest());
    Ok(())
}
