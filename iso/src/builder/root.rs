//! The root file system: Debian's files without what installing needs, the programs, the
//! modules, the container images, the agent, and the static files of `rootfs/`.

use super::cache::Made;
use super::command::Work;
use super::debian::{Packages, profile_lines};
use super::key::{files_below, is_executable};
use super::tree::{Entry, Node, Tree};
use super::{BuildError, BuildOptions, buildroot};
use std::fs;
use std::path::Path;

/// Where upstream's CA certificates are, the one file that they become, and the link to it that programs
/// read: a machine that trusts others too has a file of its own in its place.
const AUTHORITIES: &str = "usr/share/ca-certificates/mozilla/";
const BUNDLE: &str = "usr/share/ca-certificates/ca-certificates.crt";
const BUNDLE_LINK: &str = "etc/ssl/certs/ca-certificates.crt";

/// Debian's part: packages unpacked and trimmed, with the links and files that installing them
/// would have made.
pub(crate) fn userland(
    work: &Work<'_>,
    options: &BuildOptions,
    packages: &Packages,
) -> Result<Tree, BuildError> {
    let excluded = profile_lines(&options.profile("excluded.txt"))?;
    let wanted =
        |name: &str| !name.starts_with("linux-image-") && !excluded.iter().any(|e| e == name);
    let mut tree = buildroot::unpack(work, packages, wanted)?;
    let trim = Trim::read(&options.profile("trim.txt"))?;
    tree.retain(|path| !trim.matches(path));
    let mut bundle = Vec::new();
    for (path, entry) in tree.iter() {
        if let (true, Node::File(content)) = (path.starts_with(AUTHORITIES), &entry.node) {
            bundle.extend_from_slice(content);
        }
    }
    if bundle.is_empty() {
        return Err(work.wrong("the package ca-certificates has no certificates"));
    }
    tree.file(BUNDLE, bundle, 0o644);
    tree.link(BUNDLE_LINK, &format!("/{BUNDLE}"));
    tree.retain(|path| !path.starts_with(AUTHORITIES));
    for line in profile_lines(&options.profile("folders.txt"))? {
        tree.folder(&line);
    }
    for line in profile_lines(&options.profile("links.txt"))? {
        let Some((path, target)) = line.split_once(' ') else {
            return Err(work.wrong(format!("links.txt: {line:?} is not: path target")));
        };
        tree.link(path, target.trim());
    }
    tree.complete();
    Ok(tree)
}

/// Takes the static files of `rootfs/`: mode 0755 when executable, else 0644.
pub(crate) fn overlay(tree: &mut Tree, folder: &Path) -> Result<(), BuildError> {
    for file in files_below(folder)? {
        let relative = file
            .strip_prefix(folder)
            .unwrap_or(&file)
            .to_string_lossy()
            .into_owned();
        let meta = fs::symlink_metadata(&file).map_err(BuildError::io(&file))?;
        if meta.is_symlink() {
            let target = fs::read_link(&file).map_err(BuildError::io(&file))?;
            tree.link(&relative, &target.to_string_lossy());
            continue;
        }
        let mode = if is_executable(&file)? { 0o755 } else { 0o644 };
        let content = fs::read(&file).map_err(BuildError::io(&file))?;
        // A symbolic link of a package gives way to our file.
        tree.file(&relative, content, mode);
    }
    Ok(())
}

/// Sets the modes and owners of `permissions.txt`.
pub(crate) fn permissions(
    work: &Work<'_>,
    options: &BuildOptions,
    tree: &mut Tree,
) -> Result<(), BuildError> {
    for line in profile_lines(&options.profile("permissions.txt"))? {
        let wrong = || {
            work.wrong(format!(
                "permissions.txt: {line:?} is not: path mode uid gid"
            ))
        };
        let [path, mode, uid, gid] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(wrong());
        };
        let mode = u32::from_str_radix(mode, 8).map_err(|_| wrong())?;
        let (uid, gid) = (
            uid.parse().map_err(|_| wrong())?,
            gid.parse().map_err(|_| wrong())?,
        );
        let Some(entry) = tree.get(path) else {
            return Err(work.wrong(format!("permissions.txt names {path}, which is not there")));
        };
        tree.put(
            path,
            Entry {
                node: entry.node.clone(),
                mode,
                uid,
                gid,
            },
        );
    }
    Ok(())
}

/// Puts a part's file into a tree as an executable.
pub(crate) fn program(
    work: &Work<'_>,
    tree: &mut Tree,
    path: &str,
    part: &Made,
    name: &str,
) -> Result<(), BuildError> {
    tree.file(path, part.read(work, name)?, 0o755);
    Ok(())
}

/// `trim.txt`.
struct Trim {
    out: Vec<String>,
    stay: Vec<String>,
}

impl Trim {
    fn read(path: &Path) -> Result<Self, BuildError> {
        let (stay, out): (Vec<_>, Vec<_>) = profile_lines(path)?
            .into_iter()
            .partition(|line| line.starts_with('!'));
        let stay = stay.iter().map(|line| line[1..].to_owned()).collect();
        Ok(Self { out, stay })
    }

    fn matches(&self, path: &str) -> bool {
        self.out.iter().any(|p| below(p, path)) && !self.stay.iter().any(|p| below(p, path))
    }
}

/// Whether a path is what a pattern names, or below it.
fn below(pattern: &str, path: &str) -> bool {
    let mut names = path.split('/');
    pattern
        .split('/')
        .all(|wanted| names.next().is_some_and(|name| fits(wanted, name)))
}

/// Whether a name fits a pattern in which `*` stands for any characters.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            (0..=name.len()).any(|n| name.is_char_boundary(n) && fits(rest, &name[n..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_trim_what_they_name_and_what_is_below() {
        let trim = Trim {
            out: ["usr/share/doc", "etc/rc*.d", "usr/lib/*/gconv"]
                .map(str::to_owned)
                .to_vec(),
            stay: vec!["usr/share/doc/*/copyright".to_owned()],
        };
        for path in [
            "usr/share/doc",
            "usr/share/doc/bash/README",
            "etc/rc2.d/S01x",
            "usr/lib/x/gconv/a",
        ] {
            assert!(trim.matches(path), "{path}");
        }
        for path in [
            "usr/share/docs",
            "usr/share/doc/bash/copyright",
            "etc/rc.local",
            "usr/lib/gconv",
        ] {
            assert!(!trim.matches(path), "{path}");
        }
    }

    #[test]
    fn static_files_keep_their_executable_bit_only() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("etc")).unwrap();
        crate::files::write_atomic(&folder.path().join("etc/hosts"), b"x").unwrap();
        let mut tree = Tree::default();
        overlay(&mut tree, folder.path()).unwrap();
        assert_eq!(tree.get("etc/hosts").unwrap().mode, 0o644);
    }
}
