//! The folder of images, each under its digest.

use super::{ABSENT_FILE, INDEX_FILE, ImageError, ImageIndex, Part, Role};
use crate::files::{remove_all, sync_folder, write_atomic};
use crate::{Digest, HostPlatform};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const INCOMING: &str = ".incoming-";
/// An incoming folder this old belongs to nobody any more.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// `HOME/images`.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// An image whose index was read and whose digest is right; its files are not checked yet
/// (see [`Store::verify`]).
#[derive(Debug, Clone)]
pub struct Image {
    digest: Digest,
    folder: PathBuf,
    index: ImageIndex,
    /// File names of parts that were not fetched.
    absent: BTreeSet<String>,
}

impl Image {
    /// Reads the image in a folder, wherever that is. Reads `image.json` and `absent` only.
    pub fn read(folder: &Path) -> Result<Self, ImageError> {
        let file = folder.join(INDEX_FILE);
        let bytes = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ImageError::Missing { file });
            }
            other => other.map_err(ImageError::io(&file))?,
        };
        let index = ImageIndex::decode(&bytes).map_err(|reason| ImageError::Index {
            file: file.clone(),
            reason,
        })?;
        let absent = read_absent(folder, &index)?;
        Ok(Self {
            digest: Digest::of(&bytes),
            folder: folder.to_owned(),
            index,
            absent,
        })
    }

    /// The SHA-256 of the index, which holds those of all files.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The list of files.
    pub fn index(&self) -> &ImageIndex {
        &self.index
    }

    /// The image's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a part of this image's index was fetched: layers and kubectls that nobody asked for
    /// are not.
    pub fn has(&self, part: &Part) -> bool {
        !self.absent.contains(&part.file)
    }

    /// The parts that were fetched, in the index's order; all of them in an image that was built.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.index.parts.iter().filter(|part| self.has(part))
    }

    /// Where a part of this image's index is.
    pub fn path(&self, part: &Part) -> PathBuf {
        self.folder.join(&part.file)
    }

    fn only(&self, role: &Role) -> PathBuf {
        // Reading an index made sure that there is one; without it the path is one that does
        // not exist, which opening it tells.
        let missing = || self.folder.join(format!("{role:?}"));
        self.first(role).unwrap_or_else(missing)
    }

    fn first(&self, role: &Role) -> Option<PathBuf> {
        let part = self.parts().find(|part| part.role == *role)?;
        Some(self.path(part))
    }

    /// Linux.
    pub fn kernel(&self) -> PathBuf {
        self.only(&Role::Kernel)
    }

    /// The initial RAM file system.
    pub fn initrd(&self) -> PathBuf {
        self.only(&Role::Initrd)
    }

    /// The root file system.
    pub fn root(&self) -> PathBuf {
        self.only(&Role::Root)
    }

    /// The hybrid ISO, if the image has it.
    pub fn iso(&self) -> Option<PathBuf> {
        self.first(&Role::Iso)
    }

    /// The layer of a Kubernetes version such as `v1.37.2`, if it is in the image and was fetched.
    pub fn kubernetes(&self, version: &str) -> Option<PathBuf> {
        let part = self.index.kubernetes(version)?;
        self.has(part).then(|| self.path(part))
    }

    /// kubectl of a Kubernetes version for this host, if it is in the image and was fetched.
    pub fn kubectl(&self, version: &str) -> Option<PathBuf> {
        let here = HostPlatform::current();
        let part = self.parts().find(|part| {
            matches!(&part.role, Role::Kubectl { version: v, platform } if v == version && *platform == here)
        })?;
        Some(self.path(part))
    }

    /// The bill of materials (CycloneDX JSON), if the image has it.
    pub fn sbom(&self) -> Option<PathBuf> {
        self.first(&Role::Sbom)
    }
}

impl Store {
    /// The store of a state folder (`CORACLE_HOME`); nothing is created yet.
    pub fn new(home: &Path) -> Self {
        Self {
            folder: home.join("images"),
        }
    }

