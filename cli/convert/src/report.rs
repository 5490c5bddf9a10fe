//! Collects what does not map.

use std::collections::HashSet;
use std::fmt;

use crate::at::At;

/// Something of the Compose file that the manifests do not say, or say in another way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Warning {
    /// The line of the Compose file, from 1.
    pub line: usize,
    /// The keys that lead to it: `services.web.privileged`.
    pub path: String,
    /// What becomes of it, as a sentence without a full stop.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.line, self.path, self.message)
    }
}

/// The warnings so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    warnings: Vec<Warning>,
    /// A line that an anchor brings to many places is warned of once.
    said: HashSet<(usize, String)>,
}

impl Report {
    /// Warns of what stands at `at`.
    pub(crate) fn warn(&mut self, at: &At<'_>, message: impl Into<String>) {
        self.warn_line(at.line, at.path.clone(), message.into());
    }

    /// Warns of a line.
    pub(crate) fn warn_line(&mut self, line: usize, path: String, message: String) {
        if self.said.insert((line, message.clone())) {
            self.warnings.push(Warning {
                line,
                path,
                message,
            });
        }
    }

    /// The warnings in the order of their lines.
    pub(crate) fn into_warnings(self) -> Vec<Warning> {
        let mut warnings = self.warnings;
        warnings.sort_by_key(|warning| warning.line);
        warnings
    }
}
