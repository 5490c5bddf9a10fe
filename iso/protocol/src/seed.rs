//! The seed disk: a [`GuestConfig`] in a form that a guest finds on any bus, and behind it what the host
//! gives ([`Given`]), where that is anything.
//!
//! Layout, padded with zeros to a multiple of [`BLOCK`] bytes:
//!
//! ```text
//! offset  size  content
//!      0    16  "CORACLE-SEED-01\n"
//!     16     8  length of the JSON in bytes, little endian
//!     24    32  SHA-256 of the JSON
//!     56     n  JSON: GuestConfig
//!   56+n    16  "CORACLE-GIVEN-1\n"; else zeros, and nothing is given
//!           40  length and SHA-256, as above
//!            m  JSON: Given
//!               its files, a tar archive as long as they say
//! ```

use crate::given::{Given, Parcel};
use crate::guest::{FORMAT, GuestConfig};
use crate::iso9660;
use sha2::{Digest, Sha256};
use std::io::{Read, Seek, SeekFrom};

/// The first bytes of a seed disk.
pub const MAGIC: &[u8; 16] = b"CORACLE-SEED-01\n";
/// The volume of a CD that carries a seed disk as its file.
pub const VOLUME: &str = "CORACLE_SEED";
/// The first bytes of its second part.
const GIVEN: &[u8; 16] = b"CORACLE-GIVEN-1\n";
/// Seed disks are a multiple of this many bytes: all are of one size where nothing is given, since a
/// clone of a machine keeps the size of the disk that it saw first until it boots.
pub const BLOCK: usize = 64 << 10;
/// Longest JSON that is read.
pub const MAX_JSON: u64 = 4 << 20;
const HEADER: usize = 56;

/// Why a seed disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The disk does not begin with [`MAGIC`].
    #[error("not a seed disk")]
    NotASeed,
    /// The disk could not be read.
    #[error("cannot read the seed disk")]
    Read(#[from] std::io::Error),
    /// The length is beyond [`MAX_JSON`].
    #[error("the seed's length of {0} bytes is not plausible")]
    Length(u64),
    /// The content does not have the digest that the header gives.
    #[error("the seed disk is damaged: its digest does not match")]
    Damaged,
    /// The JSON is not a [`GuestConfig`].
    #[error("the seed's content is not understood")]
    Json(#[from] serde_json::Error),
    /// Another format version.
    #[error("the seed has format {0}, this image reads format {FORMAT}")]
    Format(u32),
}

/// The bytes of a seed disk.
///
/// # Errors
/// [`SeedError::Json`] when the JSON cannot be written, [`SeedError::Length`] when it is too long to be
/// read again.
pub fn encode(config: &GuestConfig, parcel: &Parcel) -> Result<Vec<u8>, SeedError> {
    let mut disk = encode_unpadded(config)?;
    if !parcel.given().is_nothing() {
        part(&mut disk, GIVEN, &serde_json::to_vec(parcel.given())?)?;
        disk.extend_from_slice(parcel.files());
    }
    disk.resize(disk.len().next_multiple_of(BLOCK), 0);
    Ok(disk)
}

/// The same as the file of a CD: it begins at [`iso9660::FILE_OFFSET`].
///
/// # Errors
/// As [`encode`].
pub fn encode_cd(config: &GuestConfig, parcel: &Parcel) -> Result<Vec<u8>, SeedError> {
    Ok(iso9660::with_file(
        VOLUME,
        "SEED.BIN",
        &encode(config, parcel)?,
    ))
}

/// Settings and identity alone, without the zeros at the end, for a message.
///
/// # Errors
/// As [`encode`].
pub fn encode_unpadded(config: &GuestConfig) -> Result<Vec<u8>, SeedError> {
    let mut bytes = Vec::with_capacity(BLOCK);
    part(&mut bytes, MAGIC, &serde_json::to_vec(config)?)?;
    Ok(bytes)
}

/// Has a reader of a seed disk stand at its first part, also where the disk is a CD with the seed as
/// its file.
///
/// # Errors
/// When the disk cannot be read.
pub fn enter(mut disk: impl Read + Seek) -> std::io::Result<()> {
    let is_cd = iso9660::volume(&mut disk)?.as_deref() == Some(VOLUME);
    let start = if is_cd { iso9660::FILE_OFFSET } else { 0 };
    disk.seek(SeekFrom::Start(start)).map(drop)
}

/// Reads the settings and the identity of a seed disk from its beginning. The reader stands behind them
/// then, for [`decode_given`].
///
/// # Errors
/// What [`SeedError`] lists.
pub fn decode(disk: impl Read) -> Result<GuestConfig, SeedError> {
    let json = read_part(disk, MAGIC)?.ok_or(SeedError::NotASeed)?;
    let config: GuestConfig = serde_json::from_slice(&json)?;
    if config.format != FORMAT {
        return Err(SeedError::Format(config.format));
    }
    Ok(config)
}

/// Reads what is given, behind [`decode`]. The reader stands at its files then, which are as long as
/// they say.
///
/// # Errors
/// [`SeedError::Damaged`], [`SeedError::Length`] or [`SeedError::Json`] when that cannot be used.
pub fn decode_given(disk: impl Read) -> Result<Given, SeedError> {
    match read_part(disk, GIVEN)? {
        Some(json) => Ok(serde_json::from_slice(&json)?),
        None => Ok(Given::default()),
    }
}

fn part(bytes: &mut Vec<u8>, magic: &[u8; 16], json: &[u8]) -> Result<(), SeedError> {
    let length = json.len() as u64;
    if length > MAX_JSON {
        return Err(SeedError::Length(length));
    }
    bytes.extend_from_slice(magic);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&Sha256::digest(json));
    bytes.extend_from_slice(json);
    Ok(())
}

