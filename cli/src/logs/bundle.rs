//! One archive with all that a bug report needs, and without secrets.
//!
//! ```text
//! coracle-NAME/
//!   version.json status.json doctor.json templates.json   what the program says
//!   machine.json config.yaml                              what was asked for
//!   problems.txt                                          known problems among the lines below
//!   missing.txt                                           what could not be had, if anything
//!   host/serial.log qemu.log host-agent.log               and what came before, as FILE.old
//!   components/NAME.log pods/CONTAINER.log                the end of each
//!   kubernetes/nodes.json pods.json events.json services.json
//! ```
//!
//! All that goes in passes [`Redactor`]: there is no other way into an [`Archive`].

use super::objects;
use super::problems::Finder;
use super::redact::Redactor;
use super::sources::{self, Source, Wanted};
use crate::cluster::{self, Cluster, Found};
use crate::error::{Context as _, Error, ErrorId, Result};
use crate::settings::Settings;
use coracle_vm::{MachineDir, log_file};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of the end of each log.
const LONGEST_LOG: usize = 1 << 20;
/// Last lines of each log that the machine is asked for.
const LAST_LINES: u32 = 10_000;
/// How many objects of each kind.
const MOST_OBJECTS: u32 = 1000;

/// A bundle that is being gathered.
#[derive(Debug, Default)]
pub struct Bundle {
    texts: Vec<(String, String)>,
    values: Vec<(String, Value)>,
    missing: Vec<String>,
}

/// Where a bundle goes, before any work: a path that nothing has yet, in a folder that is there.
pub fn target(file: &Path) -> Result<PathBuf> {
    let refused = |reason: String| {
        Error::new(ErrorId::Usage, reason)
            .help("name a file that is not there yet, such as `--bundle coracle-logs.tar.gz`")
    };
    if file.as_os_str() == "-" {
        return Err(refused(
            "a bundle is written to a file, not to stdout".into(),
        ));
    }
    let path = std::path::absolute(file).context(ErrorId::Usage, || {
        format!("{} is not a usable path", file.display())
    })?;
    if std::fs::symlink_metadata(&path).is_ok() {
        return Err(refused(format!("{} exists already", file.display())));
    }
    match path.parent() {
        Some(folder) if folder.is_dir() && path.file_name().is_some() => Ok(path),
        _ => Err(refused(format!(
            "{} is in no folder that there is",
            file.display()
        ))),
    }
}

impl Bundle {
    /// Adds what the program itself says, as `NAME.json`.
    pub fn tell(&mut self, name: &str, value: Result<Value>) {
        match value {
            Ok(value) => self.values.push((format!("{name}.json"), value)),
            Err(error) => self.lacks(&error),
        }
    }

    fn lacks(&mut self, error: &Error) {
        let sentence = sources::sentence(error);
        if !self.missing.contains(&sentence) {
            self.missing.push(sentence);
        }
    }

    /// What could not be had, in sentences.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// Adds all that there is about a cluster.
    pub async fn gather(&mut self, settings: &Settings, found: &Found) {
        let dir = cluster::store(settings).machine_dir(found.name());
        self.settings(settings, &dir);
        self.logs(&dir, found).await;
        if let Some(cluster) = found.whole() {
            self.objects(cluster).await;
        }
    }

