//! The images that come with the machine, and `ctr`, containerd's own client, with which
//! images go in and out as streams.

use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// Archives of the images that every machine has, one OCI layout a file.
pub const FOLDER: &str = "/usr/lib/coracle/images";
/// The CRI's label for images that the kubelet must never collect.
const PINNED: &str = "io.cri-containerd.pinned=pinned";
/// containerd's annotation for an image's full name.
const NAME: &str = "io.containerd.image.name";

/// `ctr images` on the namespace that the kubelet uses.
#[must_use]
pub fn ctr(arguments: &[&str]) -> Command {
    command("images", arguments)
}

/// `ctr content` there: the parts of images.
#[must_use]
pub fn ctr_content(arguments: &[&str]) -> Command {
    command("content", arguments)
}

fn command(group: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("/usr/local/bin/ctr");
    command
        .args(["--namespace", "k8s.io", group])
        .args(arguments)
        .env_clear()
        .env("PATH", crate::boot::PATH);
    command
}

/// The one-shot component `images`: imports every archive whose images are not there yet. Its
/// output is its log.
#[must_use]
pub fn load_main() -> ExitCode {
    match load(Path::new(FOLDER)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "this runs as a program of its own, whose output is its log"
)]
fn say(text: &str) {
    eprintln!("{text}");
}

fn load(folder: &Path) -> io::Result<()> {
    let listed = run(ctr(&["ls", "--quiet"]))?;
    let present: BTreeSet<&str> = listed.lines().collect();
    let mut missing = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tar") {
            let names = names(File::open(&path)?)?;
            if names.iter().any(|name| !present.contains(name.as_str())) {
                missing.push((path, names));
            }
        }
    }
    // Each import waits for the disk more than for a processor.
    std::thread::scope(|scope| {
        let imports: Vec<_> = missing
            .iter()
            .map(|one| scope.spawn(move || import(&one.0, &one.1)))
            .collect();
        let panicked = |_| io::Error::other("an import did not end");
        imports
            .into_iter()
            .try_for_each(|import| import.join().map_err(panicked)?)
    })
}

fn import(path: &Path, names: &[String]) -> io::Result<()> {
    let file = path.to_string_lossy();
    run(ctr(&["import", "--local", "--sync-fs", &file]))?;
    for name in names {
        run(ctr(&["label", name, PINNED]))?;
        say(&format!("imported {name}"));
    }
    Ok(())
}

fn run(mut command: Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let arguments: Vec<_> = command
        .get_args()
        .map(|one| one.to_string_lossy())
        .collect();
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!(
        "ctr {}: {}",
        arguments.join(" "),
        stderr.trim()
    )))
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Manifest>,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

/// The full names that an OCI layout archive gives its images.
fn names(mut archive: impl Read + Seek) -> io::Result<Vec<String>> {
    archive.seek(SeekFrom::Start(0))?;
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        if entry.path()?.as_ref() == Path::new("index.json") {
            let index: Index = serde_json::from_reader(entry)?;
            return Ok(index
                .manifests
                .into_iter()
                .filter_map(|mut manifest| manifest.annotations.remove(NAME))
                .collect());
        }
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "the archive has no index.json",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_the_layouts_index() {
        let mut archive = tar::Builder::new(Vec::new());
        let mut add = |path: &str, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, path, content).unwrap();
        };
        add("blobs/sha256/00", &[7; 5000]);
        let index = r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:00","size":1,
            "annotations":{"io.containerd.image.name":"coracle.internal/pause:1"}}]}"#;
        add("index.json", index.as_bytes());
        let archive = archive.into_inner().unwrap();
        assert_eq!(
            names(io::Cursor::new(archive)).unwrap(),
            ["coracle.internal/pause:1"]
        );
        assert!(names(io::Cursor::new(vec![0; 1024])).is_err());
    }
}
