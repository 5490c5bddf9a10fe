//! The pause program, from the C source that Kubernetes ships.

use super::BuildError;
use super::buildroot::BuildRoot;
use super::cache::{Cache, Made};
use super::component::Component;
use super::golang::Go;
use super::key::Key;
use crate::Step;
use std::path::Path;

const RECIPE: &str = include_str!("pause.rs");
const SOURCE: &str = "build/pause/linux";

/// Compiles `pause`, a static program.
pub(crate) fn build(
    cache: &Cache<'_>,
    root: &BuildRoot,
    go: &Go,
    kubernetes: &Component,
    version: &str,
) -> Result<Made, BuildError> {
    let step = Step {
        name: "pause".into(),
        what: format!("pause {version}"),
    };
    let key = Key::new(&step.name, RECIPE)
        .with("version", version)
        .file(&kubernetes.folder.join("go.sum"))?
        .digest("build root", &root.digest)
        .finish();
    cache.part(&step, &key, |work, out| {
        let source = go.module_folder(work, kubernetes)?.join(SOURCE);
        let binds: [(&Path, &str); 2] = [(&source, "source"), (out, "out")];
        let compiler = root.compiler();
        let define = format!("-DVERSION=v{version}");
        let command = [
            &compiler,
            "-Os",
            "-Wall",
            "-static",
            "-s",
            &define,
            "-o",
            "/out/pause",
            "pause.c",
        ];
        work.run(&mut root.inside(work, &binds, &[], "/source", &command)?)
    })
}
