//! One kubeconfig file on disk: read whole, replaced atomically, never half written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use crate::edit::EditError;
use crate::error::KubeconfigError;

/// How many links in a row are followed, as Linux does.
const LINK_LIMIT: usize = 40;

/// A file as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    /// The path as it was given.
    pub(crate) path: PathBuf,
    /// Its text; `None` when there is no such file.
    pub(crate) text: Option<String>,
}

impl Loaded {
    /// Reads `path`. A missing file is no error.
    ///
    /// # Errors
    /// [`KubeconfigError`] when it cannot be read or is not text.
    pub(crate) fn read(path: &Path) -> Result<Self, KubeconfigError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Self {
                    path: path.to_owned(),
                    text: None,
                });
            }
            Err(source) => {
                return Err(KubeconfigError::Read {
                    file: path.to_owned(),
                    source,
                });
            }
        };
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let mut lines = good.split(|byte| *byte == b'\n');
            KubeconfigError::Invalid {
                file: path.to_owned(),
                source: EditError::Encoding {
                    line: lines.clone().count(),
                    column: lines.next_back().map_or(0, <[u8]>::len) + 1,
                },
            }
        })?;
        Ok(Self {
            path: path.to_owned(),
            text: Some(text),
        })
    }

    /// Its text, empty when there is no such file.
    pub(crate) fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }
}

/// Follows links from `path` to the file that they name, which need not be there.
pub(crate) fn follow_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINK_LIMIT {
        let Ok(target) = fs::read_link(&path) else {
            break;
        };
        path = match path.parent() {
            Some(folder) => folder.join(target),
            None => target,
        };
    }
    path
}

/// Makes the folder of `path` for its owner alone, with those above it, unless it is there.
pub(crate) fn make_folder(path: &Path) -> Result<(), KubeconfigError> {
    let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    else {
        return Ok(());
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder
        .create(folder)
        .map_err(|source| KubeconfigError::Write {
            file: path.to_owned(),
            source,
        })
}

/// Checks that a file that is there may be written to: a replacement would go round its mode.
pub(crate) fn check_writable(path: &Path) -> Result<(), KubeconfigError> {
    match OpenOptions::new().write(true).open(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(KubeconfigError::Write {
            file: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Replaces the file that `path` leads to by `text`, for its owner alone. Until the new text is
/// safely on disk, the old file stays.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), KubeconfigError> {
    write_beside(&follow_links(path), text).map_err(|source| KubeconfigError::Write {
        file: path.to_owned(),
        source,
    })
}

fn write_beside(target: &Path, text: &str) -> io::Result<()> {
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Made with mode 0600.
    let mut file = tempfile::Builder::new()
        .prefix(".kubeconfig-")
        .tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    keep_owner(target, file.as_file());
    file.as_file().sync_all()?;
    file.persist(target).map_err(|error| error.error)?;
    sync_folder(folder);
    Ok(())
}

/// Takes the file away that `path` leads to; a link stays.
pub(crate) fn remove(path: &Path) -> Result<(), KubeconfigError> {
    fs::remove_file(follow_links(path)).map_err(|source| KubeconfigError::Write {
        file: path.to_owned(),
        source,
    })
}

/// Gives `file` the owner of the file that it is going to replace, where that is allowed.
#[cfg(unix)]
fn keep_owner(target: &Path, file: &File) {
    use std::os::unix::fs::{MetadataExt as _, fchown};
    let (Ok(old), Ok(new)) = (fs::metadata(target), file.metadata()) else {
        return;
    };
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        // Only root may give files away; the group alone may be possible.
        let _ = fchown(file, Some(old.uid()), Some(old.gid()))
            .or_else(|_| fchown(file, None, Some(old.gid())));
    }
}

#[cfg(not(unix))]
fn keep_owner(_target: &Path, _file: &File) {}

/// Makes the new name durable. Not every file system can; the file's content is safe anyway.
#[cfg(unix)]
fn sync_folder(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) {}

/// Takes the rights of group and others away from a file that holds a private key and that needs
/// no other change.
#[cfg(unix)]
pub(crate) fn restrict(path: &Path) {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    if let Ok(metadata) = fs::metadata(path)
        && metadata.mode() & 0o077 != 0
    {
        // Someone else's file stays as it is: that is its owner's business.
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o600));
    }
}

#[cfg(not(unix))]
pub(crate) fn restrict(_path: &Path) {}
