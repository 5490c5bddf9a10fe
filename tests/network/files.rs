//! Files of the user's own.

use crate::servers::Server;
use crate::{proxy, stop_and_start, was_given};
use coracle_tests::{Authority, Profile, write};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

/// Mode and owner of a file inside, as stat says.
fn stat(cluster: Profile<'_>, path: &str) -> String {
    cluster.inside(&format!("sudo stat -c '%a %U:%G' {path}"))
}

pub(super) fn are_in_a_clone(cluster: Profile<'_>) {
    let files = cluster.coracle.home().join("files");
    let put = |path: &str, content: &str, mode| {
        write(files.join(path), content);
        fs::set_permissions(files.join(path), Permissions::from_mode(mode)).unwrap();
    };
    put("etc/own.conf", "first\n", 0o640);
    put("opt/own/tool", "#!/bin/sh\necho it runs\n", 0o755);
    put("home/coracle/note", "hello\n", 0o644);
    symlink("own/tool", files.join("opt/link")).unwrap();
    // A folder that is there keeps what it has, whatever the host's is.
    fs::set_permissions(files.join("home/coracle"), Permissions::from_mode(0o700)).unwrap();
    cluster.command("start").ok();
    assert_eq!(stat(cluster, "/etc/own.conf"), "640 root:root");
    assert_eq!(cluster.inside("sudo cat /etc/own.conf"), "first");
    assert_eq!(cluster.inside("/opt/link"), "it runs");
    assert_eq!(cluster.inside("readlink /opt/link"), "own/tool");
    assert!(stat(cluster, "/home/coracle").ends_with(" coracle:coracle"));
    assert_eq!(cluster.inside("cat note"), "hello");
    // Its own from then on, over a stop and over a boot.
    cluster.inside("echo changed | sudo tee /etc/own.conf");
    stop_and_start(cluster);
    assert_eq!(cluster.inside("sudo cat /etc/own.conf"), "changed");
    cluster.command("stop --shutdown").ok();
    cluster.command("start").ok();
    assert_eq!(cluster.inside("sudo cat /etc/own.conf"), "changed");
}

pub(super) fn are_placed_when_they_change(cluster: Profile<'_>) {
    let files = cluster.coracle.home().join("files");
    write(files.join("etc/own.conf"), "second\n");
    stop_and_start(cluster);
    assert_eq!(cluster.inside("sudo cat /etc/own.conf"), "second");
    write(files.join("etc/passwd"), "nobody\n");
    cluster.command("stop").ok();
    cluster
        .command("start")
        .done()
        .fails(18, "CORACLE_FILES_INVALID")
        .says("etc/passwd");
    fs::remove_file(files.join("etc/passwd")).unwrap();
    cluster.command("start").ok();
    cluster.coracle.delete(cluster.name);
}

/// What came with the seed was there when containerd began: nobody had to give it or restart anything.
pub(super) fn all_is_there_before_anything_runs(cluster: Profile<'_>) {
    let home = cluster.coracle.home();
    write(home.join("files/etc/own.conf"), "third\n");
    write(home.join("certs/own.crt"), Authority::new("own").pem);
    let server = Server::proxy();
    proxy::start(cluster, "--cold", &server);
    assert!(!was_given(cluster));
    // Nothing of it is a template's, and none was made of it.
    let authority = |folder: &Path| fs::read(folder.join("identity/cluster-ca.crt")).unwrap();
    let templates = cluster.coracle.templates();
    assert_eq!(templates.len(), 1, "{templates:?}");
    assert_ne!(authority(&cluster.folder()), authority(&templates[0]));
    let kernel = cluster.inside("sudo dmesg");
    assert!(!kernel.contains("due to virtual machine fork"), "{kernel}");
    assert_eq!(cluster.inside("sudo cat /etc/own.conf"), "third");
    let variables =
        cluster.inside("sudo cat /proc/$(pgrep -xo containerd)/environ | tr '\\0' '\\n'");
    assert!(variables.contains("http_proxy="), "{variables}");
    cluster.coracle.delete(cluster.name);
    for folder in ["files", "certs"] {
        fs::remove_dir_all(home.join(folder)).unwrap();
    }
}
