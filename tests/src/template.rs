//! The template that sandboxes begin their clusters with: one cold boot serves all of them.
//!
//! It is made in the shared state folder, by the program itself, and a sandbox gets it by hard links.
//! The frozen disk that belongs to it stays where it is: the template names it by its whole path. No
//! command of a sandbox looks for frozen disks outside of its own state folder, so the shared one is
//! as it was afterwards.

use crate::Run;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The cluster that the template is made of, and its first clone.
const CLUSTER: &str = "seed";

/// Makes the template of the state folder `home`, unless there is one that the program itself can
/// use: then it is a clone that comes and goes. `work` is a folder for what the program writes beside
/// its state. The caller sees to it that nobody else does the same.
pub(crate) fn make(program: &Path, home: &Path, work: &Path) {
    let coracle = |arguments: &str| {
        Run::new(program)
            .args(arguments.split_whitespace())
            .env("CORACLE_HOME", home)
            .env("HOME", work)
            .env("CORACLE_WAIT_TIMEOUT", "13m")
            .folder(work)
    };
    if is_of_another_image(home) {
        coracle("template prune").ok();
    }
    // What a test that was ended in here left is gone on with.
    let start = coracle(&format!("start -p {CLUSTER}")).ok();
    coracle(&format!("delete -p {CLUSTER}")).ok();
    eprintln!("the shared template: {:.1?}", start.took);
    assert!(
        start.warnings().is_empty(),
        "the template that all tests begin with should be made: {start}"
    );
}

/// Whether there is a template that the current image has no use for.
fn is_of_another_image(home: &Path) -> bool {
    let image = fs::read_to_string(home.join("images/current")).expect("an image is chosen");
    let records = folders(&home.join("templates"));
    records.iter().any(|folder| {
        let text = fs::read_to_string(folder.join("template.json")).unwrap_or_default();
        !text.contains(image.trim())
    })
}

/// Gives a state folder the templates of another one: by hard links, or by copies where the two are
/// on different file systems.
pub(crate) fn link(from: &Path, to: &Path) {
    for template in folders(&from.join("templates")) {
        let name = template.file_name().expect("a folder has a name");
        link_folder(&template, &to.join("templates").join(name));
    }
    private(&to.join("templates"));
}

fn link_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the sandbox is ours");
    private(to);
    for entry in fs::read_dir(from).expect("it was there") {
        let entry = entry.expect("it can be listed");
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            link_folder(&path, &target);
        } else if fs::hard_link(&path, &target).is_err() {
            Run::new("cp")
                .args(["--sparse=always", "--preserve=mode"])
                .args([&path, &target])
                .ok();
        }
    }
}

/// What sandboxes share of a state folder: size and time of change of each file of its templates, and
/// of their disks, by its path. What is noted beside a template without being a part of it is left out,
/// as are frozen disks that nobody needs any more: these change by themselves.
pub(crate) fn shared(home: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    const NOTES: [&str; 3] = ["durable", "used", "working-set"];
    let mut files = Vec::new();
    let mut folders = folders(&home.join("templates"));
    for template in &folders {
        let record = fs::read(template.join("template.json")).expect("it was there");
        let record: serde_json::Value = serde_json::from_slice(&record).expect("it is JSON");
        files.push(PathBuf::from(
            record["disk"].as_str().expect("it names its disk"),
        ));
    }
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("it was made").flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                _ if NOTES.iter().any(|note| entry.file_name() == *note) => {}
                path => files.push(path),
            }
        }
    }
    let stamp = |path: PathBuf| {
        let meta = fs::metadata(&path).expect("it is there");
        let changed = meta.modified().expect("this system keeps it");
        (path, (meta.len(), changed))
    };
    files.into_iter().map(stamp).collect()
}

/// The whole templates of a folder: what is being made has a name with a dot in front.
pub(crate) fn folders(templates: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(templates) else {
        return Vec::new();
    };
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .filter(|path| path.join("template.json").is_file())
        .collect()
}

fn private(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).expect("the folder is ours");
}
