//! Lossless edits of one kubeconfig's text: text in, text out, no files.

mod check;
mod entries;
mod remove;
mod second_reader;
mod set;
#[cfg(test)]
mod tests;

use coracle_yaml::YamlError;

pub(crate) use entries::Entries;
pub(crate) use remove::remove;
pub(crate) use set::{Parts, set};

/// Why a text cannot be read as a kubeconfig or cannot be edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// It is not YAML.
    #[error("not YAML at line {line}, column {column}: {reason}")]
    Syntax {
        /// The line of the fault, from 1.
        line: usize,
        /// The column of the fault in characters, from 1.
        column: usize,
        /// What the parser says.
        reason: String,
    },
    /// It is not UTF-8.
    #[error("not UTF-8 text at line {line}, column {column}")]
    Encoding {
        /// The line of the first byte that is none, from 1.
        line: usize,
        /// The column of the first byte that is none in bytes, from 1.
        column: usize,
    },
    /// It is YAML, but not of the shape of a kubeconfig.
    #[error("not a kubeconfig at line {line}: {what}")]
    Shape {
        /// What is wrong.
        what: String,
        /// The line, from 1.
        line: usize,
    },
    /// It is written in a way that cannot be changed without rewriting what others wrote.
    #[error("line {line} cannot be edited without rewriting it: {what}")]
    Unsupported {
        /// What is in the way.
        what: String,
        /// The line, from 1; 0 when it is not known.
        line: usize,
    },
    /// The edited text does not say what it should; it was not written.
    #[error("the edit would have changed what others wrote, or not done its work: {what}")]
    NotLossless {
        /// What differs.
        what: String,
    },
}

impl From<YamlError> for EditError {
    fn from(error: YamlError) -> Self {
        match error {
            YamlError::Syntax {
                line,
                column,
                reason,
            } => Self::Syntax {
                line,
                column,
                reason,
            },
            YamlError::Unsupported { what, line } => Self::Unsupported { what, line },
            other => Self::unsupported(other.to_string(), 0),
        }
    }
}

impl EditError {
    pub(crate) fn unsupported(what: impl Into<String>, line: usize) -> Self {
        Self::Unsupported {
            what: what.into(),
            line,
        }
    }

    /// The place of the fault: line and, where it is known, column, both from 1.
    #[must_use]
    pub fn place(&self) -> Option<(usize, Option<usize>)> {
        match self {
            Self::Syntax { line, column, .. } | Self::Encoding { line, column } => {
                Some((*line, Some(*column)))
            }
            Self::Shape { line, .. } | Self::Unsupported { line, .. } if *line > 0 => {
                Some((*line, None))
            }
            _ => None,
        }
    }
}

/// The key that names the current context.
pub(crate) const CURRENT_CONTEXT: &str = "current-context";
