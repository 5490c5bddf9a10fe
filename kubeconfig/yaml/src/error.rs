//! Why a text cannot be read or edited.

/// Why a text cannot be read as YAML, or not be edited in place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum YamlError {
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
    /// It is written in a way that cannot be changed without rewriting what others wrote.
    #[error("line {line} cannot be edited without rewriting it: {what}")]
    Unsupported {
        /// What is in the way.
        what: String,
        /// The line, from 1; 0 when it is not known.
        line: usize,
    },
}

impl YamlError {
    /// The same of a text with so many more lines before the place.
    #[must_use]
    pub fn below(self, lines: usize) -> Self {
        match self {
            Self::Syntax {
                line,
                column,
                reason,
            } => Self::Syntax {
                line: line + lines,
                column,
                reason,
            },
            Self::Unsupported { what, line } if line > 0 => Self::Unsupported {
                what,
                line: line + lines,
            },
            unplaced => unplaced,
        }
    }

    pub(crate) fn unsupported(what: impl Into<String>, line: usize) -> Self {
        Self::Unsupported {
            what: what.into(),
            line,
        }
    }
}
