//! A build by the machine's engine, with BuildKit: a folder goes in, an image comes out.
//!
//! ```text
//! folder, .dockerignore --context--> tar --POST /build--> BuildKit
//! vertexes, logs <--trace-- its answer
//! ```

use super::api::{self, Engine};
use super::ignore::Ignore;
use super::trace::Trace;
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::progress::Progress;
use crate::written;
use futures::StreamExt as _;
use http::Method;
use serde_json::{Map, Value};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::io::ReaderStream;

/// Bytes on their way into the machine.
const PIPE: usize = 256 << 10;
/// Under which name a Dockerfile goes that is not in the context.
const FOREIGN_DOCKERFILE: &str = ".coracle.dockerfile";

/// What is built, and how.
#[derive(Debug, Clone, Default)]
pub struct Build {
    /// Names of the image.
    pub tags: Vec<String>,
    /// The Dockerfile; `Dockerfile` in the context if none is named.
    pub file: Option<PathBuf>,
    /// `NAME=VALUE`.
    pub arguments: Vec<String>,
    /// `NAME=VALUE`.
    pub labels: Vec<String>,
    /// The stage to build.
    pub target: Option<String>,
    /// Build all steps anew.
    pub no_cache: bool,
    /// Ask registries for newer base images.
    pub pull: bool,
}

/// Where the context comes from.
#[derive(Debug, Clone)]
pub enum Context {
    /// A folder.
    Folder(PathBuf),
    /// A tar archive on standard input.
    Stdin,
    /// A URL of an archive or a git repository, which the machine fetches.
    Remote(String),
}

impl Context {
    /// From what somebody typed.
    pub fn parse(text: &str) -> Self {
        let is_remote = ["http://", "https://", "git://", "git@", "github.com/"];
        match text {
            "-" => Self::Stdin,
            url if is_remote.iter().any(|start| url.starts_with(start)) => Self::Remote(url.into()),
            folder => Self::Folder(folder.into()),
        }
    }
}

/// Builds, and gives the image's id.
pub async fn build(
    engine: &Engine,
    build: &Build,
    context: Context,
    progress: &Progress,
) -> Result<String> {
    let mut query: Vec<(&str, String)> = build.tags.iter().map(|tag| ("t", tag.clone())).collect();
    query.push(("version", "2".into()));
    query.push((
        "buildargs",
        pairs("build-arg", &build.arguments)?.to_string(),
    ));
    query.push(("labels", pairs("label", &build.labels)?.to_string()));
    if let Some(target) = &build.target {
        query.push(("target", target.clone()));
    }
    if build.no_cache {
        query.push(("nocache", "1".into()));
    }
    if build.pull {
        query.push(("pull", "1".into()));
    }
    let failure = Arc::default();
    let body = match &context {
        Context::Folder(folder) => {
            let content = Content::of(folder, build.file.as_deref())?;
            query.push(("dockerfile", content.dockerfile.clone()));
            content.send(Arc::clone(&failure))
        }
        Context::Stdin | Context::Remote(_) => {
            if let Some(file) = &build.file {
                query.push(("dockerfile", file.to_string_lossy().into_owned()));
            }
            match context {
                Context::Remote(url) => {
                    query.push(("remote", url));
                    api::empty()
                }
                _ => api::stream(ReaderStream::with_capacity(tokio::io::stdin(), PIPE)),
            }
        }
    };
    let path = format!("/build?{}", api::query(query));
    let headers = [("content-type", "application/x-tar".to_owned())];
    let answer = engine.send(Method::POST, &path, &headers, body).await;
    let failed: Option<io::Error> = failure
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(error) = failed {
        // What the engine made of half a context explains nothing.
        let message = "a file to build from cannot be read";
        return Err(Error::caused_by(ErrorId::Usage, message, &error)
            .help("make it readable, or leave it out with .dockerignore"));
    }
    let mut messages = api::messages(answer?);
    let mut trace = Trace::default();
    let mut id = None;
    while let Some(message) = messages.next().await {
        let message = message.map_err(|error| {
            let said = trace.said_last();
            said.iter().fold(error, |error, line| error.because(line))
        })?;
        match message["id"].as_str() {
            Some("moby.buildkit.trace") => {
                let encoded = message["aux"].as_str().unwrap_or_default();
                for line in trace.take(encoded) {
                    progress.detail(&line);
                }
            }
            Some("moby.image.id") => id = message["aux"]["ID"].as_str().map(str::to_owned),
            _ => {}
        }
    }
    id.ok_or_else(|| Error::new(ErrorId::Runtime, "the build ended without an image"))
}

