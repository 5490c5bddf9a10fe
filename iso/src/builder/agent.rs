//! The guest's agent, compiled in the build root: its bytes depend on the sources, `Cargo.lock`,
//! the Rust toolchain and the build root's C library, and on no path of the host. For another architecture
//! than the host's it depends on whether the toolchain has the standard library for that or cargo builds
//! it, too.

use super::buildroot::BuildRoot;
use super::cache::{Cache, Made};
use super::command::Work;
use super::key::{Key, files_below};
use super::rust::Rust;
use super::{BuildError, BuildOptions, manifest};
use crate::Step;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Command;

const RECIPE: &str = include_str!("agent.rs");
const PROGRAM: &str = "coracle-agent";

/// One Rust package of the agent, as `cargo metadata` tells.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Crate {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) source: Option<String>,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Crate>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<ResolveNode>,
}

#[derive(Deserialize)]
struct ResolveNode {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

impl Metadata {
    pub(crate) fn read(work: &Work<'_>, options: &BuildOptions) -> Result<Self, BuildError> {
        let mut command = Command::new("cargo");
        command
            .current_dir(&options.source)
            .args(["metadata", "--format-version=1", "--locked"])
            .arg(format!("--filter-platform={}", options.arch.rust_target()));
        serde_json::from_slice(&work.capture(&mut command)?)
            .map_err(|error| work.wrong(format!("cargo metadata: {error}")))
    }

    /// The registry's packages that are linked into the agent (not those that only build it).
    pub(crate) fn linked(&self) -> Vec<&Crate> {
        let mut found: Vec<&str> = Vec::new();
        let mut todo: Vec<&str> = self
            .packages
            .iter()
            .filter(|package| package.name == PROGRAM && package.source.is_none())
            .map(|package| package.id.as_str())
            .collect();
        while let Some(id) = todo.pop() {
            if found.contains(&id) {
                continue;
            }
            found.push(id);
            let node = self.resolve.nodes.iter().find(|node| node.id == id);
            let dependencies = node.into_iter().flat_map(|node| &node.deps);
            let normal =
                dependencies.filter(|d| d.dep_kinds.iter().any(|kind| kind.kind.is_none()));
            todo.extend(normal.map(|dependency| dependency.pkg.as_str()));
        }
        let mut linked: Vec<_> = self
            .packages
            .iter()
            .filter(|package| found.contains(&package.id.as_str()) && package.source.is_some())
            .collect();
        linked.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        linked
    }

    /// `CARGO_HOME`: a registry package is at CARGO_HOME/registry/src/INDEX/NAME-VERSION.
    fn cargo_home(&self) -> Option<&Path> {
        self.packages
            .iter()
            .filter(|package| {
                package
                    .source
                    .as_ref()
                    .is_some_and(|s| s.starts_with("registry+"))
            })
            .find_map(|package| package.manifest_path.ancestors().nth(5))
    }
}

/// Builds `agent`.
pub(crate) fn build(
    cache: &Cache<'_>,
    options: &BuildOptions,
    root: &BuildRoot,
) -> Result<Made, BuildError> {
    let step = Step {
        name: "agent".into(),
        what: "guest agent".into(),
    };
    let rust = {
        let work = Work {
            step: &step,
            observer: cache.observer(),
        };
        Rust::find(&work, options)?
    };
    let key = Key::new(&step.name, RECIPE)
        .with("rustc", &rust.version)
        .with("target", options.arch.rust_target())
        .digest("build root", &root.digest)
        .with("workspace", crates(options)?)
        .folder(&options.source.join("iso/agent/src"))?
        .file(&options.source.join("iso/agent/Cargo.toml"))?
        .folder(&options.source.join("iso/protocol"))?
        .finish();
    cache.part(&step, &key, |work, out| {
        let mut fetch = Command::new("cargo");
        fetch.current_dir(&options.source).args([
            "fetch",
            "--locked",
            "--target",
            options.arch.rust_target(),
        ]);
        rust.prepare(&mut fetch);
        work.run(&mut fetch)?;
        let metadata = Metadata::read(work, options)?;
        let home = metadata
            .cargo_home()
            .ok_or_else(|| work.wrong("cargo's home is not found"))?;
        let target = cache.scratch("cargo-target")?;
        forget_own(&target)?;
        let mut binds: Vec<(&Path, &str)> = vec![
            (&options.source, "source"),
            (home, "cargo"),
            (&target, "target"),
        ];
        binds.extend(rust.binds());
        let triple = options.arch.rust_target();
        let compiler = root.compiler();
        let upper = triple.to_uppercase().replace('-', "_");
        let linker = format!("CARGO_TARGET_{upper}_LINKER");
        let cc = format!("CC_{}", triple.replace('-', "_"));
        let mut variables = vec![
            (linker.as_str(), compiler.as_str()),
            (cc.as_str(), compiler.as_str()),
            ("CARGO_HOME", "/cargo"),
            ("CARGO_TARGET_DIR", "/target"),
            ("CARGO_INCREMENTAL", "0"),
            ("PATH", "/rust/bin:/usr/sbin:/usr/bin"),
            ("RUSTFLAGS", "-C target-feature=+crt-static"),
        ];
        variables.extend(rust.variables());
        let mut command = vec![
            "/rust/bin/cargo",
            "build",
            "--locked",
            "--offline",
            "--profile",
            "guest",
            "-p",
            PROGRAM,
            "--bin",
            PROGRAM,
            "--target",
            triple,
        ];
        command.extend(rust.arguments());
        work.run(&mut root.inside(work, &binds, &variables, "/source", &command)?)?;
        let built = target.join(triple).join("guest").join(PROGRAM);
        std::fs::copy(&built, out.join("agent")).map_err(BuildError::io(&built))?;
        Ok(())
    })
}

/// What the agent's crates are, for the keys of parts that list them.
pub(crate) fn crates(options: &BuildOptions) -> Result<String, BuildError> {
    manifest::relevant(&options.source, PROGRAM)
}

/// Makes cargo compile our own packages again: it goes by the times of files, and those say
/// nothing when another copy of the sources is bound to the same place.
fn forget_own(target: &Path) -> Result<(), BuildError> {
    for path in files_below(target)? {
        let own = path.ancestors().any(|folder| {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            let fingerprints = folder.parent().is_some_and(|p| p.ends_with(".fingerprint"));
            fingerprints && name.starts_with("coracle-")
        });
        if own {
            std::fs::remove_file(&path).map_err(BuildError::io(&path))?;
        }
    }
    Ok(())
}