    /// `HOME/images`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn image_folder(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.folder_name())
    }

    /// The folder in which a download of an image collects its files: the same one for each try, so
    /// that what is there already is not fetched again. Made when it is missing; removed by its last
    /// user, or when nothing in it changed for a day.
    pub(crate) fn collecting(&self, digest: &Digest) -> Result<PathBuf, ImageError> {
        fs::create_dir_all(&self.folder).map_err(ImageError::io(&self.folder))?;
        self.sweep(SystemTime::now())?;
        let folder = self
            .folder
            .join(format!("{INCOMING}{}", digest.folder_name()));
        fs::create_dir_all(&folder).map_err(ImageError::io(&folder))?;
        Ok(folder)
    }

    /// A new empty folder inside the store, to build or download an image into before
    /// [`Store::install`] puts it in place by a rename. Dropped without that, it is removed; what
    /// a crash kept from being dropped is removed after a day.
    pub fn incoming(&self) -> Result<tempfile::TempDir, ImageError> {
        fs::create_dir_all(&self.folder).map_err(ImageError::io(&self.folder))?;
        self.sweep(SystemTime::now())?;
        tempfile::Builder::new()
            .prefix(INCOMING)
            .tempdir_in(&self.folder)
            .map_err(ImageError::io(&self.folder))
    }

    /// Verifies the image in a folder made by [`Store::incoming`] and puts it in its place. When
    /// the store has an image with this digest already, its files are replaced by these if they
    /// are damaged, and those that it lacks are added to it.
    pub fn install(&self, incoming: tempfile::TempDir) -> Result<Image, ImageError> {
        let published = self.publish(incoming.path());
        // What is not in its place now is removed.
        drop(incoming);
        published
    }

    /// As [`Store::install`], with a folder of the caller's inside the store, which is left where it
    /// is after an error, and when the store had an image with this digest.
    pub(crate) fn publish(&self, incoming: &Path) -> Result<Image, ImageError> {
        let image = Image::read(incoming)?;
        self.verify(&image)?;
        for part in image.parts() {
            let path = image.path(part);
            fs::File::open(&path)
                .and_then(|f| f.sync_all())
                .map_err(ImageError::io(&path))?;
        }
        let place = self.image_folder(&image.digest);
        match self
            .open(&image.digest)
            .and_then(|there| self.verify(&there).map(|()| there))
        {
            Ok(there) => return self.complete(&there, &image),
            Err(ImageError::NotFound(_)) => {}
            Err(_) => {
                // Move the damaged one aside first: the place is never half an image.
                let aside = self.incoming()?;
                fs::rename(&place, aside.path().join("damaged")).map_err(ImageError::io(&place))?;
            }
        }
        fs::rename(incoming, &place).map_err(ImageError::io(&place))?;
        set_readable(&place).map_err(ImageError::io(&place))?;
        sync_folder(&self.folder).map_err(ImageError::io(&self.folder))?;
        self.open(&image.digest)
    }

    /// Adds the parts that an image in the store lacks and the same image elsewhere has.
    fn complete(&self, there: &Image, other: &Image) -> Result<Image, ImageError> {
        let mut absent = there.absent.clone();
        for part in other.parts().filter(|part| !there.has(part)) {
            let to = there.path(part);
            fs::rename(other.path(part), &to).map_err(ImageError::io(&to))?;
            absent.remove(&part.file);
        }
        if absent != there.absent {
            // The files first: one that is listed as absent is not looked at.
            sync_folder(&there.folder).map_err(ImageError::io(&there.folder))?;
            write_absent(&there.folder, &absent)?;
        }
        self.open(&there.digest)
    }

    /// The image that new machines use; None when none was chosen yet.
    pub fn current(&self) -> Result<Option<Digest>, ImageError> {
        let file = self.folder.join("current");
        match fs::read_to_string(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ImageError::Io { path: file, source }),
            Ok(text) => text
                .trim()
                .parse()
                .map(Some)
                .map_err(|source| ImageError::Current { file, source }),
        }
    }

    /// Chooses the image that new machines use. It must be in the store.
    pub fn set_current(&self, digest: &Digest) -> Result<(), ImageError> {
        self.open(digest)?;
        let file = self.folder.join("current");
        write_atomic(&file, format!("{digest}\n").as_bytes()).map_err(ImageError::io(&file))
    }

    /// Opens an image: reads its index and compares that with the digest. Its other files are
    /// neither read nor looked for.
    pub fn open(&self, digest: &Digest) -> Result<Image, ImageError> {
        let folder = self.image_folder(digest);
        if !folder.is_dir() {
            return Err(ImageError::NotFound(*digest));
        }
        let file = folder.join(INDEX_FILE);
        let found = match Digest::of_file(&file) {
            Ok((found, _)) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ImageError::Missing { file });
            }
            Err(source) => return Err(ImageError::Io { path: file, source }),
        };
        if found != *digest {
            return Err(ImageError::Tampered {
                file,
                expected: *digest,
                found,
            });
        }
        Image::read(&folder)
    }

    /// Compares sizes only: finds missing and truncated files at once. Parts that were not fetched
    /// are not missing.
    pub fn check_sizes(&self, image: &Image) -> Result<(), ImageError> {
        image
            .parts()
            .try_for_each(|part| check_size(&image.path(part), part))
    }

    /// Compares the size and the SHA-256 of every file with the index; about a second a GiB.
    pub fn verify(&self, image: &Image) -> Result<(), ImageError> {
        self.check_sizes(image)?;
        for part in image.parts() {
            let file = image.path(part);
            let (found, _) = Digest::of_file(&file).map_err(ImageError::io(&file))?;
            if found != part.sha256 {
                return Err(ImageError::Tampered {
                    file,
                    expected: part.sha256,
                    found,
                });
            }
        }
        Ok(())
    }

    /// The digests of all images in the store, damaged ones too, in no meaningful order.
    pub fn list(&self) -> Result<Vec<Digest>, ImageError> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(ImageError::io(&self.folder))?,
        };
        let mut digests = Vec::new();
        for entry in entries {
            let entry = entry.map_err(ImageError::io(&self.folder))?;
            digests.extend(
                entry
                    .file_name()
                    .to_str()
                    .and_then(Digest::from_folder_name),
            );
        }
        digests.sort_unstable();
        Ok(digests)
    }

    /// Removes an image. The caller makes sure that no machine uses it.
    pub fn remove(&self, digest: &Digest) -> Result<(), ImageError> {
        let folder = self.image_folder(digest);
        if !folder.is_dir() {
            return Err(ImageError::NotFound(*digest));
        }
        // A rename first: a removal that is cut short must not leave half an image in its place.
        let aside = self.incoming()?;
        fs::rename(&folder, aside.path().join("image")).map_err(ImageError::io(&folder))?;
        aside.close().map_err(ImageError::io(&folder))
    }

    /// Removes every image that is neither in `keep` nor the current one. Says what was removed.
    pub fn prune(&self, keep: &[Digest]) -> Result<Vec<Digest>, ImageError> {
        let current = self.current()?;
        let mut removed = Vec::new();
        for digest in self.list()? {
            if !keep.contains(&digest) && current != Some(digest) {
                self.remove(&digest)?;
                removed.push(digest);
            }
        }
        Ok(removed)
    }

    /// Removes incoming folders that nobody can be filling any more at `now`.
    fn sweep(&self, now: SystemTime) -> Result<(), ImageError> {
        let entries = fs::read_dir(&self.folder).map_err(ImageError::io(&self.folder))?;
        for entry in entries.flatten() {
            let incoming = entry.file_name().to_string_lossy().starts_with(INCOMING);
            let old = || {
                let changed = last_changed(&entry.path());
                changed.is_some_and(|at| now.duration_since(at).is_ok_and(|age| age > ABANDONED))
            };
            if incoming && old() {
                remove_all(&entry.path()).map_err(ImageError::io(entry.path()))?;
            }
        }
        Ok(())
    }
}

