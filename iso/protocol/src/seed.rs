//! The seed disk: a [`GuestConfig`] in a form that a guest finds on any bus.
//!
//! Layout, padded with zeros to a multiple of [`BLOCK`] bytes:
//!
//! ```text
//! offset  size  content
//!      0    16  "CORACLE-SEED-01\n"
//!     16     8  length of the JSON in bytes, little endian
//!     24    32  SHA-256 of the JSON
//!     56     n  JSON
//! ```

use crate::guest::{FORMAT, GuestConfig};
use sha2::{Digest, Sha256};
use std::io::Read;

/// The first bytes of a seed disk.
pub const MAGIC: &[u8; 16] = b"CORACLE-SEED-01\n";
/// Seed disks are a multiple of this many bytes: all are of one size, since a clone of a machine keeps
/// the size of the disk that it saw first.
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
pub fn encode(config: &GuestConfig) -> Result<Vec<u8>, SeedError> {
    let mut disk = encode_unpadded(config)?;
    disk.resize(disk.len().next_multiple_of(BLOCK), 0);
    Ok(disk)
}

/// The same without the zeros at its end, for a message.
pub fn encode_unpadded(config: &GuestConfig) -> Result<Vec<u8>, SeedError> {
    let json = serde_json::to_vec(config)?;
    let mut bytes = Vec::with_capacity((HEADER + json.len()).next_multiple_of(BLOCK));
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(json.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&Sha256::digest(&json));
    bytes.extend_from_slice(&json);
    Ok(bytes)
}

/// Reads a seed disk from its beginning.
pub fn decode(mut disk: impl Read) -> Result<GuestConfig, SeedError> {
    let mut header = [0; HEADER];
    disk.read_exact(&mut header)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => SeedError::NotASeed,
            _ => SeedError::Read(error),
        })?;
    let (magic, rest) = header.split_at(MAGIC.len());
    let (length, digest) = rest.split_at(8);
    if magic != MAGIC {
        return Err(SeedError::NotASeed);
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
    let config: GuestConfig = serde_json::from_slice(&json)?;
    if config.format != FORMAT {
        return Err(SeedError::Format(config.format));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::{AgentIdentity, GuestNetwork, SshIdentity};

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
            },
            agent: AgentIdentity {
                certificate: "c".into(),
                key: "k".into(),
                client_ca: "a".into(),
            },
            ssh: SshIdentity {
                host_key: "h".into(),
                authorized_keys: vec!["a".into()],
            },
            kubernetes: None,
            written_at_millis: 1,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let disk = encode(&config()).unwrap();
        assert_eq!(disk.len() % BLOCK, 0);
        assert_eq!(decode(disk.as_slice()).unwrap(), config());
    }

    #[test]
    fn a_damaged_or_foreign_disk_is_refused_by_what_is_wrong() {
        let mut disk = encode(&config()).unwrap();
        disk[HEADER + 3] ^= 1;
        assert!(matches!(decode(disk.as_slice()), Err(SeedError::Damaged)));
        assert!(matches!(
            decode([0; 4096].as_slice()),
            Err(SeedError::NotASeed)
        ));
        assert!(matches!(decode([].as_slice()), Err(SeedError::NotASeed)));
        let mut disk = encode(&config()).unwrap();
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
