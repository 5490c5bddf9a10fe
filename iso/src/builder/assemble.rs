//! The order of a build: from the profile to an installed image.

use super::buildroot::BuildRoot;
use super::cache::{Cache, Made};
use super::command::Work;
use super::component::{Component, Place};
use super::debian::Packages;
use super::golang::Go;
use super::key::Key;
use super::oci::{Definition, Images, Tag};
use super::tree::Tree;
use super::{
    BuildError, BuildOptions, agent, buildroot, cpio, debian, erofs, kernel, materials, oci, pause,
    root, sbom, tools,
};
use crate::files::write_atomic;
use crate::images::{FORMAT, INDEX_FILE, Image, ImageIndex, Part, Role};
use crate::{BuildObserver, Digest, HostPlatform, Step};
use coracle_protocol::{KUBERNETES_UUID, ROOT_UUID};
use std::collections::BTreeMap;
use std::fs;

const RECIPE: &str = concat!(
    include_str!("assemble.rs"),
    include_str!("root.rs"),
    include_str!("tree.rs"),
    include_str!("erofs.rs"),
    include_str!("cpio.rs"),
    include_str!("oci.rs")
);

const SBOM_RECIPE: &str = concat!(
    include_str!("materials.rs"),
    include_str!("sbom.rs"),
    include_str!("licence.rs")
);

/// Strength of the initial RAM file system's compression (zstd).
const INITRD_LEVEL: i32 = 19;

const LAYER: &str = "layer.erofs";
const SBOM: &str = "sbom.cdx.json";
const LOCK: &str = "debian.lock";

fn step(name: &str, what: impl Into<String>) -> Step {
    Step {
        name: name.into(),
        what: what.into(),
    }
}

/// Everything that is put together.
struct Parts {
    root: BuildRoot,
    go: Go,
    guest: Packages,
    kernel: Made,
    agent: Made,
    pause: Made,
    components: Vec<(Component, Made)>,
    images: Images,
}

/// A file of the image, and the part that it comes from.
struct Output<'a> {
    name: String,
    file: String,
    role: Role,
    part: &'a Made,
    from: String,
}

impl<'a> Output<'a> {
    fn new(name: &str, file: &str, role: Role, part: &'a Made, from: &str) -> Self {
        Self {
            name: name.into(),
            file: file.into(),
            role,
            part,
            from: from.into(),
        }
    }
}

/// Builds and installs.
pub(crate) fn build(
    options: &BuildOptions,
    observer: &dyn BuildObserver,
) -> Result<Image, BuildError> {
    let components = Component::read_all(&options.source.join("iso/components"))?;
    let components = chosen(options, components)?;
    let images = Images::read(&options.profile("images.toml"))?;
    tools::check(options.arch)?;
    let cache = Cache::open(&options.cache, observer)?;
    let root = buildroot::prepare(&cache, options)?;
    let mut wanted = debian::profile_lines(&options.profile("packages.txt"))?;
    wanted.push(format!("linux-image-{}", options.arch));
    let guest = debian::fetch(&cache, options, "guest", options.arch.name(), &wanted)?;
    let kernel = kernel::build(&cache, options, &root, &guest)?;
    let go = {
        let step = step("go", "Go toolchain");
        Go::find(
            &Work {
                step: &step,
                observer,
            },
            &options.source,
        )?
    };
    let mut built = Vec::new();
    for component in components {
        let part = go.build(&cache, options, &root, &component)?;
        built.push((component, part));
    }
    let pause = {
        let tag = images
            .images
            .iter()
            .find(|image| image.files.values().any(|f| f == "pause/pause"));
        let version = match tag.map(|image| &image.tag) {
            Some(Tag::Fixed(version)) => version.clone(),
            _ => String::from("unknown"),
        };
        let kubernetes = built
            .iter()
            .find(|(component, _)| component.is_kubernetes());
        let (kubernetes, _) = kubernetes.ok_or_else(|| BuildError::Source {
            file: options.source.join("iso/components"),
            reason: "there is no component with the place kubernetes".into(),
        })?;
        pause::build(&cache, &root, kubernetes, &version)?
    };
    let agent = agent::build(&cache, options, &root)?;
    buildroot::forget_others(&cache, &root)?;
    let parts = Parts {
        root,
        go,
        guest,
        kernel,
        agent,
        pause,
        components: built,
        images,
    };
    parts.assemble(&cache, options)
}

/// The components to build: all, but of Kubernetes only the versions asked for, in that order.
fn chosen(options: &BuildOptions, all: Vec<Component>) -> Result<Vec<Component>, BuildError> {
    let (kubernetes, mut others): (Vec<_>, Vec<_>) =
        all.into_iter().partition(Component::is_kubernetes);
    if options.kubernetes_versions.is_empty() {
        others.extend(kubernetes);
        return Ok(others);
    }
    for wanted in &options.kubernetes_versions {
        let Some(found) = kubernetes
            .iter()
            .find(|component| component.version == *wanted)
        else {
            return Err(BuildError::KubernetesVersion {
                wanted: wanted.clone(),
                known: kubernetes
                    .into_iter()
                    .map(|component| component.version)
                    .collect(),
            });
        };
        others.push(found.clone());
    }
    Ok(others)
}

