//! What finds a machine in libvirt again: `libvirt.json` in the machine's folder. It is there from before
//! libvirt knows the machine until after it has forgotten it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::driver::Note;
use crate::store::cache::Formatted;

/// Where a machine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Link {
    format: u32,
    /// The libvirt that knows it.
    pub(super) uri: String,
    /// What it is known by there.
    pub(super) id: Uuid,
}

impl Formatted for Link {
    const FORMAT: u32 = 1;

    fn format(&self) -> u32 {
        self.format
    }
}

impl Note for Link {
    const FILE: &'static str = "libvirt.json";
}

impl Link {
    /// A link to a machine.
    pub(super) fn new(uri: String, id: Uuid) -> Self {
        Self {
            format: Self::FORMAT,
            uri,
            id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::DriverError;
    use crate::name::MachineName;
    use crate::store::MachineDir;

    #[test]
    fn it_is_kept_until_it_is_removed_and_not_taken_for_another_format() {
        let folder = tempfile::tempdir().unwrap();
        let name = MachineName::new("dev").unwrap();
        let dir = MachineDir::new(name, folder.path().to_owned(), folder.path());
        assert_eq!(Link::read(&dir).unwrap(), None);
        let link = Link::new("qemu:///session".to_owned(), Uuid::from_u128(7));
        link.write(&dir).unwrap();
        assert_eq!(Link::read(&dir).unwrap(), Some(link.clone()));
        Link { format: 2, ..link }.write(&dir).unwrap();
        let error = Link::read(&dir).unwrap_err();
        assert!(matches!(error, DriverError::Io { .. }), "{error}");
        for _ in 0..2 {
            Link::remove(&dir).unwrap();
        }
        assert_eq!(Link::read(&dir).unwrap(), None);
    }
}
