//! The order of a build: from the profile to an installed image.

use super::buildroot::BuildRoot;
use super::cache::{Cache, Made};
use super::command::Work;
use super::component::{Component, Place};
use super::debian::Packages;
use super::filesystems::LAYER;
use super::golang::Go;
use super::key::Key;
use super::oci::{Images, Tag};
use super::{
    BuildError, BuildOptions, agent, buildroot, debian, iso, kernel, materials, pause, sbom, tools,
};
use crate::files::write_atomic;
use crate::images::{FORMAT, INDEX_FILE, Image, ImageIndex, Part, Role};
use crate::{Arch, BuildObserver, Digest, HostPlatform, Step};
use std::fs;
use std::time::SystemTime;

const SBOM_RECIPE: &str = concat!(
    include_str!("materials.rs"),
    include_str!("sbom.rs"),
    include_str!("licence.rs")
);

const SBOM: &str = "sbom.cdx.json";
const LOCK: &str = "debian.lock";

/// A step that makes one part.
pub(crate) fn step(name: &str, what: impl Into<String>) -> Step {
    Step {
        name: name.into(),
        what: what.into(),
    }
}

/// Everything that is put together.
pub(crate) struct Parts {
    pub(crate) root: BuildRoot,
    pub(crate) go: Go,
    pub(crate) guest: Packages,
    pub(crate) kernel: Made,
    pub(crate) agent: Made,
    pub(crate) pause: Made,
    pub(crate) components: Vec<(Component, Made)>,
    pub(crate) images: Images,
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
    tools::check()?;
    let cache = Cache::open(&options.cache, observer)?;
    let root = buildroot::prepare(&cache, options)?;
    let mut wanted = debian::profile_lines_for(&options.profile("packages.txt"), options.arch)?;
    wanted.push(format!("linux-image-{}", options.arch));
    let guest = debian::fetch(&cache, options, "guest", options.arch, &wanted)?;
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
        pause::build(&cache, &root, &go, kubernetes, &version)?
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
    let image = parts.assemble(&cache, options)?;
    cache.forget_unused(SystemTime::now())?;
    Ok(image)
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
        let initrd = self.initrd_part(cache, kernel::EARLY)?;
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
            Output::new("root", iso::ROOT_FILE, Role::Root, &root, "root.erofs"),
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
            let file = iso::layer_file(version);
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
        let iso = match options.iso {
            true => {
                let initrd = self.initrd_part(cache, kernel::EARLY_OF_ISO)?;
                let mut files = vec![(iso::ROOT_FILE.to_owned(), &root, "root.erofs")];
                for (component, _, layer) in &layers {
                    files.push((iso::layer_file(&component.version), layer, LAYER));
                }
                Some(self.iso_part(cache, options, &initrd, &files)?)
            }
            false => None,
        };
        if let Some(part) = &iso {
            outputs.push(Output::new("ISO", iso::ISO, Role::Iso, part, iso::ISO));
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
            emulated_command_line: emulated_command_line(options.arch).into(),
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
            let mut sets = self.root.sets();
            sets.push(("guest", &self.guest));
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
}

/// One processor boots, and the agent lets the others join: its module `processors` says why. The
/// kernel is not to patch itself for one processor, and back for several.
fn emulated_command_line(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "maxcpus=1 noreplace-smp",
        Arch::Arm64 => "maxcpus=1",
    }
}
