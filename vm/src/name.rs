//! The name of a machine, which is also its profile and its folder on disk.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name, in bytes: what a DNS label may hold.
pub const MAX_LENGTH: usize = 63;

/// Device names that Windows reserves in every folder, with or without an extension.
const RESERVED_ON_WINDOWS: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8",
    "com9", "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// A checked name: 1 to 63 ASCII letters, digits, `-`, `_` or `.`, of which the first is a letter
/// or a digit and the last is not a dot. It is safe as the name of a folder on every host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineName(String);

/// Why a text is not a machine's name. The message says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name is empty; {ALLOWED}")]
    Empty,
    /// The text is longer than [`MAX_LENGTH`].
    #[error("the name \"{name}\" has {length} characters; {ALLOWED}")]
    TooLong {
        /// The refused text.
        name: String,
        /// Its length in characters.
        length: usize,
    },
    /// A character is not allowed, or not at its place.
    #[error("the name \"{name}\" has {character:?} at place {place}; {ALLOWED}")]
    Character {
        /// The refused text.
        name: String,
        /// The first character that is not allowed.
        character: char,
        /// Where it stands, counted from 1.
        place: usize,
    },
    /// Windows reserves the name for a device.
    #[error("the name \"{name}\" is reserved by Windows; choose another")]
    Reserved {
        /// The refused text.
        name: String,
    },
}

/// The rule in words, which each error ends with.
const ALLOWED: &str = "allowed are 1 to 63 letters, digits, '-', '_' and '.', beginning with a letter or a digit and not ending with '.'";

impl MachineName {
    /// Checks a text.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        let length = name.chars().count();
        if length > MAX_LENGTH {
            return Err(NameError::TooLong { name, length });
        }
        let allowed = |(index, character): (usize, char)| match character {
            '-' | '_' => index > 0,
            '.' => index > 0 && index + 1 < length,
            _ => character.is_ascii_alphanumeric(),
        };
        if let Some((index, character)) = name.chars().enumerate().find(|&at| !allowed(at)) {
            return Err(NameError::Character {
                character,
                place: index + 1,
                name,
            });
        }
        let stem = name.split('.').next().unwrap_or_default();
        if RESERVED_ON_WINDOWS
            .iter()
            .any(|reserved| stem.eq_ignore_ascii_case(reserved))
        {
            return Err(NameError::Reserved { name });
        }
        Ok(Self(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both names would be one folder on a file system that ignores case.
    pub fn same_folder(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for MachineName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for MachineName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl TryFrom<String> for MachineName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<MachineName> for String {
    fn from(name: MachineName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_accepted() {
        for name in [
            "coracle",
            "a",
            "7",
            "Dev-1",
            "my_team.stage",
            "a.b",
            &"x".repeat(63),
            "console",
            "nul1",
        ] {
            assert_eq!(MachineName::new(name).expect(name).as_str(), name);
        }
    }

    #[test]
    fn names_that_would_leave_the_folder_or_break_a_host_are_refused() {
        for name in [
            "", ".", "..", "a/b", "a\\b", "-a", "_a", ".a", "a.", "a b", "ä", "a\0", "a:b", "a,b",
            "$(x)",
        ] {
            assert!(MachineName::new(name).is_err(), "{name:?} was accepted");
        }
        for name in ["CON", "nul", "Com1", "lpt9.txt", "aux.d"] {
            assert!(
                matches!(MachineName::new(name), Err(NameError::Reserved { .. })),
                "{name:?}"
            );
        }
        assert!(matches!(
            MachineName::new("x".repeat(64)),
            Err(NameError::TooLong { length: 64, .. })
        ));
    }

    #[test]
    fn an_error_says_what_is_wrong_and_what_is_allowed() {
        let text = MachineName::new("a/b").unwrap_err().to_string();
        assert!(
            text.contains("'/' at place 2") && text.contains("1 to 63 letters"),
            "{text}"
        );
    }

    #[test]
    fn a_name_from_a_file_is_checked_too() {
        assert!(serde_json::from_str::<MachineName>("\"../up\"").is_err());
        let name: MachineName = serde_json::from_str("\"dev\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"dev\"");
    }
}
