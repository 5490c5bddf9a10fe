//! A VM image of a few bytes: real to everything that reads, verifies and names images, and of no
//! use to a hypervisor. For what has to happen before a machine boots.

use crate::write;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// The version of Kubernetes that these images have by default.
const VERSION: &str = "v1.37.2";

/// A file of an image: its name for people, its own, what it is for, what is in it.
type File = (String, String, Value, Vec<u8>);

/// Puts the image into a state folder as the current one, and gives its folder. The files are
/// vmlinuz, initrd, root.erofs and kubernetes.erofs; the format is that of docs/state.md.
pub fn small_image(home: &Path) -> PathBuf {
    put(home, &small_files())
}

/// As [`small_image`], with an ISO, for drivers that start machines by their firmware.
pub fn image_with_iso(home: &Path) -> PathBuf {
    let mut files = small_files();
    let bytes = "not bootable: an ISO\n".repeat(100).into_bytes();
    let role = json!({"role": "iso"});
    files.push(("iso".into(), "coracle.iso".into(), role, bytes));
    put(home, &files)
}

/// As [`small_image`], with a root file system of so many bytes that nothing makes smaller, a second layer
/// (kubernetes-other.erofs, of [`OTHER_KUBERNETES`]), and the kubectl of the first for this host, which
/// prints its arguments, and for another one: what a download can tell apart.
pub fn layered_image(home: &Path, root: usize) -> PathBuf {
    let mut files = small_files();
    for (_, file, _, bytes) in &mut files {
        if file == "root.erofs" {
            *bytes = noise(1, root);
        }
    }
    let other = "not bootable: another layer\n".repeat(100);
    let role = json!({"role": "kubernetes", "version": OTHER_KUBERNETES});
    let name = format!("kubernetes {OTHER_KUBERNETES}");
    let file = "kubernetes-other.erofs".to_owned();
    files.push((name, file, role, other.into_bytes()));
    for (file, os) in [("kubectl", "linux"), ("kubectl-there", "plan9")] {
        let platform = json!({"os": os, "arch": arch()});
        let role = json!({"role": "kubectl", "version": VERSION, "platform": platform});
        let script = format!("#!/bin/sh\necho \"{file} $*\"\n");
        files.push((file.to_owned(), file.to_owned(), role, script.into_bytes()));
    }
    put(home, &files)
}

/// The version of Kubernetes that [`layered_image`] has too.
pub const OTHER_KUBERNETES: &str = "v1.36.1";

fn arch() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    }
}

fn small_files() -> Vec<File> {
    let parts = [
        ("kernel", "vmlinuz", json!({"role": "kernel"})),
        ("initrd", "initrd", json!({"role": "initrd"})),
        ("root", "root.erofs", json!({"role": "root"})),
        (
            "kubernetes v1.37.2",
            "kubernetes.erofs",
            json!({"role": "kubernetes", "version": VERSION}),
        ),
    ];
    let content = |file: &str| format!("not bootable: {file}\n").repeat(100).into_bytes();
    parts
        .map(|(name, file, role)| (name.to_owned(), file.to_owned(), role, content(file)))
        .into()
}

fn put(home: &Path, files: &[File]) -> PathBuf {
    let listed: Vec<_> = files
        .iter()
        .map(|(name, file, role, bytes)| {
            let mut part = json!({
                "name": name, "file": file, "size": bytes.len(), "sha256": digest(bytes),
            });
            let fields = part.as_object_mut().expect("it is an object");
            fields.extend(role.as_object().expect("it is an object").clone());
            part
        })
        .collect();
    let index = json!({
        "format": 1, "arch": arch(), "default_kubernetes": VERSION, "parts": listed,
    });
    let index = serde_json::to_vec_pretty(&index).expect("a value is JSON");
    let digest = digest(&index);
    let folder = home.join("images").join(digest.replace(':', "-"));
    write(folder.join("image.json"), &index);
    for (_, file, _, bytes) in files {
        write(folder.join(file), bytes);
    }
    write(home.join("images/current"), format!("{digest}\n"));
    folder
}

/// The same bytes each time for an odd `seed`, without a pattern, so that no compressor makes them smaller
/// (xorshift).
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
