//! Files of the host below `/`: placed once, and from then on the machine's own.

use crate::place::{self, Access};
use coracle_protocol::given::FilesMark;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};
use tar::{Archive, Entry, EntryType};

/// On the data disk: which archive was placed last.
const PLACED: &str = "var/lib/coracle/given-files";

/// Places the files of an archive below `root`, owned by who this is, unless it was the last that was
/// placed there. Folders that are there stay as they are, as does what was placed before and is not in
/// the archive.
///
/// # Errors
/// The archive is cut off, or a file cannot be placed; the text names it. What came before it is in its
/// place.
pub(super) fn place(root: &Path, mark: &FilesMark, archive: impl Read) -> io::Result<()> {
    let placed = root.join(PLACED);
    if fs::read_to_string(&placed).is_ok_and(|last| last.trim() == mark.sha256) {
        return Ok(());
    }
    let mut bytes = archive.take(mark.bytes);
    let mut archive = Archive::new(&mut bytes);
    archive.set_preserve_permissions(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        put(root, &path, &mut entry).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot place /{}: {error}", path.display()),
            )
        })?;
    }
    io::copy(&mut bytes, &mut io::sink())?;
    if bytes.limit() > 0 {
        return Err(io::Error::new(
            ErrorKind::UnexpectedEof,
            "the archive of files is cut off",
        ));
    }
    // All of it is on the disk before it counts as placed.
    let mark_text = format!("{}\n", mark.sha256);
    if let Some(folder) = placed.parent() {
        fs::create_dir_all(folder)?;
        nix::unistd::syncfs(File::open(folder)?)?;
    }
    place::file(&placed, mark_text.as_bytes(), Access::PUBLIC)
}

fn put(root: &Path, path: &Path, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
    let inward = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if !path.components().all(inward) {
        return Err(refused("its path leads elsewhere"));
    }
    let target = root.join(path);
    let folder = target.parent().unwrap_or(root);
    fs::create_dir_all(folder)?;
    match entry.header().entry_type() {
        EntryType::Directory if target.is_dir() => Ok(()),
        EntryType::Directory => {
            fs::create_dir(&target)?;
            let mode = entry.header().mode()? & 0o7777;
            fs::set_permissions(&target, Permissions::from_mode(mode))
        }
        EntryType::Regular | EntryType::Symlink => {
            let name = target
                .file_name()
                .ok_or_else(|| refused("it has no name"))?;
            let beside = folder.join(format!(".{}.new", name.to_string_lossy()));
            place::remove(&beside)?;
            entry.unpack(&beside)?;
            fs::rename(&beside, &target)
        }
        _ => Err(refused("it is neither a file, a folder nor a link")),
    }
}

fn refused(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_protocol::given::Parcel;
    use tar::{Builder, Header};

    fn header(mode: u32, size: usize) -> Header {
        let mut header = Header::new_gnu();
        header.set_mode(mode);
        header.set_size(size as u64);
        header
    }

    fn parcel(fill: impl FnOnce(&mut Builder<Vec<u8>>)) -> Parcel {
        let mut archive = Builder::new(Vec::new());
        fill(&mut archive);
        Parcel::new(None, Vec::new(), Some(archive.into_inner().unwrap()))
    }

    fn of_one_file(path: &str, content: &str) -> Parcel {
        parcel(|archive| {
            let mut header = header(0o640, content.len());
            archive
                .append_data(&mut header, path, content.as_bytes())
                .unwrap();
        })
    }

    fn give(root: &Path, parcel: &Parcel) -> io::Result<()> {
        let mark = parcel.given().files.clone().unwrap();
        place(root, &mark, parcel.files().as_ref())
    }

    #[test]
    fn files_keep_their_mode_and_folders_that_are_there_theirs() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        place::folder(&root.join("etc"), 0o755).unwrap();
        std::os::unix::fs::symlink("/elsewhere", root.join("etc/tool")).unwrap();
        let parcel = parcel(|archive| {
            let folder = |path, mode| {
                let mut header = header(mode, 0);
                header.set_entry_type(EntryType::Directory);
                header.set_path(path).unwrap();
                header.set_cksum();
                header
            };
            archive.append(&folder("etc", 0o700), io::empty()).unwrap();
            archive
                .append(&folder("etc/own", 0o710), io::empty())
                .unwrap();
            archive
                .append_data(&mut header(0o4750, 4), "etc/tool", &b"tool"[..])
                .unwrap();
            let mut link = header(0o777, 0);
            link.set_entry_type(EntryType::Symlink);
            archive
                .append_link(&mut link, "etc/link", "../tool")
                .unwrap();
            archive
                .append_data(&mut header(0o600, 1), "home/me/deep/file", &b"x"[..])
                .unwrap();
        });
        give(root, &parcel).unwrap();
        let mode = |path: &str| {
            let meta = fs::symlink_metadata(root.join(path)).unwrap();
            meta.permissions().mode() & 0o7777
        };
        assert_eq!(mode("etc"), 0o755);
        assert_eq!(mode("etc/own"), 0o710);
        assert_eq!(mode("etc/tool"), 0o4750);
        assert_eq!(mode("home/me/deep/file"), 0o600);
        assert_eq!(fs::read(root.join("etc/tool")).unwrap(), b"tool");
        let link = fs::read_link(root.join("etc/link")).unwrap();
        assert_eq!(link, Path::new("../tool"));
    }

    #[test]
    fn the_same_archive_is_placed_once() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("etc/foo");
        let read = || fs::read_to_string(&path).unwrap();
        give(root.path(), &of_one_file("etc/foo", "first")).unwrap();
        place::file(&path, b"edited inside", Access::PUBLIC).unwrap();
        give(root.path(), &of_one_file("etc/foo", "first")).unwrap();
        assert_eq!(read(), "edited inside");
        give(root.path(), &of_one_file("etc/foo", "second")).unwrap();
        assert_eq!(read(), "second");
    }

    #[test]
    fn what_is_cut_off_or_leads_elsewhere_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let whole = of_one_file("etc/foo", "text");
        let mark = whole.given().files.clone().unwrap();
        for length in [0, 700, 1024, 1200, 1536] {
            place(root, &mark, &whole.files()[..length]).unwrap_err();
            assert!(!root.join(PLACED).exists(), "{length} bytes are not all");
        }

        let outside = parcel(|archive| {
            let mut header = header(0o644, 1);
            let name = b"../outside";
            header.as_old_mut().name[..name.len()].copy_from_slice(name);
            header.set_cksum();
            archive.append(&header, &b"x"[..]).unwrap();
        });
        let refused = give(root, &outside).unwrap_err().to_string();
        assert!(refused.contains("../outside"), "{refused}");
        let blocked = give(root, &of_one_file("etc/foo/bar", "x")).unwrap_err();
        assert!(blocked.to_string().contains("/etc/foo/bar"), "{blocked}");
    }
}