impl Parts {
    /// Makes the file systems and puts all files of the image into the store.
    fn assemble(&self, cache: &Cache<'_>, options: &BuildOptions) -> Result<Image, BuildError> {
        let root = self.root_part(cache, options)?;
        let initrd = self.initrd_part(cache)?;
        let lists = self.lists_part(cache, options)?;
        let mut outputs = vec![
            Output::new(
                "kernel",
                "vmlinuz",
                Role::Kernel,
                &self.kernel,
                kernel::KERNEL,
            ),
            Output::new("initrd", "initrd", Role::Initrd, &initrd, "initrd"),
            Output::new("root", "root.erofs", Role::Root, &root, "root.erofs"),
            Output::new("bill of materials", SBOM, Role::Sbom, &lists, SBOM),
            Output::new("Debian lock", LOCK, Role::Lock, &lists, LOCK),
        ];
        let mut layers = Vec::new();
        for (component, part) in self.components.iter().filter(|(c, _)| c.is_kubernetes()) {
            layers.push((component, part, self.layer_part(cache, component, part)?));
        }
        for (component, programs, layer) in &layers {
            let version = &component.version;
            let name = format!("kubernetes {version}");
            let file = format!("kubernetes-{version}.erofs");
            let role = Role::Kubernetes {
                version: version.clone(),
            };
            outputs.push(Output::new(&name, &file, role, layer, LAYER));
            let hosts = component
                .description
                .programs
                .iter()
                .filter(|p| p.place == Place::Host);
            for program in hosts {
                let platform = HostPlatform::current();
                let name = format!("{} {version}", program.name);
                let file = format!("{}-{version}{}", program.name, platform.executable_suffix());
                let role = Role::Kubectl {
                    version: version.clone(),
                    platform,
                };
                outputs.push(Output::new(&name, &file, role, programs, &program.name));
            }
        }
        outputs.sort_by(|a, b| a.file.cmp(&b.file));
        let step = step("image", "image");
        let work = Work {
            step: &step,
            observer: cache.observer(),
        };
        let mut parts = Vec::new();
        for output in &outputs {
            let (size, sha256) = output.part.recorded(&work, &output.from)?;
            let (name, file) = (output.name.clone(), output.file.clone());
            parts.push(Part {
                name,
                file,
                size,
                sha256,
                role: output.role.clone(),
            });
        }
        let default_kubernetes = layers
            .first()
            .map(|(component, ..)| component.version.clone())
            .unwrap_or_default();
        let index = ImageIndex {
            format: FORMAT,
            arch: options.arch,
            default_kubernetes,
            parts,
        };
        let bytes = index
            .encode()
            .map_err(|error| work.wrong(error.to_string()))?;
        if let Ok(image) = options.store.open(&Digest::of(&bytes))
            && options.store.check_sizes(&image).is_ok()
        {
            return Ok(image);
        }
        let incoming = options.store.incoming()?;
        for output in &outputs {
            let from = output.part.file(&work, &output.from)?;
            let to = incoming.path().join(&output.file);
            fs::copy(&from, &to).map_err(BuildError::io(&to))?;
        }
        let path = incoming.path().join(INDEX_FILE);
        write_atomic(&path, &bytes).map_err(BuildError::io(&path))?;
        Ok(options.store.install(incoming)?)
    }

    /// The bill of materials, and the lock file of the Debian packages.
    fn lists_part(&self, cache: &Cache<'_>, options: &BuildOptions) -> Result<Made, BuildError> {
        let step = step("sbom", "bill of materials");
        let mut key = Key::new(&step.name, SBOM_RECIPE)
            .digest("guest", &self.guest.part.digest)
            .digest("build root", &self.root.digest)
            .digest("agent", &self.agent.digest)
            .file(&options.profile("excluded.txt"))?
            .with("crates", agent::crates(options)?);
        for (_, part) in &self.components {
            key = key.digest("programs", &part.digest);
        }
        cache.part(&step, &key.finish(), |work, out| {
            let mut all = materials::debian(work, options, &self.guest, &self.root)?;
            for (component, part) in &self.components {
                all.extend(materials::golang(work, &self.go, component, part)?);
            }
            all.extend(materials::cargo(work, options)?);
            let version = env!("CARGO_PKG_VERSION");
            let document = sbom::document(options.arch, version, all)
                .map_err(|error| work.wrong(error.to_string()))?;
            let sets = [("buildroot", &self.root.packages), ("guest", &self.guest)];
            for (name, bytes) in [
                (SBOM, document),
                (LOCK, debian::lock_text(&sets).into_bytes()),
            ] {
                let path = out.join(name);
                write_atomic(&path, &bytes).map_err(BuildError::io(&path))?;
            }
            Ok(())
        })
    }

    fn layer_part(
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

    fn initrd_part(&self, cache: &Cache<'_>) -> Result<Made, BuildError> {
        let step = step("initrd", "initial RAM file system");
        let key = Key::new(&step.name, RECIPE)
            .digest("agent", &self.agent.digest)
            .digest("kernel", &self.kernel.digest)
            .finish();
        cache.part(&step, &key, |work, out| {
            let all = self.modules(work)?;
            let mut tree = Tree::default();
            root::program(work, &mut tree, "init", &self.agent, "agent")?;
            let mut list = String::new();
            let early = self.kernel.read(work, kernel::EARLY)?;
            for path in String::from_utf8_lossy(&early).lines() {
                let content = all.content(path);
                let content = content.ok_or_else(|| work.wrong(format!("there is no {path}")))?;
                tree.file(path, content.clone(), 0o644);
                list += &format!("/{path}\n");
            }
            tree.file("modules.list", list.into_bytes(), 0o644);
            for folder in ["dev", "proc", "sys", "run", "sysroot"] {
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

    fn root_part(&self, cache: &Cache<'_>, options: &BuildOptions) -> Result<Made, BuildError> {
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
