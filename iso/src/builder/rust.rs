//! The Rust that compiles the agent: the host's toolchain where that has the standard library for the
//! image's architecture, else one with the library's source, which cargo compiles first. The latter is got
//! by `scripts/cross` of the source tree.

use super::command::Work;
use super::{BuildError, BuildOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPT: &str = "scripts/cross";
/// What of the standard library is compiled: the agent's panics abort.
const BUILD_STD: [&str; 2] = ["-Z", "build-std=std,panic_abort"];

/// A compiler, and the cargo that runs it.
pub(crate) struct Rust {
    /// What the compiler says of itself.
    pub(crate) version: String,
    /// The host's toolchain.
    toolchain: PathBuf,
    /// A folder with another `rustc`, and the source of its standard library.
    from_source: Option<PathBuf>,
}

impl Rust {
    pub(crate) fn find(work: &Work<'_>, options: &BuildOptions) -> Result<Self, BuildError> {
        let ask = |rustc: &Path, arguments: &[&str]| {
            let mut command = Command::new(rustc);
            work.text(command.current_dir(&options.source).args(arguments))
        };
        let own = Path::new("rustc");
        let toolchain = PathBuf::from(ask(own, &["--print", "sysroot"])?);
        let target = options.arch.rust_target();
        let library = ask(own, &["--print", "target-libdir", "--target", target])?;
        let from_source = match Path::new(&library).is_dir() {
            true => None,
            false => {
                let mut script = Command::new(options.source.join(SCRIPT));
                // It is told of the folder that `make` uses for its own.
                script.arg("--rust").env("CORACLE_CACHE", &options.cache);
                Some(PathBuf::from(work.text(&mut script)?))
            }
        };
        let version = match &from_source {
            None => ask(own, &["-vV"])?,
            Some(folder) => ask(&folder.join("rustc"), &["-vV"])?,
        };
        Ok(Self {
            version,
            toolchain,
            from_source,
        })
    }

    /// Makes a cargo on the host think of the same compiler, and of what that compiles.
    pub(crate) fn prepare(&self, command: &mut Command) {
        if let Some(folder) = &self.from_source {
            command.env("RUSTC", folder.join("rustc"));
            command.env("RUSTC_BOOTSTRAP", "1").args(BUILD_STD);
        }
    }

    /// Folders, and where they are in the build root.
    pub(crate) fn binds(&self) -> impl Iterator<Item = (&Path, &'static str)> {
        let compiler = self.from_source.as_deref().map(|folder| (folder, "rustc"));
        [(self.toolchain.as_path(), "rust")]
            .into_iter()
            .chain(compiler)
    }

    /// Cargo's environment in the build root.
    pub(crate) fn variables(&self) -> Vec<(&'static str, &'static str)> {
        match &self.from_source {
            None => vec![("RUSTC", "/rust/bin/rustc")],
            // Cargo lets stable compilers do what is not stable only then.
            Some(_) => vec![("RUSTC", "/rustc/rustc"), ("RUSTC_BOOTSTRAP", "1")],
        }
    }

    /// Cargo's further arguments.
    pub(crate) fn arguments(&self) -> &'static [&'static str] {
        match &self.from_source {
            None => &[],
            Some(_) => &BUILD_STD,
        }
    }
}
