//! Sections added to a program of UEFI: a Portable Executable of 64 bits (Microsoft's "PE Format").
//!
//! systemd's stub finds kernel, command line and initrd as sections of its own file, by their names.

/// Where the file says at which offset its PE header begins.
const OFFSET_OF_HEADER: usize = 0x3c;
const SIGNATURE: &[u8] = b"PE\0\0";
/// Of the header behind the signature (COFF).
const COFF: usize = 20;
/// The optional header of 64-bit programs begins with this.
const PE32_PLUS: u16 = 0x20b;
/// Of one section's header.
const SECTION: usize = 40;
/// Initialised data, to be read.
const DATA: u32 = 0x4000_0040;

/// A program with sections behind its own. Each is a name of at most 8 bytes, and its content.
///
/// # Errors
/// What is wrong with the program, as a part of a sentence.
pub(crate) fn with_sections(program: &[u8], sections: &[(&str, &[u8])]) -> Result<Vec<u8>, String> {
    let wrong = || "the stub is no program of UEFI".to_owned();
    let header = usize::try_from(u32_at(program, OFFSET_OF_HEADER).ok_or_else(wrong)?)
        .map_err(|_| wrong())?;
    if program.get(header..header + SIGNATURE.len()) != Some(SIGNATURE) {
        return Err(wrong());
    }
    let coff = header + SIGNATURE.len();
    let optional = coff + COFF;
    let there = usize::from(u16_at(program, coff + 2).ok_or_else(wrong)?);
    let optional_size = usize::from(u16_at(program, coff + 16).ok_or_else(wrong)?);
    if u16_at(program, optional) != Some(PE32_PLUS) {
        return Err(wrong());
    }
    let alignment = u32_at(program, optional + 32).ok_or_else(wrong)?.max(1);
    let file_alignment = u32_at(program, optional + 36).ok_or_else(wrong)?.max(1);
    let headers_end = u32_at(program, optional + 60).ok_or_else(wrong)?;
    let table = optional + optional_size;
    let table_end = table + (there + sections.len()) * SECTION;
    if table_end > headers_end as usize {
        return Err("the stub has no room for more sections".to_owned());
    }
    let mut address = 0;
    for index in 0..there {
        let at = table + index * SECTION;
        let size = u32_at(program, at + 8).ok_or_else(wrong)?;
        let start = u32_at(program, at + 12).ok_or_else(wrong)?;
        address = address.max(start.saturating_add(size));
    }
    let mut made = program.to_vec();
    for (index, (name, content)) in sections.iter().enumerate() {
        address = address.next_multiple_of(alignment);
        let size = u32::try_from(content.len()).map_err(|_| format!("{name} is too large"))?;
        pad(&mut made, file_alignment);
        let offset = u32::try_from(made.len()).map_err(|_| format!("{name} is too large"))?;
        made.extend_from_slice(content);
        pad(&mut made, file_alignment);
        let raw = u32::try_from(made.len()).map_err(|_| format!("{name} is too large"))? - offset;
        let mut entry = [0; SECTION];
        for (to, from) in entry.iter_mut().zip(name.bytes().take(8)) {
            *to = from;
        }
        for (at, value) in [
            (8, size),
            (12, address),
            (16, raw),
            (20, offset),
            (36, DATA),
        ] {
            put(&mut entry, at, value);
        }
        let at = table + (there + index) * SECTION;
        if let Some(place) = made.get_mut(at..at + SECTION) {
            place.copy_from_slice(&entry);
        }
        address = address
            .checked_add(size)
            .ok_or_else(|| format!("{name} is too large"))?;
    }
    let count = u16::try_from(there + sections.len()).map_err(|_| wrong())?;
    if let Some(place) = made.get_mut(coff + 2..coff + 4) {
        place.copy_from_slice(&count.to_le_bytes());
    }
    // How large it is in memory; and no checksum, which UEFI does not ask for.
    put(
        &mut made,
        optional + 56,
        address.next_multiple_of(alignment),
    );
    put(&mut made, optional + 64, 0);
    Ok(made)
}

fn pad(bytes: &mut Vec<u8>, alignment: u32) {
    let length = bytes.len().next_multiple_of(alignment as usize);
    bytes.resize(length, 0);
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let found = bytes.get(at..at + 2)?;
    Some(u16::from_le_bytes(found.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let found = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(found.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program with one section of 0x123 bytes at 0x1000, and headers of 0x400 bytes.
    fn stub() -> Vec<u8> {
        let mut bytes = vec![0; 0x600];
        put(&mut bytes, OFFSET_OF_HEADER, 0x80);
        bytes[0x80..0x84].copy_from_slice(SIGNATURE);
        bytes[0x84..0x86].copy_from_slice(&0x8664_u16.to_le_bytes());
        bytes[0x86..0x88].copy_from_slice(&1_u16.to_le_bytes());
        bytes[0x94..0x96].copy_from_slice(&240_u16.to_le_bytes());
        bytes[0x98..0x9a].copy_from_slice(&PE32_PLUS.to_le_bytes());
        put(&mut bytes, 0x98 + 32, 0x1000);
        put(&mut bytes, 0x98 + 36, 0x200);
        put(&mut bytes, 0x98 + 60, 0x400);
        let section = 0x98 + 240;
        bytes[section..section + 5].copy_from_slice(b".text");
        put(&mut bytes, section + 8, 0x123);
        put(&mut bytes, section + 12, 0x1000);
        put(&mut bytes, section + 16, 0x200);
        put(&mut bytes, section + 20, 0x400);
        bytes
    }

    #[test]
    fn sections_come_behind_those_that_are_there() {
        let made = with_sections(&stub(), &[(".one", &[1; 5]), (".two", &[2; 0x1001])]).unwrap();
        assert_eq!(u16_at(&made, 0x86), Some(3));
        let section = |index: usize, field: usize| u32_at(&made, 0x98 + 240 + index * 40 + field);
        // Size, address, bytes in the file, offset.
        let all = |index| [8, 12, 16, 20].map(|field| section(index, field).unwrap());
        assert_eq!(all(1), [5, 0x2000, 0x200, 0x600]);
        assert_eq!(all(2), [0x1001, 0x3000, 0x1200, 0x800]);
        assert_eq!(u32_at(&made, 0x98 + 56), Some(0x5000), "size of the image");
        assert_eq!(made[0x600..0x605], [1; 5]);
        assert_eq!(made.len(), 0x800 + 0x1200);
        assert_eq!(&made[..0x80], &stub()[..0x80]);
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert!(with_sections(b"MZ", &[]).is_err());
        assert!(with_sections(&[0; 0x600], &[]).is_err());
        let many: Vec<(&str, &[u8])> = vec![(".x", &[]); 100];
        let error = with_sections(&stub(), &many).unwrap_err();
        assert!(error.contains("no room"), "{error}");
    }
}
