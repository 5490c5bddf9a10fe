//! Taking files out of the page cache.

use coracle_tests::Coracle;
use rustix::fs::{Advice, fadvise};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

const KERNEL: &str = "/proc/sys/vm/drop_caches";
/// Page cache, directory entries and inodes (the kernel's admin-guide/sysctl/vm.rst).
const EVERYTHING: &[u8] = b"3\n";

/// How it is done here, for the report.
pub(crate) fn way() -> &'static str {
    if as_root().is_some() {
        "drop_caches: everything on this host"
    } else {
        "posix_fadvise: image, templates, disks, saves, qemu and coracle, but no libraries"
    }
}

/// Empties the page cache of all that a start reads. No machine may run: pages in use stay.
pub(crate) fn evict(coracle: &Coracle, qemu: &str) {
    rustix::fs::sync();
    if let Some(mut kernel) = as_root() {
        kernel.write_all(EVERYTHING).expect("it was opened");
        return;
    }
    let mut files = vec![coracle_tests::binary(), PathBuf::from(qemu)];
    for folder in ["templates", "disks", "machines", "images"] {
        collect(&coracle.home().join(folder), &mut files);
    }
    for file in files {
        let open = File::open(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        fadvise(&open, 0, None, Advice::DontNeed).expect("advice on a file");
    }
}

fn as_root() -> Option<File> {
    OpenOptions::new().write(true).open(KERNEL).ok()
}

/// All files below a folder; links are followed, as a start follows them.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() => collect(&path, files),
            Ok(meta) if meta.is_file() => files.push(path),
            _ => {}
        }
    }
}