/// When a folder or a file directly in it was changed last: a slow download changes its file only.
fn last_changed(folder: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.metadata());
    std::iter::once(fs::symlink_metadata(folder))
        .chain(files)
        .filter_map(|meta| meta.and_then(|meta| meta.modified()).ok())
        .max()
}

/// The parts that an image's folder says it does not have. Only those that a machine can do without
/// may be missing: a kernel that is listed there is looked for all the same.
fn read_absent(folder: &Path, index: &ImageIndex) -> Result<BTreeSet<String>, ImageError> {
    let file = folder.join(ABSENT_FILE);
    let text = match fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        other => other.map_err(ImageError::io(&file))?,
    };
    let listed: BTreeSet<&str> = text.lines().collect();
    let parts = index.parts.iter().filter(|part| part.role.is_optional());
    Ok(parts
        .filter(|part| listed.contains(part.file.as_str()))
        .map(|part| part.file.clone())
        .collect())
}

/// Says in an image's folder which parts it does not have.
pub(crate) fn write_absent(folder: &Path, absent: &BTreeSet<String>) -> Result<(), ImageError> {
    let file = folder.join(ABSENT_FILE);
    if absent.is_empty() {
        return remove_all(&file).map_err(ImageError::io(&file));
    }
    let text: String = absent.iter().map(|name| format!("{name}\n")).collect();
    write_atomic(&file, text.as_bytes()).map_err(ImageError::io(&file))
}

/// Temporary folders are private; an image holds no secret, and other accounts may run QEMU.
fn set_readable(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    }
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

