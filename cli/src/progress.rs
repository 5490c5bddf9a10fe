//! How progress is shown: steps and a spinner on a terminal, plain lines elsewhere, CloudEvents
//! with `--output json`. stdout is the result, stderr is progress, except that JSON events are
//! the result.

use coracle_iso::DownloadProgress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How a command talks while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A spinner and ticks, with or without colour.
    Terminal {
        /// Whether escape codes for colour may be used.
        color: bool,
    },
    /// One line a step.
    Plain,
    /// One CloudEvent a line on stdout.
    Json,
    /// Nothing but warnings.
    Quiet,
}

/// The one renderer of progress.
pub struct Progress {
    style: Style,
    started: Instant,
    events: AtomicU64,
    current: Mutex<Option<Running>>,
}

struct Running {
    label: String,
    began: Instant,
    bar: Option<ProgressBar>,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress")
            .field("style", &self.style)
            .finish_non_exhaustive()
    }
}

impl Progress {
    /// Starts the clock.
    pub fn new(style: Style) -> Self {
        Self {
            style,
            started: Instant::now(),
            events: AtomicU64::new(0),
            current: Mutex::new(None),
        }
    }

    /// The way it is shown.
    pub fn style(&self) -> Style {
        self.style
    }

    /// Time since the command began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Begins a step; the one before it is done.
    pub fn step(&self, id: &str, label: &str, number: usize, total: usize) {
        self.finish_step();
        match self.style {
            Style::Json => self.event(
                "step",
                &json!({"currentstep": number.to_string(), "totalsteps": total.to_string(), "name": id, "message": label}),
            ),
            Style::Plain => self.line(&format!("{label} ...")),
            Style::Terminal { .. } | Style::Quiet => {}
        }
        let bar = matches!(self.style, Style::Terminal { .. }).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {prefix}  {elapsed}  {wide_msg}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(label.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        *self.current() = Some(Running {
            label: label.to_owned(),
            began: Instant::now(),
            bar,
        });
    }

    /// What the current step is busy with.
    pub fn detail(&self, text: &str) {
        let current = self.current();
        if let Some(bar) = current.as_ref().and_then(|running| running.bar.as_ref()) {
            bar.set_message(text.to_owned());
        } else {
            drop(current);
            match self.style {
                Style::Plain => self.line(&format!("  {text}")),
                Style::Json => self.event("info", &json!({"message": text})),
                Style::Terminal { .. } | Style::Quiet => {}
            }
        }
    }

    /// How far a download is, for programs: its numbers are texts, as in every event.
    pub fn downloaded(&self, name: &str, progress: &DownloadProgress) {
        let share = progress.done as f64 / progress.total.max(1) as f64;
        self.event(
            "download.progress",
            &json!({
                "name": name,
                "progress": format!("{share:.3}"),
                "done": progress.done.to_string(),
                "total": progress.total.to_string(),
                "received": progress.received.to_string(),
                "rate": progress.rate.to_string(),
            }),
        );
    }

    /// Shows bytes of the current step.
    pub fn meter(&self) -> Meter {
        let current = self.current();
        Meter {
            bar: current.as_ref().and_then(|running| running.bar.clone()),
            ..Meter::default()
        }
    }

    /// The current step is done.
    pub fn finish_step(&self) {
        let Some(running) = self.current().take() else {
            return;
        };
        if let (Some(bar), Style::Terminal { color }) = (running.bar, self.style) {
            bar.finish_and_clear();
            let (on, off) = if color {
                ("\x1b[32m", "\x1b[0m")
            } else {
                ("", "")
            };
            print_error(&format!(
                "{on}\u{2713}{off} {}  {}",
                running.label,
                seconds(running.began.elapsed())
            ));
        }
    }

    /// The current step failed or was interrupted: it is not ticked off.
    pub fn abandon_step(&self) -> Option<String> {
        let running = self.current().take()?;
        if let Some(bar) = running.bar {
            bar.finish_and_clear();
        }
        Some(running.label)
    }

    /// A sentence for a person.
    pub fn info(&self, message: &str) {
        match self.style {
            Style::Json => self.event("info", &json!({"message": message})),
            Style::Quiet => {}
            Style::Plain | Style::Terminal { .. } => self.above(message),
        }
    }

    /// Something that a person should know but that stops nothing.
    pub fn warning(&self, message: &str) {
        match self.style {
            Style::Json => self.event("warning", &json!({"message": message})),
            _ => self.above(&format!("warning: {message}")),
        }
    }

    /// The error that ended the command.
    pub fn error(&self, error: &crate::error::Error, profile: &str) {
        self.abandon_step();
        if self.style == Style::Json {
            let entry = error.id().entry();
            self.event(
                "error",
                &json!({
                    "name": format!("CORACLE_{}", entry.name),
                    "exitcode": error.exit_code().to_string(),
                    "message": error.message(),
                    "issues": error.causes().join("\n"),
                    "advice": error.advice(profile).unwrap_or_default(),
                }),
            );
        } else {
            let _ = write!(std::io::stderr(), "{}", error.render(profile));
        }
    }

    fn above(&self, text: &str) {
        let current = self.current();
        match current.as_ref().and_then(|running| running.bar.as_ref()) {
            Some(bar) => bar.suspend(|| print_error(text)),
            None => print_error(text),
        }
    }

    fn line(&self, text: &str) {
        print_error(&format!("[{:>7}] {text}", seconds(self.elapsed())));
    }

    /// A CloudEvent (specification 1.0), with the type names that Minikube's readers know.
    fn event(&self, kind: &str, data: &Value) {
        let id = self.events.fetch_add(1, Ordering::Relaxed);
        let event = json!({
            "specversion": "1.0",
            "id": format!("{}-{id}", std::process::id()),
            "source": "dev.coracle/cli",
            "type": format!("dev.coracle.{kind}"),
            "datacontenttype": "application/json",
            "data": data,
        });
        let _ = writeln!(std::io::stdout(), "{event}");
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.current
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Bytes of a step as they pass, shown on a terminal. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    bar: Option<ProgressBar>,
    passed: Arc<AtomicU64>,
    total: Option<u64>,
}

impl Meter {
    /// The same, of so many bytes and from the first one.
    #[must_use]
    pub fn of(&self, total: u64) -> Self {
        Self {
            bar: self.bar.clone(),
            passed: Arc::default(),
            total: Some(total),
        }
    }

    /// More bytes have passed.
    pub fn pass(&self, bytes: usize) {
        let bytes = bytes as u64;
        let passed = self.passed.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.show(passed, self.total);
    }

    /// So many bytes have passed.
    pub fn show(&self, passed: u64, total: Option<u64>) {
        let Some(bar) = &self.bar else {
            return;
        };
        bar.set_message(match total {
            Some(total) => format!("{} of {}", mebibytes(passed), mebibytes(total)),
            None => mebibytes(passed),
        });
    }
}

/// `12.3 MiB`.
pub fn mebibytes(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    format!("{mebibytes:.1} MiB")
}

/// `0.48 s`, `12.3 s`, `2 min 05 s`.
pub fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 10.0 {
        format!("{seconds:.2} s")
    } else if seconds < 120.0 {
        format!("{seconds:.1} s")
    } else {
        format!(
            "{} min {:02} s",
            duration.as_secs() / 60,
            duration.as_secs() % 60
        )
    }
}

fn print_error(text: &str) {
    // A closed stderr must not end the work.
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_at_a_glance() {
        assert_eq!(seconds(Duration::from_millis(480)), "0.48 s");
        assert_eq!(seconds(Duration::from_millis(12_345)), "12.3 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 05 s");
    }

    #[test]
    fn an_abandoned_step_names_itself_once() {
        let progress = Progress::new(Style::Quiet);
        progress.step("boot", "Booting", 1, 2);
        assert_eq!(progress.abandon_step().as_deref(), Some("Booting"));
        assert_eq!(progress.abandon_step(), None);
    }
}
