//! Archives of images on the way into a machine: what is in them, and what of it has to be sent.
//!
//! ```text
//! file, folder --open--> Archive --digests--> machine: which of these it has
//!                            +--send--> the same archive without those
//! ```
//!
//! Parts of an OCI layout, and of what today's docker saves, are named by their digests (OCI image layout
//! specification, `blobs/sha256/HEX`), and can be left out where the machine has them. All other archives
//! are sent whole, decompressed.

use super::compression::{decompressed, is_compressed};
use crate::written;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use tokio::io::AsyncRead;

/// Where the parts are.
const BLOBS: &str = "blobs/sha256/";
/// What an OCI layout has at its root.
const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";

/// An archive that is there.
#[derive(Debug, Clone)]
pub struct Archive {
    path: PathBuf,
    is_folder: bool,
    /// Sizes of the parts, by digest; none where it is sent whole.
    parts: BTreeMap<String, u64>,
}

/// What has to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Parts.
    pub parts: usize,
    /// Their size.
    pub bytes: u64,
}

impl Archive {
    /// Looks into a tar file, or the folder of an OCI layout.
    ///
    /// # Errors
    /// It is not there, a folder that is none, or compressed in a way that is not read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let is_folder = fs::metadata(path)?.is_dir();
        let parts = match is_folder {
            true => parts_of_folder(path)?,
            false => {
                let mut file = File::open(path)?;
                match is_compressed(&mut file)? {
                    true => BTreeMap::new(),
                    false => parts_of_file(&mut file),
                }
            }
        };
        Ok(Self {
            path: path.to_owned(),
            is_folder,
            parts,
        })
    }

    /// The digests of its parts, `sha256:HEX`.
    pub fn digests(&self) -> Vec<String> {
        self.parts.keys().cloned().collect()
    }

    /// What has to be sent to somebody who has these.
    pub fn without(&self, known: &BTreeSet<String>) -> Sent {
        let sent = self
            .parts
            .iter()
            .filter(|(digest, _)| !known.contains(*digest));
        sent.fold(Sent { parts: 0, bytes: 0 }, |sent, (_, size)| Sent {
            parts: sent.parts + 1,
            bytes: sent.bytes + size,
        })
    }

    /// Its bytes, without the parts that are known.
    pub fn send(self, known: BTreeSet<String>) -> impl AsyncRead + Send + Unpin + 'static {
        written::stream(move |sink| self.write(sink, &known))
    }

    fn write(&self, sink: &mut impl io::Write, known: &BTreeSet<String>) -> io::Result<()> {
        if !self.is_folder && known.is_empty() {
            return io::copy(&mut decompressed(File::open(&self.path)?)?, sink).map(drop);
        }
        let mut to = tar::Builder::new(sink);
        let is_known = |path: &str| digest_of(path).is_some_and(|digest| known.contains(&digest));
        if self.is_folder {
            for name in [LAYOUT, INDEX] {
                to.append_path_with_name(self.path.join(name), name)?;
            }
            for digest in self.parts.keys() {
                let path = format!("{BLOBS}{}", digest.trim_start_matches("sha256:"));
                if !is_known(&path) {
                    to.append_path_with_name(self.path.join(&path), &path)?;
                }
            }
        } else {
            let mut from = tar::Archive::new(File::open(&self.path)?);
            for entry in from.entries_with_seek()? {
                let mut entry = entry?;
                let path = entry.path()?.to_string_lossy().into_owned();
                if is_known(&path) {
                    continue;
                }
                let mut header = entry.header().clone();
                match entry.link_name()? {
                    Some(target) => to.append_link(&mut header, &path, target)?,
                    None => to.append_data(&mut header, &path, &mut entry)?,
                }
            }
        }
        to.finish()
    }
}

/// The digest by which a path of an archive is named.
fn digest_of(path: &str) -> Option<String> {
    let hex = path.trim_start_matches("./").strip_prefix(BLOBS)?;
    let is_digest = hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_hexdigit());
    is_digest.then(|| format!("sha256:{hex}"))
}