    fn settings(&mut self, settings: &Settings, dir: &MachineDir) {
        let read = |path: &Path| match std::fs::read(path) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(error).context(ErrorId::Write, || format!("cannot read {}", path.display()))
            }
        };
        match read(&settings.config_file()) {
            Ok(Some(text)) => self.texts.push(("config.yaml".into(), text)),
            Ok(None) => {}
            Err(error) => self.lacks(&error),
        }
        // Only what can be read as a record can be told from what is somebody else's in it.
        let record = read(&dir.record()).and_then(|text| {
            serde_json::from_str(&text.unwrap_or_default()).context(ErrorId::MachineBroken, || {
                "machine.json is left out: it cannot be read".into()
            })
        });
        self.tell("machine", record.map(objects::record));
    }

    async fn logs(&mut self, dir: &MachineDir, found: &Found) {
        let wanted = Wanted {
            dir,
            cluster: found.whole(),
            only: None,
            last: LAST_LINES,
        };
        let mut finder = Finder::default();
        let mut ends: BTreeMap<Source, End> = BTreeMap::new();
        let mut each = |source: &Source, line: &str| {
            finder.read(&source.name(), line);
            match ends.get_mut(source) {
                Some(end) => end.push(line),
                None => ends.entry(source.clone()).or_default().push(line),
            }
        };
        match sources::read(&wanted, &mut each).await {
            Ok(missing) => self.missing.extend(missing),
            Err(error) => self.lacks(&error),
        }
        let files = ends
            .into_iter()
            .map(|(source, end)| (file(dir, &source), end.0));
        self.texts.extend(files);
        let findings = finder.findings(found.name().as_str());
        self.texts.push(("problems.txt".into(), findings.text()));
    }

    async fn objects(&mut self, cluster: &Cluster) {
        // What a machine that does not run cannot tell is said already.
        if cluster.require_running().await.is_err() {
            return;
        }
        let client = match cluster.api() {
            Ok(client) => client,
            Err(error) => return self.lacks(&error),
        };
        for (kind, path) in objects::KINDS {
            match list(&client, kind, path).await {
                Ok(value) => self.values.push((format!("kubernetes/{kind}.json"), value)),
                Err(error) => self.lacks(&error),
            }
        }
    }

    /// The archive: a gzip tar (POSIX ustar) of one folder `root`, whose files are of the time `now`.
    /// Secrets are taken out, and `home` is the folder of the user who is not named in it.
    pub fn pack(self, root: &str, home: &Path, now: SystemTime) -> Result<Vec<u8>> {
        let mut archive = Archive::new(root, home, now)?;
        for (name, value) in self.values {
            archive.value(&name, value)?;
        }
        for (name, text) in &self.texts {
            archive.text(name, text)?;
        }
        if !self.missing.is_empty() {
            archive.text("missing.txt", &(self.missing.join("\n") + "\n"))?;
        }
        archive.finish()
    }
}

async fn list(client: &kube::Client, kind: &str, path: &str) -> Result<Value> {
    let request = http::Request::get(format!("{path}?limit={MOST_OBJECTS}"))
        .body(Vec::new())
        .context(ErrorId::Internal, || format!("cannot ask for {kind}"))?;
    let mut value: Value =
        sources::answered(client.request(request), || format!("cannot list {kind}")).await?;
    objects::strip(&mut value);
    Ok(value)
}

/// The name of a source's file in the archive. Names from inside are made plain.
fn file(dir: &MachineDir, source: &Source) -> String {
    let plain = |name: &str| -> String {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let name: String = name
            .chars()
            .map(|c| if fits(c) { c } else { '-' })
            .collect();
        name.trim_start_matches('.').to_owned()
    };
    match source {
        Source::Host { log, former } => {
            let path = log.path(dir);
            let path = if *former {
                log_file::former(&path)
            } else {
                path
            };
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            format!("host/{name}")
        }
        Source::Machine(name) => format!("components/{}.log", plain(name)),
        Source::Pod(name) => format!("pods/{}.log", plain(name)),
    }
}

/// The last lines of a log.
#[derive(Debug, Default)]
struct End(String);

impl End {
    fn push(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
        if self.0.len() > 2 * LONGEST_LOG {
            self.cut();
        }
    }

    /// Whole lines of the last [`LONGEST_LOG`] bytes.
    fn cut(&mut self) {
        let least = self.0.len().saturating_sub(LONGEST_LOG);
        if least == 0 {
            return;
        }
        let bytes = &self.0.as_bytes()[least - 1..];
        let next = bytes.iter().position(|byte| *byte == b'\n');
        let begin = next.map_or(self.0.len(), |at| least + at);
        self.0.drain(..begin);
    }
}

/// A gzip tar in memory.
struct Archive {
    tar: tar::Builder<GzEncoder<Vec<u8>>>,
    redactor: Redactor,
    root: String,
    /// Seconds since 1970.
    now: u64,
}

