//! Linux and its modules: a chosen few, uncompressed, with fresh dependency lists.

use super::buildroot::{self, BuildRoot};
use super::cache::{Cache, Made};
use super::command::Work;
use super::debian::{Packages, profile_lines_for};
use super::key::Key;
use super::tree::{Node, Tree};
use super::{BuildError, BuildOptions};
use crate::Step;
use crate::files::write_atomic;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const RECIPE: &str = concat!(include_str!("kernel.rs"), include_str!("tree.rs"));
/// The part's files.
pub(crate) const KERNEL: &str = "vmlinuz";
pub(crate) const MODULES: &str = "modules.tar";
/// Paths of the modules that stage 1 loads, in order.
pub(crate) const EARLY: &str = "early.txt";
/// The same for the ISO, whose machines may be of any kind.
pub(crate) const EARLY_OF_ISO: &str = "early-iso.txt";

const FOLDER: &str = "usr/lib/modules/";

/// Takes kernel and modules out of Debian's package.
pub(crate) fn build(
    cache: &Cache<'_>,
    options: &BuildOptions,
    root: &BuildRoot,
    packages: &Packages,
) -> Result<Made, BuildError> {
    let step = Step {
        name: "kernel".into(),
        what: "Linux and its modules".into(),
    };
    let wanted = options.profile("modules.txt");
    let early = options.profile("early-modules.txt");
    let firmware = options.profile("firmware-modules.txt");
    let package = packages.list.iter().find(|p| {
        p.name.starts_with("linux-image-") && p.name != format!("linux-image-{}", options.arch)
    });
    let work = Work {
        step: &step,
        observer: cache.observer(),
    };
    let package = package.ok_or_else(|| work.wrong("no linux-image package was downloaded"))?;
    let key = Key::new(&step.name, RECIPE)
        .with("package", &package.sha256)
        .digest("build root", &root.digest)
        .file(&wanted)?
        .file(&early)?
        .file(&firmware)?
        .finish();
    cache.part(&step, &key, |work, out| {
        let tree = buildroot::unpack_one(work, packages, &package.file)?;
        let temporary = cache.temporary()?;
        let all = Modules::new(work, root, tree, temporary.path())?;
        let wanted = profile_lines_for(&wanted, options.arch)?;
        let early = profile_lines_for(&early, options.arch)?;
        let firmware = profile_lines_for(&firmware, options.arch)?;
        let of_iso: Vec<_> = early.iter().chain(&firmware).collect();
        let chosen: BTreeSet<_> = all
            .with_dependencies(work, wanted.iter().chain(of_iso.iter().copied()))?
            .into_iter()
            .collect();
        let trimmed = all.trimmed(&chosen)?;
        let mut bytes = Vec::new();
        trimmed
            .to_tar(&mut bytes)
            .map_err(BuildError::io(MODULES))?;
        let put = |name: &str, content: &[u8]| {
            let path = out.join(name);
            write_atomic(&path, content).map_err(BuildError::io(&path))
        };
        put(MODULES, &bytes)?;
        for (list, names) in [(EARLY, early.iter().collect()), (EARLY_OF_ISO, of_iso)] {
            let order = all.with_dependencies(work, names.into_iter())?;
            let paths: Vec<_> = order
                .iter()
                .map(|path| format!("{}{}\n", all.base(), plain(path)))
                .collect();
            put(list, paths.concat().as_bytes())?;
        }
        put(KERNEL, all.kernel()?)
    })
}

/// A module's file name without its compression.
fn plain(path: &str) -> &str {
    path.strip_suffix(".xz").unwrap_or(path)
}

/// The name by which modules are known: underscores, no suffix.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

struct Modules<'a> {
    work: &'a Work<'a>,
    root: &'a BuildRoot,
    tree: Tree,
    version: String,
    folder: &'a Path,
    /// Path below the version's folder, by module name.
    paths: BTreeMap<String, String>,
    built_in: BTreeSet<String>,
    /// Paths that must be loaded before a path, nearest first.
    needs: BTreeMap<String, Vec<String>>,
}

impl<'a> Modules<'a> {
    fn new(
        work: &'a Work<'a>,
        root: &'a BuildRoot,
        mut tree: Tree,
        folder: &'a Path,
    ) -> Result<Self, BuildError> {
        let version = tree
            .iter()
            .find_map(|(path, _)| {
                path.strip_prefix(FOLDER)?
                    .split_once('/')
                    .map(|(v, _)| v.to_owned())
            })
            .ok_or_else(|| work.wrong("the kernel package has no modules"))?;
        tree.retain(|path| path.starts_with("boot/") || path.starts_with("usr/lib/modules"));
        let mut modules = Self {
            work,
            root,
            tree,
            version,
            folder,
            paths: BTreeMap::new(),
            built_in: BTreeSet::new(),
            needs: BTreeMap::new(),
        };
        let listed = modules.depmod(&modules.tree, "all")?;
        for line in listed.lines() {
            let Some((path, needs)) = line.split_once(':') else {
                continue;
            };
            modules.paths.insert(module_name(path), path.to_owned());
            let needs = needs.split_whitespace().map(str::to_owned).collect();
            modules.needs.insert(path.to_owned(), needs);
        }
        let built_in = format!("{}modules.builtin", modules.base());
        let text = modules
            .tree
            .content(&built_in)
            .map(|c| String::from_utf8_lossy(c).into_owned());
        modules.built_in = text.unwrap_or_default().lines().map(module_name).collect();
        Ok(modules)
    }

