//! Debian packages: which ones, downloaded and compared with the signed archive's lists.
//!
//! mmdebstrap makes a private apt with the archive's own key, resolves and downloads. Its
//! chrootless mode needs no root. The packages are kept as they are; nothing is installed.

use super::cache::{Cache, Made};
use super::command::Work;
use super::key::Key;
use super::{BuildError, BuildOptions, GonePackage};
use crate::files::write_atomic;
use crate::{Arch, Digest, Step};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;

const RECIPE: &str = include_str!("debian.rs");
const SUITE: &str = "trixie";
const ARCHIVES: &str = "var/cache/apt/archives/";
const LISTS: &str = "var/lib/apt/lists/";
const MANIFEST: &str = "packages.json";

/// One downloaded package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) arch: String,
    /// The source package's name and version.
    pub(crate) source: String,
    pub(crate) sha256: String,
    /// The file's name in the part.
    pub(crate) file: String,
}

/// Downloaded packages, ordered by name.
pub(crate) struct Packages {
    pub(crate) part: Made,
    pub(crate) list: Vec<Package>,
}

/// A line of a lock file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Locked {
    name: String,
    version: String,
    sha256: String,
}

/// What the archive knows of a package file.
#[derive(Debug, Default, Clone)]
struct Listed {
    source: String,
    sha256: String,
}

/// By name, version and architecture.
type Archive = BTreeMap<(String, String, String), Listed>;

/// Lines of a profile file without comments and blank lines.
pub(crate) fn profile_lines(path: &Path) -> Result<Vec<String>, BuildError> {
    let text = fs::read_to_string(path).map_err(BuildError::io(path))?;
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    Ok(lines
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect())
}

/// As [`profile_lines`], without the lines for other architectures: those end with the one that they are
/// for, as in `isolinux [amd64]`.
pub(crate) fn profile_lines_for(path: &Path, arch: Arch) -> Result<Vec<String>, BuildError> {
    let own = format!("[{arch}]");
    let lines = profile_lines(path)?.into_iter();
    Ok(lines
        .filter_map(|line| match line.split_once(char::is_whitespace) {
            None => Some(line),
            Some((name, only)) => (only.trim() == own).then(|| name.to_owned()),
        })
        .collect())
}

/// Downloads the packages of a set (`guest`, `buildroot` or another one) and all that they depend on.
pub(crate) fn fetch(
    cache: &Cache<'_>,
    options: &BuildOptions,
    set: &str,
    arch: Arch,
    wanted: &[String],
) -> Result<Packages, BuildError> {
    let step = Step {
        name: format!("debian-{set}"),
        what: format!("Debian packages ({set})"),
    };
    let mut key = Key::new(&step.name, RECIPE)
        .with("suite", SUITE)
        .with("arch", arch.name());
    for package in wanted {
        key = key.with("package", package);
    }
    if let Some(mirror) = &options.mirror {
        key = key.with("mirror", mirror);
    }
    let lock = match &options.locked {
        None => None,
        Some(file) => {
            key = key.file(file)?;
            Some(read_lock(file, set)?)
        }
    };
    let key = key.finish();
    let make = |work: &Work<'_>, folder: &Path| {
        let source = Source {
            work,
            mirror: options.mirror.as_deref(),
            arch: arch.name(),
        };
        let (mut list, archive) = source.download(wanted, folder)?;
        if let Some(lock) = &lock {
            let got: BTreeSet<_> = list.iter().map(locked).collect();
            if got != *lock {
                still_there(lock, &archive)?;
                for package in &list {
                    let path = folder.join(&package.file);
                    fs::remove_file(&path).map_err(BuildError::io(&path))?;
                }
                let exact: Vec<_> = lock
                    .iter()
                    .map(|l| format!("{}={}", l.name, l.version))
                    .collect();
                list = source.download(&exact, folder)?.0;
                if list.iter().map(locked).collect::<BTreeSet<_>>() != *lock {
                    return Err(work.wrong("the packages' dependencies do not match the lock file"));
                }
            }
        }
        let path = folder.join(MANIFEST);
        let bytes = serde_json::to_vec_pretty(&list).map_err(|e| work.wrong(e.to_string()))?;
        write_atomic(&path, &bytes).map_err(BuildError::io(&path))
    };
    let part = if options.refresh {
        cache.make(&step, &key, make)?
    } else {
        cache.part(&step, &key, make)?
    };
    let work = Work {
        step: &step,
        observer: cache.observer(),
    };
    let list = serde_json::from_slice(&part.read(&work, MANIFEST)?)
        .map_err(|error| work.wrong(error.to_string()))?;
    Ok(Packages { part, list })
}

