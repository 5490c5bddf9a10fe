//! The one error type of the program: an id from [`table`], what happened, why, and what to do.
//!
//! Leaves have typed errors of their own; [`advice`] turns each into one of these.

mod advice;
mod table;

pub use table::ErrorId;

use std::fmt::Write as _;

/// What a command returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error as a person and as a script see it.
#[derive(Debug)]
pub struct Error {
    id: ErrorId,
    message: String,
    causes: Vec<String>,
    help: Option<String>,
}

impl Error {
    /// An error with the table's own advice.
    pub fn new(id: ErrorId, message: impl Into<String>) -> Self {
        Self {
            id,
            message: message.into(),
            causes: Vec::new(),
            help: None,
        }
    }

    /// An error whose causes are those of `source`.
    pub fn caused_by(
        id: ErrorId,
        message: impl Into<String>,
        source: &dyn std::error::Error,
    ) -> Self {
        Self::new(id, message).because_of(source)
    }

    /// Adds `source` and what it stems from as cause lines.
    #[must_use]
    pub fn because_of(mut self, source: &dyn std::error::Error) -> Self {
        let mut next = Some(source);
        while let Some(error) = next {
            self = self.because(error.to_string());
            next = error.source();
        }
        self
    }

    /// Adds a cause line, unless the lines above say it already.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        let cause = cause.into();
        let told = std::iter::once(&self.message)
            .chain(&self.causes)
            .any(|line| line.contains(&cause));
        if !told && !cause.is_empty() {
            self.causes.push(cause);
        }
        self
    }

    /// Replaces the table's advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Which error it is.
    pub fn id(&self) -> ErrorId {
        self.id
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        self.id.entry().exit_code
    }

    /// What happened, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Why, one line each.
    pub fn causes(&self) -> &[String] {
        &self.causes
    }

    /// What happened and why in one line, with this between them.
    pub fn joined(&self, separator: &str) -> String {
        let causes = self.causes().iter().map(String::as_str);
        let parts: Vec<&str> = std::iter::once(self.message()).chain(causes).collect();
        parts.join(separator)
    }

    /// What to do, with the cluster's name filled in.
    pub fn advice(&self, profile: &str) -> Option<String> {
        let text = self.help.as_deref().unwrap_or(self.id.entry().help);
        (!text.is_empty()).then(|| text.replace("{profile}", profile))
    }

    /// `error[CORACLE_ID]: what happened`, cause lines, then `help:`.
    pub fn render(&self, profile: &str) -> String {
        let mut text = format!(
            "error[CORACLE_{}]: {}\n",
            self.id.entry().name,
            self.message
        );
        for cause in &self.causes {
            for line in cause.lines() {
                let _ = writeln!(text, "  {line}");
            }
        }
        if let Some(help) = self.advice(profile) {
            let _ = writeln!(text, "help: {help}");
        }
        text
    }
}

/// Shorthand for turning a leaf's error into one with an id and a sentence.
pub trait Context<T> {
    /// Keeps the error's own lines as causes.
    fn context(self, id: ErrorId, message: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: std::error::Error + 'static> Context<T> for std::result::Result<T, E> {
    fn context(self, id: ErrorId, message: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| {
            let full = id == ErrorId::Write && is_full(&error);
            let id = if full { ErrorId::HostStorage } else { id };
            Error::caused_by(id, message(), &error)
        })
    }
}

/// Whether an error stems from a host without space: what to do is another thing then.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let cause = error.downcast_ref::<std::io::Error>();
        if cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::StorageFull) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_id_then_cause_then_help() {
        let error = Error::new(ErrorId::MachineNotRunning, "the cluster \"a\" is stopped")
            .because("no process");
        assert_eq!(
            error.render("a"),
            "error[CORACLE_MACHINE_NOT_RUNNING]: the cluster \"a\" is stopped\n  no process\n\
             help: `coracle start -p a` starts it\n"
        );
        assert_eq!(error.exit_code(), 33);
    }

    #[test]
    fn a_full_disk_is_told_from_other_failed_writes() {
        let code = |kind: std::io::ErrorKind| {
            let failed: Result<(), _> = Err(std::io::Error::from(kind));
            let told = failed.context(ErrorId::Write, || "cannot write a".into());
            told.unwrap_err().exit_code()
        };
        assert_eq!(code(std::io::ErrorKind::StorageFull), 26);
        assert_eq!(code(std::io::ErrorKind::PermissionDenied), 10);
    }

    #[test]
    fn a_cause_is_not_said_twice() {
        let source = std::io::Error::other("disk on fire");
        let error = Error::caused_by(ErrorId::Write, "cannot write a: disk on fire", &source);
        assert!(error.causes().is_empty());
    }
}
