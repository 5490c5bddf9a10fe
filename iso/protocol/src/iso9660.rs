//! A CD with one file, as ISO 9660 has it (ECMA-119): for hypervisors that attach no other small disks.
//!
//! ```text
//! sector  0..16   zeros
//!            16   primary volume descriptor
//!            17   end of the descriptors
//!         18, 19  path tables, little and big endian
//!            20   root directory: itself, its parent, the file
//!         24..    the file
//! ```

use std::io::{self, Read, Seek, SeekFrom};

/// Bytes of a sector.
pub const SECTOR: usize = 2048;
/// Where the file of such a CD begins, in bytes.
pub const FILE_OFFSET: u64 = (FILE_SECTOR * SECTOR) as u64;

const DESCRIPTOR_SECTOR: usize = 16;
const PATH_SECTORS: [usize; 2] = [18, 19];
const ROOT_SECTOR: usize = 20;
const FILE_SECTOR: usize = 24;
const STANDARD: &[u8; 5] = b"CD001";
/// Names of one byte: a directory itself, and its parent.
const SELF: &[u8] = &[0];
const PARENT: &[u8] = &[1];
/// A record's flag of directories.
const DIRECTORY: u8 = 2;
/// Volume names have so many bytes, with spaces behind.
const VOLUME: std::ops::Range<usize> = 40..72;

/// A CD whose volume and only file have these names (capital letters, digits, underscores; the file's
/// with a dot), in whole sectors.
#[must_use]
pub fn with_file(volume: &str, name: &str, content: &[u8]) -> Vec<u8> {
    let mut disk = vec![0; FILE_SECTOR * SECTOR];
    let sectors = FILE_SECTOR + content.len().div_ceil(SECTOR);
    let root = record(SELF, ROOT_SECTOR, SECTOR, DIRECTORY);
    let mut put = |sector: usize, at: usize, bytes: &[u8]| {
        let start = sector * SECTOR + at;
        if let Some(place) = disk.get_mut(start..start + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    let descriptor = DESCRIPTOR_SECTOR;
    put(descriptor, 0, &[1]);
    put(descriptor, 1, STANDARD);
    put(descriptor, 6, &[1]);
    put(descriptor, 8, &text("", 32));
    put(descriptor, VOLUME.start, &text(volume, VOLUME.len()));
    put(descriptor, 80, &both32(sectors));
    put(descriptor, 120, &both16(1));
    put(descriptor, 124, &both16(1));
    put(descriptor, 128, &both16(SECTOR));
    let table = [path_table(true), path_table(false)];
    put(descriptor, 132, &both32(table[0].len()));
    put(descriptor, 140, &number(PATH_SECTORS[0]).to_le_bytes());
    put(descriptor, 148, &number(PATH_SECTORS[1]).to_be_bytes());
    put(descriptor, 156, &root);
    put(descriptor, 190, &text("", 128 * 4 + 37 * 3));
    for date in [813, 830, 847, 864] {
        // Not said when.
        put(descriptor, date, b"0000000000000000\0");
    }
    put(descriptor, 881, &[1]);
    put(descriptor + 1, 0, &[255]);
    put(descriptor + 1, 1, STANDARD);
    put(descriptor + 1, 6, &[1]);
    for (sector, table) in PATH_SECTORS.into_iter().zip(&table) {
        put(sector, 0, table);
    }
    let parent = record(PARENT, ROOT_SECTOR, SECTOR, DIRECTORY);
    let file = record(
        format!("{name};1").as_bytes(),
        FILE_SECTOR,
        content.len(),
        0,
    );
    put(ROOT_SECTOR, 0, &[root, parent, file].concat());
    disk.extend_from_slice(content);
    disk.resize(sectors * SECTOR, 0);
    disk
}

/// The name of a disk's ISO 9660 volume, if it has one.
///
/// # Errors
/// When the disk cannot be read.
pub fn volume(mut disk: impl Read + Seek) -> io::Result<Option<String>> {
    let mut descriptor = [0; SECTOR];
    disk.seek(SeekFrom::Start((DESCRIPTOR_SECTOR * SECTOR) as u64))?;
    match disk.read_exact(&mut descriptor) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let is_volume = descriptor[0] == 1 && descriptor[1..6] == *STANDARD;
    let name = String::from_utf8_lossy(&descriptor[VOLUME]);
    Ok(is_volume.then(|| name.trim_end().to_owned()))
}

/// A directory's record (9.1).
fn record(name: &[u8], sector: usize, length: usize, flags: u8) -> Vec<u8> {
    let size = (33 + name.len()).next_multiple_of(2);
    let mut record = vec![byte(size), 0];
    record.extend(both32(sector));
    record.extend(both32(length));
    // No date, which is seven zeros; then flags, and two numbers for interleaved files.
    record.extend([0; 7]);
    record.extend([flags, 0, 0]);
    record.extend(both16(1));
    record.push(byte(name.len()));
    record.extend(name);
    record.resize(size, 0);
    record
}

/// The table that names the root directory alone (9.4).
fn path_table(little: bool) -> Vec<u8> {
    let sector = number(ROOT_SECTOR);
    let mut table = vec![1, 0];
    if little {
        table.extend(sector.to_le_bytes());
        table.extend(1_u16.to_le_bytes());
    } else {
        table.extend(sector.to_be_bytes());
        table.extend(1_u16.to_be_bytes());
    }
    table.extend([0, 0]);
    table
}

fn text(text: &str, length: usize) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(length, b' ');
    bytes
}

/// A number in both byte orders (7.3.3).
fn both32(value: usize) -> [u8; 8] {
    let value = number(value);
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&value.to_le_bytes());
    bytes[4..].copy_from_slice(&value.to_be_bytes());
    bytes
}

/// The same of 16 bits (7.2.3).
fn both16(value: usize) -> [u8; 4] {
    let value = u16::try_from(value).unwrap_or(u16::MAX);
    let [low, high] = value.to_le_bytes();
    [low, high, high, low]
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn byte(value: usize) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn the_file_is_at_its_place_and_the_volume_has_its_name() {
        let disk = with_file("SEED", "SEED.BIN", &[7; 5000]);
        assert_eq!(disk.len(), (FILE_SECTOR + 3) * SECTOR);
        let start = usize::try_from(FILE_OFFSET).unwrap();
        assert_eq!(disk[start..start + 5000], [7; 5000]);
        assert_eq!(volume(Cursor::new(&disk)).unwrap().as_deref(), Some("SEED"));
        assert_eq!(volume(Cursor::new(&disk[..4096])).unwrap(), None);
        assert_eq!(volume(Cursor::new(vec![0; 1 << 20])).unwrap(), None);
    }
}
