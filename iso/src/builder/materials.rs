//! What an image is made of: asked of Debian's packages, of the Go programs themselves, of cargo.

use super::agent::Metadata;
use super::buildroot::{self, BuildRoot};
use super::cache::Made;
use super::command::Work;
use super::component::Component;
use super::debian::{Packages, profile_lines};
use super::golang::Go;
use super::sbom::Material;
use super::{BuildError, BuildOptions, licence};
use serde::Deserialize;
use std::fs;
use std::path::Path;

/// Debian packages with the licences that their copyright files name.
pub(crate) fn debian(
    work: &Work<'_>,
    options: &BuildOptions,
    guest: &Packages,
    root: &BuildRoot,
) -> Result<Vec<Material>, BuildError> {
    let excluded = profile_lines(&options.profile("excluded.txt"))?;
    let mut materials = Vec::new();
    let shipped = guest
        .list
        .iter()
        .filter(|package| !excluded.contains(&package.name));
    let (libraries, linked) = root.linked();
    let all = shipped
        .map(|p| (p, guest, false))
        .chain(linked.into_iter().map(|p| (p, libraries, true)));
    for (package, of, linked) in all {
        let p = package;
        let mut material = Material::debian(&p.name, &p.version, &p.arch, &p.sha256);
        material.facts.push(("source".into(), p.source.clone()));
        if linked {
            material
                .facts
                .push(("use".into(), "linked statically".into()));
        }
        let tree = buildroot::unpack_one(work, of, &p.file)?;
        if let Some(text) = tree.content(&format!("usr/share/doc/{}/copyright", p.name)) {
            material.licences = licence::of_debian(&String::from_utf8_lossy(text));
        }
        materials.push(material);
    }
    Ok(materials)
}

/// The modules that are linked into a component's programs, as the programs record them.
pub(crate) fn golang(
    work: &Work<'_>,
    go: &Go,
    component: &Component,
    part: &Made,
) -> Result<Vec<Material>, BuildError> {
    // Licences are read from the modules' sources, which may have been removed since.
    go.download(work, component)?;
    let mut materials = Vec::new();
    for program in &component.description.programs {
        for module in go.linked(work, &part.file(work, &program.name)?)? {
            let mut material = Material::golang(&module.path, &module.version, &module.sum);
            material
                .facts
                .push(("program".into(), program.name.clone()));
            material.licences.extend(module_licence(&module.folder));
            materials.push(material);
        }
    }
    Ok(materials)
}

fn module_licence(folder: &Path) -> Option<String> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    files.sort_unstable();
    files
        .iter()
        .filter(|file| {
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .to_uppercase();
            name.starts_with("LICENSE")
                || name.starts_with("LICENCE")
                || name.starts_with("COPYING")
        })
        .find_map(|file| licence::of_text(&String::from_utf8_lossy(&fs::read(file).ok()?)))
        .map(str::to_owned)
}

/// The crates that are linked into the agent.
pub(crate) fn cargo(work: &Work<'_>, options: &BuildOptions) -> Result<Vec<Material>, BuildError> {
    let file = options.source.join("Cargo.lock");
    let text = fs::read_to_string(&file).map_err(BuildError::io(&file))?;
    let lock: CargoLock = toml::from_str(&text).map_err(|error| BuildError::Source {
        file,
        reason: error.to_string(),
    })?;
    let metadata = Metadata::read(work, options)?;
    let materials = metadata.linked().into_iter().map(|package| {
        let same = |p: &&Locked| p.name == package.name && p.version == package.version;
        let checksum = lock
            .package
            .iter()
            .find(same)
            .and_then(|p| p.checksum.as_deref());
        Material::cargo(
            &package.name,
            &package.version,
            package.license.as_deref(),
            checksum,
        )
    });
    Ok(materials.collect())
}

#[derive(Deserialize)]
struct CargoLock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}
