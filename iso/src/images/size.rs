//! What an image costs to download.

use super::export::compress;
use super::{Image, ImageError};
use std::fs::File;
use std::io::{self, Write};

/// The size of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartSize {
    /// The part's file name.
    pub file: String,
    /// Bytes on disk.
    pub size: u64,
    /// Bytes after compression.
    pub compressed: u64,
}

/// The sizes of all parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadSize {
    /// In the index's order.
    pub parts: Vec<PartSize>,
}

impl DownloadSize {
    /// Bytes that travel.
    pub fn compressed(&self) -> u64 {
        self.parts.iter().map(|part| part.compressed).sum()
    }

    /// Bytes on disk.
    pub fn size(&self) -> u64 {
        self.parts.iter().map(|part| part.size).sum()
    }
}

struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compresses every part the way a download would be packed (zstd level 19, window of 128 MiB)
/// and counts the bytes; minutes for a whole image.
pub fn download_size(image: &Image) -> Result<DownloadSize, ImageError> {
    let mut parts = Vec::new();
    for part in image.parts() {
        let path = image.path(part);
        let compressed = File::open(&path)
            .and_then(|f| packed(f, part.size, 19))
            .map_err(ImageError::io(&path))?;
        parts.push(PartSize {
            file: part.file.clone(),
            size: part.size,
            compressed,
        });
    }
    Ok(DownloadSize { parts })
}

fn packed(content: impl io::Read, size: u64, level: i32) -> io::Result<u64> {
    let mut counter = Counter(0);
    compress(content, size, &mut counter, level)?;
    Ok(counter.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetition_costs_little_and_noise_costs_its_size() {
        assert!(packed(&vec![7; 1 << 20][..], 1 << 20, 3).unwrap() < 1000);
        let mut state = 1_u64;
        let noise: Vec<u8> = (0..1 << 16)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        assert!(packed(noise.as_slice(), 1 << 16, 3).unwrap() > 65_000);
    }
}