impl Archive {
    fn new(root: &str, home: &Path, now: SystemTime) -> Result<Self> {
        Ok(Self {
            tar: tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default())),
            redactor: Redactor::new(home)?,
            root: root.to_owned(),
            now: now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        })
    }

    fn text(&mut self, name: &str, text: &str) -> Result<()> {
        let text = self.redactor.text(text);
        self.add(name, text.as_bytes())
    }

    fn value(&mut self, name: &str, mut value: Value) -> Result<()> {
        self.redactor.value(&mut value);
        self.add(name, format!("{value:#}\n").as_bytes())
    }

    fn add(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o600);
        header.set_size(content.len() as u64);
        header.set_mtime(self.now);
        let path = format!("{}/{name}", self.root);
        self.tar
            .append_data(&mut header, &path, content)
            .context(ErrorId::Internal, || format!("cannot pack {path}"))
    }

    fn finish(self) -> Result<Vec<u8>> {
        self.tar
            .into_inner()
            .and_then(GzEncoder::finish)
            .context(ErrorId::Internal, || "cannot pack the bundle".into())
    }
}

/// Writes a packed bundle, for its owner only, unless somebody made such a file meanwhile.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    match coracle_vm::store::atomic::write_new(path, bytes) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(error).context(ErrorId::Usage, failed)
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let refused: Result<()> = Err(error).context(ErrorId::Write, failed);
            refused.map_err(|error| error.help("name a file in a folder that you may write to"))
        }
        written => written.context(ErrorId::Write, failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::sources::HostLog;
    use coracle_vm::MachineName;
    use std::io::Read as _;

    #[test]
    fn a_log_keeps_its_last_whole_lines() {
        let mut end = End::default();
        let line = "x".repeat(99);
        for number in 0..50_000 {
            end.push(&format!("{number:06} {line}"));
        }
        end.cut();
        assert!(end.0.len() <= LONGEST_LOG && end.0.len() > LONGEST_LOG - 200);
        assert!(end.0.ends_with(&format!("049999 {line}\n")));
        assert!(end.0.starts_with("0"), "a line was cut");
        assert!(end.0.lines().all(|line| line.len() == 106));
    }

    #[test]
    fn files_have_plain_names() {
        let dir = MachineDir::new(
            MachineName::new("dev").unwrap(),
            "/m/dev".into(),
            Path::new("/r"),
        );
        let former = Source::Host {
            log: HostLog::Console,
            former: true,
        };
        assert_eq!(file(&dir, &former), "host/serial.log.old");
        assert_eq!(
            file(&dir, &Source::Machine("../etcd".into())),
            "components/-etcd.log"
        );
        assert_eq!(
            file(&dir, &Source::Pod("coredns".into())),
            "pods/coredns.log"
        );
    }

    #[test]
    fn only_a_new_file_in_a_folder_is_a_target() {
        let folder = tempfile::tempdir().unwrap();
        let fits = folder.path().join("new.tar.gz");
        assert_eq!(target(&fits).unwrap(), fits);
        write(&fits, b"bundle").unwrap();
        for path in [
            Path::new("-"),
            &fits,
            folder.path(),
            Path::new("/"),
            &folder.path().join("no/such.tar.gz"),
        ] {
            assert_eq!(
                target(path).unwrap_err().exit_code(),
                14,
                "{}",
                path.display()
            );
        }
        assert_eq!(write(&fits, b"other").unwrap_err().exit_code(), 14);
        assert_eq!(std::fs::read(&fits).unwrap(), b"bundle");
    }

    #[test]
    fn all_that_is_packed_is_without_secrets() {
        let mut bundle = Bundle::default();
        bundle.tell("status", Ok(serde_json::json!({"token": "planted"})));
        bundle.tell(
            "doctor",
            Err(Error::new(ErrorId::Internal, "no password=planted")),
        );
        bundle
            .texts
            .push(("host/qemu.log".into(), "password=planted".into()));
        let packed = bundle
            .pack("coracle-dev", Path::new("/home/someone"), SystemTime::now())
            .unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&packed[..]));
        let mut names = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            assert_eq!(entry.header().mode().unwrap(), 0o600);
            names.push(entry.path().unwrap().display().to_string());
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            assert!(
                !text.contains("planted") && text.contains("[removed]"),
                "{text}"
            );
        }
        assert_eq!(
            names,
            ["status.json", "host/qemu.log", "missing.txt"]
                .map(|name| format!("coracle-dev/{name}"))
        );
    }
}
