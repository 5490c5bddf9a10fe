//! The state of QEMU's devices, made ready to be restored.
//!
//! QEMU writes a state as sections (docs/devel/migration in QEMU): a mark and a version, the
//! machine's configuration, the parts of its memory, then the devices, each in a full section. What
//! `xen-save-devices-state` writes has the devices alone. A restore wants the configuration, and the
//! firmware's small parts of memory, which have not changed since the base was made: both are the
//! head of the base's own state, up to the first device.

use std::io::{self, Write as _};
use std::path::Path;

use super::save::private_file;

/// Mark and version of the format.
const MARK: [u8; 8] = *b"QEVM\0\0\0\x03";
/// The first byte of a section that holds all of a device.
const FULL_SECTION: u8 = 4;
/// Bytes of a section's head around the device's name: kind and number before the name's length,
/// instance and version behind it.
const BEFORE_NAME: usize = 5;
const BEHIND_NAME: usize = 8;

/// Puts the head of a base's state before devices that were saved alone, and removes the latter.
pub(super) fn complete(base: &Path, bare: &Path, to: &Path) -> io::Result<()> {
    let state = join(&std::fs::read(base)?, &std::fs::read(bare)?)?;
    private_file(to)?.write_all(&state)?;
    std::fs::remove_file(bare)
}

fn join(base: &[u8], bare: &[u8]) -> io::Result<Vec<u8>> {
    let unknown = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let devices = bare
        .strip_prefix(&MARK)
        .filter(|_| base.starts_with(&MARK))
        .ok_or_else(|| unknown("QEMU wrote a state of another format"))?;
    let first = first_section(devices)
        .ok_or_else(|| unknown("QEMU's state does not begin with a device"))?;
    let mut found = find_all(base, first);
    match (found.next(), found.next()) {
        (Some(head), None) => Ok([&base[..head], devices].concat()),
        _ => Err(unknown("the base's state has other devices")),
    }
}

/// The head of the section at the beginning, which tells it from all others.
fn first_section(devices: &[u8]) -> Option<&[u8]> {
    if *devices.first()? != FULL_SECTION {
        return None;
    }
    let name = usize::from(*devices.get(BEFORE_NAME)?);
    devices.get(..BEFORE_NAME + 1 + name + BEHIND_NAME)
}

fn find_all<'a>(bytes: &'a [u8], wanted: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let windows = bytes.windows(wanted.len()).enumerate();
    windows.filter_map(move |(at, window)| (window == wanted).then_some(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(name: &str, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![FULL_SECTION, 0, 0, 0, 7, u8::try_from(name.len()).unwrap()];
        bytes.extend(name.as_bytes());
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 2]);
        bytes.extend(content);
        bytes
    }

    #[test]
    fn the_head_of_the_base_comes_before_the_new_devices() {
        let head = [MARK.as_slice(), b"configuration and memory"].concat();
        let base = [
            head.clone(),
            section("timer", b"old"),
            section("disk", b"old"),
        ]
        .concat();
        let devices = [section("timer", b"new"), section("disk", b"new")].concat();
        let bare = [MARK.as_slice(), &devices].concat();
        assert_eq!(join(&base, &bare).unwrap(), [head, devices].concat());
    }

    #[test]
    fn states_that_do_not_fit_together_are_refused() {
        let state = |name: &str| [MARK.to_vec(), section(name, b"")].concat();
        for (base, bare) in [
            (state("timer"), state("disk")),
            (state("timer"), MARK.to_vec()),
            (
                state("timer"),
                [MARK.as_slice(), b"\x01..........."].concat(),
            ),
            (b"QEVM\0\0\0\x04".to_vec(), state("timer")),
            (
                [state("timer"), state("timer")[8..].to_vec()].concat(),
                state("timer"),
            ),
        ] {
            let error = join(&base, &bare).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }
}
