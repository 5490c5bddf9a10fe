//! An image fetched in the middle of a start, with its progress shown.

use super::release::{check_authentic, chosen, sources};
use super::{used, with_advice};
use crate::cluster::given;
use crate::cluster::steps::{Step, Steps};
use crate::commands::App;
use crate::error::{Context as _, ErrorId, Result};
use crate::progress::{Progress, Style, mebibytes, seconds};
use crate::settings::Settings;
use coracle_iso::images::download::{DownloadOptions, Downloader, Patience, Proxy, Source};
use coracle_iso::images::{Image, ImageError, Store};
use coracle_iso::{Digest, DownloadObserver, DownloadProgress};
use std::time::{Duration, Instant};

/// Least time between two events of a program's, and between two lines where there is no terminal.
const EVENTS: Duration = Duration::from_millis(500);
/// A line where there is no terminal comes with so many percent more.
const LINE_PERCENT: u64 = 10;

/// What of an image is needed.
#[derive(Debug, Clone, Copy)]
pub struct Need<'a> {
    /// The image that a cluster was made with; None for a new cluster.
    pub digest: Option<Digest>,
    /// The version of Kubernetes, such as `v1.37.2`; None for an engine alone.
    pub kubernetes: Option<&'a str>,
    /// How long another download into the same state folder may take.
    pub limit: Duration,
}

/// The image with what is needed of it; what is not there is fetched, where anybody is named who has it.
/// What is there is not read.
///
/// # Errors
/// There is no image and nobody who has it, or it could not be fetched.
pub async fn obtain(app: &App, steps: &Steps<'_>, need: &Need<'_>) -> Result<Image> {
    let settings = &app.settings;
    let digest = wanted(settings, need)?;
    let store = Store::new(&settings.home);
    if let Some(digest) = &digest {
        match store.open(digest) {
            Ok(image) if !lacks(&image, need.kubernetes) => return Ok(image),
            Ok(_) | Err(ImageError::NotFound(_)) => {}
            Err(error) => return Err(with_advice(settings, error.into())),
        }
    }
    let sources = sources(settings)?;
    if sources.is_empty() {
        return match digest {
            Some(digest) => Ok(store.open(&digest)?),
            None => Err(super::none_yet(&store)),
        };
    }
    fetch(app, steps, need, digest, sources).await
}

/// As [`obtain`], with every file compared with its digest, and fetched again where it is not right.
pub async fn confirm(app: &App, steps: &Steps<'_>, need: &Need<'_>) -> Result<Image> {
    let settings = &app.settings;
    let image = match obtain(app, steps, need).await {
        Err(error) if error.id() == ErrorId::ImageDamaged => Err(error),
        Err(error) => return Err(error),
        Ok(image) => crate::cluster::draft::verify_image(settings, image).await,
    };
    let sources = sources(settings)?;
    match image {
        Err(error) if error.id() == ErrorId::ImageDamaged && !sources.is_empty() => {
            app.progress.info(&error.joined(": "));
            fetch(app, steps, need, wanted(settings, need)?, sources).await
        }
        other => other,
    }
}

fn wanted(settings: &Settings, need: &Need<'_>) -> Result<Option<Digest>> {
    match need.digest {
        Some(digest) => Ok(Some(digest)),
        None => chosen(settings),
    }
}

/// Whether the image's layer of this version was not fetched. One that it never had is not lacking.
fn lacks(image: &Image, kubernetes: Option<&str>) -> bool {
    let layer = kubernetes.and_then(|version| image.index().kubernetes(version));
    layer.is_some_and(|layer| !image.has(layer))
}

async fn fetch(
    app: &App,
    steps: &Steps<'_>,
    need: &Need<'_>,
    digest: Option<Digest>,
    sources: Vec<Source>,
) -> Result<Image> {
    let settings = &app.settings;
    check_authentic(&sources, digest.as_ref())?;
    let store = Store::new(&settings.home);
    let options = DownloadOptions {
        store: store.clone(),
        digest,
        sources,
        kubernetes: need.kubernetes.map(str::to_owned),
        proxy: proxy(settings)?,
        authorities: given::authorities(settings)?,
        patience: Patience {
            lock: need.limit,
            ..Patience::default()
        },
    };
    crate::cluster::prepare_home(settings)?;
    steps.within(Step::Image, "download", "Downloading the image");
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let fetching = tokio::task::spawn_blocking(move || {
        let observer = Observer(sender);
        Downloader::new(options, &observer).run()
    });
    let mut shown = Shown::new(&app.progress);
    while let Some(event) = events.recv().await {
        shown.event(event);
    }
    let image = fetching
        .await
        .context(ErrorId::Internal, || "the download ended early".into())??;
    shown.end();
    // Where nobody said which image it is to be, it is this one from now on.
    if digest.is_none() {
        store.set_current(image.digest())?;
    }
    let mut keep = used(settings)?;
    keep.push(*image.digest());
    store.prune(&keep)?;
    Ok(image)
}

