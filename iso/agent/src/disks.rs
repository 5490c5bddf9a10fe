//! Which disk is which, by content.
//!
//! Buses and their order differ between hypervisors, so a disk is known by what is on it.

use coracle_protocol::{DATA_UUID, ISO_VOLUME, KUBERNETES_UUID, ROOT_UUID, iso9660, seed};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// What a disk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The root file system.
    Root,
    /// A Kubernetes layer.
    Kubernetes,
    /// The data disk, formatted.
    Data,
    /// A [`seed`] disk.
    Seed,
    /// A CD with a seed as its file.
    SeedCd,
    /// The ISO, with the root file system and the layers as files.
    Iso,
    /// Nothing: the first MiB is zeros. It becomes the data disk.
    Blank,
    /// Somebody else's; it is left alone.
    Foreign,
}

/// A disk that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its device node.
    pub device: PathBuf,
    /// What is on it.
    pub content: Content,
}

/// Bytes at the beginning that must be zero for a disk to count as blank.
const BLANK: usize = 1 << 20;
/// Both superblocks lie 1024 bytes into the disk.
const SUPERBLOCK: usize = 1024;

/// Looks at the whole disks of the machine, in the order of their names.
pub fn find(sys_block: &Path, dev: &Path) -> io::Result<Vec<Disk>> {
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(sys_block)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let made_up = ["loop", "ram", "zram", "fd", "dm-", "md", "nbd"];
        if !made_up.iter().any(|prefix| name.starts_with(prefix)) {
            names.push(name);
        }
    }
    names.sort();
    let mut disks = Vec::new();
    for name in names {
        let device = dev.join(&name);
        // An empty CD drive cannot be opened.
        if let Ok(content) = File::open(&device).and_then(probe) {
            disks.push(Disk { device, content });
        }
    }
    Ok(disks)
}

/// Says what a disk holds.
pub fn probe(mut disk: impl Read + Seek) -> io::Result<Content> {
    disk.seek(SeekFrom::Start(0))?;
    let mut start = vec![0; 4096];
    let length = read_full(&mut disk, &mut start)?;
    start.truncate(length);
    if start.starts_with(seed::MAGIC) {
        return Ok(Content::Seed);
    }
    if let Some(uuid) = erofs_uuid(&start) {
        return Ok(match uuid.as_str() {
            ROOT_UUID => Content::Root,
            KUBERNETES_UUID => Content::Kubernetes,
            _ => Content::Foreign,
        });
    }
    match iso9660::volume(&mut disk)?.as_deref() {
        Some(ISO_VOLUME) => return Ok(Content::Iso),
        Some(seed::VOLUME) => return Ok(Content::SeedCd),
        _ => {}
    }
    if ext4_uuid(&start).is_some_and(|uuid| uuid == DATA_UUID) {
        return Ok(Content::Data);
    }
    disk.seek(SeekFrom::Start(length as u64))?;
    let mut rest = vec![0; BLANK - start.len().min(BLANK)];
    let more = read_full(&mut disk, &mut rest)?;
    // A disk shorter than what is looked at is no data disk.
    let blank = length + more == BLANK && start.iter().chain(&rest).all(|byte| *byte == 0);
    Ok(if blank {
        Content::Blank
    } else {
        Content::Foreign
    })
}

fn read_full(disk: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match disk.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// erofs: magic 0xE0F5E1E2 at the superblock's start, UUID at 48 (fs/erofs/erofs_fs.h).
fn erofs_uuid(start: &[u8]) -> Option<String> {
    let superblock = start.get(SUPERBLOCK..SUPERBLOCK + 64)?;
    (superblock[..4] == [0xe2, 0xe1, 0xf5, 0xe0]).then(|| uuid(&superblock[48..64]))
}

/// ext4: magic 0xEF53 at 56, UUID at 104 (Documentation/filesystems/ext4/super.rst).
fn ext4_uuid(start: &[u8]) -> Option<String> {
    let superblock = start.get(SUPERBLOCK..SUPERBLOCK + 120)?;
    (superblock[56..58] == [0x53, 0xef]).then(|| uuid(&superblock[104..120]))
}

fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use std::process::Command;

    fn erofs(last: u8) -> Vec<u8> {
        let mut disk = vec![0; 2 << 20];
        disk[1024..1028].copy_from_slice(&0xe0f5_e1e2_u32.to_le_bytes());
        let id = [
            0x63, 0x6f, 0x72, 0x61, 0x63, 0x6c, 0x4e, 0, 0x80, 0, 0, 0, 0, 0, 0, last,
        ];
        disk[1072..1088].copy_from_slice(&id);
        disk
    }

    fn what(disk: Vec<u8>) -> Content {
        probe(Cursor::new(disk)).unwrap()
    }

    #[test]
    fn superblocks_are_known_by_their_uuid() {
        assert_eq!(what(erofs(1)), Content::Root);
        assert_eq!(what(erofs(2)), Content::Kubernetes);
        assert_eq!(what(erofs(9)), Content::Foreign);
    }

    #[test]
    fn only_a_disk_without_a_single_bit_is_blank() {
        assert_eq!(what(vec![0; 2 << 20]), Content::Blank);
        let mut disk = vec![0; 2 << 20];
        disk[(1 << 20) - 1] = 1;
        assert_eq!(what(disk), Content::Foreign);
        assert_eq!(what(vec![0; 4096]), Content::Foreign);
        assert_eq!(what(Vec::new()), Content::Foreign);
    }

    #[test]
    fn a_seed_is_known_by_its_magic() {
        let mut disk = vec![0; 8192];
        disk[..16].copy_from_slice(seed::MAGIC);
        assert_eq!(what(disk), Content::Seed);
    }

    #[test]
    fn cds_are_known_by_their_volume() {
        let cd = |volume| what(iso9660::with_file(volume, "FILE.BIN", &[1; 4096]));
        assert_eq!(cd(ISO_VOLUME), Content::Iso);
        assert_eq!(cd(seed::VOLUME), Content::SeedCd);
        assert_eq!(cd("OTHER"), Content::Foreign);
    }

    #[test]
    fn what_mke2fs_makes_is_the_data_disk() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(16 << 20).unwrap();
        let made = Command::new("/sbin/mke2fs")
            .args(["-q", "-t", "ext4", "-U", DATA_UUID])
            .arg(file.path())
            .status()
            .unwrap();
        assert!(made.success());
        assert_eq!(probe(file.reopen().unwrap()).unwrap(), Content::Data);
        let foreign = Command::new("/sbin/tune2fs")
            .args(["-U", "00000000-0000-4000-8000-000000000000"])
            .arg(file.path())
            .output()
            .unwrap();
        assert!(foreign.status.success());
        assert_eq!(probe(file.reopen().unwrap()).unwrap(), Content::Foreign);
    }
}