fn parts_of_folder(folder: &Path) -> io::Result<BTreeMap<String, u64>> {
    if !folder.join(LAYOUT).is_file() || !folder.join(INDEX).is_file() {
        let text = format!("it is a folder without {LAYOUT} and {INDEX}, and so no OCI layout");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut parts = BTreeMap::new();
    for entry in fs::read_dir(folder.join(BLOBS))? {
        let entry = entry?;
        let path = format!("{BLOBS}{}", entry.file_name().to_string_lossy());
        if let Some(digest) = digest_of(&path) {
            parts.insert(digest, entry.metadata()?.len());
        }
    }
    Ok(parts)
}

/// None for what is no OCI layout in a tar file: the machine says what is wrong with it.
fn parts_of_file(file: &mut File) -> BTreeMap<String, u64> {
    let mut parts = BTreeMap::new();
    let mut is_layout = false;
    let mut look = || -> io::Result<()> {
        file.seek(SeekFrom::Start(0))?;
        for entry in tar::Archive::new(&mut *file).entries_with_seek()? {
            let entry = entry?;
            let path = entry.path()?.to_string_lossy().into_owned();
            is_layout |= path.trim_start_matches("./") == LAYOUT;
            if let Some(digest) = digest_of(&path).filter(|_| entry.header().entry_type().is_file())
            {
                parts.insert(digest, entry.size());
            }
        }
        Ok(())
    };
    match look() {
        Ok(()) if is_layout => parts,
        _ => BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    const LAYER: &str = "1111111111111111111111111111111111111111111111111111111111111111";
    const OTHER: &str = "2222222222222222222222222222222222222222222222222222222222222222";

    /// Files of a layout by path.
    fn files() -> Vec<(String, Vec<u8>)> {
        vec![
            (LAYOUT.into(), b"{}".to_vec()),
            (INDEX.into(), b"{}".to_vec()),
            (format!("{BLOBS}{LAYER}"), vec![1; 5000]),
            (format!("{BLOBS}{OTHER}"), vec![2; 70]),
        ]
    }

    fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive
                .append_data(&mut header, path, content.as_slice())
                .unwrap();
        }
        archive.into_inner().unwrap()
    }

    async fn paths(archive: Archive, known: &[&str]) -> Vec<String> {
        let known = known.iter().map(|hex| format!("sha256:{hex}")).collect();
        let mut bytes = Vec::new();
        archive.send(known).read_to_end(&mut bytes).await.unwrap();
        let mut sent = tar::Archive::new(bytes.as_slice());
        let paths = sent.entries().unwrap().map(|entry| {
            let path = entry.unwrap().path().unwrap().into_owned();
            path.to_string_lossy().into_owned()
        });
        paths.collect()
    }

    #[tokio::test]
    async fn what_the_machine_has_is_not_sent() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, content: &[u8]| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            coracle_vm::store::atomic::write(&path, content).unwrap();
            path
        };
        for (path, content) in files() {
            write(&format!("layout/{path}"), &content);
        }
        let file = write("layout.tar", &tar_of(&files()));
        for path in [folder.path().join("layout"), file] {
            let archive = Archive::open(&path).unwrap();
            assert_eq!(archive.digests().len(), 2);
            let known = BTreeSet::from([format!("sha256:{LAYER}")]);
            assert_eq!(
                archive.without(&known),
                Sent {
                    parts: 1,
                    bytes: 70
                }
            );
            assert_eq!(paths(archive.clone(), &[]).await.len(), 4);
            let without = paths(archive, &[LAYER]).await;
            assert_eq!(without, [LAYOUT, INDEX, &format!("{BLOBS}{OTHER}")]);
        }
    }

    #[test]
    fn what_is_no_layout_is_sent_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("saved.tar");
        for content in [
            tar_of(&files()[2..]),
            vec![0x1f, 0x8b, 8, 0, 0],
            b"no archive".to_vec(),
            Vec::new(),
        ] {
            coracle_vm::store::atomic::write(&file, &content).unwrap();
            assert_eq!(Archive::open(&file).unwrap().digests().len(), 0);
        }
        assert!(Archive::open(folder.path()).is_err());
        assert!(Archive::open(&folder.path().join("none")).is_err());
    }
}
