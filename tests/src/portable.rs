//! Programs of this host for a machine that has not the libraries that they are linked with.

use crate::Run;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Copies a program and its libraries into a folder; `FOLDER/loader --library-path FOLDER FOLDER/NAME`
/// runs it on any other Linux of the same architecture.
#[track_caller]
pub fn make_portable(program: &Path, folder: &Path) {
    fs::create_dir_all(folder).expect("the sandbox is ours");
    let copy = |from: &Path, to: &str| {
        let to = folder.join(to);
        fs::copy(from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).expect("the sandbox is ours");
    };
    let name = |path: &Path| {
        let name = path.file_name().expect("a program is a file");
        name.to_string_lossy().into_owned()
    };
    copy(program, &name(program));
    let libraries = Run::new("ldd").args([program]).ok();
    let paths = libraries.text().split_whitespace().map(Path::new);
    for path in paths.filter(|path| path.is_absolute()) {
        let name = name(path);
        let is_loader = name.starts_with("ld-linux");
        copy(path, if is_loader { "loader" } else { &name });
    }
}