    fn base(&self) -> String {
        format!("{FOLDER}{}/", self.version)
    }

    fn kernel(&self) -> Result<&[u8], BuildError> {
        let path = format!("boot/vmlinuz-{}", self.version);
        let content = self.tree.content(&path);
        content
            .map(|c| &c[..])
            .ok_or_else(|| self.work.wrong(format!("there is no {path}")))
    }

    /// Runs depmod over a tree written to disk and returns `modules.dep`.
    fn depmod(&self, tree: &Tree, name: &str) -> Result<String, BuildError> {
        let base = self.folder.join(name);
        buildroot::write(tree, &base)?;
        let link = base.join("lib");
        std::os::unix::fs::symlink("usr/lib", &link).map_err(BuildError::io(&link))?;
        let mut depmod = self.root.tool("usr/sbin/depmod");
        self.work
            .run(depmod.arg("-b").arg(&base).arg(&self.version))?;
        let list = base.join(self.base()).join("modules.dep");
        fs::read_to_string(&list).map_err(BuildError::io(&list))
    }

    /// Paths of modules and of all that they depend on, in an order in which they can be loaded.
    fn with_dependencies<'n>(
        &self,
        work: &Work<'_>,
        names: impl Iterator<Item = &'n String>,
    ) -> Result<Vec<String>, BuildError> {
        let mut order: Vec<String> = Vec::new();
        let mut unknown = Vec::new();
        for name in names {
            let name = module_name(name);
            match self.paths.get(&name) {
                Some(path) => {
                    let needs = self.needs.get(path).into_iter().flatten().rev();
                    for path in needs.chain([path]) {
                        if !order.contains(path) {
                            order.push(path.clone());
                        }
                    }
                }
                None if self.built_in.contains(&name) => {}
                None => unknown.push(name),
            }
        }
        if unknown.is_empty() {
            Ok(order)
        } else {
            Err(work.wrong(format!(
                "Linux {} has no modules {}",
                self.version,
                unknown.join(", ")
            )))
        }
    }

    /// The chosen modules, uncompressed, with depmod's lists of them.
    fn trimmed(&self, chosen: &BTreeSet<String>) -> Result<Tree, BuildError> {
        let base = self.base();
        let all = self.folder.join("all").join(&base);
        let packed: Vec<_> = chosen
            .iter()
            .filter(|p| p.ends_with(".xz"))
            .map(|p| all.join(p))
            .collect();
        if !packed.is_empty() {
            let mut unpack = self.root.tool("usr/bin/xz");
            self.work
                .run(unpack.arg("--decompress").arg("--force").args(&packed))?;
        }
        let mut tree = Tree::default();
        for path in chosen {
            let path = plain(path);
            let file = all.join(path);
            let content = fs::read(&file).map_err(BuildError::io(&file))?;
            tree.file(&format!("{base}{path}"), content, 0o644);
        }
        for list in [
            "modules.builtin",
            "modules.builtin.modinfo",
            "modules.order",
        ] {
            if let Some(content) = self.tree.content(&format!("{base}{list}")) {
                tree.file(&format!("{base}{list}"), content.clone(), 0o644);
            }
        }
        self.depmod(&tree, "chosen")?;
        let folder = self.folder.join("chosen").join(&base);
        for entry in fs::read_dir(&folder)
            .map_err(BuildError::io(&folder))?
            .flatten()
        {
            let path = entry.path();
            if path.is_file() {
                let content = fs::read(&path).map_err(BuildError::io(&path))?;
                let name = entry.file_name().to_string_lossy().into_owned();
                tree.file(&format!("{base}{name}"), content, 0o644);
            }
        }
        tree.complete();
        debug_assert!(
            tree.iter()
                .all(|(_, entry)| !matches!(entry.node, Node::Link(_)))
        );
        Ok(tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_names_are_read_from_paths() {
        assert_eq!(module_name("kernel/net/8021q/8021q.ko.xz"), "8021q");
        assert_eq!(
            module_name("kernel/drivers/virtio/virtio-pci.ko"),
            "virtio_pci"
        );
        assert_eq!(module_name("nf_tables"), "nf_tables");
        assert_eq!(plain("a/b.ko.xz"), "a/b.ko");
    }
}
