//! The build root: compilers and file system tools of Debian trixie, unpacked into a folder, so
//! that what they make does not depend on the host. For an image of another architecture than the
//! host's there is a C compiler for that too, and the libraries that its programs are linked with.
//!
//! Tools that touch nothing but the files they are given run on the host through the build
//! root's own loader. Compilers run inside, in a mount namespace: as root by chroot, as anybody
//! else in a user namespace. Folders that they need are bound to fixed places, so that no path
//! of the host gets into their output.

use super::cache::Cache;
use super::command::Work;
use super::debian::{self, Package, Packages};
use super::key::Key;
use super::tree::{EPOCH, Node, Tree};
use super::{BuildError, BuildOptions, tools};
use crate::files::remove_all;
use crate::{Arch, Digest, Step};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const RECIPE: &str = include_str!("buildroot.rs");

/// What installing the packages would have linked.
const LINKS: [(&str, &str); 1] = [("usr/bin/cc", "gcc")];

/// Run by the host's shell in a new mount namespace: the root, then pairs of folders to bind and
/// their places, then `--`, the working folder and the command.
const ENTER: &str = r#"set -e
root=$1; shift
mount --rbind /dev "$root/dev"
mount --rbind /proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
while [ "$1" != -- ]; do mount --bind "$1" "$root$2"; shift 2; done
shift
folder=$1; shift
exec chroot "$root" /usr/bin/env -i --chdir="$folder" PATH=/usr/sbin:/usr/bin HOME=/tmp LC_ALL=C.UTF-8 TZ=UTC \
    SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" "$@"
"#;

/// Places inside that folders can be bound to.
const PLACES: [&str; 9] = [
    "source", "out", "go/root", "go/mod", "go/cache", "rust", "rustc", "cargo", "target",
];

/// Packages whose code is linked into programs of the image.
const LINKED: [&str; 2] = ["libc6-dev", "libseccomp-dev"];
/// Where these packages have what is linked; the rest of them is for a host of their architecture.
const LIBRARIES: [&str; 3] = ["usr/include", "usr/lib/linux", "usr/lib/MULTIARCH"];

/// An unpacked build root.
pub(crate) struct BuildRoot {
    folder: PathBuf,
    /// Of the programs in it.
    host: Arch,
    /// Of what it compiles.
    arch: Arch,
    /// What it was unpacked from.
    pub(crate) packages: Packages,
    /// The libraries of [`Self::arch`], where that is not the host's.
    pub(crate) libraries: Option<Packages>,
    /// Changes when any package changes.
    pub(crate) digest: Digest,
}

/// Downloads and unpacks the build root for this host.
pub(crate) fn prepare(cache: &Cache<'_>, options: &BuildOptions) -> Result<BuildRoot, BuildError> {
    let (host, arch) = (tools::host()?, options.arch);
    let mut wanted = debian::profile_lines(&options.profile("buildroot.txt"))?;
    let mut libraries = None;
    if host != arch {
        wanted.push(arch.cross_compiler_package());
        let linked = LINKED.map(str::to_owned);
        libraries = Some(debian::fetch(cache, options, "libraries", arch, &linked)?);
    }
    let packages = debian::fetch(cache, options, "buildroot", host, &wanted)?;
    let mut key = Key::new("buildroot", RECIPE).digest("packages", &packages.part.digest);
    if let Some(libraries) = &libraries {
        key = key.digest("libraries", &libraries.part.digest);
    }
    let digest = key.finish();
    let folder = cache.scratch("buildroot")?.join(digest.hex());
    if !folder.is_dir() {
        let step = Step {
            name: "buildroot".into(),
            what: "build root".into(),
        };
        let work = Work {
            step: &step,
            observer: cache.observer(),
        };
        let begun = std::time::Instant::now();
        cache.observer().started(&step);
        let temporary = cache.temporary()?;
        let mut tree = unpack(&work, &packages, |_| true)?;
        if let Some(libraries) = &libraries {
            let mut linked = unpack(&work, libraries, |_| true)?;
            let places = LIBRARIES.map(|place| place.replace("MULTIARCH", arch.multiarch()));
            linked.retain(|path| {
                places
                    .iter()
                    .any(|place| Path::new(path).starts_with(place))
            });
            tree.merge(linked);
        }
        for (path, target) in LINKS {
            tree.link(path, target);
        }
        write(&tree, temporary.path())?;
        fs::rename(temporary.keep(), &folder).map_err(BuildError::io(&folder))?;
        cache.observer().finished(&step, begun.elapsed());
    }
    Ok(BuildRoot {
        folder,
        host,
        arch,
        packages,
        libraries,
        digest,
    })
}

/// Unpacks the packages whose names are wanted into one tree.
pub(crate) fn unpack(
    work: &Work<'_>,
    packages: &Packages,
    wanted: impl Fn(&str) -> bool,
) -> Result<Tree, BuildError> {
    let mut tree = Tree::default();
    for package in packages.list.iter().filter(|package| wanted(&package.name)) {
        tree.merge(unpack_one(work, packages, &package.file)?);
    }
    Ok(tree)
}

/// Unpacks one package file.
pub(crate) fn unpack_one(
    work: &Work<'_>,
    packages: &Packages,
    file: &str,
) -> Result<Tree, BuildError> {
    let path = packages.part.file(work, file)?;
    let mut tree = Tree::default();
    work.pipe(
        Command::new("dpkg-deb").arg("--fsys-tarfile").arg(&path),
        |stdout| {
            tree = Tree::from_tar(stdout).map_err(BuildError::io(&path))?;
            Ok(())
        },
    )?;
    Ok(tree)
}

