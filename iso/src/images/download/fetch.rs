//! The index and the files of one image, from the sources that have it.
//!
//! A source that fails for good is left, and the next one is asked, from the one that was asked last on.
//! Whether a source has the image at all is found out once, by its index.

use super::error::{DownloadError, Failure, Reason, Stop};
use super::meter::Meter;
use super::source::{Encoding, Source, is_missing, shown};
use super::transfer::{Transfer, Version};
use super::web::{Answer, Web};
use super::{Patience, Proxy};
use crate::images::{INDEX_FILE, ImageError, ImageIndex, Part};
use crate::pause::pause;
use crate::{Digest, DownloadObserver};
use reqwest::Url;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longer than the index of any image.
const LONGEST_INDEX: usize = 4 << 20;
/// Bytes that are read at a time.
const BUFFER: usize = 1 << 17;
/// How often a file is begun anew because what was gone on with turned out to be wrong.
const RESTARTS: u32 = 2;

/// An index that is the one that was asked for.
pub(super) struct Found {
    pub(super) digest: Digest,
    pub(super) index: ImageIndex,
    pub(super) bytes: Vec<u8>,
}

/// What is known of a source.
enum State {
    /// It was not asked yet.
    New,
    /// It has the image, in this folder of it.
    At(Source),
    /// It was given up.
    GivenUp,
}

/// Fetches from several sources.
pub(super) struct Fetcher<'a> {
    /// None where all sources are folders.
    web: Option<Web>,
    sources: Vec<(Source, State)>,
    /// The source that is asked first.
    preferred: usize,
    patience: Patience,
    observer: &'a dyn DownloadObserver,
    pub(super) meter: Meter<'a>,
}

impl<'a> Fetcher<'a> {
    pub(super) fn new(
        sources: &[Source],
        proxy: &Proxy,
        authorities: &[String],
        patience: &Patience,
        observer: &'a dyn DownloadObserver,
    ) -> Result<Self, DownloadError> {
        let is_web = sources
            .iter()
            .any(|source| matches!(source, Source::Web(_)));
        let web = is_web.then(|| Web::new(proxy, authorities, patience));
        let sources = sources.iter().map(|source| (source.clone(), State::New));
        Ok(Self {
            web: web.transpose()?,
            sources: sources.collect(),
            preferred: 0,
            patience: patience.clone(),
            observer,
            meter: Meter::new(observer),
        })
    }

    /// The index with this digest, or the first that any source has.
    pub(super) fn index(&mut self, wanted: Option<&Digest>) -> Result<Found, DownloadError> {
        let what = match wanted {
            Some(digest) => format!("the image {digest}"),
            None => "an image".to_owned(),
        };
        self.ask_each(&what, |fetcher, number| fetcher.locate(number, wanted))
    }

    /// Fetches one file of the image whose index was found, into a folder, under its name.
    pub(super) fn file(
        &mut self,
        digest: &Digest,
        part: &Part,
        folder: &Path,
    ) -> Result<(), DownloadError> {
        self.ask_each(&part.file, |fetcher, number| {
            if matches!(fetcher.state(number), Some(State::New)) {
                fetcher.locate(number, Some(digest))?;
            }
            match fetcher.state(number) {
                Some(State::At(place)) => {
                    let place = place.clone();
                    fetcher.take_from(&place, part, folder)
                }
                _ => Err(Source::lacks(&part.file, None).into()),
            }
        })?;
        self.meter.whole(part.size);
        Ok(())
    }

    fn state(&self, number: usize) -> Option<&State> {
        Some(&self.sources.get(number)?.1)
    }