/// `NAME=VALUE` as an object.
fn pairs(flag: &str, texts: &[String]) -> Result<Value> {
    let mut pairs = Map::new();
    for text in texts {
        let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let Some((name, value)) = pair else {
            let message = format!("--{flag} {text:?} is no name with a value");
            return Err(Error::new(ErrorId::Usage, message).help("write NAME=VALUE"));
        };
        pairs.insert(name.to_owned(), Value::String(value.to_owned()));
    }
    Ok(Value::Object(pairs))
}

/// What of a folder is sent.
#[derive(Debug)]
struct Content {
    root: PathBuf,
    ignore: Ignore,
    /// Its name in the context.
    dockerfile: String,
    /// One that lies elsewhere.
    foreign: Option<Vec<u8>>,
}

impl Content {
    fn of(folder: &Path, file: Option<&Path>) -> Result<Self> {
        let shown = folder.display();
        if !folder.is_dir() {
            return Err(Error::new(
                ErrorId::Usage,
                format!("{shown} is no folder to build from"),
            )
            .help("name the folder that the Dockerfile's files are in"));
        }
        let root = folder
            .canonicalize()
            .context(ErrorId::Usage, || format!("cannot read {shown}"))?;
        let default = root.join("Dockerfile");
        let file = file.unwrap_or(&default);
        let missing = || format!("there is no Dockerfile {}", file.display());
        let text = fs::read(file).context(ErrorId::Usage, missing)?;
        let canonical = file.canonicalize().context(ErrorId::Usage, missing)?;
        let within = canonical.strip_prefix(&root).ok().map(slashed);
        // A Dockerfile may have one of its own beside it.
        let own = PathBuf::from(format!("{}.dockerignore", file.display()));
        let ignore_file = match own.exists() {
            true => own,
            false => root.join(".dockerignore"),
        };
        let ignore = match fs::read_to_string(&ignore_file) {
            Ok(text) => Ignore::parse(&text).map_err(|(line, reason)| {
                let at = format!("{} line {line} is no pattern", ignore_file.display());
                Error::new(ErrorId::Usage, at).because(reason)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ignore::default(),
            Err(error) => {
                let message = format!("cannot read {}", ignore_file.display());
                return Err(Error::caused_by(ErrorId::Usage, message, &error));
            }
        };
        // One that is left out is sent all the same, but not as a part of the context.
        let within = within.filter(|path| !ignore.leaves_out(path));
        Ok(Self {
            root,
            ignore,
            foreign: within.is_none().then_some(text),
            dockerfile: within.unwrap_or_else(|| FOREIGN_DOCKERFILE.to_owned()),
        })
    }

    /// Its archive, made while it is sent. An error of this side breaks it off, and is kept.
    fn send(self, failure: Arc<Mutex<Option<io::Error>>>) -> api::Body {
        let archive = written::stream(move |sink| {
            let written = self.write(sink);
            if let Err(error) = &written {
                let kept = io::Error::new(error.kind(), error.to_string());
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
            }
            written
        });
        api::stream(ReaderStream::with_capacity(archive, PIPE))
    }

    fn write(&self, sink: impl io::Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(sink);
        archive.follow_symlinks(false);
        if let Some(text) = &self.foreign {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, FOREIGN_DOCKERFILE, text.as_slice())?;
        }
        self.add(&mut archive, &self.root)?;
        archive.into_inner()?.flush()
    }

    /// Adds what is in a folder, in the order of names.
    fn add(&self, archive: &mut tar::Builder<impl io::Write>, folder: &Path) -> io::Result<()> {
        let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let Ok(within) = path.strip_prefix(&self.root) else {
                continue;
            };
            let name = slashed(within);
            let is_out = self.ignore.leaves_out(&name);
            let meta = entry.metadata()?;
            let mut header = header(&meta);
            if meta.is_dir() {
                if !is_out {
                    archive.append_data(&mut header, within, io::empty())?;
                }
                if !is_out || self.ignore.may_keep_within(&name) {
                    self.add(archive, &path)?;
                }
            } else if is_out {
                continue;
            } else if meta.is_file() {
                let named = |error: io::Error| {
                    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                };
                let mut file = fs::File::open(&path).map_err(named)?;
                archive.append_data(&mut header, within, &mut file)?;
            } else if meta.is_symlink() {
                archive.append_link(&mut header, within, fs::read_link(&path)?)?;
            }
        }
        Ok(())
    }
}

