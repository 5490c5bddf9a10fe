//! What a disk in QEMU's copy-on-write format says of itself (docs/interop/qcow2 in QEMU).

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::size::Size;

const MARK: [u8; 4] = *b"QFI\xfb";

/// The part of a disk's header that is read here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The disk that this one keeps only the differences from.
    pub base: Option<PathBuf>,
    /// How large the guest sees it.
    pub size: Size,
}

impl Header {
    /// The header of a disk; `None` for one of another format, or that is not there.
    pub fn read(disk: &Path) -> io::Result<Option<Self>> {
        let mut file = match File::open(disk) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        // Mark, version, place and length of the base's name, bits of a cluster, size.
        let mut header = [0; 32];
        match file.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        if header[..4] != MARK {
            return Ok(None);
        }
        let long = |at: usize| {
            let bytes = header[at..].first_chunk();
            bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
        };
        let (place, length) = (long(8), long(16) >> 32);
        let base = if place == 0 {
            None
        } else {
            file.seek(SeekFrom::Start(place))?;
            let mut name = Vec::new();
            file.take(length).read_to_end(&mut name)?;
            Some(PathBuf::from(
                String::from_utf8(name).map_err(io::Error::other)?,
            ))
        };
        Ok(Some(Self {
            base,
            size: Size::from_bytes(long(24)),
        }))
    }
}