/// The lock file's text for some sets of packages.
pub(crate) fn lock_text(sets: &[(&str, &Packages)]) -> String {
    let mut text = String::from("# set name version sha256 of every Debian package in use\n");
    for (set, packages) in sets {
        for p in &packages.list {
            text += &format!("{set} {} {} {}\n", p.name, p.version, p.sha256);
        }
    }
    text
}

fn locked(package: &Package) -> Locked {
    Locked {
        name: package.name.clone(),
        version: package.version.clone(),
        sha256: package.sha256.clone(),
    }
}

fn read_lock(file: &Path, set: &str) -> Result<BTreeSet<Locked>, BuildError> {
    let mut lock = BTreeSet::new();
    for line in profile_lines(file)? {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [of, name, version, sha256] = fields[..] else {
            let reason = format!("{line:?} is not: set name version sha256");
            return Err(BuildError::Source {
                file: file.to_owned(),
                reason,
            });
        };
        if of == set {
            let [name, version, sha256] = [name, version, sha256].map(str::to_owned);
            lock.insert(Locked {
                name,
                version,
                sha256,
            });
        }
    }
    Ok(lock)
}

/// Fails with the list of what the archive no longer has.
fn still_there(lock: &BTreeSet<Locked>, archive: &Archive) -> Result<(), BuildError> {
    let gone: Vec<_> = lock
        .iter()
        .filter(|l| {
            !archive.iter().any(|((name, version, _), listed)| {
                *name == l.name && *version == l.version && listed.sha256 == l.sha256
            })
        })
        .map(|l| GonePackage {
            name: l.name.clone(),
            version: l.version.clone(),
            available: archive
                .keys()
                .find(|key| key.0 == l.name)
                .map(|key| key.1.clone()),
        })
        .collect();
    if gone.is_empty() {
        Ok(())
    } else {
        Err(BuildError::Locked(gone))
    }
}

struct Source<'a> {
    work: &'a Work<'a>,
    mirror: Option<&'a str>,
    arch: &'a str,
}

impl Source<'_> {
    /// Puts package files into the folder.
    fn download(
        &self,
        wanted: &[String],
        folder: &Path,
    ) -> Result<(Vec<Package>, Archive), BuildError> {
        let mut command = Command::new("mmdebstrap");
        command
            .args(["--variant=extract", "--mode=chrootless", "--format=tar"])
            .arg("--skip=extract,cleanup/apt,output/dev")
            .arg(format!("--architectures={}", self.arch))
            .arg(format!("--include={}", wanted.join(",")))
            .args([SUITE, "-"])
            .args(self.mirror)
            .env("LC_ALL", "C.UTF-8");
        let mut files = Vec::new();
        let mut archive = Archive::new();
        self.work.pipe(&mut command, |stdout| {
            self.unpack(stdout, folder, &mut files, &mut archive)
                .map_err(BuildError::io("mmdebstrap's output"))
        })?;
        files.sort_unstable();
        let list = files
            .iter()
            .map(|file| self.package(folder, file, &archive));
        let mut list = list.collect::<Result<Vec<_>, _>>()?;
        if list.is_empty() {
            return Err(self.work.wrong("mmdebstrap downloaded nothing"));
        }
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((list, archive))
    }

    fn unpack(
        &self,
        tar: impl io::Read,
        folder: &Path,
        files: &mut Vec<String>,
        archive: &mut Archive,
    ) -> io::Result<()> {
        let mut tar = tar::Archive::new(tar);
        for entry in tar.entries()? {
            let mut entry = entry?;
            let path = entry
                .path()?
                .to_string_lossy()
                .trim_start_matches("./")
                .to_owned();
            if let Some(name) = path.strip_prefix(ARCHIVES)
                && name.ends_with(".deb")
                && !name.contains('/')
            {
                io::copy(&mut entry, &mut File::create(folder.join(name))?)?;
                files.push(name.to_owned());
            } else if path.starts_with(LISTS) && path.ends_with("_Packages") {
                read_list(&io::read_to_string(entry)?, archive);
            }
        }
        Ok(())
    }

    /// Looks a downloaded file up in the archive's lists and compares its digest.
    fn package(&self, folder: &Path, file: &str, archive: &Archive) -> Result<Package, BuildError> {
        let fields: Vec<_> = file.trim_end_matches(".deb").split('_').collect();
        let [name, version, arch] = fields[..] else {
            return Err(self
                .work
                .wrong(format!("{file} is not name_version_arch.deb")));
        };
        // apt writes an epoch's colon as %3a.
        let version = version.replace("%3a", ":");
        let key = (name.to_owned(), version, arch.to_owned());
        let Some(listed) = archive.get(&key) else {
            return Err(self
                .work
                .wrong(format!("{file} is not in the archive's lists")));
        };
        let path = folder.join(file);
        let (digest, _) = Digest::of_file(&path).map_err(BuildError::io(&path))?;
        if digest.hex() != listed.sha256 {
            return Err(self
                .work
                .wrong(format!("{file} does not have the archive's digest")));
        }
        let (name, version, arch) = key;
        let source = if listed.source.is_empty() {
            &name
        } else {
            &listed.source
        };
        let source = if source.contains('(') {
            source.clone()
        } else {
            format!("{source} ({version})")
        };
        Ok(Package {
            source,
            name,
            version,
            arch,
            sha256: digest.hex(),
            file: file.to_owned(),
        })
    }
}