/// The header of an entry, which is root's, as in what docker's own client sends: images are not to have the
/// numbers of this host's users.
fn header(meta: &fs::Metadata) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_metadata(meta);
    header.set_uid(0);
    header.set_gid(0);
    if cfg!(windows) {
        // Nothing tells there which files are programs.
        header.set_mode(0o755);
    }
    header
}

/// A relative path with `/` between its parts.
fn slashed(path: &Path) -> String {
    let parts = path
        .components()
        .map(|part| part.as_os_str().to_string_lossy());
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(content: &Content) -> Vec<String> {
        let mut bytes = Vec::new();
        content.write(&mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let paths = archive.entries().unwrap().map(|entry| {
            let path = entry.unwrap().path().unwrap().into_owned();
            slashed(&path)
        });
        paths.collect()
    }

    #[test]
    fn a_context_is_a_folder_without_what_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = coracle_vm::store::atomic::write(&path, text.as_bytes());
            file.unwrap();
        };
        put("Dockerfile", "FROM scratch\n");
        put("src/main.c", "");
        put("target/big", "");
        put("target/keep", "");
        let content = Content::of(folder.path(), None).unwrap();
        assert_eq!(content.dockerfile, "Dockerfile");
        let all = [
            "Dockerfile",
            "src",
            "src/main.c",
            "target",
            "target/big",
            "target/keep",
        ];
        assert_eq!(paths(&content), all);
        put(".dockerignore", "target\n!target/keep\nDockerfile\n");
        let content = Content::of(folder.path(), None).unwrap();
        assert_eq!(content.dockerfile, FOREIGN_DOCKERFILE);
        let expected = [
            FOREIGN_DOCKERFILE,
            ".dockerignore",
            "src",
            "src/main.c",
            "target/keep",
        ];
        assert_eq!(paths(&content), expected);
        put(".dockerignore", "a[\n");
        let error = Content::of(folder.path(), None).unwrap_err();
        assert_eq!(error.id(), ErrorId::Usage);
        let missing = Content::of(folder.path(), Some(Path::new("none"))).unwrap_err();
        assert_eq!(missing.id(), ErrorId::Usage);
    }

    #[test]
    fn what_is_sent_is_roots() {
        let folder = tempfile::tempdir().unwrap();
        coracle_vm::store::atomic::write(&folder.path().join("Dockerfile"), b"FROM scratch")
            .unwrap();
        #[cfg(unix)]
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(folder.path().join("Dockerfile"), Some(1234), Some(1234))
                .unwrap();
        }
        let mut bytes = Vec::new();
        Content::of(folder.path(), None)
            .unwrap()
            .write(&mut bytes)
            .unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(
            (entry.header().uid().unwrap(), entry.header().gid().unwrap()),
            (0, 0)
        );
        assert!(entry.header().mtime().unwrap() > 0);
    }

    #[test]
    fn pairs_have_names() {
        let texts = ["A=b=c".to_owned(), "D=".to_owned()];
        let expected = serde_json::json!({"A": "b=c", "D": ""});
        assert_eq!(pairs("build-arg", &texts).unwrap(), expected);
        for wrong in ["=x", "D"] {
            assert!(pairs("label", &[wrong.to_owned()]).is_err());
        }
    }
}
