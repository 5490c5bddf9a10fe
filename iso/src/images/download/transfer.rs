//! One file as it comes in: its bytes are kept as they were sent, unpacked and hashed in one go. HEX is the
//! digest of what it is in the end.
//!
//! ```text
//! bytes --push--> sha256-HEX.zst.part -----------------------> a later try goes on from here
//!            `--> unpacked --> hashed --> sha256-HEX.unpacked --finish--> FILE
//! or
//! bytes --push--> hashed, sha256-HEX.part ---------------------finish--> FILE
//! ```
//!
//! Of a file that comes from a folder nothing is kept. What is there from an earlier try is read once more, since the
//! state of a hash and of a decompressor cannot be kept.

use super::error::{Reason, Stop};
use super::source::Encoding;
use crate::digest::Hasher;
use crate::files::{remove_all, sync_folder, write_atomic};
use crate::images::Part;
use crate::images::export::WINDOW_LOG;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};

/// Bytes that are unpacked at a time.
const UNPACKED: usize = 1 << 17;

/// What a server says of the file that it sends, so that a later request goes on with that very one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Version {
    /// Where it came from, without what may be secret.
    pub(super) url: String,
    /// A strong entity tag, with its quotes.
    pub(super) etag: Option<String>,
    /// The time of the last change, as the server wrote it.
    pub(super) last_modified: Option<String>,
}

/// A file that comes in.
pub(super) struct Transfer<'a> {
    part: &'a Part,
    encoding: Encoding,
    folder: &'a Path,
    /// None where nothing is kept for a later try and the file is made elsewhere.
    kept: Option<File>,
    kept_length: u64,
    unpacking: Option<(Decoder<'static>, File)>,
    hasher: Hasher,
    unpacked: u64,
    version: Version,
}

impl<'a> Transfer<'a> {
    /// Begins a file, or goes on with what is there of it.
    pub(super) fn resume(
        folder: &'a Path,
        part: &'a Part,
        encoding: Encoding,
    ) -> Result<Self, Stop> {
        let mut transfer = Self::open(folder, part, encoding, true)?;
        match transfer.take_up() {
            // It was damaged meanwhile, or was never right.
            Err(Stop::Source(_)) => transfer.restart()?,
            other => other?,
        }
        Ok(transfer)
    }

    /// Begins a file of which nothing is kept: it is not far away.
    pub(super) fn begin(
        folder: &'a Path,
        part: &'a Part,
        encoding: Encoding,
    ) -> Result<Self, Stop> {
        let mut transfer = Self::open(folder, part, encoding, encoding == Encoding::Plain)?;
        transfer.restart()?;
        Ok(transfer)
    }

