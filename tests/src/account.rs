//! An ordinary user of the host, made for one test: as root, a read-only file cannot fail.

use crate::Run;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// How many users this process has made: each has a name of its own.
static NUMBER: AtomicUsize = AtomicUsize::new(0);
/// useradd and userdel refuse to run beside each other.
static PASSWD: Mutex<()> = Mutex::new(());

/// A user with no rights of its own. Removed when dropped.
#[derive(Debug)]
pub struct Account {
    name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Account {
    /// Makes a user; None, with the reason printed, where this process is not root.
    pub fn create() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can make the ordinary user that this test runs as");
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("coracle-test-{}-{number}", std::process::id());
        let _one_at_a_time = PASSWD.lock().unwrap_or_else(PoisonError::into_inner);
        Run::new("useradd")
            .args(["--no-create-home", "--no-log-init", "--user-group", &name])
            .ok();
        let number = |flag: &str| {
            let told = Run::new("id").args([flag, name.as_str()]).ok();
            told.text()
                .parse()
                .unwrap_or_else(|_| panic!("no number: {told}"))
        };
        let (uid, gid) = (number("-u"), number("-g"));
        Some(Self { name, uid, gid })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives it a file, or a folder with all that is in it. Links stay whose they are.
    #[track_caller]
    pub fn own(&self, path: &Path) {
        let meta = fs::symlink_metadata(path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if meta.is_symlink() {
            return;
        }
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid)).unwrap();
        if meta.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                self.own(&entry.unwrap().path());
            }
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let _one_at_a_time = PASSWD.lock().unwrap_or_else(PoisonError::into_inner);
        // It also removes the group of the same name.
        let done = Run::new("userdel").args([&self.name]).done();
        if done.code() != Some(0) {
            eprintln!("a test's user is left behind: {done}");
        }
    }
}