    /// Asks one source after the other until one does.
    fn ask_each<T>(
        &mut self,
        what: &str,
        mut ask: impl FnMut(&mut Self, usize) -> Result<T, Stop>,
    ) -> Result<T, DownloadError> {
        let count = self.sources.len();
        let mut failures = Vec::new();
        for turn in 0..count {
            let number = (self.preferred + turn) % count;
            if matches!(self.state(number), Some(State::GivenUp)) {
                continue;
            }
            match ask(self, number) {
                Ok(done) => {
                    self.preferred = number;
                    return Ok(done);
                }
                Err(Stop::Here(error)) => return Err(error),
                Err(Stop::Source(reason)) => {
                    let Some((source, state)) = self.sources.get_mut(number) else {
                        continue;
                    };
                    // What it lacks or has wrong says nothing of its other files.
                    let is_lost = reason.may_pass() || !matches!(state, State::At(_));
                    if is_lost {
                        *state = State::GivenUp;
                    }
                    let source = source.clone();
                    let failure = Failure { source, reason };
                    if turn + 1 < count {
                        let said = format!("{failure}; asking the next source");
                        self.observer.trouble(&said);
                    }
                    failures.push(failure);
                }
            }
        }
        Err(DownloadError::Failed {
            what: what.to_owned(),
            failures,
        })
    }

    /// Finds the folder of a source in which the image is.
    fn locate(&mut self, number: usize, wanted: Option<&Digest>) -> Result<Found, Stop> {
        let Some((source, _)) = self.sources.get(number) else {
            return Err(Stop::Here(DownloadError::NoSource));
        };
        let source = source.clone();
        let mut failed = None;
        for place in source.places(wanted) {
            let found = self
                .read_index(&place.file(INDEX_FILE))
                .and_then(|bytes| check_index(&place, bytes, wanted));
            match found {
                Ok(found) => {
                    self.observer.begun(&place.to_string());
                    if let Some((_, state)) = self.sources.get_mut(number) {
                        *state = State::At(place);
                    }
                    return Ok(found);
                }
                Err(Stop::Source(reason)) if !reason.may_pass() => {
                    // That there is another image says more than that there is none elsewhere.
                    failed = failed.or(Some(reason));
                }
                Err(stop) => return Err(stop),
            }
        }
        Err(failed
            .unwrap_or_else(|| Source::lacks(INDEX_FILE, None))
            .into())
    }

    fn read_index(&self, file: &Source) -> Result<Vec<u8>, Stop> {
        match file {
            Source::Folder(path) => {
                let file = open(path, INDEX_FILE)?;
                let mut bytes = Vec::new();
                let read = file.take(LONGEST_INDEX as u64).read_to_end(&mut bytes);
                read.map_err(|error| unreadable(&error))?;
                Ok(bytes)
            }
            Source::Web(url) => {
                let mut tries = Tries::new(&self.patience);
                loop {
                    match self.read_index_once(url) {
                        Err(Stop::Source(reason)) => self.wait(url, &mut tries, reason)?,
                        other => return other,
                    }
                }
            }
        }
    }

