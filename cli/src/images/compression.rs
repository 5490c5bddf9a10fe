//! Archives that come compressed, which containerd does not read.
//!
//! ```text
//! file, standard input --first bytes--> gzip, zstd: decompressed here     others: sent as they are
//! ```

use std::io::{self, BufReader, Cursor, Read};

/// Bytes that tell how something is compressed.
const MAGIC: u64 = 6;
/// Bytes that are read at a time.
const CHUNK: usize = 256 << 10;

/// How something is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// By how it begins.
    fn of(start: &[u8]) -> io::Result<Self> {
        let program = match start {
            [0x1f, 0x8b, ..] => return Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => return Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "xz",
            [b'B', b'Z', b'h', ..] => "bzip2",
            _ => return Ok(Self::None),
        };
        let text = format!(
            "it is compressed by {program}, which is not read here: decompress it first, \
             with `{program} -d`"
        );
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }
}

/// Whether an archive is compressed, of which the first bytes are read.
///
/// # Errors
/// As [`decompressed`].
pub fn is_compressed(archive: &mut impl Read) -> io::Result<bool> {
    let compression = Compression::of(&start(archive)?)?;
    Ok(compression != Compression::None)
}

/// An archive without its compression, if it has one.
///
/// # Errors
/// It cannot be read, or is compressed in a way that only another program reads.
pub fn decompressed(mut archive: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let start = start(&mut archive)?;
    let compression = Compression::of(&start)?;
    let whole = BufReader::with_capacity(CHUNK, Cursor::new(start).chain(archive));
    Ok(match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(whole)?),
    })
}

fn start(archive: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    archive.take(MAGIC).read_to_end(&mut start)?;
    Ok(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const TEXT: &[u8] = b"what an archive is made of";

    fn read(archive: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut read = Vec::new();
        decompressed(Cursor::new(archive))?.read_to_end(&mut read)?;
        Ok(read)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(bytes).unwrap();
        to.finish().unwrap()
    }

    #[test]
    fn it_comes_out_as_it_was() {
        let (first, second) = TEXT.split_at(9);
        let in_members = [gzip(first), gzip(second)].concat();
        for archive in [
            TEXT.to_vec(),
            gzip(TEXT),
            in_members,
            zstd::encode_all(TEXT, 1).unwrap(),
        ] {
            let is_compressed = is_compressed(&mut archive.as_slice()).unwrap();
            assert_eq!(is_compressed, archive != TEXT);
            assert_eq!(read(archive).unwrap(), TEXT);
        }
        assert_eq!(read(Vec::new()).unwrap(), b"");
        assert_eq!(read(b"ab".to_vec()).unwrap(), b"ab");
    }

    #[test]
    fn what_is_cut_off_is_no_archive() {
        for mut archive in [gzip(TEXT), zstd::encode_all(TEXT, 1).unwrap()] {
            archive.truncate(archive.len() - 2);
            read(archive).unwrap_err();
        }
    }

    #[test]
    fn what_is_not_read_here_is_named() {
        for (archive, program) in [(&b"\xfd7zXZ\0\0\x04"[..], "xz"), (b"BZh91AY", "bzip2")] {
            let error = read(archive.to_vec()).unwrap_err();
            assert!(error.to_string().contains(program), "{error}");
            is_compressed(&mut &archive[..]).unwrap_err();
        }
    }
}
