//! Files of the user's own for every machine: the tree of a folder, as an archive.

use crate::error::{Context as _, Error, ErrorId, Result};
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// All of them together. What is larger is better copied, or mounted.
const MOST_BYTES: u64 = 64 << 20;

/// Where a machine keeps what is written: below these.
const KEPT: [&str; 6] = ["etc", "home", "opt", "root", "srv", "var"];

/// What Coracle writes inside itself, with everything below it, and what it is: another one would break
/// the machine, or be overwritten with the next boot.
const OWN: &[(&str, &str)] = &[
    ("etc/cni/net.d/10-coracle.conflist", "the pods' network"),
    ("etc/containerd/config.toml", "containerd's configuration"),
    ("etc/group", "the machine's accounts"),
    ("etc/gshadow", "the machine's accounts"),
    ("etc/hostname", "the machine's name"),
    (
        "etc/kubernetes/admin.conf",
        "the control plane's credentials",
    ),
    (
        "etc/kubernetes/kube-controller-manager.conf",
        "the control plane's credentials",
    ),
    (
        "etc/kubernetes/kube-proxy.conf",
        "the control plane's credentials",
    ),
    (
        "etc/kubernetes/kube-scheduler.conf",
        "the control plane's credentials",
    ),
    (
        "etc/kubernetes/kubelet.conf",
        "the control plane's credentials",
    ),
    ("etc/kubernetes/kubelet.yaml", "the kubelet's configuration"),
    ("etc/kubernetes/pki", "the control plane's certificates"),
    ("etc/machine-id", "the machine's id"),
    ("etc/passwd", "the machine's accounts"),
    ("etc/resolv.conf", "the machine's name server"),
    ("etc/shadow", "the machine's accounts"),
    (
        "etc/ssl/certs/ca-certificates.crt",
        "the authorities to trust, which certs/ adds to",
    ),
    ("var/lib/containerd", "containerd's data"),
    ("var/lib/coracle", "the machine's own data"),
    ("var/lib/etcd", "the cluster's data"),
    ("var/lib/kubelet", "the kubelet's data"),
    ("var/log/coracle", "the components' logs"),
];

/// A tar archive of everything below a folder, its paths relative to it: modes and times kept, links as
/// they are, all of it root's. None without the folder, and where there is nothing in it.
///
/// # Errors
/// A file has no place in a machine, or cannot be read: it is named.
pub fn archive(folder: &Path) -> Result<Option<Vec<u8>>> {
    let mut found = Vec::new();
    walk(folder, Path::new(""), &mut found)?;
    if found.is_empty() {
        return Ok(None);
    }
    let files = found.iter().filter(|one| one.meta.is_file());
    let size: u64 = files.map(|one| one.meta.len()).sum();
    if size > MOST_BYTES {
        let (has, most) = (size.div_ceil(1 << 20), MOST_BYTES >> 20);
        let message = format!(
            "the files in {} are {has} MiB, more than {most}",
            folder.display()
        );
        return Err(Error::new(ErrorId::FilesInvalid, message));
    }
    let mut archive = Builder::new(Vec::new());
    for one in &found {
        add(&mut archive, folder, one).context(ErrorId::FilesInvalid, || {
            format!("cannot read {}", folder.join(&one.path).display())
        })?;
    }
    archive
        .into_inner()
        .map(Some)
        .context(ErrorId::Internal, || {
            "cannot pack the files of the machine".into()
        })
}

struct Found {
    /// Relative to the folder.
    path: PathBuf,
    meta: Metadata,
}

/// Folders come before what is in them, names in their order.
fn walk(root: &Path, path: &Path, found: &mut Vec<Found>) -> Result<()> {
    let folder = root.join(path);
    let failed = || format!("cannot read {}", folder.display());
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound && path.as_os_str().is_empty() => {
            return Ok(());
        }
        entries => entries.context(ErrorId::FilesInvalid, failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.context(ErrorId::FilesInvalid, failed)?.file_name());
    }
    names.sort();
    for name in names {
        let path = path.join(name);
        let meta = fs::symlink_metadata(root.join(&path)).context(ErrorId::FilesInvalid, failed)?;
        let is_folder = meta.is_dir();
        if let Some(reason) = out_of_place(&path, is_folder) {
            let file = first_below(root.join(&path));
            let message = format!("{} cannot be in a machine: {reason}", file.display());
            return Err(Error::new(ErrorId::FilesInvalid, message));
        }
        found.push(Found {
            path: path.clone(),
            meta,
        });
        if is_folder {
            walk(root, &path, found)?;
        }
    }
    Ok(())
}

/// The first file in a folder, at any depth, which says more than the folder that is out of place; the
/// folder itself where it is empty.
fn first_below(mut path: PathBuf) -> PathBuf {
    loop {
        let is_folder = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
        let entries = fs::read_dir(&path).into_iter().flatten().flatten();
        match entries.map(|entry| entry.path()).min() {
            Some(below) if is_folder => path = below,
            _ => return path,
        }
    }
}

