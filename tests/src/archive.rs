//! Container image archives made by the tests, in the format of `docker save` (one tar with
//! manifest.json, a configuration and a layer). Source: moby/image/spec v1.2.

use crate::write;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::path::Path;

/// What a made image holds and is called.
#[derive(Debug, Clone)]
pub struct ImageArchive<'a> {
    /// Its full name, such as `coracle.test/second:1`.
    pub name: &'a str,
    /// The content of /bin/busybox, a static program.
    pub busybox: &'a [u8],
    /// The content of /version.
    pub version: &'a str,
}

/// Writes an archive of an image with busybox, its `sh`, and a file that tells one image from
/// another.
pub fn archive_of_one_program(file: &Path, image: &ImageArchive<'_>) {
    let mut layer = tar::Builder::new(Vec::new());
    for folder in ["bin/", "tmp/", "etc/"] {
        entry(&mut layer, folder, tar::EntryType::Directory, 0o755, b"");
    }
    entry(
        &mut layer,
        "bin/busybox",
        tar::EntryType::Regular,
        0o755,
        image.busybox,
    );
    entry(
        &mut layer,
        "version",
        tar::EntryType::Regular,
        0o644,
        image.version.as_bytes(),
    );
    for applet in ["sh", "cat", "sleep", "httpd", "tar"] {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        layer
            .append_link(&mut header, format!("bin/{applet}"), "busybox")
            .expect("a link fits");
    }
    let layer = layer.into_inner().expect("a tar in memory has an end");
    let configuration = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sleep", "100000"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex::encode(Sha256::digest(&layer)))]},
        "history": [{"created_by": "coracle's tests"}],
    });
    let configuration = configuration.to_string();
    let manifest =
        json!([{"Config": "config.json", "RepoTags": [image.name], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    entry(
        &mut archive,
        "layer.tar",
        tar::EntryType::Regular,
        0o644,
        &layer,
    );
    entry(
        &mut archive,
        "config.json",
        tar::EntryType::Regular,
        0o644,
        configuration.as_bytes(),
    );
    entry(
        &mut archive,
        "manifest.json",
        tar::EntryType::Regular,
        0o644,
        manifest.to_string().as_bytes(),
    );
    write(
        file,
        archive.into_inner().expect("a tar in memory has an end"),
    );
}

fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_mtime(1);
    header
}

fn entry(
    archive: &mut tar::Builder<Vec<u8>>,
    path: &str,
    kind: tar::EntryType,
    mode: u32,
    content: &[u8],
) {
    let mut header = header(kind, mode, content.len());
    archive
        .append_data(&mut header, path, content)
        .expect("an entry in memory fits");
}
