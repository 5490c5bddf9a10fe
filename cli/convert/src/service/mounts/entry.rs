//! One item of `volumes`, in its short form or its long one.

use crate::at::At;
use crate::fault::Result;
use crate::keys;
use crate::paths;
use crate::report::Report;
use crate::units;
use crate::yaml::Kind;

/// Mounts of the machine are seen in the container.
pub(super) const INTO: &str = "HostToContainer";
/// Mounts of the container are seen in the machine too.
pub(super) const BOTH_WAYS: &str = "Bidirectional";

/// What is mounted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A volume without a name.
    Nothing,
    /// A volume of the file.
    Named(String),
    /// A path, as it is written.
    Path(String),
    /// Memory, of so many bytes at the most.
    Memory(Option<i64>),
    /// The files of an image.
    Image(String),
}

/// One item.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) source: Source,
    /// Where in the container.
    pub(super) target: String,
    pub(super) read_only: bool,
    /// Which part of the volume.
    pub(super) subpath: Option<String>,
    /// Whether Docker would copy into it what the image has there.
    pub(super) copied: bool,
    /// Whether a path that is not there is made.
    pub(super) created: bool,
    /// Whether mounts below it are seen on the other side, in the words of Kubernetes.
    pub(super) propagation: Option<&'static str>,
}

impl Entry {
    fn new(source: Source, target: &str) -> Self {
        Self {
            source,
            target: target.to_owned(),
            read_only: false,
            subpath: None,
            copied: true,
            created: true,
            propagation: None,
        }
    }

    /// Reads an item; nothing for one that no pod can have, which is warned of.
    pub(super) fn read(item: &At<'_>, report: &mut Report) -> Result<Option<Self>> {
        match item.node.kind {
            Kind::Mapping(_) => Self::long(item, report),
            _ => Self::short(item, report).map(Some),
        }
    }

    fn short(item: &At<'_>, report: &mut Report) -> Result<Self> {
        let text = item.text()?;
        // The colon of a drive separates nothing.
        let skipped = if paths::has_drive(text) { 2 } else { 0 };
        let Some(colon) = text[skipped..].find(':') else {
            return Ok(Self::new(Source::Nothing, text));
        };
        let (written, rest) = (&text[..skipped + colon], &text[skipped + colon + 1..]);
        let (target, options) = rest.split_once(':').unwrap_or((rest, ""));
        let source = match written {
            "" => return Err(item.expected("SOURCE:TARGET")),
            path if paths::is_path(path) => Source::Path(path.to_owned()),
            name => Source::Named(name.to_owned()),
        };
        let mut entry = Self::new(source, target);
        for option in options.split(',') {
            match option {
                "ro" => entry.read_only = true,
                "" | "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" => {}
                "nocopy" => entry.copied = false,
                other => entry.propagate(other, item, report),
            }
        }
        Ok(entry)
    }

    fn propagate(&mut self, word: &str, at: &At<'_>, report: &mut Report) {
        match word {
            "rslave" | "slave" => self.propagation = Some(INTO),
            "rshared" | "shared" => self.propagation = Some(BOTH_WAYS),
            "rprivate" | "private" => {}
            other => report.warn(at, format!("not mapped: a mount has no option {other}")),
        }
    }

    fn long(item: &At<'_>, report: &mut Report) -> Result<Option<Self>> {
        keys::check(item, keys::MOUNT, report)?;
        let text = |key| {
            let at = item.get(key);
            at.map(|at| at.text()).transpose()
        };
        let written = text("source")?.unwrap_or_default();
        let source = match text("type")?.unwrap_or("volume") {
            "volume" if written.is_empty() => Source::Nothing,
            // In the long form a path may be called a volume, as in the short one.
            "volume" if paths::is_path(written) => Source::Path(written.to_owned()),
            "volume" => Source::Named(written.to_owned()),
            "bind" if !written.is_empty() => Source::Path(written.to_owned()),
            "image" if !written.is_empty() => Source::Image(written.to_owned()),
            "tmpfs" => Source::Memory(size(item, report)?),
            "bind" | "image" => return Err(item.expected("a mapping with `source`")),
            kind @ ("cluster" | "npipe") => {
                report.warn(
                    item,
                    format!("left out: pods have no volumes of the type {kind}"),
                );
                return Ok(None);
            }
            _ => return Err(item.expected("a volume of the type volume, bind, tmpfs or image")),
        };
        let Some(target) = text("target")? else {
            return Err(item.expected("a mapping with `target`"));
        };
        let mut entry = Self::new(source, target);
        entry.read_only = item.flag("read_only")?;
        if let Some(bind) = item.get("bind") {
            keys::check(&bind, keys::BIND, report)?;
            if let Some(create) = bind.get("create_host_path") {
                entry.created = create.boolean()?;
            }
            if let Some(propagation) = bind.get("propagation") {
                entry.propagate(propagation.text()?, &propagation, report);
            }
        }
        if let Some(volume) = item.get("volume") {
            keys::check(&volume, keys::VOLUME_OPTIONS, report)?;
            entry.copied = !volume.flag("nocopy")?;
            entry.subpath = subpath(&volume)?;
        }
        if let Some(image) = item.get("image") {
            keys::check(&image, keys::IMAGE_OPTIONS, report)?;
            entry.subpath = subpath(&image)?;
        }
        Ok(Some(entry))
    }
}

fn subpath(at: &At<'_>) -> Result<Option<String>> {
    let Some(subpath) = at.get("subpath") else {
        return Ok(None);
    };
    let path = subpath.text()?.trim_matches('/');
    if path.split('/').any(|part| part == "..") {
        return Err(subpath.expected("a path within the volume"));
    }
    Ok((!path.is_empty()).then(|| path.to_owned()))
}

fn size(item: &At<'_>, report: &mut Report) -> Result<Option<i64>> {
    let Some(tmpfs) = item.get("tmpfs") else {
        return Ok(None);
    };
    keys::check(&tmpfs, keys::TMPFS, report)?;
    let Some(size) = tmpfs.get("size") else {
        return Ok(None);
    };
    let bytes = units::bytes(size.text()?);
    bytes
        .map(Some)
        .ok_or_else(|| size.expected("a size, such as 64m,"))
}
