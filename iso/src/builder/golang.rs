//! Go programs from the components' modules.

use super::buildroot::BuildRoot;
use super::cache::{Cache, Made};
use super::command::Work;
use super::component::{Component, Place};
use super::key::Key;
use super::{BuildError, BuildOptions};
use crate::{HostPlatform, Step};
use std::path::{Path, PathBuf};
use std::process::Command;

const RECIPE: &str = include_str!("golang.rs");

/// The host's Go toolchain.
pub(crate) struct Go {
    /// `go version`, without the host's platform having a say in what it compiles.
    version: String,
    root: PathBuf,
    modules: PathBuf,
}

/// A module whose code is in a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinkedModule {
    pub(crate) path: String,
    pub(crate) version: String,
    /// Hash of the module's files, in go.sum's form.
    pub(crate) sum: String,
    /// Where the module's sources are on this host.
    pub(crate) folder: PathBuf,
}

/// Settings that must not come from the user's environment, because they change what is built.
const FORGET: [&str; 8] = [
    "CGO_CFLAGS",
    "CGO_LDFLAGS",
    "GOBIN",
    "GOEXPERIMENT",
    "GODEBUG",
    "GOFIPS140",
    "GOARM64",
    "GOAMD64",
];

fn go(folder: &Path) -> Command {
    let mut command = Command::new("go");
    command
        .current_dir(folder)
        .env("GOFLAGS", "")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env("GO111MODULE", "on")
        .env("CGO_ENABLED", "0");
    for variable in FORGET {
        command.env_remove(variable);
    }
    command
}

impl Go {
    pub(crate) fn find(work: &Work<'_>, folder: &Path) -> Result<Self, BuildError> {
        let text = work.text(go(folder).args(["env", "GOVERSION", "GOROOT", "GOMODCACHE"]))?;
        let [version, root, modules] = text.lines().collect::<Vec<_>>()[..] else {
            return Err(work.wrong("go env did not print three lines"));
        };
        Ok(Self {
            version: version.to_owned(),
            root: root.into(),
            modules: modules.into(),
        })
    }

    /// Builds the programs of a component, each a file of the part.
    pub(crate) fn build(
        &self,
        cache: &Cache<'_>,
        options: &BuildOptions,
        root: &BuildRoot,
        component: &Component,
    ) -> Result<Made, BuildError> {
        let step = Step {
            name: component.name.clone(),
            what: format!("{} {}", component.name, component.version),
        };
        let mut key = Key::new(&step.name, RECIPE)
            .with("go", &self.version)
            .with("arch", options.arch.name())
            .with("flags", component.linker_flags())
            .folder(&component.folder)?;
        if component.description.cgo {
            key = key.digest("build root", &root.digest);
        }
        if component
            .description
            .programs
            .iter()
            .any(|p| p.place == Place::Host)
        {
            let host = HostPlatform::current();
            key = key.with("host", format!("{}/{}", host.os, host.arch));
        }
        cache.part(&step, &key.finish(), |work, out| {
            self.download(work, component)?;
            for program in &component.description.programs {
                if component.description.cgo {
                    let made = (program.package.as_str(), options.arch.name());
                    self.build_inside(work, cache, root, component, made, out)?;
                } else {
                    let (os, arch) = match program.place {
                        Place::Host => {
                            let host = HostPlatform::current();
                            (host.os, host.arch)
                        }
                        _ => ("linux".into(), options.arch.name().into()),
                    };
                    let mut command = go(&component.folder);
                    command
                        .env("GOOS", os)
                        .env("GOARCH", arch)
                        .arg("build")
                        .args(flags(component));
                    command
                        .arg("-o")
                        .arg(out.join(&program.name))
                        .arg(&program.package);
                    work.run(&mut command)?;
                }
            }
            Ok(())
        })
    }

    /// Builds a package for an architecture with the build root's C compiler for that.
    fn build_inside(
        &self,
        work: &Work<'_>,
        cache: &Cache<'_>,
        root: &BuildRoot,
        component: &Component,
        (package, arch): (&str, &str),
        out: &Path,
    ) -> Result<(), BuildError> {
        let compiled = cache.scratch("go-build")?;
        let binds = [
            (self.root.as_path(), "go/root"),
            (self.modules.as_path(), "go/mod"),
            (compiled.as_path(), "go/cache"),
            (component.folder.as_path(), "source"),
            (out, "out"),
        ];
        let (compiler, libraries) = (root.compiler(), root.pkg_config());
        let variables = [
            ("GOOS", "linux"),
            ("GOARCH", arch),
            ("CC", &compiler),
            ("PKG_CONFIG_LIBDIR", &libraries),
            ("GOROOT", "/go/root"),
            ("GOMODCACHE", "/go/mod"),
            ("GOCACHE", "/go/cache"),
            ("GOENV", "off"),
            ("GOFLAGS", ""),
            ("GOPROXY", "off"),
            ("GOTOOLCHAIN", "local"),
            ("GOWORK", "off"),
            ("CGO_ENABLED", "1"),
        ];
        let flags = flags(component);
        let mut command = vec!["/go/root/bin/go", "build"];
        command.extend(flags.iter().map(String::as_str));
        command.extend(["-o", "/out/", package]);
        work.run(&mut root.inside(work, &binds, &variables, "/source", &command)?)
    }

