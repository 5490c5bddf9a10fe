//! `coracle image-build`.

use super::App;
use crate::cluster;
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::progress::{Progress, Style, seconds};
use coracle_iso::{Arch, BuildObserver, BuildOptions, Builder, Step};
use std::path::PathBuf;
use std::time::Duration;

/// Build the VM image from the source tree, reproducibly
///
/// Needs Rust, Go and Debian's mmdebstrap; takes some minutes the first time, and a second when
/// nothing changed. New clusters then use the new image; existing ones keep theirs. One for another
/// processor is used only where CORACLE_IMAGE_DIGEST names it: its machines are emulated, and slow.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The source tree; found from the current folder upwards when not given
    #[arg(long, value_name = "DIR", env = "CORACLE_SOURCE")]
    source: Option<PathBuf>,
    /// Processor of the machines: amd64 or arm64; this host's when not given
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// Only these Kubernetes versions; the first is the default
    #[arg(long, value_name = "VERSIONS", value_delimiter = ',')]
    kubernetes_versions: Vec<String>,
    /// Take exactly the Debian packages of a manifest, or fail with the list of what is gone
    #[arg(long, value_name = "FILE")]
    locked: Option<PathBuf>,
    /// Debian mirror instead of the default
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Make the ISO too, which drivers need that start a machine by its firmware
    #[arg(long)]
    iso: bool,
    /// Look for newer Debian packages
    #[arg(long)]
    refresh: bool,
    /// Folder of the cache, to share one between state folders
    #[arg(long, value_name = "DIR", env = "CORACLE_CACHE")]
    cache: Option<PathBuf>,
    /// Show what the programs print that the build runs
    #[arg(long)]
    verbose: bool,
    /// How to report: text or json
    #[arg(short, long, value_enum, default_value_t)]
    output: crate::settings::Output,
}

impl Args {
    /// Whether stdout carries CloudEvents.
    pub fn prints_events(&self) -> bool {
        self.output == crate::settings::Output::Json
    }

    pub async fn run(self, app: &App) -> Result<u8> {
        let arch = match &self.arch {
            Some(text) => parse_arch(text)?,
            None => Arch::host().ok_or_else(|| {
                Error::new(
                    ErrorId::Unsupported,
                    "there are no images for this host's processor",
                )
            })?,
        };
        let source = match self.source {
            Some(source) => std::path::absolute(&source)
                .context(ErrorId::Usage, || "--source is not a path".into())?,
            None => find_source()?,
        };
        let mut options = BuildOptions::new(source, &app.settings.home, arch);
        options.kubernetes_versions = self.kubernetes_versions;
        options.locked = self.locked;
        options.mirror = self.mirror;
        options.iso = self.iso;
        options.refresh = self.refresh;
        if let Some(cache) = self.cache {
            options.cache = std::path::absolute(&cache)
                .context(ErrorId::Usage, || "--cache is not a path".into())?;
        }
        cluster::prepare_home(&app.settings)?;
        let store = options.store.clone();
        let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
        let build = tokio::task::spawn_blocking(move || {
            let observer = Observer(sender);
            Builder::new(options, &observer).build()
        });
        let mut shown = Shown {
            progress: &app.progress,
            verbose: self.verbose,
            steps: 0,
        };
        while let Some(event) = events.recv().await {
            shown.event(event);
        }
        app.progress.finish_step();
        let image = build
            .await
            .context(ErrorId::Internal, || "the build ended early".into())??;
        let mut keep = cluster::image::used(&app.settings)?;
        if Arch::host() == Some(arch) {
            store.set_current(image.digest())?;
        } else {
            keep.push(*image.digest());
            let digest = image.digest();
            app.progress.info(&format!(
                "`CORACLE_IMAGE_DIGEST={digest} coracle start` takes this image for {arch}"
            ));
        }
        store.prune(&keep)?;
        app.progress
            .info(&format!("built in {}", seconds(app.progress.elapsed())));
        if !matches!(app.progress.style(), Style::Json) {
            crate::print::line(image.digest().to_string());
        }
        Ok(0)
    }
}

enum Event {
    Started(Step),
    Finished(Step, Duration),
    Output(Step, String),
}

/// Carries what the builder's threads say to the one renderer.
struct Observer(tokio::sync::mpsc::UnboundedSender<Event>);

impl BuildObserver for Observer {
    fn started(&self, step: &Step) {
        let _ = self.0.send(Event::Started(step.clone()));
    }

    fn finished(&self, step: &Step, took: Duration) {
        let _ = self.0.send(Event::Finished(step.clone(), took));
    }

    fn output(&self, step: &Step, line: &str) {
        let _ = self.0.send(Event::Output(step.clone(), line.to_owned()));
    }
}

struct Shown<'a> {
    progress: &'a Progress,
    verbose: bool,
    steps: usize,
}

impl Shown<'_> {
    fn event(&mut self, event: Event) {
        match event {
            Event::Started(step) => {
                self.steps += 1;
                self.progress.step(
                    &step.name,
                    &format!("Building {step}"),
                    self.steps,
                    self.steps,
                );
            }
            Event::Finished(step, took) if self.progress.style() == Style::Plain => {
                self.progress
                    .detail(&format!("{step} took {}", seconds(took)));
            }
            Event::Finished(..) => {}
            Event::Output(step, line) if self.verbose => {
                self.progress.info(&format!("{}: {line}", step.name));
            }
            Event::Output(_, line) if matches!(self.progress.style(), Style::Terminal { .. }) => {
                self.progress.detail(&line);
            }
            Event::Output(..) => {}
        }
    }
}

/// The processor by the name that Debian, Go and Docker use.
fn parse_arch(text: &str) -> Result<Arch> {
    [Arch::Amd64, Arch::Arm64]
        .into_iter()
        .find(|arch| arch.name() == text)
        .ok_or_else(|| {
            Error::new(
                ErrorId::Usage,
                format!("--arch {text:?} is neither amd64 nor arm64"),
            )
        })
}

/// The nearest folder, from the current one upwards, that holds the image's components.
fn find_source() -> Result<PathBuf> {
    let here = std::env::current_dir()
        .context(ErrorId::Internal, || "there is no current folder".into())?;
    let found = here.ancestors().find(|folder| {
        folder.join("iso/components").is_dir() && folder.join("Cargo.lock").is_file()
    });
    found.map(std::path::Path::to_owned).ok_or_else(|| {
        Error::new(ErrorId::Usage, "this is not Coracle's source tree")
            .help("run it inside a checkout of Coracle, or name one with --source")
    })
}