/// Reads a `Packages` list (Debian policy 5.1: stanzas of `Field: value`, blank lines between).
fn read_list(text: &str, archive: &mut Archive) {
    for stanza in text.split("\n\n") {
        let mut key = (String::new(), String::new(), String::new());
        let mut listed = Listed::default();
        for line in stanza.lines() {
            let Some((field, value)) = line.split_once(": ") else {
                continue;
            };
            match field {
                "Package" => key.0 = value.to_owned(),
                "Version" => key.1 = value.to_owned(),
                "Architecture" => key.2 = value.to_owned(),
                "Source" => listed.source = value.to_owned(),
                "SHA256" => listed.sha256 = value.to_owned(),
                _ => {}
            }
        }
        if !key.0.is_empty() {
            archive.insert(key, listed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Archive {
        let mut archive = Archive::new();
        read_list(
            "Package: bash\nVersion: 5.2-1\nArchitecture: amd64\nSHA256: aa\nDescription: x\n more\n\n\
             Package: login\nSource: util-linux (2.41)\nVersion: 1:4\nArchitecture: amd64\nSHA256: bb\n",
            &mut archive,
        );
        archive
    }

    #[test]
    fn lists_are_read() {
        let archive = archive();
        assert_eq!(archive.len(), 2);
        let key = ("login".to_owned(), "1:4".to_owned(), "amd64".to_owned());
        assert_eq!(archive[&key].source, "util-linux (2.41)");
        assert_eq!(archive[&key].sha256, "bb");
    }

    #[test]
    fn lines_can_be_for_one_architecture() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("modules.txt");
        write_atomic(
            &file,
            b"# all\nerofs\nata_piix [amd64] # a disk\nrtc [arm64]\n",
        )
        .unwrap();
        let lines = |arch| profile_lines_for(&file, arch).unwrap();
        assert_eq!(lines(Arch::Amd64), ["erofs", "ata_piix"]);
        assert_eq!(lines(Arch::Arm64), ["erofs", "rtc"]);
    }

    #[test]
    fn a_lock_names_what_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lock");
        let text =
            "# x\nguest bash 5.2-1 aa\nguest login 1:3 cc\nguest gone 1 dd\nbuildroot gcc 1 ee\n";
        write_atomic(&file, text.as_bytes()).unwrap();
        let lock = read_lock(&file, "guest").unwrap();
        assert_eq!(lock.len(), 3);
        let Err(BuildError::Locked(gone)) = still_there(&lock, &archive()) else {
            panic!()
        };
        let said: Vec<_> = gone
            .iter()
            .map(|g| (g.name.as_str(), g.available.as_deref()))
            .collect();
        assert_eq!(said, [("gone", None), ("login", Some("1:4"))]);
        write_atomic(&file, b"guest bash\n").unwrap();
        assert!(matches!(
            read_lock(&file, "guest"),
            Err(BuildError::Source { .. })
        ));
    }
}