    /// Makes sure that the sources of all of a component's modules are on this host.
    pub(crate) fn download(
        &self,
        work: &Work<'_>,
        component: &Component,
    ) -> Result<(), BuildError> {
        work.run(go(&component.folder).args(["mod", "download"]))
    }

    /// The modules that a program says it was built from.
    pub(crate) fn linked(
        &self,
        work: &Work<'_>,
        program: &Path,
    ) -> Result<Vec<LinkedModule>, BuildError> {
        let text = work.text(Command::new("go").args(["version", "-m"]).arg(program))?;
        let modules = linked_modules(&text, &self.modules);
        if modules.is_empty() {
            let program = program.display();
            return Err(work.wrong(format!("{program} does not say what it is built from")));
        }
        Ok(modules)
    }

    /// Where the sources of a module that a component uses are.
    pub(crate) fn module_folder(
        &self,
        work: &Work<'_>,
        component: &Component,
    ) -> Result<PathBuf, BuildError> {
        self.download(work, component)?;
        let module = &component.description.module;
        let text =
            work.text(go(&component.folder).args(["list", "-m", "-f", "{{.Dir}}", module]))?;
        if text.is_empty() {
            return Err(work.wrong(format!("go does not say where {module} is")));
        }
        Ok(text.into())
    }
}

fn flags(component: &Component) -> Vec<String> {
    let tags = component.description.tags.join(",");
    let mut flags = ["-trimpath", "-buildvcs=false", "-mod=readonly"]
        .map(str::to_owned)
        .to_vec();
    if !tags.is_empty() {
        flags.push(format!("-tags={tags}"));
    }
    flags.push(format!("-ldflags={}", component.linker_flags()));
    flags
}

/// Reads what `go version -m` prints: `dep PATH VERSION SUM`, and after a module that is replaced
/// `=> PATH VERSION SUM`.
fn linked_modules(text: &str, cache: &Path) -> Vec<LinkedModule> {
    let mut modules: Vec<LinkedModule> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let kind = words.next();
        if !matches!(kind, Some("dep" | "=>")) {
            continue;
        }
        let (Some(path), Some(version)) = (words.next(), words.next()) else {
            continue;
        };
        if kind == Some("=>") {
            modules.pop();
        }
        modules.push(LinkedModule {
            path: path.to_owned(),
            version: version.to_owned(),
            sum: words.next().unwrap_or_default().to_owned(),
            folder: cache.join(format!("{}@{}", escaped(path), escaped(version))),
        });
    }
    modules
}

/// How the module cache writes capital letters: `!` and the small letter (go.dev/ref/mod#module-cache).
fn escaped(path: &str) -> String {
    path.chars().fold(String::new(), |mut text, c| {
        if c.is_ascii_uppercase() {
            text.push('!');
        }
        text.push(c.to_ascii_lowercase());
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_read_from_what_a_program_says() {
        let text = "x: go1.26\n\tpath\ta.example/m\n\tmod\ta.example\t(devel)\t\n\
                    \tdep\tgithub.com/BurntSushi/toml\tv1.0.0\th1:a=\n\
                    \tdep\tk8s.io/api\tv0.0.0\t\n\t=>\tk8s.io/api\tv0.37.2\th1:b=\n\
                    \tbuild\t-trimpath=true\n";
        let modules = linked_modules(text, Path::new("/cache"));
        let said: Vec<_> = modules
            .iter()
            .map(|m| (m.path.as_str(), m.version.as_str(), m.sum.as_str()))
            .collect();
        assert_eq!(
            said,
            [
                ("github.com/BurntSushi/toml", "v1.0.0", "h1:a="),
                ("k8s.io/api", "v0.37.2", "h1:b=")
            ]
        );
        assert_eq!(
            modules[0].folder,
            Path::new("/cache/github.com/!burnt!sushi/toml@v1.0.0")
        );
    }
}
