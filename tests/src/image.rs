//! A VM image of a few bytes: real to everything that reads, verifies and names images, and of no
//! use to a hypervisor. For what has to happen before a machine boots.

use crate::write;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// Puts the image into a state folder as the current one, and gives its folder. The files are
/// vmlinuz, initrd, root.erofs and kubernetes.erofs; the format is that of docs/state.md.
pub fn small_image(home: &Path) -> PathBuf {
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let parts = [
        ("kernel", "vmlinuz", json!({"role": "kernel"})),
        ("initrd", "initrd", json!({"role": "initrd"})),
        ("root", "root.erofs", json!({"role": "root"})),
        (
            "kubernetes v1.37.2",
            "kubernetes.erofs",
            json!({"role": "kubernetes", "version": "v1.37.2"}),
        ),
    ];
    let content = |file: &str| format!("not bootable: {file}\n").repeat(100);
    let listed: Vec<_> = parts
        .iter()
        .map(|(name, file, role)| {
            let bytes = content(file);
            let mut part = json!({
                "name": name, "file": file, "size": bytes.len(), "sha256": digest(bytes.as_bytes()),
            });
            let fields = part.as_object_mut().expect("it is an object");
            fields.extend(role.as_object().expect("it is an object").clone());
            part
        })
        .collect();
    let index =
        json!({"format": 1, "arch": arch, "default_kubernetes": "v1.37.2", "parts": listed});
    let index = serde_json::to_vec_pretty(&index).expect("a value is JSON");
    let digest = digest(&index);
    let folder = home.join("images").join(digest.replace(':', "-"));
    write(folder.join("image.json"), &index);
    for (_, file, _) in &parts {
        write(folder.join(file), content(file));
    }
    write(home.join("images/current"), format!("{digest}\n"));
    folder
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