fn check_size(file: &Path, part: &Part) -> Result<(), ImageError> {
    let found = match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ImageError::Missing {
                file: file.to_owned(),
            });
        }
        other => other.map_err(ImageError::io(file))?.len(),
    };
    if found == part.size {
        Ok(())
    } else {
        Err(ImageError::Truncated {
            file: file.to_owned(),
            expected: part.size,
            found,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::index::tests::index;
    use super::*;

    const CONTENTS: [(&str, &str); 5] = [
        ("initrd", "initrd"),
        ("kubectl-v1.2.3", "kubectl"),
        ("kubernetes-v1.2.3.erofs", "kubernetes"),
        ("root.erofs", "root"),
        ("vmlinuz", "kernel"),
    ];

    fn installed(store: &Store) -> Image {
        let incoming = store.incoming().unwrap();
        for (file, content) in CONTENTS {
            write_atomic(&incoming.path().join(file), content.as_bytes()).unwrap();
        }
        write_atomic(
            &incoming.path().join(INDEX_FILE),
            &index().encode().unwrap(),
        )
        .unwrap();
        store.install(incoming).unwrap()
    }

    #[test]
    fn an_image_is_installed_chosen_opened_and_removed() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path());
        assert_eq!(store.current().unwrap(), None);
        assert!(store.list().unwrap().is_empty());
        let image = installed(&store);
        store.verify(&image).unwrap();
        assert_eq!(store.list().unwrap(), [*image.digest()]);
        store.set_current(image.digest()).unwrap();
        assert_eq!(store.current().unwrap(), Some(*image.digest()));
        assert!(image.kubernetes("v1.2.3").unwrap().is_file());
        assert!(image.kubectl("v1.2.3").unwrap().is_file());
        assert!(image.kernel().is_file() && image.initrd().is_file() && image.root().is_file());
        assert_eq!(image.kubernetes("v1.2.4"), None);
        assert!(
            store.prune(&[]).unwrap().is_empty(),
            "the current image stays"
        );
        store.remove(image.digest()).unwrap();
        assert!(matches!(
            store.open(image.digest()),
            Err(ImageError::NotFound(_))
        ));
    }

    #[test]
    fn damage_is_refused_by_the_name_of_the_file() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path());
        let image = installed(&store);
        let root = image.root();
        write_atomic(&root, b"ro").unwrap();
        let error = store.verify(&image).unwrap_err();
        assert!(
            matches!(&error, ImageError::Truncated { file, expected: 4, found: 2 } if *file == root)
        );
        assert!(error.to_string().contains("root.erofs"));
        write_atomic(&root, b"rope").unwrap();
        store.check_sizes(&image).unwrap();
        assert!(
            matches!(store.verify(&image), Err(ImageError::Tampered { file, .. }) if file == root)
        );
        fs::remove_file(&root).unwrap();
        assert!(matches!(store.verify(&image), Err(ImageError::Missing { file }) if file == root));
        // Installing the same image again repairs it.
        installed(&store);
        store.verify(&image).unwrap();

        let index = image.folder().join(INDEX_FILE);
        let mut bytes = fs::read(&index).unwrap();
        bytes.push(b' ');
        write_atomic(&index, &bytes).unwrap();
        assert!(
            matches!(store.open(image.digest()), Err(ImageError::Tampered { file, .. }) if file == index)
        );
    }

    #[test]
    fn a_part_that_was_not_fetched_is_neither_damage_nor_there() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path());
        let image = installed(&store);
        let layer = image.kubernetes("v1.2.3").unwrap();
        let absent = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let lacking = absent(&["kubernetes-v1.2.3.erofs", "root.erofs"]);
        write_absent(image.folder(), &lacking).unwrap();
        fs::remove_file(&layer).unwrap();
        let image = store.open(image.digest()).unwrap();
        store.verify(&image).unwrap();
        assert_eq!(image.kubernetes("v1.2.3"), None);
        assert!(image.kubectl("v1.2.3").is_some());
        // What every machine needs cannot be listed away.
        fs::remove_file(image.root()).unwrap();
        assert!(matches!(
            store.verify(&image),
            Err(ImageError::Missing { .. })
        ));
        write_atomic(&image.root(), b"root").unwrap();
        // Installing the whole image adds what is not there, and a damaged layer is damage again.
        let image = installed(&store);
        assert_eq!(image.kubernetes("v1.2.3").as_ref(), Some(&layer));
        assert!(!image.folder().join(ABSENT_FILE).exists());
        fs::remove_file(&layer).unwrap();
        assert!(matches!(
            store.verify(&image),
            Err(ImageError::Missing { .. })
        ));
    }

    #[test]
    fn what_a_crash_left_is_removed_after_a_day() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path());
        let left = store.incoming().unwrap().keep();
        store.sweep(SystemTime::now()).unwrap();
        assert!(left.is_dir());
        store.sweep(SystemTime::now() + ABANDONED * 2).unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn an_image_with_a_wrong_file_is_not_installed() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path());
        let incoming = store.incoming().unwrap();
        write_atomic(
            &incoming.path().join(INDEX_FILE),
            &index().encode().unwrap(),
        )
        .unwrap();
        assert!(matches!(
            store.install(incoming),
            Err(ImageError::Missing { .. })
        ));
        assert_eq!(fs::read_dir(store.folder()).unwrap().count(), 0);
    }
}
