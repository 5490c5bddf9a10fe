//! The image's file systems: the Kubernetes layer, the initial RAM file system, the root, and
//! the container images that are on it.

use super::assemble::{Parts, step};
use super::cache::{Cache, Made};
use super::command::Work;
use super::component::{Component, Place};
use super::key::Key;
use super::oci::{Definition, Tag};
use super::tree::Tree;
use super::{BuildError, BuildOptions, cpio, debian, erofs, kernel, oci, root};
use crate::files::write_atomic;
use coracle_protocol::{KUBERNETES_UUID, ROOT_UUID};
use std::collections::BTreeMap;

const RECIPE: &str = concat!(
    include_str!("filesystems.rs"),
    include_str!("root.rs"),
    include_str!("tree.rs"),
    include_str!("erofs.rs"),
    include_str!("cpio.rs"),
    include_str!("oci.rs")
);

/// The file of a layer's part.
pub(crate) const LAYER: &str = "layer.erofs";
/// Strength of the initial RAM file system's compression (zstd).
const INITRD_LEVEL: i32 = 19;

impl Parts {
    pub(crate) fn layer_part(
        &self,
        cache: &Cache<'_>,
        component: &Component,
        programs: &Made,
    ) -> Result<Made, BuildError> {
        let step = step(
            "layer",
            format!("layer of Kubernetes {}", component.version),
        );
        let key = Key::new(&step.name, RECIPE)
            .digest("programs", &programs.digest)
            .digest("build root", &self.root.digest)
            .with("description", format!("{:?}", component.description))
            .finish();
        cache.part(&step, &key, |work, out| {
            let mut tree = Tree::default();
            for program in &component.description.programs {
                let Place::Kubernetes(path) = &program.place else {
                    continue;
                };
                place(
                    work,
                    &mut tree,
                    path,
                    programs,
                    &program.name,
                    &program.links,
                )?;
            }
            tree.complete();
            let image = out.join(LAYER);
            erofs::write(cache, work, &self.root, &tree, KUBERNETES_UUID, &image)
        })
    }

    /// The agent, and the modules of a list of the kernel's part.
    pub(crate) fn initrd_part(&self, cache: &Cache<'_>, list: &str) -> Result<Made, BuildError> {
        let step = step("initrd", format!("initial RAM file system ({list})"));
        let key = Key::new(&step.name, RECIPE)
            .digest("agent", &self.agent.digest)
            .digest("kernel", &self.kernel.digest)
            .with("modules", list)
            .finish();
        cache.part(&step, &key, |work, out| {
            let all = self.modules(work)?;
            let mut tree = Tree::default();
            root::program(work, &mut tree, "init", &self.agent, "agent")?;
            let mut files = String::new();
            let early = self.kernel.read(work, list)?;
            for path in String::from_utf8_lossy(&early).lines() {
                let content = all.content(path);
                let content = content.ok_or_else(|| work.wrong(format!("there is no {path}")))?;
                tree.file(path, content.clone(), 0o644);
                files += &format!("/{path}\n");
            }
            tree.file("modules.list", files.into_bytes(), 0o644);
            for folder in ["dev", "proc", "sys", "run", "iso", "sysroot"] {
                tree.folder(folder);
            }
            tree.complete();
            let mut archive = Vec::new();
            cpio::write(&tree, &mut archive).map_err(BuildError::io("initrd"))?;
            let packed = zstd::encode_all(archive.as_slice(), INITRD_LEVEL)
                .map_err(BuildError::io("initrd"))?;
            let path = out.join("initrd");
            write_atomic(&path, &packed).map_err(BuildError::io(&path))
        })
    }

    fn modules(&self, work: &Work<'_>) -> Result<Tree, BuildError> {
        let modules = self.kernel.read(work, kernel::MODULES)?;
        Tree::from_tar(modules.as_slice()).map_err(BuildError::io(kernel::MODULES))
    }