/// Why a path may not be there.
fn out_of_place(path: &Path, is_folder: bool) -> Option<String> {
    if !KEPT.iter().any(|one| path.starts_with(one)) {
        let folders = KEPT.map(|one| format!("/{one}")).join(", ");
        return Some(format!("a machine keeps files only in {folders}"));
    }
    if !is_folder && KEPT.iter().any(|one| path == Path::new(one)) {
        return Some("it is a folder there".to_owned());
    }
    // A folder there is no harm, but for a link or file in its place.
    let above = |own: &str| Path::new(own).starts_with(path) && !is_folder;
    let own = OWN
        .iter()
        .find(|(own, _)| path.starts_with(own) || above(own))?;
    Some(format!("/{} is {}, which Coracle writes", own.0, own.1))
}

fn add(archive: &mut Builder<Vec<u8>>, root: &Path, one: &Found) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_metadata(&one.meta);
    header.set_mode(header.mode()? & 0o7777);
    header.set_uid(0);
    header.set_gid(0);
    let file = root.join(&one.path);
    let kind = one.meta.file_type();
    if kind.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        return archive.append_link(&mut header, &one.path, fs::read_link(file)?);
    }
    if kind.is_dir() {
        header.set_entry_type(EntryType::Directory);
        header.set_size(0);
        return archive.append_data(&mut header, &one.path, io::empty());
    }
    if !kind.is_file() {
        let text = "it is neither a file, a folder nor a link";
        return Err(io::Error::new(ErrorKind::InvalidInput, text));
    }
    let content = fs::read(file)?;
    header.set_entry_type(EntryType::Regular);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, &one.path, content.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_vm::store::atomic;

    fn put(root: &Path, path: &str, text: &str) {
        let file = root.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        atomic::write(&file, text.as_bytes()).unwrap();
    }

    #[test]
    fn no_folder_and_an_empty_one_are_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(archive(&folder.path().join("files")).unwrap().is_none());
        assert!(archive(folder.path()).unwrap().is_none());
    }

    #[cfg(unix)]
    #[test]
    fn modes_and_links_are_kept_and_all_is_roots() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        put(root, "etc/foo", "bar");
        put(root, "opt/bin/tool", "#!/bin/sh\n");
        let mode = fs::Permissions::from_mode(0o751);
        fs::set_permissions(root.join("opt/bin/tool"), mode).unwrap();
        std::os::unix::fs::symlink("../etc/foo", root.join("opt/link")).unwrap();
        let bytes = archive(root).unwrap().unwrap();
        assert_eq!(archive(root).unwrap().unwrap(), bytes, "always the same");
        let mut read = tar::Archive::new(bytes.as_slice());
        let mut seen = Vec::new();
        for entry in read.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
            let path = entry.path().unwrap().display().to_string();
            let link = entry.link_name().unwrap();
            let link = link.map(|link| link.display().to_string());
            seen.push((path, header.mode().unwrap(), link));
        }
        let of = |path: &str| {
            seen.iter()
                .find(|one| one.0.trim_end_matches('/') == path)
                .unwrap()
        };
        assert_eq!(of("etc/foo").1, 0o600);
        assert_eq!(of("opt/bin/tool").1, 0o751);
        assert_eq!(of("opt/link").2.as_deref(), Some("../etc/foo"));
        let at = |path: &str| {
            seen.iter()
                .position(|one| one.0.trim_end_matches('/') == path)
        };
        assert!(at("opt/bin") < at("opt/bin/tool"), "{seen:?}");
    }

    #[test]
    fn what_has_no_place_or_would_break_the_machine_is_told() {
        for (path, told) in [
            ("usr/bin/tool", "/etc, /home"),
            ("run/x", "/etc, /home"),
            ("note.txt", "/etc, /home"),
            ("etc/passwd", "accounts"),
            ("etc/kubernetes/pki/ca.crt", "certificates"),
            ("etc/containerd", "containerd's configuration"),
            ("etc/ssl/certs/ca-certificates.crt", "certs/"),
            ("var/lib/etcd/member/x", "the cluster's data"),
            ("home", "folder"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            put(folder.path(), path, "x");
            let error = archive(folder.path()).unwrap_err();
            assert_eq!(error.exit_code(), 18, "{path}");
            let message = error.message().replace('\\', "/");
            assert!(
                message.contains(path) && message.contains(told),
                "{message}"
            );
        }
    }

    #[test]
    fn what_stands_beside_coracles_own_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        for path in [
            "etc/containerd/certs.d/registry.example/hosts.toml",
            "etc/kubernetes/manifests/static.yaml",
            "etc/ssl/certs/own.pem",
            "etc/hosts",
            "home/coracle/.profile",
            "var/lib/own/file",
        ] {
            put(folder.path(), path, "x");
        }
        assert!(archive(folder.path()).unwrap().is_some());
    }
}