/// Writes a tree to disk with the caller as owner.
pub(crate) fn write(tree: &Tree, folder: &Path) -> Result<(), BuildError> {
    let mut tree = tree.clone();
    tree.complete();
    for (path, entry) in tree.iter() {
        let path = folder.join(path);
        match &entry.node {
            Node::Folder => fs::create_dir_all(&path),
            Node::Link(target) => symlink(target, &path),
            Node::File(content) => fs::File::create_new(&path).and_then(|mut file| {
                std::io::Write::write_all(&mut file, content)?;
                file.set_permissions(fs::Permissions::from_mode(entry.mode & 0o777 | 0o600))
            }),
        }
        .map_err(BuildError::io(&path))?;
    }
    Ok(())
}

/// A program of packages that were unpacked into a folder, run on this host, whose architecture they are of,
/// through their own loader.
pub(crate) fn through_loader(folder: &Path, host: Arch, program: &str) -> Command {
    let libraries = folder.join("usr/lib").join(host.multiarch());
    let loader = Path::new(host.loader()).file_name().unwrap_or_default();
    let mut command = Command::new(libraries.join(loader));
    command
        .arg("--inhibit-cache")
        .arg("--library-path")
        .arg(&libraries)
        .arg(folder.join(program))
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .env("SOURCE_DATE_EPOCH", EPOCH.to_string());
    command
}

impl BuildRoot {
    /// The packages of code that is linked into the image's programs, and the set that they are of.
    pub(crate) fn linked(&self) -> (&Packages, Vec<&Package>) {
        let packages = self.libraries.as_ref().unwrap_or(&self.packages);
        let linked = packages.list.iter();
        let linked = linked.filter(|package| LINKED.contains(&package.name.as_str()));
        (packages, linked.collect())
    }

    /// The sets of packages that it is made of, by name.
    pub(crate) fn sets(&self) -> Vec<(&'static str, &Packages)> {
        let own = [("buildroot", &self.packages)].into_iter();
        let libraries = self.libraries.iter().map(|set| ("libraries", set));
        own.chain(libraries).collect()
    }

    /// Whether its programs are of another architecture than those that it compiles.
    pub(crate) fn is_cross(&self) -> bool {
        self.host != self.arch
    }

    /// The C compiler for the image, by its name inside.
    pub(crate) fn compiler(&self) -> String {
        match self.is_cross() {
            true => self.arch.cross_compiler(),
            false => "gcc".to_owned(),
        }
    }

    /// Where pkg-config finds the libraries of the image's architecture, inside.
    pub(crate) fn pkg_config(&self) -> String {
        format!("/usr/lib/{}/pkgconfig", self.arch.multiarch())
    }

    /// A tool run on the host through the build root's loader; `program` is a path such as
    /// `usr/bin/mkfs.erofs`.
    pub(crate) fn tool(&self, program: &str) -> Command {
        through_loader(&self.folder, self.host, program)
    }

    /// A command run inside. `binds` are folders of the host and places of [`PLACES`];
    /// `variables` are all of its environment beside the fixed ones.
    pub(crate) fn inside(
        &self,
        work: &Work<'_>,
        binds: &[(&Path, &str)],
        variables: &[(&str, &str)],
        folder: &str,
        command: &[&str],
    ) -> Result<Command, BuildError> {
        for place in ["dev", "proc", "tmp"].iter().chain(&PLACES) {
            let path = self.folder.join(place);
            fs::create_dir_all(&path).map_err(BuildError::io(&path))?;
        }
        let mut enter = namespace(work)?;
        enter.args(["sh", "-c", ENTER, "sh"]).arg(&self.folder);
        for (from, place) in binds {
            if !PLACES.contains(place) {
                return Err(work.wrong(format!("{place} is not a place of the build root")));
            }
            enter.arg(from).arg(format!("/{place}"));
        }
        enter.args(["--", folder]);
        enter.args(
            variables
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        enter
            .args(command)
            .env("SOURCE_DATE_EPOCH", EPOCH.to_string());
        Ok(enter)
    }
}

/// `unshare` with the arguments that work for this user.
fn namespace(work: &Work<'_>) -> Result<Command, BuildError> {
    let with = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(arguments);
        command
    };
    let root = work.text(Command::new("id").arg("-u"))? == "0";
    let ways: &[&[&str]] = if root {
        &[&["--mount"], &["--mount", "--map-root-user"]]
    } else {
        &[&["--mount", "--map-root-user"]]
    };
    let mut said = String::new();
    for way in ways {
        match work.run(with(way).arg("true")) {
            Ok(()) => return Ok(with(way)),
            Err(error) => said = error.to_string(),
        }
    }
    Err(BuildError::Namespace { reason: said })
}

/// Forgets unpacked build roots other than this one.
pub(crate) fn forget_others(cache: &Cache<'_>, keep: &BuildRoot) -> Result<(), BuildError> {
    let folder = cache.scratch("buildroot")?;
    for entry in fs::read_dir(&folder)
        .map_err(BuildError::io(&folder))?
        .flatten()
    {
        if entry.path() != keep.folder {
            remove_all(&entry.path()).map_err(BuildError::io(entry.path()))?;
        }
    }
    Ok(())
}