/// The JSON of a part; None where another one, or nothing, is in its place.
fn read_part(mut disk: impl Read, wanted: &[u8; 16]) -> Result<Option<Vec<u8>>, SeedError> {
    let mut header = [0; HEADER];
    match disk.read_exact(&mut header) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let (magic, rest) = header.split_at(wanted.len());
    let (length, digest) = rest.split_at(8);
    if magic != wanted {
        return Ok(None);
    }
    let length = u64::from_le_bytes(length.try_into().map_err(|_| SeedError::Damaged)?);
    if length > MAX_JSON {
        return Err(SeedError::Length(length));
    }
    let mut json = Vec::new();
    disk.take(length).read_to_end(&mut json)?;
    if json.len() as u64 != length || Sha256::digest(&json).as_slice() != digest {
        return Err(SeedError::Damaged);
    }
    Ok(Some(json))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::{GuestNetwork, ServerIdentity, SshIdentity};

    fn config() -> GuestConfig {
        GuestConfig {
            format: FORMAT,
            image_digest: "sha256:00".into(),
            hostname: "coracle".into(),
            network: GuestNetwork {
                address: [10, 0, 2, 15].into(),
                prefix: 24,
                gateway: [10, 0, 2, 2].into(),
                dns: vec![[10, 0, 2, 3].into()],
                dhcp: false,
            },
            agent: ServerIdentity {
                certificate: "c".into(),
                key: "k".into(),
                client_ca: "a".into(),
            },
            ssh: SshIdentity {
                host_key: "h".into(),
                authorized_keys: vec!["a".into()],
            },
            host_folders: Vec::new(),
            docker: None,
            kubernetes: None,
            written_at_millis: 1,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let disk = encode(&config(), &Parcel::default()).unwrap();
        assert_eq!(disk.len(), BLOCK);
        let mut reader = disk.as_slice();
        assert_eq!(decode(&mut reader).unwrap(), config());
        assert!(decode_given(&mut reader).unwrap().is_nothing());
    }

    #[test]
    fn on_a_cd_it_is_the_same() {
        for disk in [
            encode(&config(), &Parcel::default()).unwrap(),
            encode_cd(&config(), &Parcel::default()).unwrap(),
        ] {
            let mut reader = std::io::Cursor::new(disk);
            enter(&mut reader).unwrap();
            assert_eq!(decode(&mut reader).unwrap(), config());
            assert!(decode_given(&mut reader).unwrap().is_nothing());
        }
    }

    #[test]
    fn what_is_given_follows_with_its_files() {
        let files = vec![7; 100_000];
        let parcel = Parcel::new(None, vec!["pem\n".into()], Some(files.clone()));
        let mut disk = encode(&config(), &parcel).unwrap();
        assert_eq!(disk.len() % BLOCK, 0);
        let mut reader = disk.as_slice();
        assert_eq!(decode(&mut reader).unwrap(), config());
        let given = decode_given(&mut reader).unwrap();
        assert_eq!(given, *parcel.given());
        let length = usize::try_from(given.files.unwrap().bytes).unwrap();
        assert_eq!(&reader[..length], files.as_slice());

        let start = encode_unpadded(&config()).unwrap().len();
        disk[start + HEADER + 1] ^= 1;
        let mut reader = disk.as_slice();
        decode(&mut reader).unwrap();
        let damaged = decode_given(&mut reader);
        assert!(matches!(damaged, Err(SeedError::Damaged)), "{damaged:?}");
    }

    #[test]
    fn what_could_not_be_read_again_is_not_written() {
        let long = "x".repeat(usize::try_from(MAX_JSON).unwrap());
        let parcel = Parcel::new(None, vec![long], None);
        let refused = encode(&config(), &parcel);
        assert!(matches!(refused, Err(SeedError::Length(_))));
    }

    #[test]
    fn a_damaged_or_foreign_disk_is_refused_by_what_is_wrong() {
        let mut disk = encode(&config(), &Parcel::default()).unwrap();
        disk[HEADER + 3] ^= 1;
        assert!(matches!(decode(disk.as_slice()), Err(SeedError::Damaged)));
        assert!(matches!(
            decode([0; 4096].as_slice()),
            Err(SeedError::NotASeed)
        ));
        assert!(matches!(decode([].as_slice()), Err(SeedError::NotASeed)));
        let mut disk = encode(&config(), &Parcel::default()).unwrap();
        disk[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(
            decode(disk.as_slice()),
            Err(SeedError::Length(u64::MAX))
        ));
    }

    #[test]
    fn keys_do_not_appear_in_debug_output() {
        assert!(!format!("{:?}", config()).contains("\"k\""));
    }
}