    fn open(
        folder: &'a Path,
        part: &'a Part,
        encoding: Encoding,
        is_kept: bool,
    ) -> Result<Self, Stop> {
        let path = kept_path(folder, part, encoding);
        let kept = is_kept.then(|| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.open(&path)
        });
        let kept = kept.transpose().map_err(Stop::io(&path))?;
        let unpacking = match encoding {
            Encoding::Plain => None,
            Encoding::Zstd => {
                let path = unpacked_path(folder, part);
                let file = File::create(&path).map_err(Stop::io(&path))?;
                Some((decoder().map_err(Stop::io(&path))?, file))
            }
        };
        let version = fs::read(version_path(folder, part, encoding)).unwrap_or_default();
        Ok(Self {
            part,
            encoding,
            folder,
            kept,
            kept_length: 0,
            unpacking,
            hasher: Hasher::default(),
            unpacked: 0,
            version: serde_json::from_slice(&version).unwrap_or_default(),
        })
    }

    /// Reads what an earlier try kept.
    fn take_up(&mut self) -> Result<(), Stop> {
        let path = self.kept_path();
        let mut buffer = vec![0; UNPACKED];
        loop {
            let Some(kept) = &mut self.kept else {
                return Ok(());
            };
            let read = kept.read(&mut buffer).map_err(Stop::io(&path))?;
            let bytes = buffer.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            self.kept_length += bytes.len() as u64;
            self.unpack(bytes)?;
        }
    }

    /// Bytes that are kept, as they were sent.
    pub(super) fn kept(&self) -> u64 {
        self.kept_length
    }

    /// Bytes of the file itself that are there.
    pub(super) fn unpacked(&self) -> u64 {
        self.unpacked
    }

    /// What the server said of the bytes that are kept.
    pub(super) fn version(&self) -> &Version {
        &self.version
    }

    /// Notes what the server says of the bytes that are to come, before the first of them.
    pub(super) fn note(&mut self, version: Version) -> Result<(), Stop> {
        let path = version_path(self.folder, self.part, self.encoding);
        let bytes = serde_json::to_vec(&version).unwrap_or_default();
        write_atomic(&path, &bytes).map_err(Stop::io(&path))?;
        self.version = version;
        Ok(())
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        if let Some(kept) = &mut self.kept {
            let path = kept_path(self.folder, self.part, self.encoding);
            kept.write_all(bytes).map_err(Stop::io(path))?;
        }
        self.kept_length += bytes.len() as u64;
        if self.kept_length > self.encoding.most(self.part.size) {
            return Err(self.wrong("it is longer than the file").into());
        }
        self.unpack(bytes)
    }

    fn unpack(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        if self.unpacking.is_none() {
            return self.hash(bytes);
        }
        let mut buffer = vec![0; UNPACKED];
        let mut input = InBuffer::around(bytes);
        loop {
            let Some((decoder, file)) = &mut self.unpacking else {
                return Ok(());
            };
            let mut output = OutBuffer::around(buffer.as_mut_slice());
            if let Err(error) = decoder.run(&mut input, &mut output) {
                return Err(self.wrong(&error.to_string()).into());
            }
            let unpacked = output.as_slice();
            let is_all = unpacked.len() < UNPACKED && input.pos() == bytes.len();
            let path = unpacked_path(self.folder, self.part);
            file.write_all(unpacked).map_err(Stop::io(path))?;
            let length = unpacked.len();
            self.hash(buffer.get(..length).unwrap_or_default())?;
            if is_all {
                return Ok(());
            }
        }
    }

    fn hash(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.hasher.update(bytes);
        self.unpacked += bytes.len() as u64;
        if self.unpacked > self.part.size {
            return Err(self.wrong("it is longer than the file").into());
        }
        Ok(())
    }

    /// Whether all bytes of the file are there, right or wrong.
    pub(super) fn is_full(&self) -> bool {
        self.unpacked == self.part.size
    }

    /// Throws away what is there.
    pub(super) fn restart(&mut self) -> Result<(), Stop> {
        if let Some(kept) = &mut self.kept {
            let path = kept_path(self.folder, self.part, self.encoding);
            empty(kept).map_err(Stop::io(path))?;
        }
        self.kept_length = 0;
        if let Some((decoder, file)) = &mut self.unpacking {
            let path = unpacked_path(self.folder, self.part);
            decoder.reinit().map_err(Stop::io(&path))?;
            empty(file).map_err(Stop::io(&path))?;
        }
        self.hasher = Hasher::default();
        self.unpacked = 0;
        self.version = Version::default();
        let path = version_path(self.folder, self.part, self.encoding);
        remove_all(&path).map_err(Stop::io(&path))
    }

    /// Compares the whole file with its digest, and gives it its name; or says that it is a wrong one,
    /// and throws it away.
    pub(super) fn finish(&mut self) -> Result<(), Stop> {
        let (found, _) = self.hasher.clone().finish();
        if !self.is_full() || found != self.part.sha256 {
            let wrong = self.wrong(&format!("its digest is {found}"));
            self.restart()?;
            return Err(wrong.into());
        }
        self.place()
    }

    fn place(&self) -> Result<(), Stop> {
        let kept = self.kept_path();
        let unpacked = unpacked_path(self.folder, self.part);
        let (file, from) = match (&self.unpacking, &self.kept) {
            (Some((_, file)), _) => (file, &unpacked),
            (None, Some(file)) => (file, &kept),
            // A file that is sent as it is is always kept.
            (None, None) => return Ok(()),
        };
        let to = self.folder.join(&self.part.file);
        file.sync_all().map_err(Stop::io(from))?;
        make_usable(file, self.part).map_err(Stop::io(from))?;
        fs::rename(from, &to).map_err(Stop::io(&to))?;
        sync_folder(self.folder).map_err(Stop::io(self.folder))?;
        forget(self.folder, self.part).map_err(Stop::io(self.folder))
    }

    fn kept_path(&self) -> PathBuf {
        kept_path(self.folder, self.part, self.encoding)
    }

    fn wrong(&self, detail: &str) -> Reason {
        Reason::WrongBytes {
            file: self.part.file.clone(),
            detail: detail.to_owned(),
        }
    }
}

impl Drop for Transfer<'_> {
    fn drop(&mut self) {
        // A later try makes it anew of what is kept; until then it only takes space.
        if self.unpacking.is_some() {
            let _ = remove_all(&unpacked_path(self.folder, self.part));
        }
    }
}

/// Removes what tries to fetch a file left beside it.
pub(super) fn forget(folder: &Path, part: &Part) -> io::Result<()> {
    for encoding in Encoding::ALL {
        remove_all(&kept_path(folder, part, encoding))?;
        remove_all(&version_path(folder, part, encoding))?;
    }
    remove_all(&unpacked_path(folder, part))
}

/// Bytes on the disk that tries to fetch a file left beside it.
pub(super) fn left(folder: &Path, part: &Part) -> u64 {
    let kept = Encoding::ALL.map(|encoding| kept_path(folder, part, encoding));
    let files = kept.into_iter().chain([unpacked_path(folder, part)]);
    files
        .filter_map(|path| fs::metadata(path).ok())
        .map(|meta| meta.len())
        .sum()
}

fn kept_path(folder: &Path, part: &Part, encoding: Encoding) -> PathBuf {
    let ending = match encoding {
        Encoding::Zstd => "zst.part",
        Encoding::Plain => "part",
    };
    folder.join(format!("{}.{ending}", part.sha256.folder_name()))
}

fn version_path(folder: &Path, part: &Part, encoding: Encoding) -> PathBuf {
    kept_path(folder, part, encoding).with_extension("version.json")
}

fn unpacked_path(folder: &Path, part: &Part) -> PathBuf {
    folder.join(format!("{}.unpacked", part.sha256.folder_name()))
}

fn decoder() -> io::Result<Decoder<'static>> {
    let mut decoder = Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
    Ok(decoder)
}

fn empty(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0)).map(|_| ())
}

/// Files of an image are readable, and programs can be run: whoever copied them may have lost that.
pub(super) fn make_usable(file: &File, part: &Part) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = match part.role {
            crate::images::Role::Kubectl { .. } => 0o755,
            _ => 0o644,
        };
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    #[cfg(not(unix))]
    let _ = (file, part);
    Ok(())
}
