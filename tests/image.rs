//! The image is the same bytes, whoever builds it, wherever and whenever.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

use coracle_tests::{
    Account, Coracle, Run, built_image, go_env, repository, rust_sysroot, shared_home,
};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Ten times what the slowest build from nothing was seen to take would be a day; this catches a
/// build that hangs.
const LIMIT: Duration = Duration::from_secs(2 * 3600);
/// A time zone in which it is never the same day as in the zone of most build hosts.
const FAR_AWAY: &str = "Pacific/Kiritimati";
/// Programs of the parts that are made again: a Go program, and our own agent's archive of files.
const MADE_AGAIN: [&str; 2] = ["crictl", "root.erofs"];
/// A copy of what git knows of the source tree, in another folder.
fn copy_of_the_source(to: &Path) {
    let listed = Run::new("git")
        .args(["ls-files", "-z", "--cached"])
        .folder(repository())
        .ok();
    for name in listed.stdout.split('\0').filter(|name| !name.is_empty()) {
        let target = to.join(name);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(repository().join(name), &target)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// A copy that shares the files' bytes where the two are on one file system.
fn link_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let copy =
        |flags: &str| Run::new("cp").args([flags.as_ref(), from.as_os_str(), to.as_os_str()]);
    if copy("-al").done().code() != Some(0) {
        copy("-a").limit(LIMIT).ok();
    }
}

/// The digest that a build of the source in `source` gives, somewhere else in time.
fn build(coracle: &Coracle, source: &Path, cache: &Path) -> String {
    let run = coracle
        .run("image-build --source")
        .args([source])
        .args(["--cache".as_ref(), cache.as_os_str()])
        .env("TZ", FAR_AWAY)
        .env("GOCACHE", coracle.folder().join("go-build"))
        .limit(LIMIT);
    run.ok().text().to_owned()
}

/// The part in a cache that has a file of this name.
fn part_with(cache: &Path, file: &str) -> Vec<PathBuf> {
    let parts = fs::read_dir(cache.join("parts")).unwrap();
    let folders = parts.map(|part| part.unwrap().path());
    folders.filter(|part| part.join(file).is_file()).collect()
}

#[test]
fn put_together_again_from_cached_parts_it_is_the_same() {
    let (image, cache) = built_image();
    let coracle = Coracle::new();
    let copied = coracle.folder().join("cache");
    link_folder(&cache.join("parts"), &copied.join("parts"));
    for file in MADE_AGAIN {
        let parts = part_with(&copied, file);
        assert!(!parts.is_empty(), "no part has a file {file}");
        for part in parts {
            fs::remove_dir_all(part).unwrap();
        }
    }
    let source = coracle.folder().join("elsewhere");
    copy_of_the_source(&source);
    let mut coracle = toolchains_of_this_user(coracle);
    coracle.set("GOMODCACHE", go_env("GOMODCACHE"));
    assert_eq!(build(&coracle, &source, &copied), image);
    for file in MADE_AGAIN {
        assert!(
            !part_with(&copied, file).is_empty(),
            "{file} was not made again"
        );
    }
}

#[test]
#[ignore = "builds everything from nothing: half an hour on two cores"]
fn built_from_nothing_by_somebody_else_it_is_the_same() {
    let (image, _) = built_image();
    let coracle = match Account::create() {
        Some(account) => reachable_toolchains(Coracle::as_user(account)),
        // The reason was printed: then only folder, time zone and cache differ.
        None => toolchains_of_this_user(Coracle::new()),
    };
    let source = coracle.folder().join("elsewhere");
    copy_of_the_source(&source);
    coracle.give_to_account(&source);
    let theirs = build(&coracle, &source, &coracle.home().join("cache"));
    let image = if packages(&shared_home(), &image) == packages(&coracle.home(), &theirs) {
        image
    } else {
        eprintln!("Debian published packages since the image was built; building it anew");
        let anew = toolchains_of_this_user(Coracle::new());
        build(&anew, &repository(), &anew.home().join("cache"))
    };
    assert_eq!(theirs, image);
}

/// The Debian packages that an image was made of: versions and hashes.
fn packages(home: &Path, image: &str) -> String {
    let file = home
        .join("images")
        .join(image.replace(':', "-"))
        .join("debian.lock");
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// With Rust and Go as whoever runs the tests has them.
fn toolchains_of_this_user(mut coracle: Coracle) -> Coracle {
    coracle.use_toolchains();
    coracle
}

/// The same Rust and Go, where an ordinary user can run them; no cache of either comes along.
fn reachable_toolchains(mut coracle: Coracle) -> Coracle {
    let (rust, go) = (coracle.folder().join("rust"), coracle.folder().join("go"));
    link_folder(&rust_sysroot(), &rust);
    link_folder(Path::new(&go_env("GOROOT")), &go);
    let settings = PathBuf::from(go_env("GOENV"));
    if settings.is_file() {
        let copied = coracle.folder().join("go-settings");
        fs::copy(settings, &copied).unwrap();
        fs::set_permissions(&copied, fs::Permissions::from_mode(0o644)).unwrap();
        coracle.set("GOENV", copied);
    }
    let path = std::env::var("PATH").unwrap();
    let path = format!(
        "{}:{}:{path}",
        rust.join("bin").display(),
        go.join("bin").display()
    );
    coracle.set("PATH", path);
    coracle.use_registries();
    coracle
}
