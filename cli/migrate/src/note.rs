//! What was changed, and what has to be looked at.

use std::fmt;

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// It was changed, and means what it meant.
    Changed,
    /// A person has to decide: it means something else now, or nothing.
    Look,
}

/// Something about one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The line of the text that was given, from 1.
    pub line: usize,
    /// Whose turn it is.
    pub weight: Weight,
    /// What was done, or what is to be done: `Deployment web: ...`.
    pub message: String,
}

impl fmt::Display for Note {
    /// `LINE: MESSAGE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.message)
    }
}