    fn read_index_once(&self, url: &Url) -> Result<Vec<u8>, Stop> {
        let web = self.web()?;
        let mut answer = web.get(url, INDEX_FILE, 0, &Version::default())?;
        let mut bytes = Vec::new();
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = web.read(&mut answer, &mut buffer)?;
            if read == 0 {
                return Ok(bytes);
            }
            bytes.extend_from_slice(buffer.get(..read).unwrap_or_default());
            if bytes.len() > LONGEST_INDEX {
                return Err(wrong_index("it is too long").into());
            }
        }
    }

    fn take_from(&mut self, place: &Source, part: &Part, folder: &Path) -> Result<(), Stop> {
        let mut failed = Source::lacks(&part.file, None);
        for encoding in Encoding::ALL {
            let done = match place.file(&encoding.name(part)) {
                Source::Folder(path) => self.copy(&path, part, encoding, folder),
                Source::Web(url) => self.receive(&url, part, encoding, folder),
            };
            match done {
                Err(Stop::Source(reason @ Reason::NotFound { .. })) => failed = reason,
                other => return other,
            }
        }
        Err(failed.into())
    }

    /// A file of a folder of this host.
    fn copy(
        &mut self,
        from: &Path,
        part: &Part,
        encoding: Encoding,
        folder: &Path,
    ) -> Result<(), Stop> {
        let mut file = open(from, &part.file)?;
        let mut transfer = Transfer::begin(folder, part, encoding)?;
        let mut buffer = vec![0; BUFFER];
        while !transfer.is_full() {
            let read = file.read(&mut buffer).map_err(|error| unreadable(&error))?;
            if read == 0 {
                break;
            }
            self.take(&mut transfer, buffer.get(..read).unwrap_or_default())?;
        }
        transfer.finish()
    }

    fn take(&mut self, transfer: &mut Transfer<'_>, bytes: &[u8]) -> Result<(), Stop> {
        transfer.push(bytes)?;
        self.meter.received(bytes.len());
        self.meter.part(transfer.unpacked());
        Ok(())
    }

    /// A file of a server, gone on with as often as it breaks off and gets on.
    fn receive(
        &mut self,
        url: &Url,
        part: &Part,
        encoding: Encoding,
        folder: &Path,
    ) -> Result<(), Stop> {
        let mut transfer = Transfer::resume(folder, part, encoding)?;
        let mut tries = Tries::new(&self.patience);
        let (mut farthest, mut restarts) = (transfer.kept(), 0);
        loop {
            let was_begun = transfer.kept() > 0;
            let received = self.receive_once(url, &mut transfer, part, encoding);
            let reason = match received.and_then(|()| transfer.finish()) {
                Err(Stop::Source(reason)) => reason,
                other => return other,
            };
            if is_about_bytes(&reason) {
                transfer.restart()?;
                // What was put together of several answers may be wrong where each of them is right.
                if was_begun && restarts < RESTARTS {
                    restarts += 1;
                    continue;
                }
            }
            if !reason.may_pass() {
                return Err(reason.into());
            }
            if transfer.kept() >= farthest + self.patience.progress {
                tries = Tries::new(&self.patience);
            }
            farthest = farthest.max(transfer.kept());
            self.wait(url, &mut tries, reason)?;
        }
    }

    /// One request for what is missing of a file.
    fn receive_once(
        &mut self,
        url: &Url,
        transfer: &mut Transfer<'_>,
        part: &Part,
        encoding: Encoding,
    ) -> Result<(), Stop> {
        if transfer.is_full() {
            return Ok(());
        }
        let is_from_here = transfer.version().url == shown(url);
        // Compressed elsewhere, the same file may be other bytes.
        if !is_from_here && encoding == Encoding::Zstd && transfer.kept() > 0 {
            transfer.restart()?;
        }
        let have = match is_from_here {
            true => transfer.version().clone(),
            false => Version::default(),
        };
        let name = encoding.name(part);
        let mut answer = self.web()?.get(url, &name, transfer.kept(), &have)?;
        if answer.begins != transfer.kept() {
            transfer.restart()?;
            if answer.begins != 0 {
                let detail = "it is another range than was asked for".to_owned();
                return Err(Reason::BrokeOff { detail }.into());
            }
        }
        check_length(&answer, part, encoding)?;
        if answer.begins == 0 {
            transfer.note(answer.version.clone())?;
        }
        self.stream(&mut answer, transfer)?;
        match transfer.is_full() {
            true => Ok(()),
            false => Err(ended_early(&answer, transfer, part).into()),
        }
    }

    fn stream(&mut self, answer: &mut Answer, transfer: &mut Transfer<'_>) -> Result<(), Stop> {
        let mut buffer = vec![0; BUFFER];
        while !transfer.is_full() {
            let read = self.web()?.read(answer, &mut buffer)?;
            if read == 0 {
                break;
            }
            self.take(transfer, buffer.get(..read).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Waits before the next try; gives the reason back where there is to be none.
    fn wait(&self, url: &Url, tries: &mut Tries, reason: Reason) -> Result<(), Stop> {
        let Some(length) = tries.next(&reason) else {
            return Err(reason.into());
        };
        let said = format!("{} {reason}; trying again", shown(url));
        self.observer.trouble(&said);
        pause(length);
        Ok(())
    }

    fn web(&self) -> Result<&Web, Stop> {
        let missing = || Stop::Here(DownloadError::NoSource);
        self.web.as_ref().ok_or_else(missing)
    }
}

/// How often something is tried in a row, and how long is waited between.
struct Tries {
    left: u32,
    next: Duration,
    longest: Duration,
}

impl Tries {
    fn new(patience: &Patience) -> Self {
        Self {
            left: patience.tries,
            next: patience.pause,
            longest: patience.longest_pause,
        }
    }

    /// How long to wait before the next try; None when there is none, or when it would be of no use.
    fn next(&mut self, reason: &Reason) -> Option<Duration> {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 || !reason.may_pass() {
            return None;
        }
        let own = self.next;
        self.next = (own * 2).min(self.longest);
        Some(match reason {
            Reason::Busy {
                wait: Some(asked), ..
            } => own.max((*asked).min(self.longest)),
            _ => own,
        })
    }
}

fn check_index(place: &Source, bytes: Vec<u8>, wanted: Option<&Digest>) -> Result<Found, Stop> {
    let digest = Digest::of(&bytes);
    let index = ImageIndex::decode(&bytes);
    if wanted.is_some_and(|wanted| *wanted != digest) {
        return Err(match index {
            Ok(_) => Reason::OtherImage { found: digest },
            Err(detail) => wrong_index(&detail),
        }
        .into());
    }
    match index {
        Ok(index) => Ok(Found {
            digest,
            index,
            bytes,
        }),
        // It is the right one, so no other source has one that would be understood.
        Err(reason) if wanted.is_some() => {
            Err(Stop::Here(DownloadError::Store(ImageError::Index {
                file: PathBuf::from(place.to_string()).join(INDEX_FILE),
                reason,
            })))
        }
        Err(detail) => Err(wrong_index(&detail).into()),
    }
}

fn wrong_index(detail: &str) -> Reason {
    Reason::WrongBytes {
        file: INDEX_FILE.to_owned(),
        detail: detail.to_owned(),
    }
}

/// A length that cannot be the file's is noticed before anything is read.
fn check_length(answer: &Answer, part: &Part, encoding: Encoding) -> Result<(), Reason> {
    let most = encoding.most(part.size);
    let is_wrong = |length: u64| match encoding {
        Encoding::Plain => length != most,
        Encoding::Zstd => length > most,
    };
    match answer.length.filter(|length| is_wrong(*length)) {
        None => Ok(()),
        Some(found) => Err(Reason::WrongLength {
            file: part.file.clone(),
            expected: most,
            found,
        }),
    }
}

/// Why an answer that came to its end did not bring the whole file.
fn ended_early(answer: &Answer, transfer: &Transfer<'_>, part: &Part) -> Reason {
    if answer.length == Some(transfer.kept()) {
        return Reason::WrongBytes {
            file: part.file.clone(),
            detail: "it ends too early".to_owned(),
        };
    }
    Reason::BrokeOff {
        detail: "the connection was closed".to_owned(),
    }
}

fn is_about_bytes(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::WrongBytes { .. } | Reason::WrongLength { .. } | Reason::Refused { status: 416 }
    )
}

fn open(path: &Path, what: &str) -> Result<File, Reason> {
    match File::open(path) {
        Ok(_) if path.is_dir() => Err(Source::lacks(what, None)),
        Err(error) if is_missing(path, &error) => Err(Source::lacks(what, None)),
        other => other.map_err(|error| unreadable(&error)),
    }
}

fn unreadable(error: &std::io::Error) -> Reason {
    Reason::Unreadable {
        detail: error.to_string(),
    }
}