    pub(crate) fn root_part(
        &self,
        cache: &Cache<'_>,
        options: &BuildOptions,
    ) -> Result<Made, BuildError> {
        let step = step("root", "root file system");
        let rootfs = options.source.join("iso/rootfs");
        let mut key = Key::new(&step.name, RECIPE)
            .digest("packages", &self.guest.part.digest)
            .digest("kernel", &self.kernel.digest)
            .digest("agent", &self.agent.digest)
            .digest("pause", &self.pause.digest)
            .digest("build root", &self.root.digest)
            .folder(&rootfs)?;
        for (component, part) in self.components.iter().filter(|(c, _)| !c.is_kubernetes()) {
            key = key
                .with(&component.name, format!("{:?}", component.description))
                .digest("programs", &part.digest);
        }
        for file in [
            "excluded",
            "trim",
            "links",
            "permissions",
            "folders",
            "busybox-applets",
        ] {
            key = key.file(&options.profile(&format!("{file}.txt")))?;
        }
        let key = key.file(&options.profile("images.toml"))?.finish();
        cache.part(&step, &key, |work, out| {
            let mut tree = root::userland(work, options, &self.guest)?;
            for definition in &self.images.images {
                let (file, archive) = self.image(work, options, definition, &tree)?;
                tree.file(
                    &format!("usr/lib/coracle/images/{file}.tar"),
                    archive,
                    0o644,
                );
            }
            tree.merge(self.modules(work)?);
            for (component, part) in &self.components {
                for program in &component.description.programs {
                    let Place::Root(path) = &program.place else {
                        continue;
                    };
                    place(work, &mut tree, path, part, &program.name, &program.links)?;
                }
            }
            root::program(
                work,
                &mut tree,
                "usr/lib/coracle/agent",
                &self.agent,
                "agent",
            )?;
            root::overlay(&mut tree, &rootfs)?;
            tree.complete();
            root::permissions(work, options, &mut tree)?;
            erofs::write(
                cache,
                work,
                &self.root,
                &tree,
                ROOT_UUID,
                &out.join("root.erofs"),
            )
        })
    }

    /// One container image: its file name without the suffix, and its archive.
    fn image(
        &self,
        work: &Work<'_>,
        options: &BuildOptions,
        definition: &Definition,
        debian: &Tree,
    ) -> Result<(String, Vec<u8>), BuildError> {
        let parts: BTreeMap<&str, (&Component, &Made)> = self
            .components
            .iter()
            .map(|(c, part)| (c.name.as_str(), (c, part)))
            .collect();
        let tag = match &definition.tag {
            Tag::Fixed(tag) => tag.clone(),
            Tag::Of { component } => match parts.get(component.as_str()) {
                Some((component, _)) => component.bare_version().to_owned(),
                None => return Err(work.wrong(format!("there is no component {component}"))),
            },
        };
        let mut layer = Tree::default();
        for (path, source) in &definition.files {
            match source.split_once('/') {
                Some(("debian", file)) => {
                    let content = debian.content(file);
                    let content =
                        content.ok_or_else(|| work.wrong(format!("there is no {file}")))?;
                    let mode = debian.get(file).map_or(0o644, |entry| entry.mode);
                    layer.file(path, content.clone(), mode);
                }
                Some(("pause", program)) => {
                    root::program(work, &mut layer, path, &self.pause, program)?;
                }
                Some((component, program)) if parts.contains_key(component) => {
                    root::program(work, &mut layer, path, parts[component].1, program)?;
                }
                _ => {
                    return Err(work.wrong(format!(
                        "{source} is neither a component's program nor debian/PATH"
                    )));
                }
            }
        }
        for (path, text) in &definition.texts {
            layer.file(path, text.as_bytes(), 0o644);
        }
        for folder in &definition.folders {
            layer.folder(folder);
        }
        if let Some(links) = &definition.links {
            for name in debian::profile_lines(&options.profile(&links.list))? {
                layer.link(&format!("{}/{name}", links.folder), &links.target);
            }
        }
        layer.complete();
        let reference = format!("{}:{tag}", definition.name);
        let archive = oci::archive(work, definition, &reference, options.arch, &layer)?;
        let name = definition
            .name
            .rsplit('/')
            .next()
            .unwrap_or(&definition.name);
        Ok((name.to_owned(), archive))
    }
}
/// Puts a program and its further names into a tree.
fn place(
    work: &Work<'_>,
    tree: &mut Tree,
    path: &str,
    part: &Made,
    name: &str,
    links: &[String],
) -> Result<(), BuildError> {
    root::program(work, tree, path, part, name)?;
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    for link in links {
        tree.link(&format!("{folder}/{link}"), file);
    }
    Ok(())
}
