//! The head of a VDI, VirtualBox's own format of disks.
//!
//! As `src/VBox/Storage/VDICore.h` in VirtualBox's source has it, version 1.1: a text of 64 bytes, a
//! signature and a version of 4 bytes each, then the header; numbers are little-endian, and an
//! identifier's first three parts too.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use uuid::Uuid;

use crate::size::Size;

const SIGNATURE: u32 = 0xbeda_107f;
const MAJOR: u16 = 1;
/// Where the fields are that are read, from the beginning of the file.
const SIGNATURE_AT: usize = 64;
const MAJOR_AT: usize = 70;
const SIZE_AT: usize = 368;
const ID_AT: usize = 392;
/// All of the fields that are read.
const HEAD: usize = ID_AT + 16;

/// What is read of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// How large the guest sees it.
    pub(super) size: Size,
    /// VirtualBox's identifier of it.
    pub(super) id: Uuid,
}

impl Head {
    /// Reads it; an error of the kind [`InvalidData`](io::ErrorKind::InvalidData) for another format.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let mut bytes = [0; HEAD];
        match File::open(path)?.read_exact(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(other_format()),
            read => read,
        }?;
        Self::parse(&bytes).ok_or_else(other_format)
    }

    fn parse(bytes: &[u8; HEAD]) -> Option<Self> {
        let signature = u32::from_le_bytes(field(bytes, SIGNATURE_AT)?);
        let major = u16::from_le_bytes(field(bytes, MAJOR_AT)?);
        if signature != SIGNATURE || major != MAJOR {
            return None;
        }
        Some(Self {
            size: Size::from_bytes(u64::from_le_bytes(field(bytes, SIZE_AT)?)),
            id: Uuid::from_bytes_le(field(bytes, ID_AT)?),
        })
    }
}

fn field<const N: usize>(bytes: &[u8; HEAD], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn other_format() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is no VDI")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::atomic;

    #[test]
    fn another_file_is_no_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        for content in [vec![], vec![0; 4096]] {
            atomic::write(&path, &content).unwrap();
            let error = Head::read(&path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn size_and_identifier_are_at_their_places() {
        let mut bytes = [0; HEAD];
        bytes[SIGNATURE_AT..][..4].copy_from_slice(&SIGNATURE.to_le_bytes());
        bytes[MAJOR_AT..][..2].copy_from_slice(&MAJOR.to_le_bytes());
        bytes[SIZE_AT..][..8].copy_from_slice(&(64_u64 << 20).to_le_bytes());
        let id = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
        bytes[ID_AT..].copy_from_slice(&id.to_bytes_le());
        let head = Head::parse(&bytes).unwrap();
        assert_eq!((head.size, head.id), (Size::from_mib(64), id));
    }
}