/// The proxy of the environment, as it is for this host.
fn proxy(settings: &Settings) -> Result<Proxy> {
    given::check_proxy(&settings.proxy)?;
    let url = |value: &Option<String>| {
        let value = value.as_ref()?.trim();
        Some(match value.contains("://") {
            true => value.to_owned(),
            false => format!("http://{value}"),
        })
    };
    Ok(Proxy {
        http: url(&settings.proxy.http),
        https: url(&settings.proxy.https),
        exceptions: settings.proxy.exceptions.clone(),
    })
}

enum Event {
    Waiting(String),
    Begun(String),
    Progress(DownloadProgress),
    Trouble(String),
}

/// Carries what the download's thread says to the one renderer.
struct Observer(tokio::sync::mpsc::UnboundedSender<Event>);

impl DownloadObserver for Observer {
    fn waiting(&self, holder: &str) {
        let _ = self.0.send(Event::Waiting(holder.to_owned()));
    }

    fn begun(&self, source: &str) {
        let _ = self.0.send(Event::Begun(source.to_owned()));
    }

    fn progress(&self, progress: DownloadProgress) {
        let _ = self.0.send(Event::Progress(progress));
    }

    fn trouble(&self, what: &str) {
        let _ = self.0.send(Event::Trouble(what.to_owned()));
    }
}

/// What was shown last, so that a log is not flooded.
struct Shown<'a> {
    progress: &'a Progress,
    begun: Instant,
    event: Option<Instant>,
    percent: u64,
    last: Option<DownloadProgress>,
}

impl<'a> Shown<'a> {
    fn new(progress: &'a Progress) -> Self {
        Self {
            progress,
            begun: Instant::now(),
            event: None,
            percent: 0,
            last: None,
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Waiting(holder) => {
                let said = format!("waiting for {holder}, which downloads an image");
                self.progress.detail(&said);
            }
            Event::Begun(source) => self.progress.detail(&format!("from {source}")),
            Event::Trouble(what) => self.progress.info(&what),
            Event::Progress(progress) => self.at(progress),
        }
    }

    fn at(&mut self, progress: DownloadProgress) {
        self.last = Some(progress);
        let percent = percent(&progress);
        let is_due = match self.progress.style() {
            Style::Json => self.event.is_none_or(|at| at.elapsed() >= EVENTS),
            Style::Plain => percent / LINE_PERCENT > self.percent / LINE_PERCENT,
            Style::Terminal { .. } | Style::Quiet => true,
        };
        if !is_due {
            return;
        }
        self.event = Some(Instant::now());
        self.percent = percent;
        self.show(&progress);
    }

    fn show(&self, progress: &DownloadProgress) {
        match self.progress.style() {
            Style::Json => self.progress.downloaded("image", progress),
            _ => self.progress.detail(&line(progress)),
        }
    }

    /// The last event says that all is there, however soon after the one before.
    fn end(&self) {
        let Some(last) = &self.last else { return };
        if self.progress.style() == Style::Json {
            self.show(last);
        }
        let received = mebibytes(last.received);
        let took = seconds(self.begun.elapsed());
        self.progress
            .info(&format!("downloaded {received} in {took}"));
    }
}

fn percent(progress: &DownloadProgress) -> u64 {
    let hundred = progress.done.saturating_mul(100);
    hundred.checked_div(progress.total).unwrap_or_default()
}

fn line(progress: &DownloadProgress) -> String {
    format!(
        "{} %, {} so far, {} a second",
        percent(progress),
        mebibytes(progress.received),
        mebibytes(progress.rate)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_one_short_line() {
        let progress = DownloadProgress {
            done: 300 << 20,
            total: 400 << 20,
            received: 100 << 20,
            rate: 3 << 19,
        };
        assert_eq!(line(&progress), "75 %, 100.0 MiB so far, 1.5 MiB a second");
        let nothing = DownloadProgress {
            done: 0,
            total: 0,
            ..progress
        };
        assert_eq!(percent(&nothing), 0);
    }
}
