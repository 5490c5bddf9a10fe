//! What makes a text no Compose file, and where.

use std::io;

/// Why a file is not converted. Its place is a line of that file, from 1.
#[derive(Debug, thiserror::Error)]
#[error("{file}:{}: {fault}", fault.line())]
pub struct ConvertError {
    /// The file, as the caller calls it.
    pub file: String,
    /// What is wrong with it.
    #[source]
    pub fault: Fault,
}

/// One fault of a Compose file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The text is no YAML.
    #[error("column {column}: {reason}")]
    Syntax {
        /// The line.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What the parser says.
        reason: String,
    },
    /// A value is not what Compose has in its place.
    #[error("{path}: {message}")]
    Invalid {
        /// The line.
        line: usize,
        /// The keys that lead to it: `services.web.ports[0]`.
        path: String,
        /// What is wrong, and what is expected.
        message: String,
    },
    /// A file that it names cannot be read.
    #[error("{path}: {named} cannot be read: {source}")]
    Unreadable {
        /// The line that names it.
        line: usize,
        /// The keys that lead to it.
        path: String,
        /// The file as it is named there.
        named: String,
        /// Why.
        source: io::Error,
    },
}

impl Fault {
    /// The line of the Compose file that is at fault, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        match self {
            Self::Syntax { line, .. }
            | Self::Invalid { line, .. }
            | Self::Unreadable { line, .. } => *line,
        }
    }
}

/// What may be at fault.
pub(crate) type Result<T> = std::result::Result<T, Fault>;
